"""Loss of every member along the flow under each transport of mass, and the time to fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Spec
from wgflow.report.member_selection import diverged
from wgflow.study.labels import word
from wgflow.study.workspace import MemberFile, Workspace
from wgflow.trajectory import Trajectory

EPSILON = 1e-2  # loss at which a run counts as fitted
NAMES = {"none": "motion alone", "birth_death": "birth-death", "birth": "births", "birth_death+birth": "both"}


class Run(NamedTuple):
    """A run along its frames.

    Attributes
    ----------
    transport, support : str
        Transport of mass besides motion, and the kind of start.
    s, energy : ndarray (F,)
        Flow time and loss.
    diverged : bool
        Whether it diverged after its last frame.
    """

    transport: str
    support: str
    s: Array
    energy: Array
    diverged: bool = False

    def reached(self, epsilon: float) -> float:
        """Flow time of the first frame with E <= epsilon; infinity if there is none."""
        below = np.flatnonzero(self.energy <= epsilon)
        return float(self.s[below[0]]) if len(below) else np.inf


def runs(work: Workspace) -> list[Run]:
    """Members of a run that have frames.

    Raises
    ------
    InputError
        If there is none.
    """
    found = [run for file in work.members() if (run := _run(file)) is not None]
    if not found:
        raise InputError(f"{work.folder}: expected members with frames, got none; run the study first")
    return found


def _run(file: MemberFile) -> Run | None:
    parts = file.values["flow.ingredients"]
    name = "+".join(part["name"] for part in parts) or "none"
    with Trajectory(file.path) as trajectory:
        if not len(trajectory):
            return None
        return Run(
            NAMES.get(name, word(parts)), str(file.values["particles.support"]), trajectory.series("s"),
            trajectory.series("energy"), diverged(trajectory),
        )  # fmt: skip


def rows(runs: Sequence[Run]) -> list[Spec]:
    """End of every run and its time to fit, as plain JSON rows."""
    return [
        {
            "transport": run.transport, "support": run.support, "energy_start": float(run.energy[0]),
            "energy_end": float(run.energy[-1]), "time_to_epsilon": run.reached(EPSILON), "epsilon": EPSILON,
        }
        for run in runs
    ]  # fmt: skip
