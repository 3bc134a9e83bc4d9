"""What the subcommands share: parsing, errors in one line, exit codes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from wgflow.base.errors import BackendError, InputError, TrajectoryError, WorkspaceError
from wgflow.base.exit_codes import BAD_INPUT, DISK, INTERNAL, INTERRUPTED
from wgflow.base.terminal import Parser, say


def execute(parser: Parser, body: Callable[[argparse.Namespace], int], arguments: Sequence[str] | None) -> int:
    """Parse arguments, run the body of a command and return its exit code.

    Parameters
    ----------
    parser : Parser
        Its command line; ``--debug`` is added.
    body : callable
        Takes the parsed options and returns an exit code. Its errors are reported in one line each.
    arguments : sequence of str, optional
        By default those of the process.
    """
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = argparse.Namespace(debug=False)
    try:
        options = parser.parse_args(arguments)
        return body(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        code, line = explain(error)
        say(line)
        if options.debug:
            import traceback

            traceback.print_exc()
        return code


def run_folder(given: Path) -> Path:
    """Folder of a run: as given, or the latest run of a study given by its name in ./runs or by its folder."""
    from wgflow.study.workspace import LATEST  # on demand: help needs no numerics

    folder = given if os.path.exists(given) else "runs" / given
    latest = folder / LATEST
    return latest if os.path.lexists(latest) and not os.path.exists(folder / "study.json") else given


def explain(error: Exception) -> tuple[int, str]:
    """Exit code and line of an error."""
    if isinstance(error, InputError | BackendError | TrajectoryError | WorkspaceError):
        return BAD_INPUT, str(error)
    if isinstance(error, OSError):
        return DISK, f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return INTERNAL, f"internal error: {type(error).__name__}: {error}; --debug shows where"
