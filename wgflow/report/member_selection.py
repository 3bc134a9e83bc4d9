"""Which members of a run to show: the representative one, those that reached the end, did not diverge, ended early."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.registry import check_name
from wgflow.base.types import Array
from wgflow.report.wording import span
from wgflow.study.schema import Member, has_reached
from wgflow.study.workspace import MemberFile, Workspace
from wgflow.trajectory import Trajectory

LEGIBLE = 256  # particles that a picture can show
_NAMED = 3  # members that a sentence lists by name


def opened(work: Workspace) -> Iterator[tuple[MemberFile, Trajectory]]:
    """Members of a run that have a file, with their trajectories, each open until the next is."""
    for member in work.members():
        with Trajectory(member.path) as trajectory:
            yield member, trajectory


def representative(work: Workspace, label: str | None = None, most: int | None = None) -> Path:
    """Trajectory of the first member with the largest N; diverged members count only if all diverged.

    Parameters
    ----------
    work : Workspace
        The run.
    label : str, optional
        Label or file name of the member to take instead.
    most : int, optional
        Largest N to take where there is a choice.

    Raises
    ------
    InputError
        If no member has two frames, or none has that label.
    """
    if label is not None:
        members = {member.label: member.path for member in work.members()}
        names = members | {path.stem: path for path in members.values()}
        check_name("member", label, names)
        return names[label]
    sizes: dict[int, Path] = {}
    diverged_sizes: dict[int, Path] = {}
    for member, trajectory in opened(work):
        if len(trajectory) > 1 and trajectory.particles and not member.reference:
            (diverged_sizes if diverged(trajectory) else sizes).setdefault(trajectory.particles, member.path)
    sizes = sizes or diverged_sizes
    if not sizes:
        raise InputError(f"{work.folder}: expected a member with at least two frames, got none; run the study first")
    fitting = [size for size in sizes if most is None or size <= most]
    return sizes[max(fitting) if fitting else min(sizes)]


def particle_count(trajectory: Trajectory) -> int:
    """N of a member, also if its file holds no particles."""
    if trajectory.particles:
        return trajectory.particles
    return Member.of(trajectory.parameters["study"]).count


def reached_end(trajectory: Trajectory) -> bool:
    """Whether a member's last frame is at the end of its flow time; otherwise it diverged or was stopped."""
    s = trajectory.series("s")
    return len(s) > 0 and has_reached(trajectory.parameters["study"]["flow"]["until"], s[-1])


def diverged(trajectory: Trajectory) -> bool:
    """Whether a member diverged: its file is finished, but ends before its flow time does."""
    until = trajectory.parameters["study"].get("flow", {}).get("until")
    return trajectory.finished and until is not None and not reached_end(trajectory)


def finished_members(work: Workspace) -> Iterator[tuple[MemberFile, Member, Trajectory]]:
    """Members of a run that reached the end, each with its tables and its trajectory, open until the next."""
    for file, trajectory in opened(work):
        if reached_end(trajectory):
            yield file, Member.of(trajectory.parameters["study"]), trajectory


def shared_times(series: Sequence[Array]) -> Array:
    """Values common to several increasing series, up to rounding."""
    times = series[0]
    for other in series[1:]:
        times = times[np.isclose(times[:, None], other, rtol=1e-9, atol=1e-12).any(axis=1)]
    return times


def undiverged_members(work: Workspace) -> list[MemberFile]:
    """Members of a run that have frames and did not diverge; raises InputError if there are none."""
    kept, lost = [], 0
    for member, trajectory in opened(work):
        if len(trajectory) and diverged(trajectory):
            lost += 1
        elif len(trajectory):
            kept.append(member)
    if lost and not kept:
        raise InputError(f"{work.folder}: expected members that did not diverge, got {lost} that did; see their notes")
    if not kept:
        raise InputError(f"{work.folder}: expected members with frames, got none; run the study first")
    return kept


def describe_unfinished(work: Workspace) -> str:
    """Sentences on the members that diverged or stopped early, and at which s; empty if there are none."""
    early: dict[str, list[tuple[str, float | None]]] = {"diverged": [], "stopped before the end": []}
    for member, trajectory in opened(work):
        if not reached_end(trajectory):
            s = float(trajectory.series("s")[-1]) if len(trajectory) else None
            early["diverged" if diverged(trajectory) else "stopped before the end"].append((member.label, s))
    total = len(work.study["members"])
    return " ".join(_sentence(verb, members, total) for verb, members in early.items() if members)


def _sentence(verb: str, members: list[tuple[str, float | None]], total: int) -> str:
    """Sentence on members (label, last s), by name if they are few."""
    times = [s for _, s in members if s is not None]
    subject = f"{len(members)} of {total} runs {verb}"
    if len(members) > _NAMED:
        return subject + (f", after s = {span(times, 'g')}." if times else ", at the start.")
    parts = [f"{label} {'at the start' if s is None else f'after s = {s:g}'}".strip() for label, s in members]
    return f"The run {verb} {parts[0]}." if total == 1 else f"{subject}: {'; '.join(parts)}."


def evenly_spaced(count: int, most: int) -> list[int]:
    """Up to ``most`` frame numbers out of ``count``, evenly spaced, including the first and the last."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most)).tolist()})
