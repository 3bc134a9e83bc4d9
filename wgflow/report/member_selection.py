"""Which member of a run stands for it where one has to."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.registry import check_name
from wgflow.report.wording import span
from wgflow.study.workspace import MemberFile, Workspace
from wgflow.trajectory import Trajectory

LEGIBLE = 256  # particles that a picture can show whole
_NAMED = 3  # members that a sentence names one by one at most


def representative(work: Workspace, label: str | None = None, most: int | None = None) -> Path:
    """Trajectory of the member that stands for a run: of those with the largest N the first.

    Members that diverged are taken only where all did.

    Parameters
    ----------
    work : Workspace
        The run.
    label : str, optional
        The member to take instead, by its label or the name of its file.
    most : int, optional
        Largest N to take where there is a choice.

    Raises
    ------
    InputError
        If no member has two frames, or none goes by that label.
    """
    members = {member.label: member.path for member in work.members()}
    if label is not None:
        names = members | {path.stem: path for path in members.values()}
        check_name("member", label, names)
        return names[label]
    sizes: dict[int, Path] = {}
    spare: dict[int, Path] = {}  # diverged ones, which stand for a run only where there is no other
    for member in work.members():
        with Trajectory(member.path) as trajectory:
            if len(trajectory) > 1 and trajectory.particles and not member.reference:
                (spare if diverged(trajectory) else sizes).setdefault(trajectory.particles, member.path)
    sizes = sizes or spare
    if not sizes:
        raise InputError(f"{work.folder}: expected a member of at least two frames, got none; run the study first")
    fitting = [size for size in sizes if most is None or size <= most]
    return sizes[max(fitting) if fitting else min(sizes)]


def particle_count(trajectory: Trajectory) -> int:
    """N of a member's run, also if its file holds no particles."""
    if trajectory.particles:
        return trajectory.particles
    study = trajectory.parameters["study"]
    table, layers = study["particles"], study["depth"].get("layers", 1)
    return int(table["count"] if table["per_layer"] is None else table["per_layer"] * layers)


def reached_end(trajectory: Trajectory) -> bool:
    """Whether the last frame of a study's member is the end of its flow time; otherwise it diverged or was stopped."""
    s, until = trajectory.series("s"), trajectory.parameters["study"]["flow"]["until"]
    return len(s) > 0 and bool(s[-1] >= until * (1 - 1e-9))


def diverged(trajectory: Trajectory) -> bool:
    """Whether a study's member diverged: its file is finished, and it ends before its flow time does."""
    until = trajectory.parameters["study"].get("flow", {}).get("until")
    return trajectory.finished and until is not None and not reached_end(trajectory)


def undiverged_members(work: Workspace) -> list[MemberFile]:
    """Members of a run that have frames and did not diverge.

    Raises
    ------
    InputError
        If there is none.
    """
    found, lost = [], 0
    for file in work.members():
        with Trajectory(file.path) as trajectory:
            if len(trajectory):
                lost += diverged(trajectory)
                found += [] if diverged(trajectory) else [file]
    if lost and not found:
        raise InputError(f"{work.folder}: expected members that did not diverge, got {lost} that did; see their notes")
    if not found:
        raise InputError(f"{work.folder}: expected members with frames, got none; run the study first")
    return found


def describe_unfinished(work: Workspace) -> str:
    """Sentences on the members that diverged or did not reach their end, with where; empty if all did."""
    found: dict[str, list[tuple[str, float | None]]] = {"diverged": [], "stopped before the end": []}
    for file in work.members():
        with Trajectory(file.path) as trajectory:
            if not reached_end(trajectory):
                s = float(trajectory.series("s")[-1]) if len(trajectory) else None
                found["diverged" if diverged(trajectory) else "stopped before the end"].append((file.label, s))
    total = len(work.study["members"])
    return " ".join(_said(verb, each, total) for verb, each in found.items() if each)


def _said(verb: str, found: list[tuple[str, float | None]], total: int) -> str:
    """One sentence, the members by name if they are few."""
    times = [s for _, s in found if s is not None]
    if len(found) > _NAMED:
        return f"{len(found)} of {total} runs {verb}" + (f", after s = {span(times, 'g')}." if times else ", at once.")
    parts = [f"{label} {'at the start' if s is None else f'after s = {s:g}'}".strip() for label, s in found]
    return f"The run {verb} {parts[0]}." if total == 1 else f"{len(found)} of {total} runs {verb}: {'; '.join(parts)}."


def evenly_spaced(count: int, most: int) -> list[int]:
    """Numbers of at most so many of a run's frames, spread evenly, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most)).tolist()})
