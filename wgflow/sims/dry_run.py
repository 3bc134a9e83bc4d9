"""What ``--dry-run`` prints: the members, what they take here, and how many workers or ranks they are worth."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from rich.table import Table

from wgflow.base.terminal import console, printable
from wgflow.sims import forecast, run_member, sweep_scaling
from wgflow.sims.forecast import Size
from wgflow.sims.preparation import StudyRun
from wgflow.study.grid import RunPlan

_SHOWN = 30  # members listed at most


def dry_run(run: StudyRun) -> None:
    """Print the time, memory and disk that a run is expected to take, here and on a cluster."""
    planned, sizes = run.planned, run.sizes
    seconds = forecast.member_seconds(planned, sizes, run.threads, run.chosen.backend)
    left = [1.0 if run.options.fresh else run_member.share_left(run.work, plan) for plan in planned]
    ahead = [whole * share for whole, share in zip(seconds, left, strict=True)]
    duration, memory, disk = forecast.total(ahead, sizes, run.jobs, run.draw.values())
    out = console()
    out.print(_table(planned, sizes, seconds))
    if len(planned) > _SHOWN:
        out.print(f"... and {len(planned) - _SHOWN} more")
    out.print(sweep_line(ahead, left, sizes, run.threads), soft_wrap=True)
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
