"""From a study to its members: the grid multiplied out, and each member's objects built and checked."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any, NamedTuple

from wgflow.energy import Energy
from wgflow.errors import InputError, StudyError, unknown
from wgflow.flow import Flow
from wgflow.particles import Particles
from wgflow.problems import Problem
from wgflow.problems.datasets import DATASETS, split
from wgflow.sims.observables import OBSERVABLES
from wgflow.sims.study import LayersTable, Member, ProblemTable, Study, check_member
from wgflow.types import Spec
from wgflow.workspace import short_names, word

_SHARED = set(ProblemTable.model_fields) | {"name"}  # what is not an argument of the data set


class Setup(NamedTuple):
    """Everything a member needs to run.

    Attributes
    ----------
    energy : Energy
        What is descended.
    heldout : Energy or None
        The same on the held-out samples.
    flow : Flow
        The flow.
    start : Particles
        The initial measure.
    """

    energy: Energy
    heldout: Energy | None
    flow: Flow
    start: Particles


class Planned(NamedTuple):
    """A member of a study before it has run.

    Attributes
    ----------
    label : str
        Its grid values in words.
    values : dict
        Its grid values by key.
    member : Member
        Its checked tables.
    """

    label: str
    values: Spec
    member: Member

    @property
    def steps(self) -> int:
        """Flow steps it takes; with a rule that varies them, as many as if it did not."""
        return max(1, round(self.member.flow.until / self.member.flow.step))

    @property
    def frames(self) -> int:
        """Frames it records: the start, every multiple of ``every``, the end."""
        flow = self.member.flow
        every = flow.every or (flow.step if flow.rule == "constant" else flow.until / 100)
        return math.ceil(flow.until / every * (1 - 1e-9)) + 1


def expand(study: Study) -> list[Planned]:
    """Members of a study, one for each combination of grid values, the last key running fastest.

    Raises
    ------
    StudyError
        If a grid key is unknown or has no values, or a combination does not fit the schema; all problems at once.
    """
    base = study.model_dump(mode="python", exclude={"name", "question", "cost", "figure", "grid"})
    problems = [f"grid.{key}: expected at least one value, got an empty list" for key, v in study.grid.items() if not v]
    problems += [f"grid.{key}: the same value twice" for key, v in study.grid.items() if _repeats(v)]
    if problems:
        raise StudyError(problems)
    short = short_names(list(study.grid))
    members = []
    for combination in itertools.product(*study.grid.values()):
        values = dict(zip(study.grid, combination, strict=True))
        label = ", ".join(f"{short[key]}={word(value)}" for key, value in values.items())
        raw = copy.deepcopy(base)
        for key, value in values.items():
            _place(raw, key, value)
        try:
            members.append(Planned(label, values, check_member(raw, "grid")))
        except StudyError as error:
            problems += [line for line in error.problems if line not in problems]
    if problems:
        raise StudyError(problems)
    return members


def build(member: Member, backend: str = "cpu", threads: int | None = None) -> Setup:
    """Build the objects of a member.

    Raises
    ------
    InputError
        If the tables do not fit together or the data cannot be had.
    BackendError
        If the backend cannot be had.
    """
    for name in member.observables:
        if name not in OBSERVABLES:
            raise unknown("observable", name, OBSERVABLES)
    if len(set(member.observables)) < len(member.observables):
        raise InputError(f"observables: expected each name once, got {', '.join(member.observables)}")
    table = member.problem
    arguments = table.model_dump(exclude=_SHARED)
    x, y = DATASETS[table.name](**arguments)
    targets = table.standardise and table.loss == "squared"  # class probabilities stay what they are
    parts = split(x, y, table.heldout, table.split_seed, table.standardise, targets)
    if "heldout" in member.observables and not len(parts.x_heldout):
        raise InputError("observables: 'heldout' needs samples held out, got problem.heldout = 0; set it to 0.25, say")
    make = Problem.padded if table.state == "padded" else Problem
    problem = make(parts.x, parts.y, block=table.block, activation=table.activation, loss=table.loss)
    heldout = problem.replace(parts.x_heldout, parts.y_heldout) if len(parts.x_heldout) else None
    depth = member.depth.model_dump()
    term = member.regulariser.model_dump() if member.regulariser else None
    energy = Energy(problem, depth, backend, threads=threads, regulariser=term)
    flow_table = member.flow
    flow = Flow(
        energy,
        flow_table.integrator,
        {"name": flow_table.rule, "length": flow_table.step},
        flow_table.boundary,
        flow_table.mobility,
        [each.model_dump() | {"seed": member.seed} for each in flow_table.ingredients],
        flow_table.batch,
        member.seed,
    )
    start = _start(problem, member)
    energy.weights(start)  # the scheme looks at the measure
    flow.run(
        start, flow_table.until, flow_table.every
    )  # checks the times; nothing is computed until a frame is asked for
    return Setup(energy, Energy(heldout, depth, backend, threads=threads) if heldout else None, flow, start)


def _start(problem: Problem, member: Member) -> Particles:
    """Draw the initial measure, under Layers by layers."""
    table, depth = member.particles, member.depth
    if not isinstance(depth, LayersTable):
        return Particles.draw(problem, table.count, member.seed, table.scale, table.tau)
    if table.count % depth.layers:
        near = max(1, round(table.count / depth.layers)) * depth.layers
        raise InputError(
            f"particles.count: expected a multiple of the {depth.layers} layers, got {table.count}; {near} would do"
        )
    per_layer = table.count // depth.layers
    return Particles.draw_layers(problem, depth.layers, per_layer, member.seed, table.scale, table.coupling)


def _place(raw: Spec, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    place: Any = raw
    for parent in parents:
        place = place.get(parent) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        raise InputError(f"grid.{key}: no table {'.'.join(parents)!r} in the study; use a key like 'particles.count'")
    place[last] = value


def _repeats(values: list[Any]) -> bool:
    return any(value in values[:k] for k, value in enumerate(values))
