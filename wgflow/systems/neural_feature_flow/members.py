"""Members that are networks of features: their tables checked, their objects built."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from wgflow.base.errors import InputError
from wgflow.base.types import Array
from wgflow.model.problem import Problem
from wgflow.study.schema import Member
from wgflow.study.tables import FlowTable, NetworkTable
from wgflow.systems.neural_feature_flow import coupling, initial, population
from wgflow.systems.neural_feature_flow.flow import State
from wgflow.systems.neural_feature_flow.flow import start as with_features
from wgflow.systems.neural_feature_flow.motion import Motion
from wgflow.systems.neural_feature_flow.network import Network
from wgflow.systems.neural_feature_flow.system import System

_OWN = {  # keys of tables that a network has a use for; the others must stay what they are when left out
    "particles": ("count",),
    "flow": ("until", "every", "step", "integrator"),
}
_SAMPLE = 2**15  # particles behind the population's Gram matrices


class Begin:
    """Units that a network starts from, drawn when they are first asked for."""

    def __init__(self, system: System, table: NetworkTable, seed: int) -> None:
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
    refuse_unused(member, _OWN, "a network of features")
    for key in ("block", "activation", "state"):
        if getattr(member.problem, key) != type(member.problem).model_fields[key].default:
            raise InputError(f"problem.{key}: a network of features has no use for it; leave it out")
    table = member.network or NetworkTable()
    unused = ("outer", "ridge", "draw") if table.start == "standard" else ()
    for key in (*unused, *(("h2",) if table.kind == "dnn" else ())):
        if getattr(table, key) != NetworkTable.model_fields[key].default:
            raise InputError(
                f"network.{key}: has no effect with start = {table.start}, kind = {table.kind}; leave it out"
            )


def refuse_unused(member: Member, own: Mapping[str, Sequence[str]], who: str) -> None:
    """Refuse what a member that is no measure of residual blocks has no use for.

    Parameters
    ----------
    member : Member
        Its tables.
    own : mapping of str to sequence of str
        Keys it has a use for, by table.
    who : str
        What it is, for the message.

    Raises
    ------
    InputError
        If anything else is not what it is when left out.
    """
    plain = Member(problem=member.problem, flow=FlowTable(until=member.flow.until))
    for name, kept in own.items():
        table, default = getattr(member, name), getattr(plain, name)
        for key in type(table).model_fields:
            if key not in kept and getattr(table, key) != getattr(default, key):
                raise InputError(f"{name}.{key}: {who} has no use for it; leave it out")
    for name in ("depth", "regulariser", "dtype"):
        if getattr(member, name) != getattr(plain, name):
            raise InputError(f"{name}: {who} has no use for it; leave it out")


def build(member: Member, problem: Problem, heldout: Problem | None) -> tuple[System, System | None, Motion, Begin]:
    """Build the objects of a member that has a network.

    Parameters
    ----------
    member : Member
        Its tables.
    problem, heldout : Problem, Problem or None
        Samples to train on and held out, one target each.

    Returns
    -------
    system, heldout, motion, begin : System, System or None, Motion, Begin

    Raises
    ------
    InputError
        If the tables do not fit together.
    """
    check(member)
    table, flow = member.network, member.flow
    assert table is not None  # the caller looked
    if problem.y.shape[1] != 1:
        raise InputError(f"problem: expected one target for a network of features, got {problem.y.shape[1]} columns")
    if table.start == "ideal" and table.ridge:
        raise InputError(f"network.ridge: expected 0 for ideal particles, got {table.ridge:g}")
    made = [_network(each, table, problem.loss.name) for each in (problem, heldout) if each is not None]
    systems = [System(each, member.particles.count) for each in made]
    motion = Motion(systems[0], table.method, flow.integrator, flow.step)
    begin = Begin(systems[0], table, member.seed)
    motion.run(begin, flow.until, flow.every)  # checks the times; nothing is drawn until a frame is asked for
    return systems[0], systems[1] if len(systems) > 1 else None, motion, begin


def _network(problem: Problem, table: NetworkTable, loss: str) -> Network:
    options: dict[str, Any] = {"h1": table.h1, "h2": table.h2, "loss": loss}
    return Network(problem.x, problem.y[:, 0], table.layers, table.kind, **options)


def work(system: System) -> float:
    """Multiplications of one step, about."""
    network, units = system.network, system.units
    return 8.0 * network.points * (units**2 * (network.layers - 1) + units * network.inputs)


def memory(system: System) -> int:
    """Bytes of a step at its largest: weights, their change, features and their drifts."""
    network, units = system.network, system.units
    return 8 * (3 * units**2 * (network.layers - 1) + 12 * units * network.points * network.layers)
