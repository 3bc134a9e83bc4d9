"""``wgflow watch``: follow a running study until it is done."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wgflow.base.errors import InputError
from wgflow.base.exit_codes import BAD_INPUT, DONE
from wgflow.base.terminal import Parser, console, say
from wgflow.cli.command import RUN_HELP, execute, run_folder

if TYPE_CHECKING:
    from rich.console import RenderableType


def main(arguments: Sequence[str] | None = None) -> int:
    """Follow a run until it is done or Ctrl-C, and return the exit code."""
    make = Parser(prog="wgflow watch", description="Follow a running study.")
    make.add_argument("run", type=Path, metavar="RUN", help=f"{RUN_HELP}, or a trajectory")
    make.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="between updates (default: 1)")
    make.add_argument("--once", action="store_true", help="one update, as where the output is no terminal")
    return execute(make, _follow, arguments)


def _follow(options: argparse.Namespace) -> int:
    from rich.live import Live

    from wgflow.report.progress import RunProgress, render

    if not 0 < options.interval <= 86400:
        raise InputError(f"--interval: expected seconds > 0, at most a day, got {options.interval}")
    out = console(width=None)
    try:
        progress = RunProgress(run_folder(options.run))

        def now() -> RenderableType:
            return render(progress, out.width, min(out.height, 30))

        if options.once or not out.is_terminal:
            out.print(now())
            return DONE
        with Live(now(), console=out, auto_refresh=False) as live:
            while not progress.done():
                time.sleep(options.interval)
                live.update(now(), refresh=True)
    except KeyboardInterrupt:
        return DONE  # the run goes on
    except OSError as error:  # the folder may be deleted meanwhile
        say(str(error))
        return BAD_INPUT
    return DONE


if __name__ == "__main__":
    sys.exit(main())
