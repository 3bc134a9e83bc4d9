"""Projections of particles to few dimensions, by name: a component of theta, a principal direction, the depth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from wgflow.base.errors import InputError, describe
from wgflow.base.scaling import unit
from wgflow.base.types import Array


def principal_directions(samples: Iterable[Array], count: int = 3) -> Array:
    """Principal directions of the rows of several samples, all rows with equal weight.

    Parameters
    ----------
    samples : iterable of ndarray (N, P)
        The samples, read once.
    count : int, optional
        Number of directions, >= 1.

    Returns
    -------
    ndarray (P, count)
        Orthonormal columns by decreasing variance, the largest entry of each positive; zeros beyond P.
    """
    rows, scale = 0, 1.0
    for sample in samples:
        if not rows:
            centre = sample.mean(axis=0)
            total, moments = np.zeros(sample.shape[1]), np.zeros((sample.shape[1],) * 2)
        largest = float(np.abs(sample - centre).max())
        if not moments.any():  # all rows equal so far; a tiny sample must not underflow
            scale = min(scale, float(unit(largest)))
        if largest > scale:  # the last state of a divergent flow must not overflow
            total, moments, scale = total * (scale / largest), moments * (scale / largest) ** 2, largest
        moved = (sample - centre) / scale
        total, moments, rows = total + moved.sum(axis=0), moments + moved.T @ moved, rows + len(moved)
    mean = total / rows
    _, vectors = np.linalg.eigh(moments / rows - np.outer(mean, mean))
    leading = vectors[:, ::-1][:, :count]
    signs = np.sign(leading[np.abs(leading).argmax(axis=0), range(leading.shape[1])])
    return np.pad(leading * signs, ((0, 0), (0, count - leading.shape[1])))


def projection_matrix(axes: Sequence[str], parameters: int, leading: Callable[[], Array]) -> Array:
    """Matrix from (theta, tau) of particles to their coordinates on the given axes.

    Parameters
    ----------
    axes : sequence of str
        ``"tau"``, the index of a component of theta, or ``"pc1"``, ``"pc2"``, ``"pc3"``.
    parameters : int
        P.
    leading : callable
        Returns the principal directions (P, 3); called only if an axis is one of them.

    Returns
    -------
    ndarray (P + 1, len(axes))
        One column per axis.

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
    components = leading() if any(axis.startswith("pc") for axis in axes) else np.zeros((parameters, 3))
    for column, axis in enumerate(axes):
        if axis.startswith("pc"):
            out[:-1, column] = components[:, int(axis[2]) - 1]
        else:
            out[-1 if axis == "tau" else int(axis), column] = 1.0
    return out
