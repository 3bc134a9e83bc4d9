"""Order switching under Algorithm 1 in the runs of a study: jumps of E along each, and its descent."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from wgflow.report.switch_jumps import Switching, order_switching
from wgflow.study.workspace import Workspace
from wgflow.trajectory import Trajectory


class Run(NamedTuple):
    """A run with the jumps of E along it.

    Attributes
    ----------
    path : Path
        Its trajectory.
    size : int
        N.
    descent : float
        E at the start less its least value.
    jumps : Switching
        The jumps.
    """

    path: Path
    size: int
    descent: float
    jumps: Switching


def runs(work: Workspace) -> list[Run]:
    """Runs of a study that have two frames.

    Raises
    ------
    InputError
        If one was made under another scheme, or steps between its frames are missing.
    """
    found = []
    for path in work.trajectories():
        with Trajectory(path) as trajectory:
            if len(trajectory) > 1:
                energy = trajectory.series("energy")
                descent = energy[0] - energy.min()
                found.append(Run(path, len(trajectory[0].tau), descent, order_switching(trajectory)))
    return found
