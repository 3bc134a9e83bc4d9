"""From a study to its members: the grid multiplied out, and each member's objects built and checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wgflow.base.environment import one_thread
from wgflow.base.errors import BackendError, InputError
from wgflow.base.registry import build as build_named
from wgflow.base.registry import check_name
from wgflow.base.types import Frame, Spec
from wgflow.energy import Energy
from wgflow.flow import operators
from wgflow.flow.flow import Flow
from wgflow.flow.operators import Operator
from wgflow.flow.stepsize import STEP_RULES
from wgflow.model.depth import depth as build_depth
from wgflow.model.particles import Particles, scales
from wgflow.model.problem import Problem
from wgflow.study import formulas
from wgflow.study.schema import Member
from wgflow.study.tables import FlowTable, LayersTable
from wgflow.study.training_tables import ImagesTable
from wgflow.systems.images import members as trainings
from wgflow.systems.images.record import Course, Start, Trained
from wgflow.systems.neural_feature_flow import members as networks
from wgflow.systems.neural_feature_flow.members import Begin
from wgflow.systems.neural_feature_flow.motion import Motion
from wgflow.systems.neural_feature_flow.system import System
from wgflow.systems.observables import NETWORK_OBSERVABLES, OBSERVABLES, TRAINING_OBSERVABLES, Observable, Scene
from wgflow.systems.problem import problems
from wgflow.theory.separation import at_depth
from wgflow.theory.transport import Birth, BirthDeath

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
