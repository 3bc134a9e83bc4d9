"""What a study will take: time from a calibration of a second, memory and disk from sizes."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from wgflow.base.errors import DivergenceError
from wgflow.report.figure import Figure
from wgflow.sims import sweep_scaling, trial
from wgflow.study.grid import RunPlan
from wgflow.study.schema import Member
from wgflow.systems.members import system_of
from wgflow.systems.protocol import Setup
from wgflow.trajectory.schema import INLINE

BASE = 180 * 2**20  # bytes a process has before its first member
_RECORD = 5e-5  # seconds to record a frame, and
_RECORD_BYTE = 1e-9  # for each byte of it
_OPEN = 0.01  # seconds to make and finish a trajectory file, or to read it for the results
_STRUCTURE = 48 * 2**10  # bytes of a file beside its frames, and
_OBSERVABLE = 2 * 2**10  # for each observable in it
_ROW = 172  # bytes of a frame beside particles and observables: step, s, energy, dissipation, digest, ...
_TIMED = 16  # kinds of members that are timed at most
_BUDGET = 1.0  # seconds the calibration may take, the first call of each kernel aside


class Size(NamedTuple):
    """Sizes of one member, known without running it.

    Attributes
    ----------
    work : float
        Of one unit of s, in units that take about equally long.
    frame, disk, memory : int
        Bytes of a frame, of its trajectory, and at its largest beyond what any process has.
    particles : int
        N.
    """

    work: float
    frame: int
    disk: int
    memory: int
    particles: int


def member_seconds(planned: Sequence[RunPlan], sizes: Sequence[Size], threads: int, backend: str) -> list[float]:
    """Time that every member takes on one process, from timing a few steps of a small and a large one of each kind.

    Members are of one kind if they differ in nothing but seeds, sizes, times and what steps take no longer by; between
    and beyond the two sizes measured time is taken as linear in N. If there are many kinds only some are timed; the
    others are scaled from the nearest in proportion to their work.
    """
    kinds: dict[str, list[int]] = {}
    for place, each in enumerate(planned):
        kinds.setdefault(_kind(each), []).append(place)
    work = {kind: sizes[same[0]].work * planned[same[0]].member.flow.step for kind, same in kinds.items()}
    ordered = sorted(kinds, key=work.__getitem__)
    timed = sorted({round(k * (len(ordered) - 1) / (_TIMED - 1)) for k in range(_TIMED)})
    rates = {
        place: _calibrate([planned[k] for k in kinds[ordered[place]]], threads, backend, _BUDGET / (2 * len(timed)))
        for place in timed
    }
    out = [0.0] * len(planned)
    for place, kind in enumerate(ordered):
        near = min(timed, key=lambda other: abs(other - place))
        longer = work[kind] / work[ordered[near]]
        for k in kinds[kind]:
            step, frame = rates[near](_size(planned[k].member))
            per_frame = longer * frame + _RECORD + _RECORD_BYTE * sizes[k].frame
            out[k] = planned[k].steps * longer * step + planned[k].frames * per_frame + _OPEN
    return out


def total(
    seconds: Sequence[float], sizes: Sequence[Size], jobs: int, figures: Collection[Figure]
) -> tuple[float, int, int]:
    """Seconds from start to end, memory of all processes at their largest, and bytes of the run folder."""
    start = sweep_scaling.START if jobs > 1 else 0.0
    drawing = sum(figure.seconds for figure in figures) + _OPEN * len(sizes)
    memory = BASE * (jobs + (jobs > 1)) + sum(sorted((size.memory for size in sizes), reverse=True)[:jobs])
    disk = sum(size.disk for size in sizes) + 2**20 * len(figures)
    return sweep_scaling.makespan(seconds, jobs, start) + drawing, memory, disk


def _kind(planned: RunPlan) -> str:
    """What members have in common whose time depends on N alone, as JSON."""
    flow, problem = {"until", "every", "step", "mobility"}, {"seed", "split_seed", "heldout"}
    raw = planned.member.model_dump(
        mode="json", exclude={"seed": True, "particles": True, "flow": flow, "problem": problem}
    )
    return json.dumps([_without_reals(raw), getattr(planned.member.problem, "heldout", 0.0)], sort_keys=True)


def _without_reals(value: Any) -> Any:
    """Plain JSON without its real numbers: rates, scales and strengths, by which a step takes no longer."""
    if isinstance(value, dict):
        return {key: _without_reals(part) for key, part in value.items()}
    return list(map(_without_reals, value)) if isinstance(value, list) else None if isinstance(value, float) else value


def _size(member: Member) -> int:
    """Number in which the time of a step is linear."""
    return system_of(member).size(member)


def _calibrate(
    same: Sequence[RunPlan], threads: int, backend: str, budget: float
) -> Callable[[int], tuple[float, float]]:
    """Seconds of a step and of a frame as functions of the size."""
    ordered = sorted(same, key=lambda one: _size(one.member))
    limit = system_of(same[0].member).largest_timed
    fitting = [plan for plan in ordered if plan.member.count <= limit] or ordered[:1]
    large = max(fitting, key=lambda one: _size(one.member))  # the first of them, which is the one built on trial
    chosen = {_size(plan.member): plan for plan in (ordered[0], large)}
    measured = {count: _time(plan, threads, backend, budget) for count, plan in chosen.items()}
    (least, at_least), (most, at_most) = min(measured.items()), max(measured.items())

    def linear(count: int) -> tuple[float, float]:
        if most == least:
            scale = max(1.0, count / least)
            return at_least[0] * scale, at_least[1] * scale
        share = (count - least) / (most - least)
        step, frame = (low + share * max(high - low, 0.0) for low, high in zip(at_least, at_most, strict=True))
        return step, frame

    return linear


def _time(planned: RunPlan, threads: int, backend: str, budget: float) -> tuple[float, float]:
    """Seconds of one step and of one frame's observables (single timings: medians would take too long)."""
    setup = trial.take(planned.member, backend, threads)
    probed = setup.system.probe(setup, budget)
    if probed is not None:
        return probed
    names = planned.member.observables
    steps = setup.run(None, planned.member, every=planned.member.flow.step)
    frame = next(steps)  # compiles
    setup.measure(frame, names)
    begun, count = time.perf_counter(), 0
    with contextlib.suppress(DivergenceError):  # the run will say it
        for frame in steps:  # noqa: B007
            count += 1
            if time.perf_counter() - begun > budget / 2:
                break
    per_step = (time.perf_counter() - begun) / max(count, 1)
    begun, count = time.perf_counter(), 0
    while not count or time.perf_counter() - begun < budget / 4:
        setup.measure(frame, names)
        count += 1
    return per_step, (time.perf_counter() - begun) / count


def size(planned: RunPlan, setup: Setup, threads: int) -> Size:
    """Sizes of a member as it is built, the same for all seeds."""
    system, member, names = setup.system, planned.member, planned.member.observables
    problems = [setup.energy.problem, *([setup.heldout.problem] if setup.heldout else [])]
    samples = [sum(array.nbytes for array in problem.arrays().values()) for problem in problems]
    beside = (
        _STRUCTURE
        + _OBSERVABLE * len(names)
        + int(sum(size for size in samples if size <= INLINE))
        + system.bytes_beside(setup)
    )
    numbers = 8 * len(setup.start) * (int(setup.energy.problem.shape[3]) + 2)
    frame = _ROW + sum(8 * math.prod(shape) for shape in setup.shapes(names).values())
    frame += numbers if member.record == "particles" else 0
    memory = system.memory(setup, threads) + 12 * numbers + 2 * sum(samples)  # as given, and as states at depth 0
    return Size(system.work(setup, member), frame, planned.frames * frame + beside, memory, len(setup.start))
