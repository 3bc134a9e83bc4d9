"""``wgflow export``: a study as one NetCDF file, or a trajectory as NetCDF or in three dimensions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from wgflow.base.errors import InputError
from wgflow.base.exit_codes import DONE
from wgflow.base.terminal import Parser
from wgflow.cli import trajectory
from wgflow.cli.command import RUN_HELP, execute, run_folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a study, or the trajectory of one run, to another format, and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and Path(given[0]).is_file():
        return trajectory.main(["export", *given])
    make = Parser(
        prog="wgflow export",
        description="Export a study, or one trajectory, as NetCDF (.nc); a trajectory also as points in 3-D (.h5).",
    )
    make.add_argument(
        "run", type=Path, metavar="RUN", help=f"{RUN_HELP}; or a trajectory (.h5), see wgflow export FILE --help"
    )
    make.add_argument("out", metavar="OUT", help="file to write, ending in .nc")
    make.add_argument("--particles", action="store_true", help="also every particle of every frame")
    return execute(make, _export, arguments)


def _export(options: argparse.Namespace) -> int:
    from wgflow.report.export import to_xarray
    from wgflow.study.workspace import Workspace
    from wgflow.trajectory.convert import write_netcdf

    path = Path(options.out)
    if path.suffix != ".nc":
        raise InputError(f"{path}: expected a name that ends in .nc, got {path.suffix or 'no ending'}")
    write_netcdf(to_xarray(Workspace(run_folder(options.run)), options.particles), path)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
