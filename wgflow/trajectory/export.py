"""Trajectories for programs of other fields: three dimensions for molecular viewers, NetCDF for arrays with names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from wgflow.errors import InputError
from wgflow.files import replaced
from wgflow.trajectory import schema, skeleton
from wgflow.trajectory.reader import Trajectory
from wgflow.types import Array


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
    onto = _directions(trajectory, axes)
    count = len(trajectory[0].tau)
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


def _directions(trajectory: Trajectory, axes: Sequence[str]) -> Array:
    """Matrix (P + 1, 3) that takes theta and tau of a particle to its point."""
    width = trajectory[0].theta.shape[1]
    known = ("tau", "pc1", "pc2", *map(str, range(width)))
    if len(axes) != 3 or any(axis not in known for axis in axes):
        raise InputError(
            f"axes: expected three of tau, pc1, pc2 or components of theta 0..{width - 1}, got {', '.join(axes)}"
        )
    out = np.zeros((width + 1, 3))
    leading = _principal(trajectory) if {"pc1", "pc2"} & set(axes) else np.zeros((width, 2))
    for column, axis in enumerate(axes):
        if axis.startswith("pc"):
            out[:-1, column] = leading[:, int(axis[2]) - 1]
        else:
            out[-1 if axis == "tau" else int(axis), column] = 1.0
    return out


def _principal(trajectory: Trajectory) -> Array:
    """Directions (P, 2) in which theta varies most over all frames and particles; their largest entry is positive."""
    first = trajectory[0].theta
    total, moments, rows = np.zeros(first.shape[1]), np.zeros((first.shape[1],) * 2), 0
    centre = first.mean(axis=0)
    for frame in trajectory:
        moved = frame.theta - centre
        total, moments, rows = total + moved.sum(axis=0), moments + moved.T @ moved, rows + len(moved)
    mean = total / rows
    _, vectors = np.linalg.eigh(moments / rows - np.outer(mean, mean))
    leading = vectors[:, ::-1][:, :2]
    if leading.shape[1] < 2:  # one parameter
        leading = np.column_stack([leading, np.zeros(len(leading))])
    signs = np.sign(leading[np.abs(leading).argmax(axis=0), range(2)])
    return leading * np.where(signs == 0, 1.0, signs)
