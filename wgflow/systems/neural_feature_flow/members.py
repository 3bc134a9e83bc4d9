"""Members that are feature networks: their tables checked, their objects built."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from wgflow.base.errors import BackendError, InputError
from wgflow.base.types import Array
from wgflow.kernels.auto import Choice
from wgflow.model.problem import Problem
from wgflow.study.grid import RunPlan
from wgflow.study.schema import Member
from wgflow.study.tables import NetworkTable
from wgflow.systems.neural_feature_flow import coupling, initial, population
from wgflow.systems.neural_feature_flow.flow import State
from wgflow.systems.neural_feature_flow.flow import start as with_features
from wgflow.systems.neural_feature_flow.motion import Motion
from wgflow.systems.neural_feature_flow.network import Network
from wgflow.systems.neural_feature_flow.observables import OBSERVABLES
from wgflow.systems.neural_feature_flow.system import PackedNetwork
from wgflow.systems.problem import problems, require_heldout
from wgflow.systems.protocol import Setup, System, refuse_unused

_OWN = {  # keys of tables that a network has a use for; the others must stay what they are when left out
    "particles": ("count",),
    "flow": ("until", "every", "step", "integrator"),
}
_SAMPLE = 2**15  # particles behind the population's Gram matrices
_STEP_OVERHEAD = 2e4  # work of a step of any size


class Begin:
    """Units that a network starts from, drawn when they are first asked for."""

    def __init__(self, system: PackedNetwork, table: NetworkTable, seed: int) -> None:
        self.system, self._table, self._seed = system, table, seed

    def __len__(self) -> int:
        return self.system.units

    @functools.cached_property
    def theta(self) -> Array:
        """Units as rows, (m, P)."""
        return self.system.pack(self()).theta

    def __call__(self) -> State:
        """Draw the state."""
        table, network, units = self._table, self.system.network, self.system.units
        if table.start == "standard":
            return with_features(network, initial.standard(network, units, self._seed, table.sigma))
        made = initial.minimum_norm(network, units, self._seed, table.sigma, table.outer, table.ridge, table.draw)
        if table.start == "minimum_norm":
            return State(made.weights, made.features)
        return coupling.ideal(network, made, population.population(network, table.sigma, _SAMPLE))


def check(member: Member) -> None:
    """Refuse keys of other tables that a network has no use for.

    Raises
    ------
    InputError
        If one was given.
    """
    refuse_unused(member, _OWN, "a feature network")
    for key in ("block", "activation", "state"):
        if getattr(member.problem, key) != type(member.problem).model_fields[key].default:
            raise InputError(f"problem.{key}: a feature network has no use for it; leave it out")
    table = member.network or NetworkTable()
    unused = ("outer", "ridge", "draw") if table.start == "standard" else ()
    for key in (*unused, *(("h2",) if table.kind == "dnn" else ())):
        if getattr(table, key) != NetworkTable.model_fields[key].default:
            raise InputError(
                f"network.{key}: has no effect with start = {table.start}, kind = {table.kind}; leave it out"
            )


def _network(problem: Problem, table: NetworkTable, loss: str) -> Network:
    options: dict[str, Any] = {"h1": table.h1, "h2": table.h2, "loss": loss}
    return Network(problem.x, problem.y[:, 0], table.layers, table.kind, **options)


class FeatureNetwork(System):
    """Network of features, moved by the neural feature flow or by scaled gradient descent."""

    observables = OBSERVABLES
    largest_timed = 512

    def owns(self, member: Member) -> bool:
        """Whether a member is of this kind: one with a table ``network``."""
        return member.network is not None

    def build(self, member: Member, backend: str, threads: int | None) -> Setup:
        """Build the objects of a member."""
        problem, heldout = problems(member)
        require_heldout(member, heldout)
        if backend == "gpu":
            raise BackendError("backend: expected cpu or reference for a feature network, got gpu")
        check(member)
        table, flow = member.network or NetworkTable(), member.flow
        if problem.y.shape[1] != 1:
            raise InputError(f"problem: expected one target for a feature network, got {problem.y.shape[1]} columns")
        if table.start == "ideal" and table.ridge:
            raise InputError(f"network.ridge: expected 0 for ideal particles, got {table.ridge:g}")
        systems = [
            PackedNetwork(_network(each, table, problem.loss.name), member.particles.count)
            for each in (problem, heldout)
            if each is not None
        ]
        motion = Motion(systems[0], table.method, flow.integrator, flow.step)
        begin = Begin(systems[0], table, member.seed)
        motion.run(begin, flow.until, flow.every)  # checks the times; nothing is drawn until a frame is asked for
        return Setup(self, systems[0], systems[1] if len(systems) > 1 else None, motion, begin)

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
        return float((step + _STEP_OVERHEAD) / member.flow.step)

    def memory(self, setup: Setup, threads: int) -> int:
        """Bytes of a step at its largest: weights, their change, features and their drifts."""
        network, units = setup.energy.network, setup.energy.units
        return int(8 * (3 * units**2 * (network.layers - 1) + 12 * units * network.points * network.layers))
