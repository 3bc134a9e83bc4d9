"""Trajectories of empirical measures in HDF5 (H5MD 1.1): schema, writer, reader."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["Trajectory", "TrajectoryWriter"]

if TYPE_CHECKING:
    from wgflow.trajectory.reader import Trajectory
    from wgflow.trajectory.writer import TrajectoryWriter


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "reader" if name == "Trajectory" else "writer"  # imported on first use: only writing needs HDF5
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
