"""Export of a study as one xarray dataset or NetCDF file, its members along the dimensions of the grid."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.extras import install
from wgflow.base.terminal import printable
from wgflow.study.labels import code, short_names, words
from wgflow.study.workspace import MemberFile, Workspace
from wgflow.trajectory import Trajectory, schema
from wgflow.trajectory.convert import variables

if TYPE_CHECKING:
    import xarray


def to_xarray(work: Workspace, particles: bool = False) -> xarray.Dataset:
    """Members of a run in one dataset, along a dimension for each grid key.

    Parameters
    ----------
    work : Workspace
        The run.
    particles : bool, optional
        Include theta, tau and mass of every frame, besides the series.

    Returns
    -------
    xarray.Dataset
        Dimensions: one for each grid key, then ``frame``, and with ``particles`` also ``particle`` and ``component``. A
        key's dimension has the last part of its name, ``count`` for ``particles.count``, or the full name,
        ``flow.step``, if the short one is taken by another key, variable or dimension, or ``grid.`` and that name.
        Coordinates are the key's values if all are numbers or all booleans, otherwise text. Variables: ``s``,
        ``step``, ``energy`` and the other series. Missing frames, particles and members are NaN.

    Raises
    ------
    InputError
        If xarray is not installed.
    """
    try:
        import xarray
    except ModuleNotFoundError as error:
        raise InputError(f"export: expected xarray, got no such package; {install('xarray')}") from error
    work.trajectories()  # raises if there are none
    members = work.members()
    keys = list(dict.fromkeys(key for member in members for key in member.values))
    axes = {key: {code(member.values.get(key)): member.values.get(key) for member in members} for key in keys}
    series, lengths = _sizes(members, particles)
    names = _names(keys, schema.RESERVED | series | set(lengths))
    shape = tuple(len(axes[key]) for key in keys)
    out: dict[str, np.ndarray] = {}
    dims: dict[str, tuple[str, ...]] = {}
    for member in members:
        place: tuple[Any, ...] = tuple(list(axes[key]).index(code(member.values.get(key))) for key in keys)
        with Trajectory(member.path) as trajectory:
            arrays = variables(trajectory, particles)
        for name, (own, values) in arrays.items():
            if name not in out:
                dims[name] = (*(names[key] for key in keys), *own)
                out[name] = np.full((*shape, *(lengths[dim] for dim in own)), np.nan)
            out[name][(*place, *(slice(size) for size in values.shape))] = values
    coordinates = {names[key]: _coordinate(list(axes[key].values())) for key in keys}
    about = {key: value for key, value in work.study.items() if key != "members"}
    attributes = {"study": json.dumps(about), "conventions": "wgflow study, members along named parameters"}
    return xarray.Dataset({name: (dims[name], out[name]) for name in out}, coordinates, attributes)


def _coordinate(values: list[Any]) -> list[Any]:
    """Coordinates for the values of a key: numbers or booleans unchanged, anything else as distinct texts."""
    kinds = {type(value) for value in values}
    if kinds in ({bool}, {int}, {float}, {int, float}):
        numbers = np.array(values)
        if numbers.dtype.kind in "bif" and len(np.unique(numbers)) == len(values):  # 10**30 has dtype object
            return values
    texts = [printable(text) for text in (values if kinds == {str} else words(values))]
    return texts if len(set(texts)) == len(texts) else [code(value) for value in values]


def _names(keys: Sequence[str], taken: Set[str]) -> dict[str, str]:
    """Unique name of each key's dimension, without "/", which would create a group in HDF5."""
    out: dict[str, str] = {}
    for key, short in short_names(keys).items():
        choices = itertools.chain([short, key], ("grid." * n + key for n in itertools.count(1)))
        names = (printable(choice.replace("/", "_")) for choice in choices)
        out[key] = next(name for name in names if name and name not in taken and name not in out.values())
    return out


def _sizes(members: Sequence[MemberFile], particles: bool) -> tuple[set[str], dict[str, int]]:
    """Names of all members' series, and the largest length of each dimension."""
    names: set[str] = set()
    lengths: dict[str, int] = {}
    for member in members:
        with Trajectory(member.path) as trajectory:
            series = variables(trajectory, particles=False)
            sizes = [(dim, n) for dims, values in series.values() for dim, n in zip(dims, values.shape, strict=True)]
            if particles and len(trajectory):
                sizes += zip(("particle", "component"), trajectory[0].theta.shape, strict=True)
        names |= set(series)
        for dim, n in sizes:
            lengths[dim] = max(lengths.get(dim, 0), n)
    return names, lengths
