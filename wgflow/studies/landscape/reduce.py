"""Loss, dissipation and descent certificate of every member along the flow, from full and degenerate supports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wgflow.base.scaling import norms
from wgflow.base.types import Array, Spec
from wgflow.report.member_selection import undiverged_members
from wgflow.study.workspace import MemberFile, Workspace
from wgflow.theory.certificate import certificate
from wgflow.trajectory import Trajectory

SEARCH = 32  # starts of a certificate


class Run(NamedTuple):
    """A run along its frames.

    Attributes
    ----------
    depth, support, seed : str
        Scheme, kind of start, and seed of it.
    s, energy, dissipation, value : ndarray (F,)
        Flow time, E, -dE/ds, and the certificate's <dE/drho, nu - rho>.
    """

    depth: str
    support: str
    seed: str
    s: Array
    energy: Array
    dissipation: Array
    value: Array


class Landscape(NamedTuple):
    """Runs, and the bound of |theta| in their certificates: one ball for all makes them comparable."""

    radius: float
    runs: list[Run]


def runs(work: Workspace) -> Landscape:
    """Members that did not diverge.

    Raises
    ------
    InputError
        If there is none.
    """
    files = undiverged_members(work)
    radius = max(_farthest(file) for file in files)
    return Landscape(radius, [_run(file, radius) for file in files])


def _farthest(file: MemberFile) -> float:
    """Largest |theta_i| of a member's particles with mass."""
    with Trajectory(file.path) as trajectory:
        return max(float(norms(frame.theta[frame.mass > 0]).max(initial=0.0)) for frame in trajectory)


def _run(file: MemberFile, radius: float) -> Run:
    with Trajectory(file.path) as trajectory:
        energy = trajectory.energy()
        value = [certificate(energy, frame.particles, radius, SEARCH, s=frame.s).value for frame in trajectory]
        s, loss, dissipation = (trajectory.series(name) for name in ("s", "energy", "dissipation"))
    support, seed = str(file.values["particles.support"]), str(file.values.get("seed", ""))
    return Run(energy.depth.name, support, seed, s, loss, dissipation, np.array(value))


def rows(runs: Sequence[Run]) -> list[Spec]:
    """Start and end of every member, as plain JSON rows."""
    return [
        {"depth": run.depth, "support": run.support, "seed": run.seed}
        | {
            f"{label}_{when}": float(getattr(run, name)[at])
            for label, name in (("energy", "energy"), ("dissipation", "dissipation"), ("certificate", "value"))
            for when, at in (("start", 0), ("end", -1))
        }
        for run in runs
    ]
