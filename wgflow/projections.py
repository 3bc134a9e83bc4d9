"""Named directions of Theta x [0, 1], so that particles can be looked at in one to three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from wgflow.errors import unknown
from wgflow.types import Array


def known(width: int) -> tuple[str, ...]:
    """Names of directions for P = ``width`` parameters: tau, pc1, pc2 and the components of theta from "0"."""
    return ("tau", "pc1", "pc2", *map(str, range(width)))


def directions(width: int, axes: Sequence[str], leading: Callable[[], Array]) -> Array:
    """Matrix that takes theta and tau of a particle to its point, ``[theta, tau] @ directions``.

    Parameters
    ----------
    width : int
        P.
    axes : sequence of str
        Names of :func:`known`, A of them.
    leading : callable
        Gives the directions (P, 2) that pc1 and pc2 mean; called only if one of them is among the axes.

    Returns
    -------
    ndarray (P + 1, A)

    Raises
    ------
    InputError
        If a name is unknown.
    """
    out = np.zeros((width + 1, len(axes)))
    principal_axes = leading() if {"pc1", "pc2"} & set(axes) else np.zeros((width, 2))
    for column, axis in enumerate(axes):
        if axis not in known(width):
            raise unknown("axis", axis, known(width))
        if axis.startswith("pc"):
            out[:-1, column] = principal_axes[:, int(axis[2]) - 1]
        else:
            out[-1 if axis == "tau" else int(axis), column] = 1.0
    return out


def principal(clouds: Iterable[Array]) -> Array:
    """Directions (P, 2) in which theta varies most over all rows of all clouds, each (N, P).

    Unit vectors whose largest entry is positive; the second is 0 if P = 1. Only one cloud is in memory at a time.
    """
    centre: Array | None = None
    total, moments, rows = np.zeros(0), np.zeros((0, 0)), 0
    for theta in clouds:
        if centre is None:  # moments about a nearby point, or they cancel
            centre = theta.mean(axis=0)
            total, moments = np.zeros(len(centre)), np.zeros((len(centre),) * 2)
        moved = theta - centre
        total, moments, rows = total + moved.sum(axis=0), moments + moved.T @ moved, rows + len(moved)
    mean = total / rows
    _, vectors = np.linalg.eigh(moments / rows - np.outer(mean, mean))
    leading = vectors[:, ::-1][:, :2]
    if leading.shape[1] < 2:  # one parameter
        leading = np.column_stack([leading, np.zeros(len(leading))])
    signs = np.sign(leading[np.abs(leading).argmax(axis=0), range(2)])
    return np.asarray(leading * np.where(signs == 0, 1.0, signs))
