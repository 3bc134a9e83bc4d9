"""What a study leaves behind once its members have run: summary, tables, figures, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from wgflow.base.errors import LostError, TrajectoryError, WorkspaceError
from wgflow.base.terminal import console, printable
from wgflow.base.types import Spec
from wgflow.study.provenance import digest, plain
from wgflow.study.workspace import Workspace
from wgflow.trajectory import Trajectory

if TYPE_CHECKING:
    from wgflow.report.figure import Figure
    from wgflow.sims.run_member import Outcome
    from wgflow.study.schema import Study


def write(
    study: Study,
    work: Workspace,
    outcomes: Mapping[str, Outcome],
    draw: Mapping[str, Figure],
    made_by: Spec,
    progress: Callable[[str], None],
) -> tuple[list[str], list[str], dict[str, list[Spec]]]:
    """Write the summary, the figures and their tables, and the report into a run's folder.

    Parameters
    ----------
    study, work : Study, Workspace
        The study and its run.
    outcomes : mapping of str to Outcome
        How each member ended, by label.
    draw : mapping of str to Figure
        Its figures.
    made_by : dict
        Provenance.
    progress : callable
        Told what is being made.

    Returns
    -------
    written, findings, tables : list of str, list of str, dict
        Names of the files, what the figures show, and their tables and the members' rows.
    """
    from wgflow.report.publish import publish

    statuses = {label: outcome.status for label, outcome in outcomes.items()}
    ended = [f"{label or study.name}: {each.message}." for label, each in outcomes.items() if each.message]
    if (work.folder / "theorems.csv").is_file() and "theorems" not in draw:
        ended.append(
            "The theorems along a member were on this page before the study was run again; "
            f"wgflow report {work.folder} adds them."
        )
    return publish(work, draw, statuses, made_by, ended, progress)


def check_there(work: Workspace, resolved: Spec) -> None:
    """See that all files which members have written are there and theirs, and that the study is still the one run.

    Raises
    ------
    LostError
        If one was removed or exchanged since.
    """
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


def show(
    study: Study,
    work: Workspace,
    made: tuple[list[str], list[str], dict[str, list[Spec]]],
    draw: Mapping[str, Figure],
) -> None:
    """Print findings, tables and where everything is."""
    from wgflow.report import summary

    written, findings, tables = made
    out = console()
    for table in summary.tables(study.name, study.question, tables, draw.values()):
        out.print(table)
    for finding in findings:
        out.print(printable(finding))
    out.print(printable(f"{work.folder}: {', '.join(written)}"), soft_wrap=True)
