"""``wgflow figure``: a figure of a run, drawn again from its trajectories."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from wgflow.base.errors import InputError
from wgflow.base.exit_codes import DONE
from wgflow.base.terminal import Parser, printable, show
from wgflow.cli.command import RUN_HELP, execute, run_folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw a figure and return the exit code."""
    make = Parser(prog="wgflow figure", description="Draw a figure of a run again from its trajectories (PNG, PDF).")
    make.add_argument("name", metavar="NAME", help="name of the figure, as in the study's file; 'list' shows all")
    make.add_argument("run", type=Path, nargs="?", metavar="RUN", help=RUN_HELP)
    make.add_argument("out", type=Path, nargs="?", metavar="OUT", help="folder to write to (default: the run's own)")
    return execute(make, _draw, arguments)


def _draw(options: argparse.Namespace) -> int:
    from wgflow.base.registry import check_name
    from wgflow.report import style
    from wgflow.studies.registry import figures
    from wgflow.study.workspace import Workspace

    known = figures()
    if options.name == "list":
        show("\n".join(sorted(known)))
        return DONE
    check_name("figure", options.name, known)
    if options.run is None:
        raise InputError(f"expected NAME RUN, got NAME alone; give the run as well: wgflow figure {options.name} RUN")
    work = Workspace(run_folder(options.run))
    with style.draw_styled(known[options.name](work)) as figure:
        for path in style.save(figure, (options.out or work.folder) / options.name):
            show(printable(path))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
