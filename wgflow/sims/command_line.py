"""The command line of the runner, and its values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wgflow.base.errors import InputError, describe
from wgflow.base.exit_codes import WORDS
from wgflow.base.terminal import Parser

DEFAULT_STUDY = "convergence"


def parser() -> Parser:
    """Command line of the runner."""
    make = Parser(
        prog="wgflow run",
        description="Run a study: every member's trajectory, a summary and a figure. The same command again resumes.",
        epilog=f"Exit codes: {', '.join(f'{code} {words}' for code, words in WORDS.items())}.",
    )
    make.add_argument("study", nargs="?", default=DEFAULT_STUDY, metavar="STUDY",
                      help=f"name of a bundled study, or path of a .toml file (default: {DEFAULT_STUDY})")  # fmt: skip
    make.add_argument("--out", default="runs", metavar="DIR", help="where run folders go (default: runs)")
    make.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
                      help="change a key of the study, e.g. flow.step=0.05 or grid.seed=[0,1]; repeatable")  # fmt: skip
    make.add_argument(
        "--backend",
        default="auto",
        metavar="auto|cpu|reference|gpu",
        help="kernels to use (default: auto, the GPU where one works and the problem is large enough, else the CPU; "
        "wgflow doctor shows what is there)",
    )
    make.add_argument(
        "--jobs", default=None, metavar="N", help="members run side by side (default: one a core from 8 members on)"
    )
    make.add_argument(
        "--cluster",
        default=None,
        metavar="WHERE",
        help="run members on a Dask cluster: local:N, tcp://HOST:PORT, tls://HOST:PORT or file:SCHEDULER.json",
    )
    make.add_argument("--threads", default=None, metavar="N", help="threads of each (default: its share of the cores)")
    make.add_argument(
        "--mpi", action="store_true", help="under mpirun: divide the samples of each member among its processes"
    )
    make.add_argument(
        "--walltime", default=None, metavar="T", help="stop after this long, e.g. 90s, 30m, 2h; resumable"
    )
    again = make.add_mutually_exclusive_group()
    again.add_argument("--fresh", action="store_true", help="start again, deleting what this study has in its folder")
    again.add_argument("--keep", action="store_true", help="go on with results of another version of wgflow")
    make.add_argument("--mixed", action="store_true", help="go on with results of another backend")
    make.add_argument("--list", action="store_true", help="show the bundled studies")
    make.add_argument("--print-schema", action="store_true", help="print the JSON schema of study files, for editors")
    make.add_argument(
        "--dry-run", action="store_true", help="check everything; forecast time, memory and disk; write nothing"
    )
    make.add_argument("--quiet", action="store_true", help="no progress and no table")
    return make


def key_value(text: str, parse: Callable[[str], Any]) -> tuple[str, Any]:
    """Key and value of a ``--set``; raises InputError if it is not KEY=VALUE."""
    key, found, value = text.partition("=")
    if any("\ud800" <= character <= "\udfff" for character in text):  # bytes that are no text, which no JSON can hold
        raise InputError(f"--set: expected text in UTF-8, got {text!r}")
    if not found or not key.strip():
        raise InputError(f"--set: expected KEY=VALUE, e.g. flow.step=0.05, got {text!r}")
    return key.strip(), parse(value.strip())


def positive(name: str, text: str) -> int:
    """Whole number >= 1; raises InputError if the text is none."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise InputError(f"{name}: expected a whole number >= 1, got {text!r}")
    return number


def duration(text: str) -> float:
    """Seconds in a duration such as 90, 90s, 30m or 2h; raises InputError if the text is none."""
    unit = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:], None)
    try:
        seconds = float(text[:-1] if unit else text) * (unit or 1.0)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InputError(f"--walltime: expected a duration such as 90s, 30m or 2h, got {describe(text)}")
    return seconds
