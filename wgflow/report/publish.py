"""The results of a run: summary, tables, figures and page, written at its end or again from its files.

Every file is replaced atomically.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from wgflow.base.errors import InputError, WorkspaceError
from wgflow.base.types import Spec
from wgflow.report import gradient_flow_check, summary
from wgflow.report.figure import Figure, as_sentence
from wgflow.report.member_selection import describe_unfinished, reached_end, representative
from wgflow.report.theorem_diagnostics import theorem_diagnostics
from wgflow.report.wording import typeset
from wgflow.studies import registry
from wgflow.study.workspace import MemberFile, Workspace
from wgflow.trajectory import Trajectory

if TYPE_CHECKING:
    from rich.console import RenderableType

# Entries of a provenance that the page shows.
_SHOWN = {"wgflow", "kernels", "backend", "threads", "python", "packages", "machine", "started", "command"}


def publish(
    work: Workspace,
    draw: Mapping[str, Figure],
    statuses: Mapping[str, str],
    provenance: Spec,
    notes: Sequence[str],
    progress: Callable[[str], None],
) -> tuple[list[str], list[str], list[RenderableType]]:
    """Write the summary, the figures and their tables, and the page into a run's folder.

    Parameters
    ----------
    work : Workspace
        The run.
    draw : mapping of str to Figure
        Its figures by name.
    statuses : mapping of str to str
        Status of each member by label.
    provenance : dict
        Versions, machine and command.
    notes : sequence of str
        Further remarks for the page.
    progress : callable
        Called with the name of the current step; may raise, to stop.

    Returns
    -------
    written, findings, tables : list of str, list of str, list of renderables
        Names of the files; findings of the figures and warnings; tables of the members and the figures for a terminal.
    """
    study = work.study
    progress("summary")
    rows = summary.rows(work, statuses)
    tables: dict[str, list[Spec]] = {}
    followed, warnings = gradient_flow_check.check(work, statuses)
    verdicts: list[Spec] = [{"figure": ""} | row for row in followed.rows() if followed.holds is not None]
    # a reader of the first line alone is not to miss what the others rest on
    findings = [
        *filter(None, [describe_unfinished(work)]),
        *([as_sentence(followed)] if followed.holds is False else []),
    ]
    figures, images = [], []
    work.write_json("summary.json", {"study": study["name"], "members": rows, "provenance": provenance})
    work.write_csv("summary.csv", rows)
    for name, of in draw.items():
        from wgflow.report import style

        progress(f"drawing {name}")
        try:
            with np.errstate(all="ignore"):  # members that diverged
                result = of(work)
        except InputError as error:  # the other results do not depend on this figure
            findings.append(f"{name} could not be drawn: {error}.")
            continue
        findings.append(result.finding)
        tables |= result.tables
        verdicts += [{"figure": name} | row for verdict in result.verdicts for row in verdict.rows()]
        figure = style.draw_styled(result)
        images += style.save(figure, work.folder / name)
        figures.append((*style.for_page(result, figure), result.caption))
    findings, warnings = [typeset(text) for text in findings], [typeset(text) for text in warnings]
    tables |= {summary.VERDICTS: verdicts} if verdicts else {}
    content = {"study": study["name"], "question": study["question"], "findings": findings, "warnings": warnings}
    content |= {**tables, "members": rows}
    work.write_json("summary.json", content | {"provenance": provenance})
    for name, table in tables.items():
        work.write_csv(f"{name}.csv", table)
    files = ["summary.json", "summary.csv", *(f"{name}.csv" for name in tables)]
    tables["members"] = rows
    if draw:
        from wgflow.report.animation import run_animation
        from wgflow.report.page import build_page

        progress("report")
        readable, moving = summary.readable(tables, draw.values()), run_animation(work)
        page = build_page(study, findings, figures, readable, provenance, [*notes, *warnings], moving)
        work.write_text("report.html", page)
        files.append("report.html")
    shown = summary.tables(study["name"], study["question"], tables, draw.values())
    return files + images, [*findings, *warnings], shown


def add_theorems(
    work: Workspace,
    label: str | None = None,
    starts: int = 64,
    radius: float | None = None,
    seed: int = 0,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> str:
    """Evaluate the theorems along one member, write page, figures and tables again, and return the verdict.

    Parameters
    ----------
    work : Workspace
        The run, locked by the caller.
    label : str, optional
        The member; by default the :func:`representative` one.
    starts, radius, seed, progress : int, float, int, callable, optional
        As for :func:`wgflow.report.theorem_diagnostics.theorem_diagnostics`.
    """
    path = representative(work, label)
    statuses, provenance, notes = recorded_outcome(work)
    with Trajectory(path) as trajectory, np.errstate(all="ignore"):  # a run may have numbers that overflow
        found = theorem_diagnostics(trajectory, progress, starts, radius, seed)
    known = registry.figures()
    draw = {"theorems": dataclasses.replace(known["theorems"], reduce=lambda work: (found, path.stem))}
    draw |= {name: known[name] for name in work.study["figure"] if name in known and name not in draw}
    publish(work, draw, statuses, provenance, notes, lambda what: progress(what, 1.0))
    return known["theorems"].present((found, path.stem)).finding


def recorded_outcome(work: Workspace) -> tuple[dict[str, str], Spec, list[str]]:
    """Status of each member by label, provenance, and notes, from the files of a run.

    Raises
    ------
    WorkspaceError
        If events.jsonl records no start of the run with its provenance.
    """
    events = work.events()
    last = {event["member"]: event for event in events if isinstance(event.get("member"), str)}
    statuses = {member.label: _status(member, last.get(member.label, {})) for member in work.members()}
    notes = [
        f"{label}: {last[label]['message']}."
        for label, status in statuses.items()
        if status == "diverged" and last.get(label, {}).get("message")
    ]
    missing = [entry["label"] for entry in work.study["members"] if entry["label"] not in statuses]
    if missing:
        notes.append(f"No file (not started, or removed): {'; '.join(missing)}.")
    started = [event.get("provenance") for event in events if event["event"] == "started"]
    complete = [known for known in started if isinstance(known, dict) and _SHOWN <= known.keys()]
    complete = [known for known in complete if isinstance(known["packages"], dict)]
    if not complete:
        raise WorkspaceError(f"{work.folder}: expected the provenance of the run in events.jsonl, got none")
    return statuses, complete[-1], notes


def _status(member: MemberFile, event: Spec) -> str:
    """Status of a member from its file, or from its last event if the file has no frames."""
    with Trajectory(member.path) as trajectory:
        if not len(trajectory):
            return "diverged" if event.get("event") == "diverged" else "not finished"
        if not trajectory.finished:
            return "not finished"
        return "finished" if reached_end(trajectory) else "diverged"
