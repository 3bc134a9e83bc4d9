"""What ``--dry-run`` prints: the cost of a study, and what is left of it."""

from __future__ import annotations

from rich.table import Table

from wgflow.base.terminal import console, printable
from wgflow.sims import forecast, run_member
from wgflow.sims.study_run import StudyRun

_SHOWN = 30  # members listed at most


def dry_run(run: StudyRun) -> None:
    """Print the time, memory and disk that a run is expected to take."""
    planned, work = run.planned, run.work
    loads = forecast.loads(planned, run.sizes, run.threads, run.chosen.backend)
    left = [1.0 if run.options.fresh else run_member.share_left(work, each) for each in planned]
    asked = [load._replace(seconds=load.seconds * share) for load, share in zip(loads, left, strict=True)]
    expected = forecast.forecast(planned, asked, run.jobs, run.draw.values())
    table = Table("member", "N", "steps", "frames", "seconds", "MiB", box=None, pad_edge=False)
    shown = list(zip(planned, loads, strict=True))
    if len(shown) > _SHOWN:  # the first, and the longest
        shown = shown[: _SHOWN // 2] + sorted(shown[_SHOWN // 2 :], key=lambda each: -each[1].seconds)[: _SHOWN // 2]
    for each, load in shown:
        row = (load.particles, each.steps, each.frames, f"{load.seconds:.2f}", f"{load.disk / 2**20:.2f}")
        table.add_row(printable(each.label) or "the only one", *map(str, row))
    out = console()
    out.print(table)
    if len(shown) < len(planned):
        out.print(f"... and {len(planned) - len(shown)} more")
    side_by_side = f", {run.jobs} side by side" if run.jobs > 1 else ""
    there = sum(share < 1 for share in left)
    begun = f"{there} of them there in whole or in part, " if there else ""
    out.print(
        f"{_counted(len(planned), 'member')}{side_by_side}, {_counted(run.threads, 'thread')} each: {begun}about "
        f"{_duration_in_words(expected.seconds)}, {expected.memory / 2**20:.0f} MiB of memory, "
        f"{expected.disk / 2**20:.1f} MiB on disk, into {printable(str(work.folder))}; nothing was written",
        soft_wrap=True,
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _duration_in_words(seconds: float) -> str:
    """Duration in words: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
