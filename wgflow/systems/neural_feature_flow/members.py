"""Members that are feature networks: their tables checked, their objects built, their observables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wgflow.base.environment import one_thread
from wgflow.base.errors import BackendError, InputError
from wgflow.base.types import Array, Frame
from wgflow.kernels.auto import Choice
from wgflow.model.problem import Problem
from wgflow.study.grid import RunPlan
from wgflow.study.schema import Member
from wgflow.study.tables import NetworkTable
from wgflow.systems.neural_feature_flow import coupling, flow, gram, initial, population
from wgflow.systems.neural_feature_flow.flow import State
from wgflow.systems.neural_feature_flow.frames import Motion
from wgflow.systems.neural_feature_flow.low_rank import dense
from wgflow.systems.neural_feature_flow.network import Network
from wgflow.systems.neural_feature_flow.state import Features, Weights
from wgflow.systems.neural_feature_flow.system import PackedNetwork, state_of
from wgflow.systems.problem import problems
from wgflow.systems.protocol import STEP_OVERHEAD, Observable, Setup, System, refuse_unused

_OWN = {  # keys of tables that affect a network; the others must keep their defaults
    "particles": ("count",),
    "flow": ("until", "every", "step", "integrator"),
}
_SAMPLE = 2**15  # particles behind the population's Gram matrices
_FIRST_UNITS = 256  # of a network, recorded as the observable "units"


def _heldout(setup: Setup, state: State) -> float:
    """Mean loss of the network's weights on the held-out samples; NaN if there are none."""
    if setup.heldout is None:
        return np.nan
    network = setup.heldout.network
    return float(network.loss_of(network.predict(state.weights, network.x)))


def _first(setup: Setup) -> PackedNetwork:
    return PackedNetwork(setup.energy.network, min(setup.energy.units, _FIRST_UNITS))


def _units(setup: Setup, state: State) -> Array:
    """First units, with their features and mutual weights, as the rows of a network of that width."""
    first, (inner, middle, outer) = _first(setup), state.weights
    count = first.units
    weights = Weights(inner[:, :count], tuple(dense(v)[:count, :count] for v in middle), outer[:count])
    alpha, beta = (tuple(array[:count] for array in arrays) for arrays in state.features)
    return first.pack(State(weights, Features(alpha, beta)))


def _observable(
    measure: Callable[[Setup, State], float | Array], shape: Callable[[Setup], tuple[int, ...]] = lambda _: ()
) -> Observable:
    """Observable of a frame's state, on one BLAS thread, since the last digits depend on the number of threads."""

    def measured(frame: Frame, setup: Setup) -> float | Array:
        with one_thread():
            return measure(setup, state_of(setup.energy, frame))

    return Observable(measured, shape)


class Begin:
    """Initial units of a network, drawn when first requested."""

    def __init__(self, system: PackedNetwork, table: NetworkTable, seed: int) -> None:
        self.system, self._table, self._seed = system, table, seed

    def __len__(self) -> int:
        return self.system.units

    def __call__(self) -> State:
        """Draw the state."""
        table, network, units = self._table, self.system.network, self.system.units
        if table.start == "standard":
            return flow.start(network, initial.standard(network, units, self._seed, table.sigma))
        options = (table.sigma, table.outer, table.ridge, table.draw, table.last)
        begin = initial.minimum_norm(network, units, self._seed, *options)
        if table.start == "minimum_norm":
            return State(begin.weights, begin.features)
        return coupling.ideal(network, begin, population.population(network, table.sigma, _SAMPLE))


def _check(member: Member, table: NetworkTable) -> None:
    """Refuse keys that have no effect on a network."""
    refuse_unused(member, _OWN, "a feature network")
    for key in ("block", "activation", "state"):
        if getattr(member.problem, key) != type(member.problem).model_fields[key].default:
            raise InputError(f"problem.{key}: a feature network has no use for it; leave it out")
    unused = ("outer", "ridge", "draw", "last") if table.start == "standard" else ()
    if table.last == "regressed":
        unused = (*unused, "outer")
    for key in (*unused, *(("h2",) if table.kind == "dnn" else ())):
        if getattr(table, key) != NetworkTable.model_fields[key].default:
            raise InputError(
                f"network.{key}: has no effect with start = {table.start}, kind = {table.kind}, last = {table.last}; "
                "leave it out"
            )


