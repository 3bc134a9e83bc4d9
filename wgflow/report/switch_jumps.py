"""Jumps of E where particles change places in depth under Algorithm 1."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Index
from wgflow.model.depth import Gaps, switches
from wgflow.trajectory import Trajectory


class Switching(NamedTuple):
    """Steps of a trajectory in which the order along depth changed, J of them.

    Attributes
    ----------
    step, s : ndarray (J,), int64 and float64
        The step after which the order is new, and the flow time there.
    pairs : ndarray (J,), int64
        Pairs of particles that changed places in it.
    jump : ndarray (J,)
        E in the new order minus E in the old order at the same parameters. In the old order the gap of a crossed pair
        is slightly negative, which continues E smoothly past the crossing; so this is the discontinuity that the
        descent met, up to the distance stepped beyond it.
    """

    step: Index
    s: Array
    pairs: Index
    jump: Array


def order_switching(trajectory: Trajectory) -> Switching:
    """Find and size the jumps of E along a trajectory of Algorithm 1, under ``Gaps`` with a frame at every step.

    Raises
    ------
    InputError
        If the run was made under another scheme, or steps between its frames are missing.
    """
    energy = trajectory.energy()
    if not isinstance(energy.depth, Gaps):
        raise InputError(f"{trajectory.path}: expected a run under gaps, got {energy.depth.name}; only there E jumps")
    if not records_every_step(trajectory):
        raise InputError(
            f"{trajectory.path}: expected a frame at every step, got fewer; leave flow.every out of the study"
        )
    found: list[tuple[int, float, int, float]] = []
    before: NDArray[np.int64] | None = None
    for frame in trajectory:
        rho = frame.particles
        after = energy.depth.order(rho)
        if before is not None and (pairs := switches(before, after)):
            with np.errstate(all="ignore"):  # the last state before a divergence may overflow here
                size = energy(rho) - energy.network_energy(energy.depth.network(rho, order=before), rho.theta)
            if np.isfinite(size):
                found.append((frame.step, frame.s, pairs, size))
        before = after
    step, s, pairs_, jump = zip(*found, strict=True) if found else ((), (), (), ())
    return Switching(np.array(step, np.int64), np.array(s, float), np.array(pairs_, np.int64), np.array(jump, float))


def records_every_step(trajectory: Trajectory) -> bool:
    """Whether no step is missing between two frames."""
    return len(trajectory) > 1 and bool((np.diff(trajectory.series("step")) == 1).all())
