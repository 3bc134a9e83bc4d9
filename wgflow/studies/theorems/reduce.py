"""The theorems along one member of a run."""

from __future__ import annotations

from wgflow.report.member_selection import representative
from wgflow.report.theorem_diagnostics import TheoremDiagnostics, theorem_diagnostics
from wgflow.study.workspace import Workspace
from wgflow.trajectory import Trajectory


def diagnostics(work: Workspace) -> tuple[TheoremDiagnostics, str]:
    """Diagnostics of the representative member, which take up to a minute, and its name."""
    with Trajectory(representative(work)) as trajectory:
        return theorem_diagnostics(trajectory), trajectory.path.stem
