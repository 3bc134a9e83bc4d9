"""Conversion of trajectories: labelled arrays for xarray and NetCDF, points in space for molecular viewers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from wgflow.base.errors import InputError
from wgflow.base.extras import install
from wgflow.base.files import atomic_write
from wgflow.base.types import Array
from wgflow.model.projections import principal_directions, projection_matrix
from wgflow.trajectory import h5md, schema
from wgflow.trajectory.reader import Trajectory

if TYPE_CHECKING:
    import xarray

Variables = dict[str, tuple[tuple[str, ...], NDArray[Any]]]


def variables(trajectory: Trajectory, particles: bool = True) -> Variables:
    """Arrays of a trajectory by name, with the names of their dimensions; ``particles`` adds theta, tau and mass."""
    series = {name: trajectory.series(name) for name in ("s", "step", *trajectory.observables)}
    out: Variables = {
        name: (("frame", *schema.axes(name, values.shape[1:])), values) for name, values in series.items()
    }
    if not particles or not len(trajectory) or not trajectory.particles:
        return out
    first = trajectory[0]
    stacked = {name: np.empty((len(trajectory), *getattr(first, name).shape)) for name in ("theta", "tau", "mass")}
    for number, frame in enumerate(trajectory):
        for name, values in stacked.items():
            values[number] = getattr(frame, name)
    dims = ("frame", "particle", "component")
    return out | {name: (dims[: values.ndim], values) for name, values in stacked.items()}


def to_xarray(trajectory: Trajectory, particles: bool = True) -> xarray.Dataset:
    """Trajectory as a labelled data set; see :meth:`wgflow.Trajectory.to_xarray`."""
    try:
        import xarray
    except ModuleNotFoundError as error:
        raise InputError(f"to_xarray: expected xarray, got no such package; {install('xarray')}") from error
    arrays = variables(trajectory, particles)
    coordinates = {name: arrays.pop(name) for name in ("s", "step")}
    documents = {name: json.dumps(document) for name, document in trajectory.parameters.items()}
    return xarray.Dataset(arrays, coordinates, documents)


def write_netcdf(dataset: xarray.Dataset, out: Path, compress: bool = False) -> None:
    """Write a data set as NetCDF, made in memory since HDF5 does not handle a full disk reliably."""
    encoding = {name: {"zlib": True, "complevel": 4, "shuffle": True} for name in dataset.data_vars} if compress else {}
    image = dataset.to_netcdf(engine="h5netcdf", encoding=encoding)
    with atomic_write(out) as draft:
        draft.write_bytes(image)


def to_three_dimensions(
    trajectory: Trajectory, out: Path, axes: Sequence[str] | None = None, compress: bool = False
) -> list[str]:
    """Write a run as an H5MD file of points in three dimensions, which molecular viewers open.

    Parameters
    ----------
    trajectory, out : Trajectory, Path
        The run, and the file to write.
    axes : sequence of str, optional
        Three names as in :func:`wgflow.model.projections.projection_matrix`; principal directions are those over all
        frames and particles. By default pc1, pc2, tau.
    compress : bool, optional
        Compress with gzip.

    Returns
    -------
    list of str
        Names of the axes.

    Raises
    ------
    InputError
        If an axis is unknown, or the run has no frames.
    TrajectoryError
        If a frame does not match its digest.
    """
    if not len(trajectory):
        raise InputError(f"{trajectory.path}: expected frames to project, got none")
    if not trajectory.particles:
        raise InputError(f"{trajectory.path}: expected particles to project, got a run that recorded none")
    axes = list(axes or ("pc1", "pc2", "tau"))
    if len(axes) != 3:
        raise InputError(f"axes: expected three, got {len(axes)}: {', '.join(axes)}")
    count, parameters = trajectory[0].theta.shape
    onto = projection_matrix(axes, parameters, lambda: principal_directions(frame.theta for frame in trajectory))
    image = h5md.Image()  # in memory, since HDF5 does not handle a full disk reliably
    with h5py.File(image, "w") as file:
        h5md.preamble(file, 3)
        options: dict[str, Any] = {"compression": "gzip", "shuffle": True} if compress else {}
        shape = (len(trajectory), count, 3)
        position = file.create_dataset(schema.POSITION, shape, "<f8", chunks=(1, count, 3), **options)
        masses = np.empty((len(trajectory), count))
        for number, frame in enumerate(trajectory):
            position[number] = np.column_stack([frame.theta, frame.tau]) @ onto
            masses[number] = frame.mass
        file[schema.STEP], file[schema.TIME] = trajectory.series("step"), trajectory.series("s")
        _write_masses(file, masses)
        file[f"{schema.GROUP}/id"] = np.arange(count)
        for name in trajectory.observables:
            group = file.create_group(f"observables/{name}")
            group["value"] = trajectory.series(name)
            group["step"], group["time"] = file[schema.STEP], file[schema.TIME]
        file.create_group("parameters").attrs["axes"] = ", ".join(axes)
    with atomic_write(out) as draft, draft.open("wb") as written:
        image.write_to(written)
    return axes


def _write_masses(file: h5py.File, masses: Array) -> None:
    """Write masses (F, N): one row for all frames if they never change, as H5MD allows, else one row per frame."""
    if (masses == masses[0]).all():
        file[f"{schema.GROUP}/mass"] = masses[0]
        return
    group = file.create_group(f"{schema.GROUP}/mass")
    group["value"] = masses
    group["step"], group["time"] = file[schema.STEP], file[schema.TIME]
