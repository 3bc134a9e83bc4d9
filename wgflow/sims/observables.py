"""What is measured at every frame beyond the energy, by name: numbers, or arrays of a fixed shape.

To add one: a function of the frame and the scene, and a row in the table; an array's shape goes with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from wgflow.energy import Energy
from wgflow.particles import Particles
from wgflow.types import Array, Frame


class Scene(NamedTuple):
    """What an observable sees beside the frame.

    Attributes
    ----------
    energy : Energy
        What is descended.
    heldout : Energy or None
        The same on the held-out samples.
    start : Particles
        The initial measure.
    """

    energy: Energy
    heldout: Energy | None
    start: Particles


def _number(scene: Scene) -> tuple[int, ...]:
    del scene
    return ()


class Observable(NamedTuple):
    """A row of the table.

    Attributes
    ----------
    measure : callable
        From frame and scene to a number or an array.
    shape : callable
        From the scene to the array's shape, () for a number.
    """

    measure: Callable[[Frame, Scene], float | Array]
    shape: Callable[[Scene], tuple[int, ...]] = _number


def heldout(frame: Frame, scene: Scene) -> float:
    """Energy on the held-out samples; NaN if there are none."""
    return np.nan if scene.heldout is None else scene.heldout(_measure(frame), s=frame.s)


def second_moment(frame: Frame, scene: Scene) -> float:
    """Integral of |theta|**2 against the measure, with the weights of the depth scheme."""
    rho = _measure(frame)
    return float(scene.energy.weights(rho) @ np.sum(rho.theta**2, axis=1))


def outputs(frame: Frame, scene: Scene) -> Array:
    """Outputs of the network at the samples trained on, (M, K)."""
    return scene.energy.predict(_measure(frame), scene.energy.problem.x)


def displacement(frame: Frame, scene: Scene) -> Array:
    """Root mean square over particles and columns of theta - theta(0), one number for each parameter group."""
    moved = frame.theta - scene.start.theta
    return np.array([np.sqrt(np.mean(moved[:, columns] ** 2)) for columns in scene.energy.problem.groups.values()])


def _measure(frame: Frame) -> Particles:
    return Particles(frame.theta, frame.tau, frame.mass, free=True)


def _samples_and_outputs(scene: Scene) -> tuple[int, ...]:
    samples, _, outputs, _ = scene.energy.problem.shape
    return samples, outputs


OBSERVABLES: dict[str, Observable] = {
    "heldout": Observable(heldout),
    "second_moment": Observable(second_moment),
    "outputs": Observable(outputs, _samples_and_outputs),
    "displacement": Observable(displacement, lambda scene: (len(scene.energy.problem.groups),)),
}
