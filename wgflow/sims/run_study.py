"""Running a study: its members, the longest first, then summary and figures."""

from __future__ import annotations

import contextlib
import functools
import time
from importlib import metadata

from rich.progress import Progress

from wgflow.base.errors import InputError, LostError, TrajectoryError, WorkspaceError
from wgflow.base.terminal import console, printable, progress_bar, say
from wgflow.base.types import Spec
from wgflow.model import data_files
from wgflow.report.publish import publish
from wgflow.sims import pool, run_member
from wgflow.sims.cluster.on_worker import TOKEN
from wgflow.sims.preparation import StudyRun, print_backend
from wgflow.sims.run_member import Outcome
from wgflow.sims.signals import Stop, signals, stop_if
from wgflow.study import grid
from wgflow.study.grid import RunPlan
from wgflow.study.provenance import digest, plain, provenance
from wgflow.study.workspace import Workspace
from wgflow.systems.members import systems_of
from wgflow.trajectory import Trajectory, identity

_SHOWN_EVERY = 0.05  # seconds between updates of the progress bar
_REPAIRED = " (rename a repaired copy to the name of its member to continue from it)"


def run_study(run: StudyRun, running: list[bool]) -> dict[str, Outcome]:
    """Run what is left of a study, and write its results; how each member ended, by label.

    Parameters
    ----------
    run : StudyRun
        The study.
    running : list of bool
        Its one entry is set once the folder is there, when it is the disk that fails and not the command line.
    """
    options, study, work, planned, kernels = run.options, run.study, run.work, run.planned, run.kernels
    made_by = provenance(kernels["backend"], run.threads) | kernels | {"jobs": run.jobs}
    if options.ranks is not None:
        made_by |= {"ranks": options.ranks.size}
    if run.cluster:
        made_by["cluster"] = run.cluster.address.text
    for system in systems_of(plan.member for plan in planned):
        made_by["packages"] |= {name: metadata.version(name) for name in system.packages}
    listed = [_listed(plan, holds) for plan, holds in zip(planned, run.documents, strict=True)]
    work.check_distinct([plan.label for plan in planned])
    resolved = study.model_dump(mode="json") | {"members": listed}
    there = running[0] = work.folder.exists()  # then it is the disk that fails, not the command line
    if there and not options.fresh:
        work.check_name()
        run_member.check_files(work, planned, run.documents, made_by, keep=options.keep, mixed=options.mixed)
    try:
        work.open()
    except OSError as error:
        if there:
            raise
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"--out {options.out}: cannot create this folder: {reason}; choose another") from error

    with work.locked(), signals() as caught, progress_bar(options.quiet) as progress:
        running[0] = True
        paths = [work.member(plan.label, plan.values).path for plan in planned]
        if options.fresh:
            work.clear(paths)
            (work.folder / "events.jsonl").unlink(missing_ok=True)
        (work.folder / TOKEN).unlink(missing_ok=True)  # of a command that was killed
        work.create(resolved)
        unknown = sorted({path.name for path in work.folder.glob("members/*.h5")} - {path.name for path in paths})
        if unknown:
            say(
                f"{work.folder / 'members'}: {', '.join(unknown)}: no member of this study has this name; not used"
                f"{_REPAIRED * any('-repaired' in name for name in unknown)}"
            )
        print_backend(run.chosen, options.quiet)
        spent = work.seconds_spent()
        loads = [size.work for size in run.sizes]
        whole = [float(f"{load * plan.member.flow.until:.4g}") for load, plan in zip(loads, planned, strict=True)]
        work.event("started", run=work.folder.name, provenance=made_by, work=whole)
        try:
            outcomes = _run_members(run, made_by, progress, caught, spent)
            data_files.check_unchanged(grid.data_files(planned))
        except (Stop, KeyboardInterrupt, InputError):
            work.event("stopped")
            raise
        bar = progress.add_task("summary", total=None)

        def tell(what: str) -> None:
            stop_if(caught)
            progress.update(bar, description=what)

        _check_there(work, resolved)
        statuses = {label: outcome.status for label, outcome in outcomes.items()}
        notes = [f"{label or study.name}: {end.message}." for label, end in outcomes.items() if end.message]
        if (work.folder / "theorems.csv").is_file() and "theorems" not in run.draw:
            notes.append(
                "The theorems along a member were on this page before the study was run again; "
                f"wgflow report {work.folder} adds them."
            )
        written, findings, tables = publish(work, run.draw, statuses, made_by, notes, tell)
        work.event("done")
    if not options.quiet:
        out = console()
        for table in tables:
            out.print(table)
        for finding in findings:
            out.print(printable(finding))
        out.print(printable(f"{work.folder}: {', '.join(written)}"), soft_wrap=True)
    return outcomes


