"""A whole study as one labelled array set: members side by side along the keys of its grid.

Usage: python -m wgflow.analysis.export RUN_FOLDER OUT.nc [--particles]
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wgflow.base.errors import InputError, TrajectoryError, WorkspaceError
from wgflow.base.extras import install
from wgflow.base.terminal import Parser, printable, say
from wgflow.study.workspace import MemberFile, Workspace, short_names, words
from wgflow.trajectory import Trajectory, schema
from wgflow.trajectory.convert import write_netcdf
from wgflow.trajectory.to_xarray import variables

if TYPE_CHECKING:
    import xarray


def to_xarray(work: Workspace, particles: bool = False) -> xarray.Dataset:
    """Members of a run concatenated along named parameter dimensions.

    Parameters
    ----------
    work : Workspace
        The run.
    particles : bool, optional
        Also theta, tau and mass of every frame; series of numbers alone otherwise.

    Returns
    -------
    xarray.Dataset
        A dimension for each grid key, then ``frame``; with ``particles`` also ``particle`` and ``component``. It is
        named by the key's last part, ``count`` for ``particles.count``; by the whole key, ``flow.step``, where another
        key, a variable or a dimension has that name; with ``grid.`` before it where that is taken too. Its coordinates
        are the key's values: numbers or booleans if all of them are, else in words. Variables ``s``, ``step``,
        ``energy`` and the other series. Where members have fewer frames or particles, or a combination was not run,
        there is NaN.

    Raises
    ------
    InputError
        If xarray is not installed.
    """
    try:
        import xarray
    except ModuleNotFoundError as error:
        raise InputError(f"export: expected xarray, got no such package; {install('xarray')}") from error
    work.trajectories()  # says so if there are none
    members = work.members()
    keys = list(dict.fromkeys(key for member in members for key in member.values))
    axes = {key: _distinct([member.values.get(key) for member in members]) for key in keys}
    said = {key: _coordinate(list(values.values())) for key, values in axes.items()}
    series, lengths = _sizes(members, particles)
    names = _names(keys, schema.RESERVED | series | set(lengths))
    shape = tuple(len(axes[key]) for key in keys)
    out: dict[str, np.ndarray] = {}
    dims: dict[str, tuple[str, ...]] = {}
    for member in members:
        place: tuple[Any, ...] = tuple(list(axes[key]).index(_code(member.values.get(key))) for key in keys)
        with Trajectory(member.path) as trajectory:
            found = variables(trajectory, particles)
        for name, (own, values) in found.items():
            if name not in out:
                dims[name] = (*(names[key] for key in keys), *own)
                out[name] = np.full((*shape, *(lengths[dim] for dim in own)), np.nan)
            out[name][(*place, *(slice(size) for size in values.shape))] = values
    coordinates = {names[key]: said[key] for key in keys}
    about = {key: value for key, value in work.study.items() if key != "members"}
    attributes = {"study": json.dumps(about), "conventions": "wgflow study, members along named parameters"}
    return xarray.Dataset({name: (dims[name], out[name]) for name in out}, coordinates, attributes)


def _distinct(values: Sequence[Any]) -> dict[str, Any]:
    return {_code(value): value for value in values}


def _code(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _coordinate(values: list[Any]) -> list[Any]:
    """Values of a key as they can be told apart in a file: numbers or booleans as they are, anything else in words."""
    kinds = {type(value) for value in values}
    if kinds in ({bool}, {int}, {float}, {int, float}):
        numbers = np.array(values)
        if numbers.dtype.kind in "bif" and len(np.unique(numbers)) == len(values):  # 10**30 is an object to NumPy
            return values
    said = [printable(text) for text in (values if kinds == {str} else words(values))]
    return said if len(set(said)) == len(said) else [_code(value) for value in values]


def _names(keys: Sequence[str], taken: Set[str]) -> dict[str, str]:
    """Name of each key's dimension, which no other key, variable or dimension has; a '/' would make a group in HDF5."""
    out: dict[str, str] = {}
    for key, short in short_names(keys).items():
        choices = itertools.chain([short, key], ("grid." * n + key for n in itertools.count(1)))
        names = (printable(choice.replace("/", "_")) for choice in choices)
        out[key] = next(name for name in names if name and name not in taken and name not in out.values())
    return out


def _sizes(members: Sequence[MemberFile], particles: bool) -> tuple[set[str], dict[str, int]]:
    """Names of the members' series, and the largest length of each of their dimensions."""
    names: set[str] = set()
    lengths: dict[str, int] = {}
    for member in members:
        with Trajectory(member.path) as trajectory:
            series = variables(trajectory, particles=False)
            found = [(dim, n) for dims, values in series.values() for dim, n in zip(dims, values.shape, strict=True)]
            if particles and len(trajectory):
                found += zip(("particle", "component"), trajectory[0].theta.shape, strict=True)
        names |= set(series)
        for dim, n in found:
            lengths[dim] = max(lengths.get(dim, 0), n)
    return names, lengths


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a run as NetCDF; 0, or 2 with one line for bad input."""
    make = Parser(prog="python -m wgflow.analysis.export", description="A study as one NetCDF file.")
    make.add_argument("run", help="folder of a run: runs/<study>/<hash>")
    make.add_argument("out", help="file to write, ending in .nc")
    make.add_argument("--particles", action="store_true", help="also every particle of every frame")
    try:
        options = make.parse_args(arguments)
        path = Path(options.out)
        if path.suffix != ".nc":
            raise InputError(f"{path}: expected a name that ends in .nc, got {path.suffix or 'no ending'}")
        dataset = to_xarray(Workspace(options.run), options.particles)
        write_netcdf(dataset, path)
    except (InputError, TrajectoryError, WorkspaceError, OSError) as error:
        say(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