class FeatureNetwork(System):
    """Network of features, moved by the neural feature flow or by scaled gradient descent."""

    largest_timed = 512
    observables = {  # noqa: RUF012
        "heldout": _observable(_heldout),
        "outputs": _observable(  # at the samples trained on, from the features
            lambda setup, state: setup.energy.network.output(*state)[:, None],
            lambda setup: (setup.energy.network.points, 1),
        ),
        # how far features are from those that the weights give
        "defect": _observable(lambda setup, state: flow.defect(setup.energy.network, state).largest),
        # the loss of the frame once the defect is small
        "loss_of_weights": _observable(lambda setup, state: float(setup.energy.network.value(state.weights))),
        "unit_spread": _observable(
            lambda _, state: initial.spread(state.features), lambda setup: (setup.energy.network.layers - 1,)
        ),
        "units": _observable(_units, lambda setup: _first(setup).shape),
        # [beta_L | v_(L+1)], whose convergence Theorem 8 assumes
        "top": _observable(
            lambda _, state: np.column_stack([state.features.beta[-1], state.weights.outer]),
            lambda setup: (setup.energy.units, setup.energy.network.points + 1),
        ),
        "eigenvalues": _observable(
            lambda setup, state: gram.smallest_eigenvalues(setup.energy.network, state.features),
            lambda setup: (setup.energy.network.layers,),
        ),
    }

    def owns(self, member: Member) -> bool:
        """Whether a member is of this kind: one with a table ``network``."""
        return member.network is not None

    def build(self, member: Member, backend: str, threads: int | None) -> Setup:
        """Build the objects of a member."""
        problem, heldout = problems(member)
        if backend == "gpu":
            raise BackendError("backend: expected cpu or reference for a feature network, got gpu")
        table, times = member.network or NetworkTable(), member.flow
        _check(member, table)
        if problem.y.shape[1] != 1:
            raise InputError(f"problem: expected one target for a feature network, got {problem.y.shape[1]} columns")
        if table.start == "ideal" and table.ridge:
            raise InputError(f"network.ridge: expected 0 for ideal particles, got {table.ridge:g}")
        if table.start == "ideal" and table.last != "constant":
            raise InputError(f"network.last: expected constant for ideal particles, got {table.last}")

        def packed(data: Problem) -> PackedNetwork:
            options: Any = (table.layers, table.kind, table.h1, table.h2, problem.loss.name, backend)
            return PackedNetwork(Network(data.x, data.y[:, 0], *options), member.particles.count)

        system = packed(problem)
        motion = Motion(system, table.method, times.integrator, times.step)
        begin = Begin(system, table, member.seed)
        motion.run(begin, times.until, times.every)  # checks the times; nothing is drawn until a frame is asked for
        return Setup(self, system, None if heldout is None else packed(heldout), motion, begin)

    def auto(self, plans: Sequence[RunPlan]) -> Choice:
        """Backend that ``auto`` stands for: the CPU."""
        return Choice("cpu", "feature networks have no kernels for a GPU")

    def size(self, member: Member) -> int:
        """Weights of a layer, m**2, in which the time of a step is linear."""
        return member.count**2

    def work(self, setup: Setup, member: Member) -> float:
        """Work of one unit of flow time, in multiplications."""
        network, units = setup.energy.network, setup.energy.units
        step = 8.0 * network.points * (units**2 * (network.layers - 1) + units * network.inputs)
        return float((step + STEP_OVERHEAD) / member.flow.step)

    def memory(self, setup: Setup, threads: int) -> int:
        """Bytes of a step at its largest: weights, their change, features and their drifts."""
        network, units = setup.energy.network, setup.energy.units
        return int(8 * (3 * units**2 * (network.layers - 1) + 12 * units * network.points * network.layers))
