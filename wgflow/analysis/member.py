"""Which member of a run stands for it where one has to."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wgflow.errors import InputError, among
from wgflow.trajectory import Trajectory
from wgflow.workspace import Workspace

LEGIBLE = 256  # particles that a picture can show whole


def shown(work: Workspace, label: str | None = None, most: int | None = None) -> Path:
    """Trajectory of the member that stands for a run: of those with the largest N the first.

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
        among("member", label, names)
        return names[label]
    sizes: dict[int, Path] = {}
    for member in work.members():
        with Trajectory(member.path) as trajectory:
            if len(trajectory) > 1 and trajectory.particles and not member.reference:
                sizes.setdefault(trajectory.particles, member.path)
    if not sizes:
        raise InputError(f"{work.folder}: expected a member of at least two frames, got none; run the study first")
    fitting = [size for size in sizes if most is None or size <= most]
    return sizes[max(fitting) if fitting else min(sizes)]


def particles(trajectory: Trajectory) -> int:
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


def spread(count: int, most: int) -> list[int]:
    """Numbers of at most so many of a run's frames, spread evenly, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most)).tolist()})
