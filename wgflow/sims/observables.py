"""Numbers measured at every frame beyond the energy, by name.

To add one: a function of the setup and the frame, and a line in the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from wgflow.particles import Particles
from wgflow.types import Frame

if TYPE_CHECKING:
    from wgflow.sims.members import Setup

Observable = Callable[["Setup", Frame], float]


def heldout(setup: Setup, frame: Frame) -> float:
    """Mean loss on the held-out samples; NaN if there are none."""
    return np.nan if setup.heldout is None else setup.heldout(_measure(frame))


def second_moment(setup: Setup, frame: Frame) -> float:
    """Integral of |theta|**2 against the measure, with the weights of the depth scheme."""
    rho = _measure(frame)
    return float(setup.energy.weights(rho) @ np.sum(rho.theta**2, axis=1))


def _measure(frame: Frame) -> Particles:
    return Particles(frame.theta, frame.tau, frame.mass, free=True)


OBSERVABLES: dict[str, Observable] = {"heldout": heldout, "second_moment": second_moment}
