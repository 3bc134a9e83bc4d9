"""The command ``wgflow run``; also ``python -m wgflow.sims.run``.

Exit codes: 0 done, 1 internal error, 2 bad input (one line a problem on stderr, nothing written; or a data file that
changed on the way, and whole members are kept), 3 some member diverged (its last good frame is kept, the others
finish), 4 disk, permission, memory or a process lost while running, 75 stopped by SIGTERM or --walltime (run the same
command again), 130 Ctrl-C (likewise).
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wgflow.base.errors import (
    BackendError,
    InputError,
    LostError,
    StudyError,
    TrajectoryError,
    WorkspaceError,
    describe,
)
from wgflow.base.exit_codes import BAD_INPUT, DISK, DIVERGED, DONE, INTERNAL, INTERRUPTED, REQUEUE
from wgflow.base.registry import check_name
from wgflow.base.terminal import Parser, console, printable, progress_bar, say, show
from wgflow.sims.signals import Stop, signals, stop_if, terminated, warned_once

if TYPE_CHECKING:  # the rest is imported when needed, so that --help is quick
    from rich.progress import Progress

    from wgflow.base.types import Spec
    from wgflow.kernels.auto import Choice
    from wgflow.report.figure import Figure
    from wgflow.sims.forecast import Size
    from wgflow.sims.run_member import Outcome
    from wgflow.study.grid import RunPlan
    from wgflow.study.schema import Study
    from wgflow.study.workspace import Workspace

DEFAULT_STUDY = "convergence"


def studies_folder() -> Path:
    """Folder of the bundled studies: inside the installed package, or in the checkout it runs from."""
    installed = Path(__file__).parent / "studies"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "sims"


def study_path(choice: str) -> Path:
    """Path of a study: a bundled name, or a path that ends in .toml.

    Raises
    ------
    InputError
        If there is no such study or file.
    """
    if choice.endswith(".toml"):
        path = Path(choice)
        if not path.is_file():
            raise InputError(
                f"study {choice}: expected a TOML file, got no such file; --list shows the bundled studies"
            )
        return path
    bundled = {path.stem: path for path in studies_folder().glob("*.toml")}
    check_name("study", choice, bundled)
    return bundled[choice]


def parser() -> argparse.ArgumentParser:
    """Command line of the runner."""
    make = Parser(
        prog="wgflow run",
        description="Run a study: every member's trajectory, a summary and a figure. The same command again resumes.",
        epilog="Exit codes: 0 done, 2 bad input, 3 a member diverged, 4 disk, memory or a process lost, "
        "75 stopped (requeue), 130 Ctrl-C.",
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
    make.add_argument("--threads", default=None, metavar="N", help="threads of each (default: its share of the cores)")
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
    make.add_argument("--debug", action="store_true", help="show tracebacks")
    return make


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
    if options.list:
        return _list()
    from wgflow.sims import backends, forecast, trial
    from wgflow.sims import pool as sweep
    from wgflow.studies import registry
    from wgflow.study import grid
    from wgflow.study.schema import documents, load, override_value, schema

    if options.print_schema:
        import json

        show(json.dumps(schema(), indent=2))
        return DONE
    threads = None if options.threads is None else _whole("--threads", options.threads)
    jobs = None if options.jobs is None else _whole("--jobs", options.jobs)
    deadline = None if options.walltime is None else time.monotonic() + _duration(options.walltime)
    overrides = dict(_key_value(text, override_value) for text in options.overrides)
    study, content = load(study_path(options.study), overrides)
    planned = grid.expand(study)
    draw = registry.required(study.figure, planned, study.target)
    from wgflow.kernels.cpu.threads import available_threads
    from wgflow.study.workspace import Workspace

    chosen = backends.choose(planned, options.backend)
    options.backend = chosen.backend
    if chosen.backend == "gpu" and jobs is None:
        jobs = 1  # there is one device; processes that share it wait for one another
    fixed = backends.own_threads(planned)
    if fixed and threads not in (None, fixed):
        _note(
            f"--threads {threads} has no effect on trainings: training.threads = {fixed} is part of the study",
            options.quiet,
        )
    enough = {"enough": 2} if fixed else {}  # a training has no use for further cores
    jobs, each = sweep.split_cores(len(planned), available_threads(), jobs, fixed or threads, **enough)
    seen = trial.each(
        planned, options.backend, each, lambda one, made: (forecast.size(one, made, each), backends.recorded(made))
    )
    sizes, kernels = [size for size, _ in seen], seen[0][1]
    holds = documents([one.member for one in planned])
    work = Workspace.of(options.out, study.name, content)
    if options.dry_run:
        _say_backend(chosen, options.quiet)
        return _dry_run(options, planned, sizes, jobs, each, work, draw.values())
    tasks = _Tasks(options, planned, holds, chosen, kernels, [size.work for size in sizes], jobs, each, deadline)
    return _run(tasks, study, content, work, draw, running)


class _Tasks(NamedTuple):
    """What is to be run and how."""

    options: argparse.Namespace
    planned: list[RunPlan]
    documents: list[Spec]  # what each member's file is to hold
    chosen: Choice
    kernels: Spec  # what they compute with, for the record
    loads: list[float]  # work of each member for one unit of s
    jobs: int
    threads: int
    deadline: float | None


def _run(
    tasks: _Tasks, study: Study, content: Spec, work: Workspace, draw: dict[str, Figure], running: list[bool]
) -> int:
    from wgflow.model import data_files
    from wgflow.sims import backends, results
    from wgflow.sims import run_member as runner
    from wgflow.study import grid
    from wgflow.study.provenance import provenance

    options, planned, kernels = tasks.options, tasks.planned, tasks.kernels
    made_by = provenance(kernels["backend"], tasks.threads) | kernels | {"jobs": tasks.jobs}
    made_by["packages"] |= backends.packages(planned)
    listed = [_listed(each, holds) for each, holds in zip(planned, tasks.documents, strict=True)]
    work.check_distinct([each.label for each in planned])
    resolved = study.model_dump(mode="json") | {"members": listed}
    there = running[0] = work.folder.exists()  # then it is the disk that fails, not the command line
    if there and not options.fresh:
        work.check_name()
        runner.check_files(work, planned, tasks.documents, made_by, keep=options.keep, mixed=options.mixed)
    try:
        work.open()
    except OSError as error:
        if there:
            raise
        raise InputError(f"--out {options.out}: expected a folder that can be written, got {error.strerror}") from error

    with work.locked(), signals() as caught, progress_bar(options.quiet) as progress:
        running[0] = True
        if options.fresh:
            work.clear(work.member(each.label, each.values).path for each in planned)
            (work.folder / "events.jsonl").unlink(missing_ok=True)
        work.create(resolved)
        strangers = work.strangers(work.member(each.label, each.values).path for each in planned)
        if strangers:
            say(f"{work.folder / 'members'}: {', '.join(strangers)}: no member of this study has this name; not used")
        _say_backend(tasks.chosen, options.quiet)
        spent = work.seconds_spent()
        whole = [float(f"{load * each.member.flow.until:.4g}") for load, each in zip(tasks.loads, planned, strict=True)]
        work.event("started", run=work.folder.name, provenance=made_by, work=whole)
        try:
            outcomes = _run_members(tasks, study, work, made_by, progress, caught, spent)
            data_files.check_unchanged(grid.data_files(planned))
        except (Stop, KeyboardInterrupt, InputError):
            work.event("stopped")
            raise
        bar = progress.add_task("summary", total=None)

        def tell(what: str) -> None:
            stop_if(caught)
            progress.update(bar, description=what)

        results.check_there(work, resolved)
        made = results.write(study, work, outcomes, draw, made_by, tell)
        work.event("done")
    if not options.quiet:
        results.show(study, work, made, draw)
    return DIVERGED if any(outcome.status == "diverged" for outcome in outcomes.values()) else DONE


def _listed(planned: RunPlan, document: Spec) -> Spec:
    """Entry of a member in ``study.json``."""
    from wgflow.trajectory import identity

    data = ["problem.path"] if document["problem"].get("path") else []
    holds = {key: identity.value(document, key) for key in [*planned.values, *data]}
    return {"label": planned.label, "values": planned.values, "reference": planned.reference, "holds": holds}


def _say_backend(chosen: Choice, quiet: bool) -> None:
    """Head a run with the backend that ``auto`` took and why; one asked for by name needs no reason."""
    if chosen.reason:
        _note(f"backend {chosen.backend}: {chosen.reason}", quiet)


def _note(line: str, quiet: bool) -> None:
    """Print a line about the command, as it is."""
    if not quiet:
        console().print(line, soft_wrap=True)


def _run_members(
    tasks: _Tasks, study: Study, work: Workspace, made_by: Spec, progress: Progress, caught: list[int], spent: float
) -> dict[str, Outcome]:
    """Run what is left of all members, the longest first; how each ended, in the study's order."""
    from wgflow.sims import pool as sweep
    from wgflow.sims import run_member as runner

    planned, loads, documents, backend = tasks.planned, tasks.loads, tasks.documents, tasks.options.backend
    done = [runner.time_done(work, each) for each in planned]
    until = [each.member.flow.until for each in planned]
    total = sum(load * end for load, end in zip(loads, until, strict=True))
    bar = progress.add_task(
        study.name, total=total, completed=int(sum(load * s for load, s in zip(loads, done, strict=True)))
    )

    progress.tasks[progress.task_ids.index(bar)].start_time = progress.get_time() - spent  # earlier runs of it count

    for lost in filter(None, (runner.begins_again(work, each) for each in planned)):
        say(lost)

    def advance(number: int, s: float) -> None:
        if s > done[number]:
            progress.advance(bar, loads[number] * (s - done[number]))
            done[number] = s

    order = sorted(range(len(planned)), key=lambda k: -loads[k] * until[k])
    queue = [sweep.Task(k, work.folder, planned[k], backend, tasks.threads, made_by, documents[k]) for k in order]
    left = sum(not each.member.reached(s) for each, s in zip(planned, done, strict=True))
    outcomes: dict[int, Outcome] = {}
    jobs = min(tasks.jobs, max(left, 1))
    with contextlib.closing(sweep.run_all(queue, jobs, advance, caught, tasks.deadline)) as ended:
        for task, outcome in ended:
            outcomes[task.number], label = outcome, task.planned.label
            advance(task.number, until[task.number])  # of a member that diverged nothing is left either
            work.event(outcome.status, member=label, **({"message": outcome.message} if outcome.message else {}))
            if outcome.mended:
                say(outcome.mended)
            if outcome.status == "diverged":
                say(f"{label or study.name}: {outcome.message}")
    progress.remove_task(bar)
    return {each.label: outcomes[k] for k, each in enumerate(planned)}


