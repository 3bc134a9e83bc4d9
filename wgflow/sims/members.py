"""From a study to its members: the grid multiplied out, and each member's objects built and checked."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wgflow.base.errors import BackendError, InputError, StudyError
from wgflow.base.registry import build as build_named
from wgflow.base.registry import check_name
from wgflow.base.types import Frame, Spec
from wgflow.energy import Energy
from wgflow.flow import operators
from wgflow.flow.clock import StepClock
from wgflow.flow.flow import Flow
from wgflow.flow.operators import Operator
from wgflow.flow.schedule import Every, Steps, schedule
from wgflow.flow.stepsize import STEP_RULES
from wgflow.model import data_files as sources
from wgflow.model.data_files import Digests
from wgflow.model.datasets import DATASETS, split
from wgflow.model.depth import depth as build_depth
from wgflow.model.particles import Particles, scales
from wgflow.model.problem import Problem
from wgflow.study import formulas
from wgflow.study.schema import Member, Study, check_member, listed
from wgflow.study.tables import FileTable, FlowTable, LayersTable, ProblemTable, Table
from wgflow.study.training_tables import ImagesTable
from wgflow.study.workspace import digest, short_names, word, words
from wgflow.systems.images import members as trainings
from wgflow.systems.images.record import Course, Start, Trained
from wgflow.systems.neural_feature_flow import members as networks
from wgflow.systems.neural_feature_flow.members import Begin
from wgflow.systems.neural_feature_flow.motion import Motion, one_thread
from wgflow.systems.neural_feature_flow.system import System
from wgflow.systems.observables import NETWORK_OBSERVABLES, OBSERVABLES, TRAINING_OBSERVABLES, Observable, Scene
from wgflow.theory.separation import at_depth
from wgflow.theory.transport import Birth, BirthDeath

MOST_MEMBERS = 100_000  # of a study; each takes some kilobytes while it is planned
_SHARED = set(ProblemTable.model_fields) | {"name"}  # what is not an argument of the data set
_TRANSPORT: dict[str, type[Birth | BirthDeath]] = {"birth_death": BirthDeath, "birth": Birth}

_KNOWN: dict[type, Mapping[str, Observable]] = {
    Energy: OBSERVABLES, System: NETWORK_OBSERVABLES, Trained: TRAINING_OBSERVABLES,
}  # fmt: skip


class Setup(NamedTuple):
    """Everything a member needs to run.

    Attributes
    ----------
    energy : Energy, System or Trained
        What is descended.
    heldout : Energy or System or None
        The same on the held-out samples.
    flow : Flow, Motion or Course
        The flow.
    start : Particles, Begin or Start
        The initial measure.
    """

    energy: Energy | System | Trained
    heldout: Energy | System | None
    flow: Flow | Motion | Course
    start: Particles | Begin | Start

    @property
    def scene(self) -> Scene:
        """What observables see of it."""
        return Scene(self.energy, self.heldout, self.start)

    @property
    def observables(self) -> Mapping[str, Observable]:
        """What may be measured of it."""
        return _KNOWN[type(self.energy)]

    def keep_beside(self, path: Path) -> None:
        """Have a training keep its checkpoint beside a trajectory; a frame of any other flow is all it goes on from."""
        if isinstance(self.flow, Course):
            self.flow.checkpoint = checkpoint_beside(path)

    def run(
        self,
        start: Frame | None,
        member: Member,
        on_step: Callable[[int, float], None] | None = None,
        every: float | None = None,
    ) -> Iterator[Frame]:
        """Frames from a frame on, or from the start; those of the member, or at every so much of s."""
        until, every = member.flow.until, every or member.flow.every
        return self.flow.run(start or self.start, until, every, on_step)  # type: ignore[arg-type] # both of one kind


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
    reference : bool
        Whether it is there for the others to be compared with.
    """

    label: str
    values: Spec
    member: Member
    reference: bool = False

    @property
    def steps(self) -> int:
        """Flow steps it takes; with a rule that varies them, as many as if it did not."""
        return max(1, round(self.member.flow.until / self.member.flow.step))

    @property
    def frames(self) -> int:
        """Frames it records: the start, every multiple of ``every``, the end."""
        flow = self.member.flow
        every = None if flow.every is None else schedule(flow.every)
        if flow.rule == "constant":
            due = StepClock(0, 0.0, flow.until, every, flow.step).frames
            return len(due) + (0 not in due) + (self.steps not in due)
        every = every or Every(flow.until / 100)
        return 2 + every.within(flow.until) + (self.steps // every.n if isinstance(every, Steps) else 0)


def expand(study: Study) -> list[Planned]:
    """Members of a study: all combinations of grid values, the last key running fastest; those beside them; references.

    Raises
    ------
    StudyError
        If a grid key is unknown or has no values, a combination does not fit the schema, all problems at once; or if
        there are more than :data:`MOST_MEMBERS`, before any is made.
    """
    tables = [("grid", study.grid, study.grid)]
    for number, table in enumerate(study.also):
        own = {key: listed(value) for key, value in table.items()}
        tables.append((f"also.{number}", study.grid | own, own))
    if study.reference:
        own = {key: listed(value) for key, value in study.reference.items()}
        tables.append(("reference", study.grid | own, own))
    _refuse_too_many([math.prod(map(len, keys.values())) for _, keys, _ in tables])
    return _told_apart([one for table, keys, own in tables for one in _multiplied(study, table, keys, own)])


def _told_apart(members: list[Planned]) -> list[Planned]:
    """Members with labels that are all different: those that words make alike end in a digest of what they are.

    Raises
    ------
    StudyError
        If one is there twice.
    """
    alike = set(_repeated([each.label for each in members]))
    marks = {k: digest(each.member.model_dump(mode="json")) for k, each in enumerate(members) if each.label in alike}
    twice = _repeated([(members[k].label, mark) for k, mark in marks.items()])
    if twice:
        raise StudyError([f"reference, also: expected members that the grid has not, got {twice[0][0]} again"])
    return [each._replace(label=f"{each.label} #{marks[k]}") if k in marks else each for k, each in enumerate(members)]


def _refuse_too_many(counts: Sequence[int]) -> None:
    count = sum(counts)
    if count > MOST_MEMBERS:
        said = f"{count:,}" if count < 10**15 else "more than 10**15"
        problem = (
            f"grid: expected at most {MOST_MEMBERS:,} members, got {said}, the product of the numbers of values of all "
            "keys; give fewer values, or split it into several studies"
        )
        raise StudyError([problem])


def _multiplied(study: Study, table: str, keys: dict[str, list[Any]], own: Spec) -> list[Planned]:
    """Members for all combinations of values; ``own``: the table's own keys."""
    problems = [f"{table}.{key}: expected at least one value, got an empty list" for key, v in own.items() if not v]
    problems += [
        f"{table}.{key}: expected different values, got {word(twice[0])} twice"
        for key, v in own.items()
        if (twice := _repeated(v))
    ]
    if problems:
        raise StudyError(problems)
    base = {name: getattr(study, name) for name in Member.model_fields}  # checked: what a key does not touch stays so
    short, said = short_names(list(keys)), {key: words(values) for key, values in keys.items()}
    members: list[Planned] = []
    refused: dict[str, list[str]] = {}  # what is wrong -> labels
    for places in itertools.product(*(range(len(values)) for values in keys.values())):
        chosen = dict(zip(keys, places, strict=True))
        values = {key: keys[key][place] for key, place in chosen.items()}
        label = ", ".join(f"{short[key]}={said[key][place]}" for key, place in chosen.items())
        raw = dict(base)
        for key, value in values.items():
            _place(raw, table, key, value)
        try:
            members.append(Planned(label, values, check_member(raw, table, study), table == "reference"))
        except StudyError as error:
            for line in error.problems:
                refused.setdefault(line, []).append(label)
    if refused:
        count = math.prod(map(len, keys.values()))
        raise StudyError([f"{line}{_whose(labels, count)}" for line, labels in refused.items()])
    return members


def _whose(labels: list[str], count: int) -> str:
    """Which members a problem is one of, unless it is one of all."""
    if len(labels) == count:
        return ""
    return f" ({labels[0]})" if len(labels) == 1 else f" ({labels[0]} and {len(labels) - 1} more)"


def build(member: Member, backend: str = "cpu", threads: int | None = None) -> Setup:
    """Build the objects of a member.

    Raises
    ------
    InputError
        If the tables do not fit together or the data cannot be had.
    BackendError
        If the backend cannot be had.
    """
    with one_thread():  # samples and the start are the same in every process
        return _build(member, backend, threads)


def _build(member: Member, backend: str, threads: int | None) -> Setup:
    known = _KNOWN[Trained if has_images(member) else System if member.network else Energy]
    for name in member.observables:
        check_name("observable", name, known)
    if len(set(member.observables)) < len(member.observables):
        raise InputError(f"observables: expected each name once, got {', '.join(member.observables)}")
    if has_images(member):
        return Setup(*trainings.build(member, backend))
    problem, heldout = problems(member)
    if "heldout" in member.observables and heldout is None:
        raise InputError("observables: 'heldout' needs samples held out, got problem.heldout = 0; set it to 0.25, say")
    if member.network:
        if backend == "gpu":
            raise BackendError("backend: expected cpu or reference for a network of features, got gpu")
        return Setup(*networks.build(member, problem, heldout))
    depth = member.depth.model_dump()
    term = member.regulariser.model_dump() if member.regulariser else None
    if any(each.name == "birth" for each in member.flow.ingredients) and 0 in member.flow.mobility.values():
        raise InputError(
            "flow.mobility: expected no group pinned at 0 with births, which move all of a particle; drop one"
        )
    energy = Energy(problem, depth, backend, member.dtype, threads, term)
    flow_table, scale = member.flow, _scale(problem, member)
    names = _names(problem, member) | scales(problem, scale)
    flow = Flow(
        energy,
        flow_table.integrator,
        _rule(flow_table),
        flow_table.boundary,
        {key: formulas.number(value, names, f"flow.mobility.{key}") for key, value in flow_table.mobility.items()},
        [_operator(each.model_dump() | {"seed": member.seed}, member) for each in flow_table.ingredients],
        flow_table.batch,
        member.seed,
    )
    start = _start(problem, member, scale)
    energy.weights(start)  # the scheme looks at the measure
    flow.run(
        start, flow_table.until, flow_table.every
    )  # checks the times; nothing is computed until a frame is asked for
    apart = Energy(heldout, depth, backend, member.dtype, threads) if heldout else None
    return Setup(energy, apart, flow, start)


def checkpoint_beside(path: Path) -> Path:
    """Where a training keeps its checkpoint, beside its trajectory."""
    return path.with_suffix(".checkpoint")


def has_images(member: Member) -> bool:
    """Whether it is a training of a network of images, or meant to be."""
    return member.training is not None or isinstance(member.problem, ImagesTable)


def data(planned: Sequence[Planned]) -> Digests:
    """Data files that members read, each once, with their digests when the study was read."""
    return tuple(dict.fromkeys(each for one in planned for each in one.member.data or ()))


def problems(member: Member) -> tuple[Problem, Problem | None]:
    """Problem of a member on the samples to train on and on those held out, if any.

    Raises
    ------
    InputError
        If the data cannot be read, are not those that the study was read with, or do not fit.
    """
    table, known = member.samples, member.data
    if known is None and isinstance(table, FileTable):  # of no study: whatever the file holds now
        known = ((table.path, sources.digest(Path(table.path))),)
    return _problems(type(table), table.model_dump_json(), known)


@functools.lru_cache(maxsize=4)  # members of a study ask for the same ones again and again
def _problems(kind: type[ProblemTable], text: str, known: Digests | None) -> tuple[Problem, Problem | None]:
    """Problem of a table, given as JSON, and of data files known by their digests."""
    table: Any = kind.model_validate_json(text)
    files = {"known": known} if known else {}
    with one_thread():
        x, y = DATASETS[table.name](**table.model_dump(exclude=_SHARED), **files)
    targets = table.standardise and table.loss == "squared"  # class probabilities stay what they are
    parts = split(x, y, table.heldout, table.split_seed, table.standardise, targets)
    options: dict[str, Any] = {"block": table.block, "activation": table.activation, "loss": table.loss}
    if table.state == "whole":
        if x.shape[1] != y.shape[1]:
            raise InputError(
                f"problem.state: expected as many targets as inputs for 'whole', got {y.shape[1]} and {x.shape[1]}; "
                "use 'padded'"
            )
        options["readout"] = np.eye(x.shape[1])
    make = Problem.padded if table.state == "padded" else Problem
    problem = make(parts.x, parts.y, **options)
    return problem, problem.replace(parts.x_heldout, parts.y_heldout) if len(parts.x_heldout) else None


def _names(problem: Problem, member: Member) -> dict[str, float]:
    """What the letters of formulas stand for."""
    samples, width, outputs, _ = problem.shape
    values = (width, outputs, samples, member.count, getattr(member.depth, "layers", 1))
    return dict(zip(formulas.LETTERS, values, strict=True))


def _scale(problem: Problem, member: Member) -> dict[str, float]:
    """Standard deviations given, formulas evaluated."""
    names = _names(problem, member)
    return {
        key: formulas.number(value, names, f"particles.scale.{key}") for key, value in member.particles.scale.items()
    }


def _start(problem: Problem, member: Member, scale: dict[str, float]) -> Particles:
    """Draw the initial measure, under Layers by layers, and bring it to the support asked for."""
    rho, support = _drawn(problem, member, scale), member.particles.support
    if member.particles.t0 is not None and support != "one_layer":
        raise InputError(f"particles.t0: expected support one_layer, got {support}; drop t0")
    if support == "full":
        return rho
    if support == "one_sided":
        return _one_sided(problem, rho)
    if support == "one_layer":
        return _one_layer(rho, member)
    theta = np.zeros_like(rho.theta) if support == "origin" else np.tile(rho.theta[:1], (len(rho), 1))
    stays = support == "origin" or isinstance(member.depth, LayersTable)  # whose layers hold equally many
    return Particles(theta, rho.tau if stays else np.full(len(rho), rho.tau[0]))


def _one_layer(rho: Particles, member: Member) -> Particles:
    """Layer of t0 as drawn; every other one at the first particle drawn."""
    if not isinstance(member.depth, LayersTable):
        raise InputError(f"particles.support: expected depth layers for 'one_layer', got {member.depth.name}")
    t0 = 0.5 if member.particles.t0 is None else member.particles.t0
    theta = np.tile(rho.theta[:1], (len(rho), 1))
    here = at_depth(build_depth(member.depth.model_dump()), rho, t0)
    theta[here] = rho.theta[here]
    return Particles(theta, rho.tau)


def _one_sided(problem: Problem, rho: Particles) -> Particles:
    """First column of a made sqrt(2) |theta|, so that a_1 > |(w, b)| with room to spare."""
    if "a" not in problem.groups:
        raise InputError(
            f"particles.support: expected a block with a group 'a' for 'one_sided', got {problem.block.name}; use ridge"
        )
    theta = rho.theta.copy()
    theta[:, problem.groups["a"].start] = np.sqrt(2.0) * np.linalg.norm(theta, axis=1)
    return Particles(theta, rho.tau)


def _drawn(problem: Problem, member: Member, scale: dict[str, float]) -> Particles:
    table, depth = member.particles, member.depth
    if not isinstance(depth, LayersTable):
        for key in ("per_layer", "within", "fresh"):
            if getattr(table, key):
                raise InputError(f"particles.{key}: expected depth layers, got {depth.name}; use particles.count alone")
        return Particles.draw(problem, table.count, member.seed, scale, table.tau, table.part)
    if member.count % depth.layers:
        near = max(1, round(table.count / depth.layers)) * depth.layers
        raise InputError(
            f"particles.count: expected a multiple of the {depth.layers} layers, got {table.count}; {near} would do"
        )
    if table.within is not None and table.within < depth.layers:
        raise InputError(f"particles.within: expected at least the {depth.layers} layers, got {table.within}")
    per_layer = member.count // depth.layers
    draw = (member.seed, scale, table.coupling, table.part, table.within, table.fresh)
    return Particles.draw_layers(problem, depth.layers, per_layer, *draw)


def _rule(table: FlowTable) -> Spec:
    """Step rule of a table, with the options that are given."""
    options = {name: getattr(table, name) for name in ("rtol", "atol", "smallest")}
    options = {name: value for name, value in options.items() if value is not None}
    for name in sorted(options.keys() - {field.name for field in dataclasses.fields(STEP_RULES[table.rule])}):
        raise InputError(
            f"flow.{name}: expected a rule that has it, got flow.rule = {table.rule!r}; set the rule to adaptive or "
            "drop the key"
        )
    return {"name": table.rule, "length": table.step} | options


def _operator(table: Spec, member: Member) -> Operator:
    """Operator of a table: one of the flow's, or one of the theory's, which act only where mass counts."""
    if table["name"] not in _TRANSPORT:
        return operators.operator(table)
    if member.depth.name not in ("deposit", "shallow"):
        raise InputError(
            f"flow.ingredients: expected depth deposit or shallow for {table['name']!r}, where mass counts, got "
            f"{member.depth.name!r}"
        )
    return build_named("operator", table, _TRANSPORT)


def _place(raw: Spec, table: str, key: str, value: Any) -> None:
    """Put a value into tables, of which those on its way are copied."""
    *parents, last = key.split(".")
    place: Any = raw
    for parent in parents:
        within = place.get(parent)
        within = within.model_dump() if isinstance(within, Table) else within
        if not isinstance(within, dict):
            raise InputError(
                f"{table}.{key}: no table {'.'.join(parents)!r} in the study; use a key like 'particles.count'"
            )
        place[parent] = place = dict(within)
    place[last] = value


def _repeated(values: Sequence[Any]) -> list[Any]:
    """Values that occur before."""
    first: dict[Any, int] = {}
    return [value for place, value in enumerate(values) if first.setdefault(_hashable(value), place) != place]


def _hashable(value: Any) -> Any:
    """Stand-in for a value of a grid that is equal if and only if the value is."""
    if isinstance(value, dict):
        return dict, frozenset((key, _hashable(part)) for key, part in value.items())
    return (list, *map(_hashable, value)) if isinstance(value, list) else value
