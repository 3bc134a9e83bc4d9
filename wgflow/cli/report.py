"""``wgflow report``: the theorems along one run of a study, added to its page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from wgflow.base.exit_codes import DONE
from wgflow.base.terminal import Parser, printable, progress_bar, show
from wgflow.cli.command import RUN_HELP, execute, run_folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Add the theorems along one run to its study's page, and return the exit code."""
    make = Parser(
        prog="wgflow report",
        description="Write a study's page again, with the theorems evaluated along one of its runs (up to a minute).",
    )
    make.add_argument("run", type=Path, metavar="RUN", help=RUN_HELP)
    make.add_argument("--member", metavar="LABEL", help="run to evaluate (default: the first of the largest N)")
    make.add_argument(
        "--starts", type=int, default=64, help="initial points of each certificate's search (default: 64)"
    )
    make.add_argument("--radius", type=float, help="R of the certificates (default: twice the farthest particle)")
    make.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    make.add_argument("--quiet", action="store_true", help="no progress")
    return execute(make, _add, arguments)


def _add(options: argparse.Namespace) -> int:
    from wgflow.report.rebuild import add_theorems
    from wgflow.study.workspace import Workspace

    work = Workspace(run_folder(options.run))
    work.study  # noqa: B018 - an error if there is no run
    with work.locked(), progress_bar(options.quiet) as progress:
        bar = progress.add_task("theorems", total=1.0)
        verdict = add_theorems(
            work,
            options.member,
            options.starts,
            options.radius,
            options.seed,
            lambda what, share: progress.update(bar, description=what, completed=share),
        )
    show(f"{verdict}\n{printable(str(work.folder / 'report.html'))}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
