"""Nearest neighbours among particles, by a tree in low dimension and by matrix products in high dimension."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from wgflow.errors import InputError
from wgflow.types import Array

_TREE = 6  # dimensions up to which a tree beats the products at N = 1000, Q = 2000
_BLOCK = 2**20  # distances in memory at once


def nearest(points: Array, cloud: Array, method: str = "auto") -> Array:
    """Distance min_j |x_q - y_j| of each point from the nearest of a cloud.

    Parameters
    ----------
    points, cloud : ndarray (Q, d), (N, d)
        The points x and the cloud y.
    method : {"auto", "tree", "product"}, optional
        ``auto`` takes the tree up to 6 dimensions.

    Returns
    -------
    ndarray (Q,)
        ``product`` picks the neighbour by |x|**2 + |y|**2 - 2 x.y and then takes the true distance from it, so that
        the result is exact for a point that is nearest up to a relative 1e-16 of |x|**2 + |y|**2.

    Raises
    ------
    InputError
        If there are no points, an empty cloud, or other numbers of columns.
    """
    if points.ndim != 2 or cloud.ndim != 2 or points.shape[1] != cloud.shape[1] or not points.size or not cloud.size:
        raise InputError(f"points, cloud: expected shapes (Q, d) and (N, d), got {points.shape} and {cloud.shape}")
    if _tree(method, cloud):
        return np.asarray(cKDTree(cloud).query(points)[0])
    centre = cloud.mean(axis=0)  # small norms lose least in the difference below
    points, cloud = points - centre, cloud - centre
    half, which = 0.5 * np.einsum("nd,nd->n", cloud, cloud), np.empty(len(points), np.int64)
    for rows in _blocks(len(points), len(cloud)):
        score = points[rows] @ cloud.T
        score -= half  # the largest x.y - |y|**2/2 is the nearest
        which[rows] = score.argmax(axis=1)
    return _apart(points, cloud[which])


def smallest_gap(cloud: Array, method: str = "auto") -> float:
    """Separation min_(i != j) |x_i - x_j| of a cloud (N, d), N >= 2; ``method`` as for :func:`nearest`.

    Raises
    ------
    InputError
        If there are fewer than two points.
    """
    if cloud.ndim != 2 or len(cloud) < 2 or not cloud.size:
        raise InputError(f"cloud: expected at least two points in rows, got shape {cloud.shape}")
    if _tree(method, cloud):
        return float(cKDTree(cloud).query(cloud, k=2)[0][:, 1].min())
    cloud = cloud - cloud.mean(axis=0)
    half, which = 0.5 * np.einsum("nd,nd->n", cloud, cloud), np.empty(len(cloud), np.int64)
    for rows in _blocks(len(cloud), len(cloud)):
        score = cloud[rows] @ cloud.T
        score -= half
        score[np.arange(len(score)), np.arange(len(cloud))[rows]] = -np.inf  # not itself
        which[rows] = score.argmax(axis=1)
    return float(_apart(cloud, cloud[which]).min())


def neighbour(cloud: Array, k: int) -> Array:
    """Distance of each point of a cloud (N, d) from its k-th nearest other point, (N,); N > k, low dimension."""
    return np.asarray(cKDTree(cloud).query(cloud, k=k + 1)[0][:, k])


def _tree(method: str, cloud: Array) -> bool:
    if method not in ("auto", "tree", "product"):
        raise InputError(f"method: expected auto, tree or product, got {method!r}")
    return method == "tree" or (method == "auto" and cloud.shape[1] <= _TREE)


def _blocks(points: int, cloud: int) -> list[slice]:
    step = max(1, _BLOCK // cloud)
    return [slice(low, low + step) for low in range(0, points, step)]


def _apart(x: Array, y: Array) -> Array:
    difference = x - y
    return np.asarray(np.sqrt(np.einsum("qd,qd->q", difference, difference)))
