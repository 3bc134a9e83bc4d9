"""Nearest neighbours among particles, by a tree in low dimension and by matrix products in high dimension."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from wgflow.base.errors import InputError
from wgflow.base.scaling import comparable
from wgflow.base.types import Array, Index
from wgflow.base.validate import refuse_masked

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
        If there are no points, an empty cloud, other numbers of columns, or masked entries.
    """
    refuse_masked("points", points)
    refuse_masked("cloud", cloud)
    if points.ndim != 2 or cloud.ndim != 2 or points.shape[1] != cloud.shape[1] or not points.size or not cloud.size:
        raise InputError(f"points, cloud: expected shapes (Q, d) and (N, d), got {points.shape} and {cloud.shape}")
    (cloud, points), size = comparable(cloud, points)
    if _tree(method, cloud):
        return np.asarray(size * cKDTree(_distinct(cloud)[0]).query(points)[0])
    centre = cloud.mean(axis=0)  # small norms lose least in the difference below
    points, cloud = points - centre, cloud - centre
    half, which = 0.5 * np.einsum("nd,nd->n", cloud, cloud), np.empty(len(points), np.int64)
    for rows in _blocks(len(points), len(cloud)):
        score = points[rows] @ cloud.T
        score -= half  # the largest x.y - |y|**2/2 is the nearest
        which[rows] = score.argmax(axis=1)
    return size * _apart(points, cloud[which])


def smallest_gap(cloud: Array, method: str = "auto") -> float:
    """Separation min_(i != j) |x_i - x_j| of a cloud (N, d), N >= 2; ``method`` as for :func:`nearest`.

    Raises
    ------
    InputError
        If there are fewer than two points, or masked entries.
    """
    refuse_masked("cloud", cloud)
    if cloud.ndim != 2 or len(cloud) < 2 or not cloud.size:
        raise InputError(f"cloud: expected at least two points in rows, got shape {cloud.shape}")
    if len(_distinct(cloud)[0]) < len(cloud):
        return 0.0
    (cloud,), size = comparable(cloud)
    if _tree(method, cloud):
        return size * float(cKDTree(cloud).query(cloud, k=2)[0][:, 1].min())
    cloud = cloud - cloud.mean(axis=0)
    half, which = 0.5 * np.einsum("nd,nd->n", cloud, cloud), np.empty(len(cloud), np.int64)
    for rows in _blocks(len(cloud), len(cloud)):
        score = cloud[rows] @ cloud.T
        score -= half
        score[np.arange(len(score)), np.arange(len(cloud))[rows]] = -np.inf  # not itself
        which[rows] = score.argmax(axis=1)
    return size * float(_apart(cloud, cloud[which]).min())


def neighbour(cloud: Array, k: int) -> Array:
    """Distance of each point of a cloud (N, d) from its k-th nearest other point, (N,); N > k, low dimension.

    Points at one place are one point of the tree, with their number: a tree cannot part them, and a search among them
    would look at all of them.
    """
    refuse_masked("cloud", cloud)
    (cloud,), size = comparable(cloud)
    places, count, own = _distinct(cloud)
    near = min(k + 1, len(places))
    distance, which = cKDTree(places).query(places, k=list(range(1, near + 1)))
    reached = np.cumsum(count[which], axis=1) > k  # a point and its copies come first, at distance 0
    return np.asarray(size * distance[np.arange(len(places)), reached.argmax(axis=1)][own])


def _distinct(cloud: Array) -> tuple[Array, Index, Index]:
    """Distinct points of a cloud, how many points lie at each, and the number of each point's place, (N,)."""
    order = np.lexsort(cloud.T)
    ordered = cloud[order]
    new = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))
    own = np.empty(len(cloud), np.int64)
    own[order] = np.cumsum(new) - 1
    if new.all():  # in the order they came in
        return cloud, np.ones(len(cloud), np.int64), np.arange(len(cloud))
    return ordered[new], np.bincount(own), own


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
