"""Trajectories of empirical measures in HDF5 (H5MD 1.1): schema, writer, reader."""

from wgflow.trajectory.reader import Trajectory
from wgflow.trajectory.writer import TrajectoryWriter

__all__ = ["Trajectory", "TrajectoryWriter"]
