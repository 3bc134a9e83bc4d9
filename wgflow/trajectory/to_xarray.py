"""Trajectory as arrays with named dimensions, for xarray."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wgflow.base.errors import InputError
from wgflow.base.extras import install
from wgflow.trajectory import schema

if TYPE_CHECKING:
    import xarray

    from wgflow.trajectory.reader import Trajectory

Variables = dict[str, tuple[tuple[str, ...], NDArray[Any]]]


def variables(trajectory: Trajectory, particles: bool = True) -> Variables:
    """Arrays of a trajectory by name, with the names of their dimensions.

    Parameters
    ----------
    trajectory : Trajectory
        The run.
    particles : bool, optional
        Also theta (frame, particle, component), tau and mass (frame, particle); otherwise only the series (frame,).

    Raises
    ------
    TrajectoryError
        If a frame does not match its digest.
    """
    names = ("s", "step", *trajectory.observables)
    series = {name: trajectory.series(name) for name in names}
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
