"""A run's page written again from its files, with the theorems evaluated along one of its members."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeGuard

import numpy as np

from wgflow.base.errors import WorkspaceError
from wgflow.base.types import Spec
from wgflow.report.member_selection import reached_end, representative
from wgflow.report.publish import publish
from wgflow.report.theorem_diagnostics import theorem_diagnostics
from wgflow.study.workspace import MemberFile, Workspace
from wgflow.trajectory import Trajectory


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
    from wgflow.studies.registry import figures

    path = representative(work, label)
    statuses, provenance, notes = recorded_outcome(work)
    with Trajectory(path) as trajectory, np.errstate(all="ignore"):  # a run may have numbers that overflow
        found = theorem_diagnostics(trajectory, progress, starts, radius, seed)
    known = figures()
    draw = {"theorems": dataclasses.replace(known["theorems"], reduce=lambda work: (found, path.stem))}
    draw |= {name: known[name] for name in work.study["figure"] if name in known and name not in draw}
    publish(work, draw, statuses, provenance, notes, lambda what: progress(what, 1.0))
    return found.verdict


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
    complete = [provenance for provenance in started if _is_complete(provenance)]
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


def _is_complete(provenance: object) -> TypeGuard[Spec]:
    """Whether a provenance from the log has all entries that the page shows."""
    needed = {"wgflow", "kernels", "backend", "threads", "python", "packages", "machine", "started", "command"}
    return isinstance(provenance, dict) and needed <= provenance.keys() and isinstance(provenance["packages"], dict)