def _list() -> int:
    import tomllib

    from rich.table import Table

    table = Table("study", "question", "cost", box=None, pad_edge=False)
    for path in sorted(studies_folder().glob("*.toml")):
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        table.add_row(path.stem, raw.get("question", ""), raw.get("cost", ""))
    console(width=None).print(table)
    return DONE


def _dry_run(
    options: argparse.Namespace,
    planned: list[RunPlan],
    sizes: list[Size],
    jobs: int,
    threads: int,
    work: Workspace,
    figures: Collection[Figure],
) -> int:
    from rich.table import Table

    from wgflow.sims import forecast
    from wgflow.sims import run_member as runner

    loads = forecast.loads(planned, sizes, threads, options.backend)
    left = [1.0 if options.fresh else runner.share_left(work, each) for each in planned]
    asked = [load._replace(seconds=load.seconds * share) for load, share in zip(loads, left, strict=True)]
    expected = forecast.forecast(planned, asked, jobs, figures)
    table = Table("member", "N", "steps", "frames", "seconds", "MiB", box=None, pad_edge=False)
    shown = list(zip(planned, loads, strict=True))
    if len(shown) > _SHOWN:  # the first, and the longest
        shown = shown[: _SHOWN // 2] + sorted(shown[_SHOWN // 2 :], key=lambda each: -each[1].seconds)[: _SHOWN // 2]
    for each, load in shown:
        row = (load.particles, each.steps, each.frames, f"{load.seconds:.2f}", f"{load.disk / 2**20:.2f}")
        table.add_row(printable(each.label) or "the only one", *map(str, row))
    out = console()
    out.print(table)
    if len(shown) < len(planned):
        out.print(f"... and {len(planned) - len(shown)} more")
    side_by_side = f", {jobs} side by side" if jobs > 1 else ""
    there = sum(share < 1 for share in left)
    begun = f"{there} of them there in whole or in part, " if there else ""
    out.print(
        f"{_counted(len(planned), 'member')}{side_by_side}, {_counted(threads, 'thread')} each: {begun}about "
        f"{_spoken(expected.seconds)}, {expected.memory / 2**20:.0f} MiB of memory, {expected.disk / 2**20:.1f} MiB on "
        f"disk, into {printable(str(work.folder))}; nothing was written",
        soft_wrap=True,
    )
    return DONE


_SHOWN = 30  # members listed by --dry-run at most


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _spoken(seconds: float) -> str:
    """Duration in words: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _key_value(text: str, parse: Any) -> tuple[str, Any]:
    key, found, value = text.partition("=")
    if any("\ud800" <= each <= "\udfff" for each in text):  # bytes that are no text, which no JSON can hold
        raise InputError(f"--set: expected text in UTF-8, got {text!r}")
    if not found or not key.strip():
        raise InputError(f"--set: expected KEY=VALUE, e.g. flow.step=0.05, got {text!r}")
    return key.strip(), parse(value.strip())


def _whole(name: str, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise InputError(f"{name}: expected a whole number >= 1, got {text!r}")
    return number


def _duration(text: str) -> float:
    """Seconds in a duration such as 90, 90s, 30m or 2h."""
    unit = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:], None)
    try:
        seconds = float(text[:-1] if unit else text) * (unit or 1.0)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InputError(f"--walltime: expected a duration such as 90s, 30m or 2h, got {describe(text)}")
    return seconds


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
