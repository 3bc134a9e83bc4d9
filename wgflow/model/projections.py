"""Projections of particles to few dimensions, by name: a component of theta, a principal direction, the depth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from wgflow.base.errors import InputError, describe
from wgflow.base.scaling import unit
from wgflow.base.types import Array


def principal(clouds: Iterable[Array], count: int = 3) -> Array:
    """Directions in which the rows of some clouds vary most, all rows counting alike.

    Parameters
    ----------
    clouds : iterable of ndarray (N, P)
        The clouds, gone through once.
    count : int, optional
        How many directions, >= 1.

    Returns
    -------
    ndarray (P, count)
        Orthonormal columns, the most varied first, the largest entry of each positive; zeros beyond P.
    """
    rows, scale = 0, 1.0
    for cloud in clouds:
        if not rows:
            centre = cloud.mean(axis=0)
            total, moments = np.zeros(cloud.shape[1]), np.zeros((cloud.shape[1],) * 2)
        largest = float(np.abs(cloud - centre).max())
        if not moments.any():  # so far all rows are one: those of a tiny cloud must not underflow
            scale = min(scale, float(unit(largest)))
        if largest > scale:  # a divergence's last state must not overflow
            total, moments, scale = total * (scale / largest), moments * (scale / largest) ** 2, largest
        moved = (cloud - centre) / scale
        total, moments, rows = total + moved.sum(axis=0), moments + moved.T @ moved, rows + len(moved)
    mean = total / rows
    _, vectors = np.linalg.eigh(moments / rows - np.outer(mean, mean))
    leading = vectors[:, ::-1][:, :count]
    signs = np.sign(leading[np.abs(leading).argmax(axis=0), range(leading.shape[1])])
    return np.pad(leading * signs, ((0, 0), (0, count - leading.shape[1])))


def directions(axes: Sequence[str], parameters: int, leading: Callable[[], Array]) -> Array:
    """Matrix that takes theta and tau of particles, side by side, to their coordinates on some axes.

    Parameters
    ----------
    axes : sequence of str
        Each ``"tau"``, the number of a component of theta from 0, or ``"pc1"``, ``"pc2"``, ``"pc3"``.
    parameters : int
        P.
    leading : callable
        Gives the directions (P, 3) that pc1 to pc3 mean, as :func:`principal` does; called if an axis asks for them.

    Returns
    -------
    ndarray (P + 1, len(axes))
        One column an axis.

    Raises
    ------
    InputError
        If an axis is unknown.
    """
    known = ("tau", "pc1", "pc2", "pc3", *map(str, range(parameters)))
    for axis in axes:
        if axis not in known:
            raise InputError(
                f"axes: expected tau, pc1 to pc3, or components of theta 0..{parameters - 1}, got {describe(axis)}"
            )
    out = np.zeros((parameters + 1, len(axes)))
    found = leading() if any(axis.startswith("pc") for axis in axes) else np.zeros((parameters, 3))
    for column, axis in enumerate(axes):
        if axis.startswith("pc"):
            out[:-1, column] = found[:, int(axis[2]) - 1]
        else:
            out[-1 if axis == "tau" else int(axis), column] = 1.0
    return out
