"""Neural feature flow as a system of particles: its specification, and its units as rows of numbers.

Row j of theta holds all that belongs to unit j of every hidden layer, [v_1 (d) | alpha_2 .. alpha_L (N each) |
beta_1 .. beta_L (N each) | v_2 .. v_L (m each, the weights into unit j) | v_(L+1) (1)]: Fang, Lee, Yang and Zhang's
particle Theta = (v_1, alpha_2, .., alpha_L) with the features and weights that go with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Frame, Spec
from wgflow.base.user_objects import recorded_spec
from wgflow.model.activations import ACTIVATIONS
from wgflow.model.activations import recorded_spec as recorded_activation
from wgflow.model.losses import LOSSES
from wgflow.model.problem import needs_own
from wgflow.systems.neural_feature_flow.flow import State
from wgflow.systems.neural_feature_flow.low_rank import dense
from wgflow.systems.neural_feature_flow.network import Network
from wgflow.systems.neural_feature_flow.state import Features, Weights
from wgflow.trajectory import Trajectory


class Samples(NamedTuple):
    """Training points as a trajectory stores them.

    Attributes
    ----------
    x, y : ndarray (N, d), (N, 1)
        Inputs and targets.
    shape : tuple of int
        N, d, 1, P.
    """

    x: Array
    y: Array
    shape: tuple[int, int, int, int]

    def arrays(self) -> dict[str, Array]:
        """Return the data by name."""
        return {"x": self.x, "y": self.y}


class PackedNetwork:
    """A network of m units per layer and the representation of its units as rows.

    Parameters
    ----------
    network : Network
        Training points, activations, loss.
    units : int
        m >= 1.

    Attributes
    ----------
    problem : Samples
        The training points.
    shape : tuple of int
        m and P, of theta.
    backend : str
        That of the network.
    """

    def __init__(self, network: Network, units: int) -> None:
        self.network, self.units, self.backend = network, units, network.backend
        points, inputs, layers = network.points, network.inputs, network.layers
        # of the parts of a row, all but the last
        self._widths = [inputs, *(2 * layers - 1) * [points], *(layers - 1) * [units]]
        self.shape = (units, sum(self._widths) + 1)
        self.problem = Samples(network.x, network.y[:, None], (points, inputs, 1, self.shape[1]))

    def pack(self, state: State) -> Array:
        """Units of a state as rows, (m, P)."""
        weights, (alpha, beta) = state
        middle = [dense(v).T for v in weights.middle]
        return np.hstack([weights.inner.T, *alpha, *beta, *middle, weights.outer[:, None]])

    def unpack(self, theta: Array) -> State:
        """State of units, the inverse of :meth:`pack`; its matrices are arrays.

        Raises
        ------
        InputError
            If the rows do not have this network's shape.
        """
        if theta.shape != self.shape:
            raise InputError(f"theta: expected {self.shape} for {self.units} units, got {theta.shape}")
        hidden = self.network.layers - 1
        inner, *parts, outer = np.split(theta, np.cumsum(self._widths), axis=1)
        # C-contiguous copies: products then take the same path, and give the same bits, wherever a state comes from
        alpha, beta = (tuple(map(np.ascontiguousarray, group)) for group in (parts[:hidden], parts[hidden:-hidden]))
        middle = tuple(np.ascontiguousarray(part.T) for part in parts[-hidden:])
        weights = Weights(np.ascontiguousarray(inner.T), middle, np.ascontiguousarray(outer[:, 0]))
        return State(weights, Features(alpha if self.network.skip else beta[1:], beta))

    def spec(self) -> Spec:
        """Plain JSON of everything that defines the network; :func:`from_trajectory` rebuilds it."""
        net = self.network
        data = {
            name: {"shape": list(array.shape), "sha256": hashlib.sha256(array.tobytes()).hexdigest()}
            for name, array in self.problem.arrays().items()
        }
        about: dict[str, Any] = {
            "kind": net.kind, "layers": net.layers,
            "h1": recorded_activation(net.h1), "h2": recorded_activation(net.h2),
            "loss": recorded_spec(net.loss, {"name": net.loss.name}, LOSSES)["name"],
        }  # fmt: skip
        depth = {"name": "features"}  # in the place of a depth scheme
        return {"network": about, "units": self.units, "depth": depth, "problem": {"data": data}}


def from_trajectory(
    trajectory: Trajectory, backend: str = "cpu", own: Mapping[str, Any] | None = None
) -> PackedNetwork:
    """Rebuild the network of a run from its file alone.

    Parameters
    ----------
    trajectory : Trajectory
        A run of the neural feature flow or of scaled gradient descent.
    backend : {"cpu", "reference"}, optional
        As for :class:`~wgflow.systems.neural_feature_flow.network.Network`.
    own : mapping of str to object, optional
        Your own objects with which the run was computed, under ``"h1"``, ``"h2"`` or ``"loss"``.

    Raises
    ------
    InputError
        If the run is another system's, its samples were too large to store, or an object of your own is missing or of
        another kind.
    """
    spec = trajectory.parameters["energy"]
    if "network" not in spec:
        name = spec.get("depth", {}).get("name", "unknown")
        raise InputError(f"{trajectory.path}: expected a run of a feature network, got one under depth {name}")
    stored = trajectory.samples()
    needs_own(spec["network"], own or {}, {"h1": ACTIVATIONS, "h2": ACTIVATIONS, "loss": LOSSES})
    about = spec["network"] | dict(own or {})
    h2 = about["h2"] if about["kind"] == "resnet" else "tanh"
    network = Network(
        stored["x"], stored["y"][:, 0], about["layers"], about["kind"], about["h1"], h2, about["loss"], backend
    )
    return PackedNetwork(network, spec["units"])


def state_of(system: PackedNetwork, frame: Frame) -> State:
    """State of a frame of a run."""
    return system.unpack(np.asarray(frame.theta))
