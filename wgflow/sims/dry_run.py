"""What ``--dry-run`` prints: the members, what they take here, and how many workers or ranks they are worth."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from rich.table import Table

from wgflow.base.terminal import console, printable
from wgflow.energy import Energy
from wgflow.flow.integrators import integrator
from wgflow.sims import forecast, rank_scaling, run_member, sweep_scaling, trial
from wgflow.sims.forecast import Size
from wgflow.sims.interconnect import ETHERNET, INFINIBAND, Interconnect
from wgflow.sims.preparation import StudyRun
from wgflow.sims.rank_scaling import Evaluation
from wgflow.study.grid import RunPlan

_SHOWN = 30  # members listed at most
_BUDGET = 0.5  # seconds for timing evaluations of the longest member


def dry_run(run: StudyRun) -> None:
    """Print the time, memory and disk that a run is expected to take, here and on a cluster."""
    planned, sizes = run.planned, run.sizes
    place, evaluation = _longest(run)
    seconds = forecast.member_seconds(planned, sizes, run.threads, run.chosen.backend)
    left = [1.0 if run.options.fresh else run_member.share_left(run.work, plan) for plan in planned]
    ahead = [whole * share for whole, share in zip(seconds, left, strict=True)]
    duration, memory, disk = forecast.total(ahead, sizes, run.jobs, run.draw.values())
    out = console()
    out.print(_table(planned, sizes, seconds))
    if len(planned) > _SHOWN:
        out.print(f"... and {len(planned) - _SHOWN} more")
    out.print(sweep_line(ahead, left, sizes, run.threads), soft_wrap=True)
    if evaluation is not None and ahead[place] > 0:
        evaluations = left[place] * planned[place].steps * len(integrator(planned[place].member.flow.integrator).b)
        rank_memory = forecast.BASE + sizes[place].memory
        out.print(rank_line(ahead[place], evaluations, evaluation, rank_memory, run.threads), soft_wrap=True)
    side_by_side = f", {run.jobs} side by side" if run.jobs > 1 else ""
    begun = sum(share < 1 for share in left)
    of_them = f"{begun} of them there in whole or in part, " if begun else ""
    out.print(
        f"{counted(len(planned), 'member')}{side_by_side}, {counted(run.threads, 'thread')} each: {of_them}about "
        f"{in_words(duration)}, {_mebibytes(memory)} of memory{_too_much(memory)}, "
        f"{disk / 2**20:.1f} MiB on disk, into {printable(str(run.work.folder))}; nothing was written",
        soft_wrap=True,
    )


def sweep_line(seconds: Sequence[float], left: Sequence[float], sizes: Sequence[Size], threads: int) -> str:
    """Sentence about the workers that a sweep is worth.

    Parameters
    ----------
    seconds : sequence of float
        Time that each member still takes on one worker.
    left : sequence of float
        Share of each that is still to be run.
    sizes : sequence of Size
        Their sizes.
    threads : int
        Threads of a worker.
    """
    if not any(seconds):
        return "Workers (--cluster): none; all members are there"
    disk = sum(size.disk * share for size, share in zip(sizes, left, strict=True))
    best, limit = sweep_scaling.worthwhile(seconds, disk)
    memory = forecast.BASE + max(size.memory for size in sizes)
    each = f"of {counted(threads, 'thread')} and {_mebibytes(memory)}"
    if best.workers == 1:
        return f"Workers (--cluster): one {each} is enough; {limit}"
    return (
        f"Workers (--cluster): up to {best.workers} {each} are worth having: about {in_words(best.seconds)} instead of "
        f"{in_words(sum(seconds))}, efficiency {best.efficiency:.0%}; beyond that {limit}"
    )


def rank_line(
    seconds: float,
    evaluations: float,
    one: Evaluation,
    memory: int,
    threads: int,
    networks: tuple[Interconnect, Interconnect] = (INFINIBAND, ETHERNET),
) -> str:
    """Sentence about the ranks that a run is worth.

    Parameters
    ----------
    seconds, evaluations : float
        Time of the run on one rank, and evaluations of the gradient in it.
    one : Evaluation
        Cost of one.
    memory, threads : int
        Bytes and threads of a rank, which holds all particles and all samples.
    networks : pair of Interconnect, optional
        A fast network between ranks and a slow one.
    """
    fast, slow = networks
    best, limit = rank_scaling.worthwhile(seconds, evaluations, one, threads, fast)
    other, _ = rank_scaling.worthwhile(seconds, evaluations, one, threads, slow)
    evaluation = 1e3 * (one.alone + one.passes(threads))
    start = f"Ranks (--mpi) for the longest member, {_briefly(seconds)} on one, {evaluation:.3g} ms an evaluation:"
    each = f"of {counted(threads, 'thread')} and {_mebibytes(memory)}"
    if best.ranks == 1:
        return f"{start} one {each} is enough over {fast}; {limit}"
    return (
        f"{start} up to {best.ranks} {each} are worth having over {fast}: about {_briefly(best.seconds)}, efficiency "
        f"{best.efficiency:.0%}, {_mebibytes(one.exchanged(best.ranks))} of messages an evaluation; "
        f"beyond that {limit}; over {slow} up to {other.ranks}: about {_briefly(other.seconds)}"
    )


def _longest(run: StudyRun) -> tuple[int, Evaluation | None]:
    """Place of the member with the most work, and cost of its evaluations if ranks can share them."""
    work = [size.work * plan.member.flow.until for size, plan in zip(run.sizes, run.planned, strict=True)]
    place = work.index(max(work))
    if run.chosen.backend != "cpu":
        return place, None
    member = run.planned[place].member
    setup = trial.look(member, run.chosen.backend, run.threads)
    if not isinstance(setup.energy, Energy):
        return place, None
    samples = member.flow.batch or setup.energy.problem.shape[0]
    return place, rank_scaling.calibrate(setup.energy, setup.start, samples, run.threads, _BUDGET)


def counted(number: int, noun: str) -> str:
    """Number with its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def in_words(seconds: float) -> str:
    """Duration in words: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _briefly(seconds: float) -> str:
    """Duration in words, with two digits where a second is much of it."""
    return f"{seconds:.2g} s" if seconds < 9.95 else in_words(seconds)


def _too_much(memory: int) -> str:
    """What this machine has, if that is less."""
    with contextlib.suppress(AttributeError, ValueError, OSError):  # a system that does not tell
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return f" (this machine has {_mebibytes(there)})" if memory > there else ""
    return ""


def _mebibytes(size: float) -> str:
    return f"{size / 2**20:.{0 if size >= 2**24 else 1}f} MiB"


def _table(planned: Sequence[RunPlan], sizes: Sequence[Size], seconds: Sequence[float]) -> Table:
    """Table of the members: of many the first, and the longest."""
    table = Table("member", "N", "steps", "frames", "seconds", "MiB", box=None, pad_edge=False)
    shown = list(zip(planned, sizes, seconds, strict=True))
    if len(shown) > _SHOWN:
        shown = shown[: _SHOWN // 2] + sorted(shown[_SHOWN // 2 :], key=lambda row: -row[2])[: _SHOWN // 2]
    for plan, size, whole in shown:
        row = (size.particles, plan.steps, plan.frames, f"{whole:.2f}", f"{size.disk / 2**20:.2f}")
        table.add_row(printable(plan.label) or "the only one", *map(str, row))
    return table
