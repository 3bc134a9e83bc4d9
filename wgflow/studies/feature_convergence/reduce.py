"""Theorem 8 of Fang, Lee, Yang and Zhang (COLT 2021) along runs: hypotheses and the loss above its infimum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from wgflow.base.types import Array, Spec
from wgflow.report.member_selection import diverged, opened
from wgflow.study.schema import Member
from wgflow.study.tables import NetworkTable
from wgflow.study.workspace import Workspace
from wgflow.systems.neural_feature_flow import assumptions, convergence, gram
from wgflow.systems.neural_feature_flow.convergence import Window
from wgflow.systems.neural_feature_flow.system import from_trajectory
from wgflow.theory.assumption import Assumption
from wgflow.trajectory import Trajectory


class Run(NamedTuple):
    """A network along its frames.

    Attributes
    ----------
    label : str
        The member's.
    units : int
        m.
    s, gap, slope, eigenvalue : ndarray (F,)
        Flow time, loss above its infimum, root mean square of phi', smallest eigenvalue of Khat_L.
    windows : list of Window
        Changes of beta_L and v_(L+1) over doubling windows.
    verdicts : list of Assumption
        Assumptions 1 to 3, Lemma 3 and the hypotheses of Theorem 8.
    diverged : bool
        Whether it diverged after its last frame.
    """

    label: str
    units: int
    s: Array
    gap: Array
    slope: Array
    eigenvalue: Array
    windows: list[Window]
    verdicts: list[Assumption]
    diverged: bool


def runs(work: Workspace) -> list[Run]:
    """Runs with two frames or more."""
    return [_run(member.label, trajectory) for member, trajectory in opened(work) if len(trajectory) > 1]


def _run(label: str, trajectory: Trajectory) -> Run:
    system, member = from_trajectory(trajectory), Member.of(trajectory.parameters["study"])
    network, table = system.network, member.network or NetworkTable()
    s, top = trajectory.series("s"), trajectory.series("top")
    above = [gram.excess(network, output[:, 0]) for output in trajectory.series("outputs")]
    found = convergence.windows(s, top[:, :, :-1], top[:, :, -1])
    verdicts = assumptions.check(network, table.start, table.last)
    verdicts.append(convergence.convergence(found, assumptions.convex_loss(network)))
    gap, slope = (np.array([getattr(each, name) for each in above]) for name in ("gap", "slope"))
    eigenvalue = trajectory.series("eigenvalues")[:, -1]
    return Run(label, system.units, s, gap, slope, eigenvalue, found, verdicts, diverged(trajectory))


def rows(found: Sequence[Run]) -> Iterator[Spec]:
    """Windows as plain JSON rows."""
    for run in found:
        for window in run.windows:
            within = (run.s >= window.low) & (run.s <= window.high)
            yield {"run": run.label, "m": run.units} | window._asdict() | {
                "least_eigenvalue": float(run.eigenvalue[within].min()),
                "gap": float(run.gap[within][-1]), "slope": float(run.slope[within][-1]),
            }  # fmt: skip


def panel(found: Sequence[Run]) -> Iterator[Spec]:
    """Assumptions and hypotheses, condition by condition, runs with the same verdict together."""
    labels: dict[tuple[str, str, str, str], list[str]] = {}
    for run in found:
        for one in run.verdicts:
            for condition in one.conditions:
                key = (one.name, condition.name, condition.finding, condition.reason)
                labels.setdefault(key, []).append(run.label)
    order = list(dict.fromkeys(key[:2] for key in labels))
    columns = ("assumption", "condition", "finding", "what was checked")
    for verdict in sorted(labels, key=lambda each: order.index(each[:2])):
        runs = "all" if len(labels[verdict]) == len(found) else ", ".join(labels[verdict])
        yield dict(zip(columns, verdict, strict=True)) | {"runs": runs}
