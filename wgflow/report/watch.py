"""Follow a running study in the terminal: a table of its runs and the current loss curve.

Usage: python -m wgflow.analysis.watch RUN
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wgflow.base.terminal import printable
from wgflow.report.braille import curve
from wgflow.report.progress import DIVERGED, FINISHED, RunProgress

if TYPE_CHECKING:
    from rich.console import RenderableType

_RECENT = 12  # runs shown, the last changed first
_WARNINGS = 3  # runs whose departure from the gradient flow is shown


def render(progress: RunProgress, width: int, height: int) -> RenderableType:
    """Table of the runs, time spent and left, and the loss curve of the run changed last."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    members = progress.members()
    table = Table("run", "frames", "s", "of", "E", "E at the start", "state", box=None, pad_edge=False)
    for member in members[:_RECENT]:
        ends = (member.s, -1), (member.energy, -1), (member.energy, 0)
        s, last, first = (f"{series[k]:.4g}" if member.frames else "" for series, k in ends)
        label, state = printable(member.label), printable(member.state)
        table.add_row(label, str(member.frames), s, f"{member.until:g}", last, first, state)
    finished, lost = (sum(member.state == state for member in members) for state in (FINISHED, DIVERGED))
    spent, left = progress.seconds()
    status = f"{finished} of {progress.total} finished" + (f", {lost} diverged" if lost else "")
    if len(members) > _RECENT:
        status += f", {len(members) - _RECENT} more have started"
    if spent:
        status += f"; {_clock(spent)} elapsed"
        status += f", about {_clock(left)} left" if left and not progress.done() else ""
    parts: list[RenderableType] = [Text(printable(progress.name), style="bold"), table, Text(status)]
    warnings = [f"{member.label or 'the only run'}: {member.warning}" for member in members if member.warning]
    parts += [Text(printable(warning)) for warning in warnings[:_WARNINGS]]
    latest = next((member for member in members if member.frames > 1), None)
    if latest is not None:
        lines = curve(latest.s, latest.energy, width, max(4, height - len(members[:_RECENT]) - 8))
        parts += [Text(f"\nE along s, {printable(latest.label) or 'the only run'}"), *(Text(line) for line in lines)]
    return Group(*parts)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
