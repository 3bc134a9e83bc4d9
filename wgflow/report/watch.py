"""Follow a running study in the terminal: a table of its runs and the current loss curve.

Usage: python -m wgflow.analysis.watch RUN
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wgflow.base.errors import InputError
from wgflow.base.terminal import Parser, console, printable, say
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Follow a run until it is done or Ctrl-C; 0, or 2 with one line for bad input."""
    make = Parser(prog="python -m wgflow.analysis.watch", description="Follow a running study.")
    make.add_argument("run", type=Path, help="folder of a run, of a study's runs (the latest), or a trajectory")
    make.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="between two looks (default: 1)")
    make.add_argument("--once", action="store_true", help="one look, as where the output is no terminal")
    from rich.live import Live

    out = console(width=None)
    try:
        options = make.parse_args(arguments)
        if not 0 < options.interval <= 86400:
            raise InputError(f"--interval: expected seconds > 0, at most a day, got {options.interval}")
        progress = RunProgress(options.run)

        def now() -> RenderableType:
            return render(progress, out.width, min(out.height, 30))

        if options.once or not out.is_terminal:
            out.print(now())
            return 0
        with Live(now(), console=out, auto_refresh=False) as live:
            while not progress.done():
                time.sleep(options.interval)
                live.update(now(), refresh=True)
    except KeyboardInterrupt:
        return 0  # the run goes on
    except (InputError, OSError) as error:  # the folder may be deleted meanwhile
        say(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
