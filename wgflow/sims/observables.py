"""Numbers measured at every frame beyond the energy, by name.

To add one: a function of the frame, the energy and the held-out energy, and a line in the table.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wgflow.energy import Energy
from wgflow.particles import Particles
from wgflow.types import Frame

Observable = Callable[[Frame, Energy, Energy | None], float]


def heldout(frame: Frame, energy: Energy, heldout: Energy | None) -> float:
    """Energy on the held-out samples; NaN if there are none."""
    del energy
    return np.nan if heldout is None else heldout(_measure(frame), s=frame.s)


def second_moment(frame: Frame, energy: Energy, heldout: Energy | None) -> float:
    """Integral of |theta|**2 against the measure, with the weights of the depth scheme."""
    del heldout
    rho = _measure(frame)
    return float(energy.weights(rho) @ np.sum(rho.theta**2, axis=1))


def _measure(frame: Frame) -> Particles:
    return Particles(frame.theta, frame.tau, frame.mass, free=True)


OBSERVABLES: dict[str, Observable] = {"heldout": heldout, "second_moment": second_moment}
