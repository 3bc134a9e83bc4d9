"""Trajectories for programs of other fields: three dimensions for molecular viewers, NetCDF for arrays with names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from wgflow import projections
from wgflow.errors import InputError
from wgflow.files import replaced
from wgflow.trajectory import schema, skeleton
from wgflow.trajectory.reader import Trajectory


def to_netcdf(trajectory: Trajectory, out: Path, particles: bool = True, compress: bool = False) -> None:
    """Write a run as NetCDF, with the dimensions of :meth:`~wgflow.Trajectory.to_xarray`.

    Raises
    ------
    InputError
        If xarray is not installed.
    """
    dataset = trajectory.to_xarray(particles)
    encoding = {name: {"zlib": True, "complevel": 4, "shuffle": True} for name in dataset.data_vars} if compress else {}
    with replaced(out) as draft:
        dataset.to_netcdf(draft, engine="h5netcdf", encoding=encoding)


def to_three_dimensions(
    trajectory: Trajectory, out: Path, axes: Sequence[str] | None = None, compress: bool = False
) -> list[str]:
    """Write a run as an H5MD file of points in three dimensions, which molecular viewers open.

    Parameters
    ----------
    trajectory : Trajectory
        The run.
    out : Path
        The file.
    axes : sequence of str, optional
        Three of ``"tau"``, the number of a component of theta from 0, or ``"pc1"``, ``"pc2"``: the directions in which
        theta varies most over all frames and particles. By default pc1, pc2, tau.
    compress : bool, optional
        Compress with gzip.

    Returns
    -------
    list of str
        What the axes are.

    Raises
    ------
    InputError
        If an axis is unknown, or the run has no frames.
    TrajectoryError
        If a frame does not match its digest.
    """
    if not len(trajectory):
        raise InputError(f"{trajectory.path}: expected frames to project, got none")
    axes = list(axes or ("pc1", "pc2", "tau"))
    count, width = trajectory[0].theta.shape
    if len(axes) != 3 or any(axis not in projections.known(width) for axis in axes):
        raise InputError(
            f"axes: expected three of tau, pc1, pc2 or components of theta 0..{width - 1}, got {', '.join(axes)}"
        )
    onto = projections.directions(width, axes, lambda: projections.principal(frame.theta for frame in trajectory))
    with replaced(out) as draft, h5py.File(draft, "w") as file:
        skeleton.preamble(file, 3)
        options: dict[str, Any] = {"compression": "gzip", "shuffle": True} if compress else {}
        shape = (len(trajectory), count, 3)
        position = file.create_dataset(schema.POSITION, shape, "<f8", chunks=(1, count, 3), **options)
        for number, frame in enumerate(trajectory):
            position[number] = np.column_stack([frame.theta, frame.tau]) @ onto
        file[schema.STEP], file[schema.TIME] = trajectory.series("step"), trajectory.series("s")
        file[f"{schema.GROUP}/mass"] = trajectory[0].mass
        file[f"{schema.GROUP}/id"] = np.arange(count)
        for name in trajectory.observables:
            group = file.create_group(f"observables/{name}")
            group["value"] = trajectory.series(name)
            group["step"], group["time"] = file[schema.STEP], file[schema.TIME]
        file.create_group("parameters").attrs["axes"] = ", ".join(axes)
    return axes
