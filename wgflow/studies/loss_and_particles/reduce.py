"""Change of the loss in every run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from wgflow.base.types import Array
from wgflow.report.member_selection import diverged
from wgflow.report.series_change import Change, change
from wgflow.study.workspace import Workspace
from wgflow.trajectory import Trajectory

SIGHT = 1e3  # losses above so many times 1 + E at the start are not drawn


class Run(NamedTuple):
    """A run that has frames.

    Attributes
    ----------
    size : int
        N.
    change : Change
        Change of its loss.
    cut : bool
        Whether some of its losses are too large to be drawn.
    """

    size: int
    change: Change
    cut: bool


class Losses(NamedTuple):
    """Runs of a study, and the files of all of them."""

    files: list[Path]
    runs: list[Run]


def losses(work: Workspace) -> Losses:
    """Losses of all runs that have frames."""
    files, runs = work.trajectories(), []
    for path in files:
        with Trajectory(path) as trajectory:
            if len(trajectory):
                runs.append(_run(trajectory))
    return Losses(files, runs)


def _run(trajectory: Trajectory) -> Run:
    s, energy = trajectory.series("s"), trajectory.series("energy")
    size = len(trajectory[0].tau)
    return Run(size, change(s, energy, diverged(trajectory)), bool(np.isnan(drawable(energy)).any()))


def drawable(values: Array) -> Array:
    """Series without values too large to be drawn, such as those before a divergence."""
    return np.where(np.isfinite(values) & (np.abs(values) <= SIGHT * (1 + abs(values[0]))), values, np.nan)
