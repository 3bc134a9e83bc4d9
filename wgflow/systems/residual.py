"""Measures over residual blocks: the particle flow of a member, its cost and its observables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.registry import build as build_named
from wgflow.base.scaling import largest, unit
from wgflow.base.types import Array, Frame, Spec
from wgflow.energy import Energy
from wgflow.flow import operators
from wgflow.flow.flow import Flow
from wgflow.flow.operators import Operator
from wgflow.flow.stepsize import STEP_RULES
from wgflow.kernels.auto import Choice, choose_backend
from wgflow.kernels.cpu.backend import Cpu
from wgflow.kernels.cpu.grouped import memory
from wgflow.model.blocks import GaussianMatrix, Unfolding
from wgflow.model.depth import depth as build_depth
from wgflow.model.particles import Particles, scales
from wgflow.model.problem import Problem
from wgflow.study import formulas
from wgflow.study.grid import RunPlan
from wgflow.study.messages import naming
from wgflow.study.schema import Member
from wgflow.study.tables import FlowTable, LayersTable
from wgflow.systems.problem import problems
from wgflow.systems.protocol import STEP_OVERHEAD, Observable, Setup, System
from wgflow.theory.reference_laws import InitialLaw, initial_law
from wgflow.theory.separation import at_depth
from wgflow.theory.transport import Birth, BirthDeath

_TRANSPORT: dict[str, type[Birth | BirthDeath]] = {"birth_death": BirthDeath, "birth": Birth}
# Largest parameter of a start up to which another seed's start is finite too: entries drawn lie within 1e17 of each
# other in ratio, and the largest exponent is 308, which the square of a parameter must not exceed.
_TAME = 1e120


def heldout(frame: Frame, setup: Setup) -> float:
    """Energy on the held-out samples; NaN if there are none."""
    return np.nan if setup.heldout is None else float(setup.heldout(frame.particles, s=frame.s))


def second_moment(frame: Frame, setup: Setup) -> float:
    """Integral of |theta|**2 against the measure, with the weights of the depth scheme."""
    rho = frame.particles
    return float(setup.energy.weights(rho) @ np.sum(rho.theta**2, axis=1))


def outputs(frame: Frame, setup: Setup) -> Array:
    """Outputs of the network at the samples trained on, (M, K)."""
    return np.asarray(setup.energy.predict(frame.particles, setup.energy.problem.x))


def displacement(frame: Frame, setup: Setup) -> Array:
    """Root mean square of theta - theta(0) over the measure and columns, one number for each parameter group."""
    moved = frame.theta - setup.start.theta
    return np.array([_rms(moved[:, columns], frame.mass) for columns in setup.energy.problem.groups.values()])


def _rms(moved: Array, mass: Array) -> float:
    """Root mean square of rows (N, C) with masses (N,)."""
    size = unit(largest(moved))
    squares = (moved / size) ** 2
    equal = mass.min() == mass.max()
    mean = np.mean(squares) if equal else mass @ squares.mean(axis=1) / mass.sum()
    return float(size * np.sqrt(mean))


def _samples_and_outputs(setup: Setup) -> tuple[int, ...]:
    samples, _, outputs, _ = setup.energy.problem.shape
    return samples, outputs


class ResidualMeasure(System):
    """Measure over residual blocks, moved by the gradient flow of the loss."""

    observables = {  # noqa: RUF012
        "heldout": Observable(heldout),
        "second_moment": Observable(second_moment),
        "outputs": Observable(outputs, _samples_and_outputs),
        "displacement": Observable(displacement, lambda setup: (len(setup.energy.problem.groups),)),
    }

    def owns(self, member: Member) -> bool:
        """Whether a member is of this kind: any that asks for no other."""
        return True

    def build(self, member: Member, backend: str, threads: int | None) -> Setup:
        """Build the objects of a member."""
        problem, held_out = problems(member)
        table, depth = member.flow, member.depth.model_dump()
        term = member.regulariser.model_dump() if member.regulariser else None
        if any(ingredient.name == "birth" for ingredient in table.ingredients) and 0 in table.mobility.values():
            raise InputError(
                "flow.mobility: expected no group pinned at 0 with births, which move all of a particle; drop one"
            )
        energy = Energy(problem, depth, backend, member.dtype, threads, term)
        scale = initial_scale(problem, member)
        names = _sizes(problem, member) | scales(problem, scale)
        flow = Flow(
            energy,
            table.integrator,
            _rule(table),
            table.boundary,
            _numbers("flow.mobility", table.mobility, names),
            [_operator(ingredient.model_dump() | {"seed": member.seed}, member) for ingredient in table.ingredients],
            table.batch,
            member.seed,
        )
        start = _start(problem, member, scale)
        energy.weights(start)  # the scheme looks at the measure
        flow.run(start, table.until, table.every)  # checks the times; nothing is computed until a frame is asked for
        apart = Energy(held_out, depth, backend, member.dtype, threads) if held_out else None
        return Setup(self, energy, apart, flow, start)

    def auto(self, plans: Sequence[RunPlan]) -> Choice:
        """Backend that ``auto`` stands for, decided by the largest problem."""
        tables = {(plan.member.problem.model_dump_json(), plan.member.dtype): plan for plan in reversed(plans)}
        return choose_backend((_problem(plan), dtype) for (_, dtype), plan in reversed(tables.items()))

    def device(self, setup: Setup) -> str | None:
        """Name of the GPU that a member runs on; None on a CPU."""
        name: str | None = getattr(getattr(setup.energy.kernel, "device", None), "name", None)
        return name

    def work(self, setup: Setup, member: Member) -> float:
        """Work of one unit of flow time: entries of the network times samples times parameters, step by step."""
        samples, _, _, parameters = setup.energy.problem.shape
        entries, batch = len(setup.energy.depth.network(setup.start).particle), member.flow.batch or samples
        return float((entries * min(samples, batch) * parameters + STEP_OVERHEAD) / member.flow.step)

    def memory(self, setup: Setup, threads: int) -> int:
        """Bytes of one evaluation."""
        samples, width, outputs, _ = setup.energy.problem.shape
        entries, block = len(setup.energy.depth.network(setup.start).particle), setup.energy.problem.block
        units = block.units(width) if isinstance(block, Unfolding) else 1
        return memory(units * entries, samples, width, outputs, threads)

    def chunks(self, setup: Setup, member: Member) -> int:
        """Chunks of samples of a step that processes can share; 0 where they are not passed by compiled kernels."""
        energy, samples = setup.energy, member.flow.batch or len(setup.energy.problem.x)
        count: int = energy.kernel.chunks(energy.network(setup.start), samples) if isinstance(energy.kernel, Cpu) else 0
        return count

    def same_for_all_seeds(self, setup: Setup) -> bool:
        """Whether a start drawn with another seed is finite too."""
        return bool(np.abs(setup.start.theta).max() < _TAME)


def _problem(plan: RunPlan) -> Problem:
    with naming(plan.label):
        return problems(plan.member)[0]


def initial_scale(problem: Problem, member: Member) -> dict[str, float]:
    """Standard deviations of the start by parameter group, as far as the member states them, formulas evaluated."""
    return _numbers("particles.scale", member.particles.scale, _sizes(problem, member))


def law_of_start(problem: Problem, member: Member) -> InitialLaw:
    """Law that the start of a member with full support is drawn from."""
    return initial_law(problem, initial_scale(problem, member), member.particles.law)


def _sizes(problem: Problem, member: Member) -> dict[str, float]:
    """What the letters of formulas stand for."""
    samples, width, outputs, _ = problem.shape
    letters = (width, outputs, samples, member.count, member.layers)
    return dict(zip(formulas.LETTERS, letters, strict=True))


def _numbers(table: str, entries: Mapping[str, float | str], names: Mapping[str, float]) -> dict[str, float]:
    """Entries of a table that are numbers or formulas, evaluated."""
    return {key: formulas.number(entry, names, f"{table}.{key}") for key, entry in entries.items()}


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
    """First column of a made sqrt(2) |theta|, so that a_1 > |(w, b)| with room to spare; no term of the other sign."""
    theta, groups = rho.theta.copy(), problem.groups
    if isinstance(problem.block, GaussianMatrix) and problem.block.signed:
        for name in groups.keys() & {"U", "c"}:
            theta[:, groups[name]] = 0.0
    elif "a" in groups:
        theta[:, groups["a"].start] = np.sqrt(2.0) * np.linalg.norm(theta, axis=1)
    else:
        raise InputError(
            f"particles.support: expected a block with a group 'a', or a signed gaussian_matrix, for 'one_sided', got "
            f"{problem.block.name}; use ridge"
        )
    return Particles(theta, rho.tau)


def _drawn(problem: Problem, member: Member, scale: dict[str, float]) -> Particles:
    table, depth = member.particles, member.depth
    if not isinstance(depth, LayersTable):
        for key in ("per_layer", "within", "fresh"):
            if getattr(table, key):
                raise InputError(f"particles.{key}: expected depth layers, got {depth.name}; use particles.count alone")
        return Particles.draw(problem, table.count, member.seed, scale, table.tau, table.part, table.law)
    if member.count % depth.layers:
        near = max(1, round(table.count / depth.layers)) * depth.layers
        raise InputError(
            f"particles.count: expected a multiple of the {depth.layers} layers, got {table.count}; {near} would do"
        )
    if table.within is not None and table.within < depth.layers:
        raise InputError(f"particles.within: expected at least the {depth.layers} layers, got {table.within}")
    per_layer = member.count // depth.layers
    draw = (member.seed, scale, table.coupling, table.part, table.within, table.fresh, table.law)
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
