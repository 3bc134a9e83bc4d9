"""Observables of the neural feature flow: numbers, or arrays of a fixed shape, recorded with every frame."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wgflow.base.environment import one_thread
from wgflow.base.types import Array, Frame
from wgflow.systems.neural_feature_flow import flow, gram, initial
from wgflow.systems.neural_feature_flow.system import state_of
from wgflow.systems.protocol import Observable, Setup

FIRST_UNITS = 256  # of a network, recorded as the observable "units"


def outputs(frame: Frame, setup: Setup) -> Array:
    """Outputs of the network at the samples trained on, from its features, (N, 1)."""
    return np.asarray(setup.energy.network.output(*state_of(setup.energy, frame))[:, None])


def heldout(frame: Frame, setup: Setup) -> float:
    """Mean loss of the network's weights on the held-out samples; NaN if there are none."""
    if setup.heldout is None:
        return np.nan
    network, weights = setup.heldout.network, state_of(setup.energy, frame).weights
    return float(network.loss_of(network.predict(weights, network.x)))


def loss_of_weights(frame: Frame, setup: Setup) -> float:
    """Mean loss of the network with these weights; equal to the loss of the frame once the defect is small."""
    return float(setup.energy.network.value(state_of(setup.energy, frame).weights))


def defect(frame: Frame, setup: Setup) -> float:
    """Largest constraint defect: how far features are from those that the weights give."""
    return flow.defect(setup.energy.network, state_of(setup.energy, frame)).largest


def unit_spread(frame: Frame, setup: Setup) -> Array:
    """Largest difference of two units' features, layer by layer from the second on, (L - 1,)."""
    return initial.spread(state_of(setup.energy, frame).features)


def eigenvalues(frame: Frame, setup: Setup) -> Array:
    """Smallest eigenvalue of each layer's Gram matrix, (L,)."""
    return gram.smallest_eigenvalues(setup.energy.network, state_of(setup.energy, frame).features)


def units(frame: Frame, setup: Setup) -> Array:
    """At most 256 first units, with their features and mutual weights, as the rows of a network of that width."""
    system, count = setup.energy, _first(setup)
    (inner, middle, outer), features = state_of(system, frame)
    alpha, beta = ([array[:count] for array in arrays] for arrays in features)
    among = [np.asarray(v)[:count, :count].T for v in middle]
    return np.hstack([inner.T[:count], *alpha, *beta, *among, outer[:count, None]])


def _first(setup: Setup) -> int:
    return min(int(setup.energy.units), FIRST_UNITS)


def _shape_of_units(setup: Setup) -> tuple[int, int]:
    network, count = setup.energy.network, _first(setup)
    return count, network.inputs + network.points * (2 * network.layers - 1) + count * (network.layers - 1) + 1


def _alone(measure: Callable[[Frame, Setup], float | Array]) -> Callable[[Frame, Setup], float | Array]:
    """Measure on one BLAS thread, since the last digits depend on the number of threads."""

    def measured(frame: Frame, setup: Setup) -> float | Array:
        with one_thread():
            return measure(frame, setup)

    return measured


OBSERVABLES: dict[str, Observable] = {
    "heldout": Observable(_alone(heldout)),
    "outputs": Observable(_alone(outputs), lambda setup: (setup.energy.network.points, 1)),
    "defect": Observable(_alone(defect)),
    "loss_of_weights": Observable(_alone(loss_of_weights)),
    "unit_spread": Observable(_alone(unit_spread), lambda setup: (setup.energy.network.layers - 1,)),
    "units": Observable(_alone(units), _shape_of_units),
    "eigenvalues": Observable(_alone(eigenvalues), lambda setup: (setup.energy.network.layers,)),
}
