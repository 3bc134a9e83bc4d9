"""The command ``wgflow run``; also ``python -m wgflow.sims.run``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from wgflow.base.errors import BackendError, InputError, LostError, StudyError, TrajectoryError, WorkspaceError
from wgflow.base.exit_codes import BAD_INPUT, DISK, DIVERGED, DONE, INTERNAL, INTERRUPTED, REQUEUE
from wgflow.base.terminal import say, show
from wgflow.sims.bundled import show_studies, studies_folder
from wgflow.sims.command_line import parser
from wgflow.sims.signals import Stop, terminated, warned_once


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    try:
        options = parser().parse_args(argv)
    except InputError as error:
        return _fail(argparse.Namespace(debug=False), BAD_INPUT, str(error))
    running = [False]  # set once the workspace is being written: an OSError before that is bad input
    try:
        with terminated(), warned_once():
            return _dispatch(options, running)
    except (KeyboardInterrupt, Stop) as error:
        say("stopped; the same command resumes from the last committed frame")
        return REQUEUE if isinstance(error, Stop) else INTERRUPTED
    except StudyError as error:
        return _fail(options, BAD_INPUT, *error.problems)
    except (InputError, BackendError, WorkspaceError, TrajectoryError) as error:
        return _fail(options, BAD_INPUT, str(error))
    except LostError as error:
        return _fail(options, DISK, str(error))
    except OSError as error:
        return _fail(options, DISK if running[0] else BAD_INPUT, _disk(error, running[0]))
    except MemoryError as error:
        return _fail(options, DISK if running[0] else BAD_INPUT, _memory(error, running[0]))
    except Exception as error:
        return _fail(options, INTERNAL, f"internal error: {type(error).__name__}: {error}; --debug shows where")


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
    from wgflow.sims import forecast, run_study, study_run

    run = study_run.study_run(options)
    if options.dry_run:
        study_run.print_backend(run.chosen, options.quiet)
        forecast.dry_run(run)
        return DONE
    outcomes = run_study.run_study(run, running)
    return DIVERGED if any(outcome.status == "diverged" for outcome in outcomes.values()) else DONE


def _disk(error: OSError, running: bool) -> str:
    where = f"{error.filename}: " if error.filename else ""
    advice = "; committed frames are intact" if running else ""
    advice += ", free space or choose another --out" if running and error.errno else ""
    return f"{where}{error.strerror or error}{advice}"


def _memory(error: MemoryError, running: bool) -> str:
    intact = "; committed frames are intact" if running else ""
    return f"{str(error) or 'memory ran out'}{intact}, use fewer --jobs or smaller runs"


def _fail(options: argparse.Namespace, code: int, *lines: str) -> int:
    for line in lines:
        say(line)
    if options.debug:
        import traceback

        traceback.print_exc()
    return code


if __name__ == "__main__":
    sys.exit(main())
