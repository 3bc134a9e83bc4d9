"""The command ``python -m wgflow.sims.run``, also installed as ``wgflow``.

Exit codes: 0 done, 1 internal error, 2 bad input (one line a problem on stderr, nothing written), 3 some member
diverged (its last good frame is kept, the others finish), 4 disk or permission lost while running, 75 stopped by
SIGTERM or --walltime (run the same command again), 130 Ctrl-C (likewise).
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from wgflow.errors import BackendError, InputError, StudyError, TrajectoryError, WorkspaceError, describe, unknown
from wgflow.sims.terminal import console, progress_bar, signals

if TYPE_CHECKING:  # the rest is imported when needed, so that --help is quick
    from wgflow.sims.members import Planned, Setup
    from wgflow.sims.study import Study
    from wgflow.types import Spec
    from wgflow.workspace import Workspace

DEFAULT_STUDY = "quickstart"
DONE, INTERNAL, BAD_INPUT, DIVERGED, DISK, REQUEUE, INTERRUPTED = 0, 1, 2, 3, 4, 75, 130


class Stop(BaseException):
    """The run was asked to stop from outside; like KeyboardInterrupt, no ordinary handler should catch it."""


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
    if choice not in bundled:
        raise unknown("study", choice, bundled)
    return bundled[choice]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see --help")


def parser() -> argparse.ArgumentParser:
    """Command line of the runner."""
    make = _Parser(
        prog="python -m wgflow.sims.run",
        description="Run a study: every member's trajectory, a summary and a figure. The same command again resumes.",
        epilog="Exit codes: 0 done, 2 bad input, 3 a member diverged, 4 disk lost, 75 stopped (requeue), 130 Ctrl-C.",
    )
    make.add_argument("study", nargs="?", default=DEFAULT_STUDY, metavar="STUDY",
                      help=f"name of a bundled study, or path of a .toml file (default: {DEFAULT_STUDY})")  # fmt: skip
    make.add_argument("--out", default="runs", metavar="DIR", help="where run folders go (default: runs)")
    make.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
                      help="change a key of the study, e.g. flow.step=0.05 or grid.seed=[0,1]; repeatable")  # fmt: skip
    make.add_argument(
        "--backend", default="auto", metavar="auto|cpu|reference|gpu", help="kernels to use (default: auto)"
    )
    make.add_argument("--threads", default=None, metavar="N", help="threads of the kernels (default: all cores)")
    make.add_argument(
        "--walltime", default=None, metavar="T", help="stop after this long, e.g. 90s, 30m, 2h; resumable"
    )
    again = make.add_mutually_exclusive_group()
    again.add_argument("--fresh", action="store_true", help="start again, deleting what this study has in its folder")
    again.add_argument("--keep", action="store_true", help="go on with results of another version of wgflow")
    make.add_argument("--mixed", action="store_true", help="go on with results of another backend")
    make.add_argument("--list", action="store_true", help="show the bundled studies")
    make.add_argument("--dry-run", action="store_true", help="check everything and show the members; write nothing")
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
        return _dispatch(options, running)
    except (KeyboardInterrupt, Stop) as error:
        _say("stopped; the same command resumes from the last committed frame")
        return REQUEUE if isinstance(error, Stop) else INTERRUPTED
    except StudyError as error:
        return _fail(options, BAD_INPUT, *error.problems)
    except (InputError, BackendError, WorkspaceError, TrajectoryError) as error:
        return _fail(options, BAD_INPUT, str(error))
    except OSError as error:
        return _fail(options, DISK if running[0] else BAD_INPUT, _disk(error, running[0]))
    except MemoryError:
        return _fail(options, BAD_INPUT, "expected the members to fit in memory, got too little; use fewer particles")
    except Exception as error:
        return _fail(options, INTERNAL, f"internal error: {type(error).__name__}: {error}; --debug shows where")


def _dispatch(options: argparse.Namespace, running: list[bool]) -> int:
    if options.list:
        return _list()
    from wgflow.sims import members
    from wgflow.sims.study import load, override_value

    threads = None if options.threads is None else _whole("--threads", options.threads)
    deadline = None if options.walltime is None else time.monotonic() + _duration(options.walltime)
    overrides = dict(_key_value(text, override_value) for text in options.overrides)
    study, content = load(study_path(options.study), overrides)
    planned = members.expand(study)
    setups = [members.build(each.member, options.backend, threads) for each in planned]
    _figure(study.figure, planned)
    from wgflow.workspace import Workspace

    work = Workspace.of(options.out, study.name, content)
    if options.dry_run:
        return _dry_run(study, planned, setups, work)
    return _run(options, study, content, planned, setups, work, deadline, running)


def _run(
    options: argparse.Namespace,
    study: Study,
    content: Spec,
    planned: list[Planned],
    setups: list[Setup],
    work: Workspace,
    deadline: float | None,
    running: list[bool],
) -> int:
    from wgflow.sims import runner
    from wgflow.workspace import provenance

    kernel = setups[0].energy.kernel
    made_by = provenance(kernel.name, kernel.threads)
    listed = [{"label": each.label, "values": each.values} for each in planned]
    resolved = study.model_dump(mode="json") | {"members": listed}
    if work.folder.exists() and not options.fresh:
        runner.check_provenance(work, planned, made_by, keep=options.keep, mixed=options.mixed)
    try:
        work.create(resolved)
    except OSError as error:
        raise InputError(f"--out {options.out}: expected a folder that can be written, got {error.strerror}") from error

    outcomes = {}
    with work.locked(), signals() as caught, progress_bar(options.quiet) as progress:
        running[0] = True
        if options.fresh:
            shutil.rmtree(work.folder / "members")
            work.create(resolved)
        work.event("started", provenance=made_by)

        def check(progressed: bool) -> None:
            if caught:
                raise Stop if caught[0] == signal.SIGTERM else KeyboardInterrupt
            # A wall time too short for one frame would otherwise be requeued for ever.
            if progressed and deadline is not None and time.monotonic() > deadline:
                raise Stop

        done = {each.label: runner.time_done(work, each) for each in planned}
        bar = progress.add_task(
            study.name,
            total=sum(_cost(each, each.member.flow.until) for each in planned),
            completed=int(sum(_cost(each, done[each.label]) for each in planned)),
        )
        for each, setup in zip(planned, setups, strict=True):
            progress.update(bar, description=each.label or study.name)

            def advance(s: float, each: Planned = each) -> None:
                progress.advance(bar, _cost(each, s - done[each.label]))
                done[each.label] = s

            outcome = runner.run_member(
                work,
                each,
                setup,
                study=each.member.model_dump(mode="json"),
                provenance=made_by,
                advance=advance,
                check=check,
            )
            outcomes[each.label] = outcome
            work.event(outcome.status, member=each.label, **({"message": outcome.message} if outcome.message else {}))
            if outcome.status == "diverged":
                _say(f"{each.label or study.name}: {outcome.message}")
        progress.update(bar, description="summary")
        _summarise(study, planned, work, outcomes, made_by, quiet=options.quiet)
        work.event("done")
    return DIVERGED if any(outcome.status == "diverged" for outcome in outcomes.values()) else DONE


def _summarise(
    study: Study, planned: list[Planned], work: Workspace, outcomes: dict[str, Any], made_by: Spec, *, quiet: bool
) -> None:
    from wgflow.analysis import summary

    rows = summary.rows(work, {label: outcome.status for label, outcome in outcomes.items()})
    work.write_json("summary.json", {"study": study.name, "members": rows, "provenance": made_by})
    work.write_csv("summary.csv", rows)
    draw = _figure(study.figure, planned)
    written = ["summary.json", "summary.csv"]
    if draw is not None:
        from wgflow.analysis import style

        written += style.save(draw(work), work.folder / study.figure)
    if not quiet:
        out = console()
        out.print(summary.table(study.name, study.question, rows))
        out.print(f"{work.folder}: {', '.join(written)}", soft_wrap=True, highlight=False)


def _figure(name: str, planned: list[Planned]) -> Any:
    """Drawing function of a figure, after checking that these members can be drawn."""
    if name == "none":
        return None
    try:
        from wgflow.analysis.figures import EVERY_STEP_OF_GAPS, FIGURES
    except ModuleNotFoundError as error:
        raise InputError(
            f"figure: expected matplotlib to draw {name!r}, got no such package; pip install 'wgflow[study]', "
            "or --set figure=none"
        ) from error
    if name not in FIGURES:
        raise unknown("figure", name, (*FIGURES, "none"))
    if name in EVERY_STEP_OF_GAPS:
        for each in planned:
            flow = each.member.flow
            if each.member.depth.name != "gaps" or flow.rule != "constant" or flow.every not in (None, flow.step):
                raise InputError(
                    f"figure: expected depth gaps and a frame at every step to draw {name!r}, got depth "
                    f"{each.member.depth.name}, rule {flow.rule}, every {flow.every}; --set figure=none"
                )
    return FIGURES[name]


def _list() -> int:
    import tomllib

    from rich.table import Table

    table = Table("study", "question", "cost", box=None, pad_edge=False)
    for path in sorted(studies_folder().glob("*.toml")):
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        table.add_row(path.stem, raw.get("question", ""), raw.get("cost", ""))
    console(width=None).print(table)
    return DONE


def _dry_run(study: Study, planned: list[Planned], setups: list[Setup], work: Workspace) -> int:
    from rich.table import Table

    table = Table("member", "N", "steps", "frames", "MiB", box=None, pad_edge=False)
    size = 0.0
    for each, setup in zip(planned, setups, strict=True):
        numbers, parameters = setup.start.theta.shape
        mebibytes = each.frames * numbers * (parameters + 2) * 8 / 2**20
        size += mebibytes
        table.add_row(each.label or study.name, str(numbers), str(each.steps), str(each.frames), f"{mebibytes:.2f}")
    out = console()
    out.print(table)
    out.print(f"{len(planned)} members, {size:.2f} MiB, into {work.folder}; nothing was written", soft_wrap=True)
    return DONE


def _cost(planned: Planned, s: float) -> float:
    """Work up to flow time s in units that take about equally long: a step costs in proportion to the particles."""
    return s / planned.member.flow.step * planned.member.particles.count


def _key_value(text: str, parse: Any) -> tuple[str, Any]:
    key, found, value = text.partition("=")
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
    advice = "; committed frames are intact, free space or choose another --out" if running else ""
    return f"{where}{error.strerror or error}{advice}"


def _fail(options: argparse.Namespace, code: int, *lines: str) -> int:
    for line in lines:
        _say(line)
    if options.debug:
        import traceback

        traceback.print_exc()
    return code


def _say(line: str) -> None:
    sys.stderr.write(f"wgflow: {' '.join(line.split())}\n")


if __name__ == "__main__":
    sys.exit(main())
