"""The command ``wgflow run``; also ``python -m wgflow.sims.run``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wgflow.base.errors import LostError, StudyError, WgflowError
from wgflow.base.exit_codes import BAD_INPUT, DISK, DIVERGED, DONE, INTERRUPTED, REQUEUE
from wgflow.base.terminal import execute, explain, say, show
from wgflow.sims import ranks
from wgflow.sims.bundled import show_studies, studies_folder
from wgflow.sims.command_line import parser
from wgflow.sims.signals import Stop, terminated, warned_once

if TYPE_CHECKING:
    from wgflow.kernels.ranks import Ranks


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    asked = ranks.asked_for(sys.argv[1:] if argv is None else argv)
    return ranks.on_all(lambda together: _execute(argv, together)) if asked else _execute(argv, None)


def _execute(argv: Sequence[str] | None, together: Ranks | None) -> int:
    """Run the command in this process, which other ranks may serve."""
    running = [False]  # set once the workspace is being written: an OSError before that is bad input

    def body(options: argparse.Namespace) -> int:
        options.ranks = together
        return _run(options, running)

    return execute(parser(), body, argv, lambda error: _explain(error, running[0]))


def _run(options: argparse.Namespace, running: list[bool]) -> int:
    try:
        with terminated(), warned_once():
            return _dispatch(options, running)
    except (KeyboardInterrupt, Stop) as error:
        say("stopped; the same command resumes from the last committed frame")
        return REQUEUE if isinstance(error, Stop) else INTERRUPTED


def _dispatch(options: argparse.Namespace, running: list[bool]) -> int:
    """Do what the command asks for; its imports are here so that --help is quick."""
    if options.list:
        show_studies(studies_folder())
        return DONE
    if options.print_schema:
        import json

        from wgflow.study.schema import schema

        show(json.dumps(schema(), indent=2))
        return DONE
    from wgflow.sims import dry_run, preparation, run_study

    with preparation.cluster(options) as cluster:
        run = preparation.prepare(options, cluster)
        if options.dry_run:
            preparation.print_backend(run.chosen, options.quiet)
            dry_run.dry_run(run)
            return DONE
        outcomes = run_study.run_study(run, running)
    return DIVERGED if any(outcome.status == "diverged" for outcome in outcomes.values()) else DONE


def _explain(error: Exception, running: bool) -> tuple[int, list[str]]:
    """Exit code of an error, and what to say of it; committed frames are intact if it came while members ran."""
    if isinstance(error, StudyError):
        return BAD_INPUT, error.problems
    if isinstance(error, LostError):
        return DISK, [str(error)]
    if isinstance(error, WgflowError) or not isinstance(error, OSError | MemoryError):
        return explain(error)
    code, intact = (DISK, "; committed frames are intact") if running else (BAD_INPUT, "")
    if isinstance(error, MemoryError):
        return code, [f"{str(error) or 'memory ran out'}{intact}, use fewer --jobs or smaller runs"]
    where = f"{error.filename}: " if error.filename else ""
    advice = ", free space or choose another --out" if running and error.errno else ""
    return code, [f"{where}{error.strerror or error}{intact}{advice}"]


if __name__ == "__main__":
    sys.exit(main())
