"""Trajectories of empirical measures in HDF5 (H5MD 1.1): schema, writer, reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["Trajectory", "TrajectoryWriter"]

if TYPE_CHECKING:
    from wgflow.trajectory.reader import Trajectory
    from wgflow.trajectory.writer import TrajectoryWriter


def __getattr__(name: str) -> Any:
    if name == "Trajectory":
        from wgflow.trajectory.reader import Trajectory

        return Trajectory
    if name == "TrajectoryWriter":  # imported on first use: only writing needs HDF5
        from wgflow.trajectory.writer import TrajectoryWriter

        return TrajectoryWriter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
