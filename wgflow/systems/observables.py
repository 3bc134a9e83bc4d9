"""What is measured at every frame beyond the energy, by name: numbers, or arrays of a fixed shape.

To add one: a function of the frame and the scene, and a row in the table; an array's shape goes with it. Networks of
features have a table of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from wgflow.base.environment import one_thread
from wgflow.base.scaling import largest, unit
from wgflow.base.types import Array, Frame
from wgflow.systems.images.record import MEASURED
from wgflow.systems.neural_feature_flow import flow, gram, initial
from wgflow.systems.neural_feature_flow.system import state_of

FIRST_UNITS = 256  # of a network, recorded as the observable "units"


class Scene(NamedTuple):
    """What an observable sees beside the frame.

    Attributes
    ----------
    energy : Energy or System
        What is descended.
    heldout : Energy or System or None
        The same on the held-out samples.
    start : Particles or Begin
        The initial measure.
    """

    energy: Any
    heldout: Any
    start: Any


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
    return np.nan if scene.heldout is None else float(scene.heldout(frame.particles, s=frame.s))


def second_moment(frame: Frame, scene: Scene) -> float:
    """Integral of |theta|**2 against the measure, with the weights of the depth scheme."""
    rho = frame.particles
    return float(scene.energy.weights(rho) @ np.sum(rho.theta**2, axis=1))


def outputs(frame: Frame, scene: Scene) -> Array:
    """Outputs of the network at the samples trained on, (M, K)."""
    return np.asarray(scene.energy.predict(frame.particles, scene.energy.problem.x))


def displacement(frame: Frame, scene: Scene) -> Array:
    """Root mean square of theta - theta(0) over the measure and columns, one number for each parameter group."""
    moved = frame.theta - scene.start.theta
    return np.array([_rms(moved[:, columns], frame.mass) for columns in scene.energy.problem.groups.values()])


def _rms(moved: Array, mass: Array) -> float:
    """Root mean square of rows (N, C) with masses (N,)."""
    size = unit(largest(moved))
    squares = (moved / size) ** 2
    equal = mass.min() == mass.max()
    mean = np.mean(squares) if equal else mass @ squares.mean(axis=1) / mass.sum()
    return float(size * np.sqrt(mean))


def _samples_and_outputs(scene: Scene) -> tuple[int, ...]:
    samples, _, outputs, _ = scene.energy.problem.shape
    return samples, outputs


OBSERVABLES: dict[str, Observable] = {
    "heldout": Observable(heldout),
    "second_moment": Observable(second_moment),
    "outputs": Observable(outputs, _samples_and_outputs),
    "displacement": Observable(displacement, lambda scene: (len(scene.energy.problem.groups),)),
}


def network_outputs(frame: Frame, scene: Scene) -> Array:
    """Outputs of the network at the samples trained on, from its features, (N, 1)."""
    return np.asarray(scene.energy.network.output(*state_of(scene.energy, frame))[:, None])


def network_heldout(frame: Frame, scene: Scene) -> float:
    """Mean loss of the network's weights on the held-out samples; NaN if there are none."""
    if scene.heldout is None:
        return np.nan
    network, weights = scene.heldout.network, state_of(scene.energy, frame).weights
    return float(network.loss_of(network.predict(weights, network.x)))


def loss_of_weights(frame: Frame, scene: Scene) -> float:
    """Mean loss of the network that the weights make; that of a frame's features once the defect is small."""
    return float(scene.energy.network.value(state_of(scene.energy, frame).weights))


def defect(frame: Frame, scene: Scene) -> float:
    """Largest constraint defect: how far features are from those that the weights give."""
    return flow.defect(scene.energy.network, state_of(scene.energy, frame)).largest


def unit_spread(frame: Frame, scene: Scene) -> Array:
    """Largest difference of two units' features, layer by layer from the second on, (L - 1,)."""
    return initial.spread(state_of(scene.energy, frame).features)


def eigenvalues(frame: Frame, scene: Scene) -> Array:
    """Smallest eigenvalue of each layer's Gram matrix, (L,)."""
    return gram.smallest_eigenvalues(scene.energy.network, state_of(scene.energy, frame).features)


def units(frame: Frame, scene: Scene) -> Array:
    """First units, 256 at most, with their features and the weights among them, as the rows of so small a network."""
    system, count = scene.energy, _first(scene)
    (inner, middle, outer), features = state_of(system, frame)
    alpha, beta = ([each[:count] for each in some] for some in features)
    among = [np.asarray(v)[:count, :count].T for v in middle]
    return np.hstack([inner.T[:count], *alpha, *beta, *among, outer[:count, None]])


def _first(scene: Scene) -> int:
    return min(int(scene.energy.units), FIRST_UNITS)


def _shape_of_units(scene: Scene) -> tuple[int, int]:
    network, count = scene.energy.network, _first(scene)
    return count, network.inputs + network.points * (2 * network.layers - 1) + count * (network.layers - 1) + 1


def _alone(measure: Callable[[Frame, Scene], float | Array]) -> Callable[[Frame, Scene], float | Array]:
    """Measure on one thread of BLAS, whose number would otherwise show in the last digits."""

    def measured(frame: Frame, scene: Scene) -> float | Array:
        with one_thread():
            return measure(frame, scene)

    return measured


NETWORK_OBSERVABLES: dict[str, Observable] = {
    "heldout": Observable(_alone(network_heldout)),
    "outputs": Observable(_alone(network_outputs), lambda scene: (scene.energy.network.points, 1)),
    "defect": Observable(_alone(defect)),
    "loss_of_weights": Observable(_alone(loss_of_weights)),
    "unit_spread": Observable(_alone(unit_spread), lambda scene: (scene.energy.network.layers - 1,)),
    "units": Observable(_alone(units), _shape_of_units),
    "eigenvalues": Observable(_alone(eigenvalues), lambda scene: (scene.energy.network.layers,)),
}


def _told(name: str) -> Callable[[Frame, Scene], float]:
    """Measure what a training's frame already says."""

    def measured(frame: Frame, scene: Scene) -> float:
        del scene
        return float(frame.observables[name])

    return measured


TRAINING_OBSERVABLES: dict[str, Observable] = {name: Observable(_told(name)) for name in MEASURED}
