"""``wgflow check``, ``repair``, ``schema`` and the export of one trajectory; also ``python -m wgflow.trajectory``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from wgflow.base.errors import InputError
from wgflow.base.exit_codes import BAD_INPUT, DONE
from wgflow.base.terminal import Parser, execute, explain, printable, say, show

_SHOWN = 10  # damages listed at most


def parser() -> Parser:
    """Command line for looking after trajectory files."""
    make = Parser(prog="wgflow", description="Look after trajectory files.")
    verbs = make.add_subparsers(dest="verb", required=True)
    check = _verb(verbs, "check", "check trajectory files against their seal, their digests and the schema")
    check.add_argument("files", nargs="+", type=Path, metavar="FILE", help="trajectory (.h5); several may be given")
    repair = _verb(verbs, "repair", "copy the intact frames of a damaged trajectory, which is not touched")
    repair.add_argument("file", type=Path, metavar="FILE", help="trajectory (.h5) to copy from")
    repair.add_argument("out", type=Path, metavar="OUT", nargs="?", help="default: FILE with -repaired in its name")
    export = _verb(verbs, "export", "export one trajectory as NetCDF (.nc) or as points in 3-D (.h5, H5MD)")
    export.add_argument("file", type=Path, metavar="FILE", help="trajectory (.h5)")
    export.add_argument("out", type=Path, metavar="OUT", help="a name that ends in .nc or .h5")
    export.add_argument("--series", action="store_true", help=".nc: without particles")
    export.add_argument("--axes", metavar="A,B,C", help=".h5: of tau, pc1, pc2, 0, 1, ... (default: pc1,pc2,tau)")
    export.add_argument("--compress", action="store_true", help="compress with gzip")
    _verb(verbs, "schema", "print the schema of trajectory files as a table")
    return make


def _verb(verbs: argparse._SubParsersAction[Parser], name: str, text: str) -> Parser:
    """Parser of a subcommand whose help is also its description."""
    return verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return execute(parser(), _run, arguments)


def _run(options: argparse.Namespace) -> int:
    match options.verb:
        case "check":
            return max([_check(path) for path in options.files])
        case "repair":
            return _repair(options.file, options.out)
        case "export":
            return _export(options)
        case _:
            from wgflow.trajectory import schema

            show(schema.markdown())
            return DONE


def _check(path: Path) -> int:
    from wgflow.trajectory import repair

    try:
        found = repair.check(path)
    except OSError as error:  # the others are still looked at
        code, (line,) = explain(error)
        say(line)
        return code
    if found.damage:
        say(f"{path}: {found.frames} frames, damaged: {_listed(found.damage)}")
        return BAD_INPUT
    state = "finished" if found.finished else "not finished"
    state += ", one more was in flight" if found.in_flight else ""
    show(printable(f"{path}: sound, {found.frames} frames, {state}"))
    return DONE


def _repair(path: Path, out: Path | None) -> int:
    from wgflow.trajectory import repair

    target = out or path.with_name(f"{path.stem}-repaired{path.suffix}")
    _check_place(target)
    found = repair.repair(path, target)
    lost = [*found.damage, *(["the last frame, which was in flight"] if found.in_flight else [])]
    left = f"left out: {_listed(lost)}" if lost else "nothing was left out"
    member = path.absolute().parent.name == "members"
    use = f"; rename it to {path.name}, and the study's command continues from it" * member
    show(printable(f"{target}: {found.frames} frames that match their digests; {left}{use}"))
    return DONE


def _export(options: argparse.Namespace) -> int:
    from wgflow.trajectory import Trajectory, convert, schema

    out: Path = options.out
    if out.suffix not in (".nc", ".h5"):
        raise InputError(f"{out}: expected a name that ends in .nc or .h5, got {out.suffix or 'no ending'}")
    if (options.axes is not None and out.suffix == ".nc") or (options.series and out.suffix == ".h5"):
        raise InputError("--axes goes with .h5, --series with .nc; got them the other way round")
    _check_place(out)
    with Trajectory(options.file) as trajectory:
        if out.is_file():
            with out.open("rb") as file:
                if file.read(len(schema.MAGIC)) == schema.MAGIC:
                    raise InputError(f"{out}: expected a file that may be replaced, got a trajectory; choose another")
        if out.suffix == ".nc":
            convert.write_netcdf(trajectory.to_xarray(not options.series), out, options.compress)
            what = f"{len(trajectory)} frames"
        else:
            axes = options.axes.split(",") if options.axes is not None else None
            what = "axes " + ", ".join(convert.to_three_dimensions(trajectory, out, axes, options.compress))
    show(printable(f"{out}: {what}"))
    return DONE


def _check_place(out: Path) -> None:
    if not out.parent.is_dir():
        raise InputError(f"{out}: expected a folder that is there, got {out.parent}, which is not; make it first")
    if out.is_dir():
        raise InputError(f"{out}: expected the name of a file, got a folder; add a name")


def _listed(damage: Sequence[str]) -> str:
    more = f" and {len(damage) - _SHOWN} more" if len(damage) > _SHOWN else ""
    return ", ".join(damage[:_SHOWN]) + more
