"""The commands on a run: ``wgflow figure``, ``report``, ``watch`` and ``export``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wgflow.base.errors import InputError
from wgflow.base.exit_codes import BAD_INPUT, DONE
from wgflow.base.terminal import Parser, console, execute, printable, progress_bar, say, show
from wgflow.cli import trajectory

if TYPE_CHECKING:
    from rich.console import RenderableType

_RUN = "folder of a run, or of a study's runs, or the name of a study in ./runs (the latest run)"


def run_folder(given: Path) -> Path:
    """Folder of a run: as given, or the latest run of a study given by its name in ./runs or by its folder.

    Raises
    ------
    InputError
        If there is neither.
    """
    from wgflow.study.workspace import LATEST  # on demand: help needs no numerics

    folder = given if os.path.exists(given) else "runs" / given
    if not os.path.lexists(folder):
        raise InputError(
            f"{given}: expected the folder of a run or a study that has a run in ./runs, found neither; run the study "
            f"first (wgflow run {given.stem}), or give the folder of a run"
        )
    latest = folder / LATEST
    return latest if os.path.lexists(latest) and not os.path.exists(folder / "study.json") else given


def figure(arguments: Sequence[str] | None = None) -> int:
    """Draw a figure of a run again from its trajectories, and return the exit code."""
    make = Parser(prog="wgflow figure", description="Draw a figure of a run again from its trajectories (PNG, PDF).")
    make.add_argument("name", metavar="NAME", help="name of the figure, as in the study's file; 'list' shows all")
    make.add_argument("run", type=Path, nargs="?", metavar="RUN", help=_RUN)
    make.add_argument("out", type=Path, nargs="?", metavar="OUT", help="folder to write to (default: the run's own)")
    return execute(make, _draw, arguments)


def _draw(options: argparse.Namespace) -> int:
    from wgflow.base.registry import check_name
    from wgflow.studies.registry import figures, required_of_run
    from wgflow.study.workspace import Workspace

    known = figures()
    if options.name == "list":
        if options.run is not None:
            raise InputError(f"expected 'list' alone, got {printable(str(options.run))!r} as well; leave it out")
        show("\n".join(sorted(known)))
        return DONE
    check_name("figure", options.name, known)
    if options.run is None:
        raise InputError(f"expected NAME RUN, got NAME alone; give the run as well: wgflow figure {options.name} RUN")
    from wgflow.report import style  # which needs Matplotlib

    work = Workspace(run_folder(options.run))
    drawing = style.draw_styled(required_of_run(options.name, work)(work))
    folder = options.out or work.folder
    for name in style.save(drawing, folder / options.name):
        show(printable(str(folder / name)))
    return DONE


def report(arguments: Sequence[str] | None = None) -> int:
    """Add the theorem diagnostics of one run to the page of its study, and return the exit code."""
    make = Parser(
        prog="wgflow report",
        description="Write a study's page again, with the theorems evaluated along one of its runs (up to a minute).",
    )
    make.add_argument("run", type=Path, metavar="RUN", help=_RUN)
    make.add_argument("--member", metavar="LABEL", help="run to evaluate (default: the first of the largest N)")
    make.add_argument(
        "--starts", type=int, default=64, help="initial points of each certificate's search (default: 64)"
    )
    make.add_argument("--radius", type=float, help="R of the certificates (default: twice the farthest particle)")
    make.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    make.add_argument("--quiet", action="store_true", help="no progress")
    return execute(make, _add_theorems, arguments)


def _add_theorems(options: argparse.Namespace) -> int:
    from wgflow.report.publish import add_theorems
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


def watch(arguments: Sequence[str] | None = None) -> int:
    """Follow a run until it is done or Ctrl-C, and return the exit code."""
    make = Parser(prog="wgflow watch", description="Follow a running study.")
    make.add_argument("run", type=Path, metavar="RUN", help=f"{_RUN}, or a trajectory")
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


def export(arguments: Sequence[str] | None = None) -> int:
    """Write a study, or the trajectory of one run, to another format, and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and Path(given[0]).is_file():
        return trajectory.main(["export", *given])
    make = Parser(
        prog="wgflow export",
        description="Export a study, or one trajectory, as NetCDF (.nc); a trajectory also as points in 3-D (.h5).",
    )
    make.add_argument(
        "run", type=Path, metavar="RUN", help=f"{_RUN}; or a trajectory (.h5), see wgflow export FILE --help"
    )
    make.add_argument("out", type=Path, metavar="OUT", help="file to write, ending in .nc")
    make.add_argument("--particles", action="store_true", help="also every particle of every frame")
    return execute(make, _export, given)


def _export(options: argparse.Namespace) -> int:
    from wgflow.report.export import to_xarray
    from wgflow.study.workspace import Workspace
    from wgflow.trajectory.convert import write_netcdf

    out: Path = options.out
    if out.suffix != ".nc":
        raise InputError(f"{out}: expected a name that ends in .nc, got {out.suffix or 'no ending'}")
    write_netcdf(to_xarray(Workspace(run_folder(options.run)), options.particles), out)
    show(printable(str(out)))
    return DONE