def _listed(planned: RunPlan, document: Spec) -> Spec:
    """Entry of a member in ``study.json``."""
    data = ["problem.path"] if document["problem"].get("path") else []
    holds = {key: identity.value(document, key) for key in [*planned.values, *data]}
    return {"label": planned.label, "values": planned.values, "reference": planned.reference, "holds": holds}


def _check_there(work: Workspace, resolved: Spec) -> None:
    """Refuse, as lost, files that members have written, or their study, which were removed or exchanged since."""
    try:
        same = digest({key: part for key, part in work.study.items() if key != "hash"}) == digest(plain(resolved))
    except WorkspaceError:
        same = False
    if not same:
        raise LostError(
            f"{work.folder / 'study.json'}: removed or exchanged while the study ran; delete what is there, and the "
            "same command writes it again"
        )
    for entry in resolved["members"]:
        member = work.member(**entry)
        if not member.path.is_file():
            raise LostError(
                f"{member.path}: removed after it was written, while the study ran; the same command runs this member "
                "again"
            )
        try:
            work.check(member, resolved)
        except TrajectoryError as error:
            raise LostError(f"{error}; it was exchanged while the study ran") from error
        try:
            with Trajectory(member.path) as trajectory:
                len(trajectory)
        except TrajectoryError as error:
            raise LostError(
                f"{member.path}: damaged after it was written, while the study ran; delete it, and the same "
                "command runs this member again"
            ) from error


def _run_members(
    run: StudyRun, made_by: Spec, progress: Progress, caught: list[int], spent: float
) -> dict[str, Outcome]:
    """Run what is left of all members, the longest first; how each ended, in the study's order."""
    study, work, planned = run.study, run.work, run.planned
    loads = [size.work for size in run.sizes]
    begun = [run_member.on_disk(work, plan) for plan in planned]
    done = [file.s for file in begun]
    until = [plan.member.flow.until for plan in planned]
    total = sum(load * end for load, end in zip(loads, until, strict=True))
    bar = progress.add_task(
        study.name, total=total, completed=int(sum(load * s for load, s in zip(loads, done, strict=True)))
    )

    progress.tasks[progress.task_ids.index(bar)].start_time = progress.get_time() - spent  # earlier runs of it count

    for file in begun:
        if file.restart:
            say(file.restart)

    ahead, shown = 0.0, time.monotonic()

    def advance(number: int, s: float) -> None:
        nonlocal ahead, shown
        if s > done[number]:
            ahead += loads[number] * (s - done[number])
            done[number] = s
            if (now := time.monotonic()) - shown > _SHOWN_EVERY:  # a step may be shorter than telling the bar of it
                progress.advance(bar, ahead)
                ahead, shown = 0.0, now

    order = sorted(range(len(planned)), key=lambda k: -loads[k] * until[k])
    queue = [
        pool.Task(
            k, work.folder, planned[k], run.chosen.backend, run.threads, made_by, run.documents[k], run.options.ranks
        )
        for k in order
    ]
    left = sum(not plan.member.reached(s) for plan, s in zip(planned, done, strict=True))
    outcomes: dict[int, Outcome] = {}
    jobs = min(run.jobs, max(left, 1))
    elsewhere = None
    if run.cluster and left:
        packages = {name for system in systems_of(plan.member for plan in planned) for name in system.packages}
        elsewhere = functools.partial(
            run.cluster.run_all,
            threads=run.threads,
            whatever=run.options.threads is None,
            packages=tuple(sorted(packages)),
            fresh=run.options.fresh,
        )
    with contextlib.closing(pool.run_all(queue, jobs, advance, caught, run.deadline, elsewhere)) as ended:
        for task, outcome in ended:
            outcomes[task.number], label = outcome, task.planned.label
            advance(task.number, until[task.number])  # of a member that diverged nothing is left either
            work.event(outcome.status, member=label, **({"message": outcome.message} if outcome.message else {}))
            if outcome.repaired:
                say(outcome.repaired)
            if outcome.status == "diverged":
                say(f"{label or study.name}: {outcome.message}")
    progress.remove_task(bar)
    return {plan.label: outcomes[k] for k, plan in enumerate(planned)}
