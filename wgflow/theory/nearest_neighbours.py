"""Distances to nearest neighbours, by a tree in low dimension and by matrix products in high dimension."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from wgflow.base.errors import InputError
from wgflow.base.scaling import comparable
from wgflow.base.types import Array
from wgflow.base.validate import refuse_masked

_TREE = 6  # dimensions up to which a tree beats the products at N = 1000, Q = 2000
_BLOCK = 2**20  # distances in memory at once


def nearest_distances(points: Array, sample: Array, method: str = "auto") -> Array:
    """Distance min_j |x_q - y_j| of each point from its nearest neighbour in a sample.

    Parameters
    ----------
    points, sample : ndarray (Q, d), (N, d)
        The points x and the sample y.
    method : {"auto", "tree", "product"}, optional
        ``auto`` takes the tree up to 6 dimensions.

    Returns
    -------
    ndarray (Q,)
        ``product`` picks the neighbour by |x|**2 + |y|**2 - 2 x.y and then computes its distance directly, so that
        the result is exact for a point that is nearest up to a relative 1e-16 of |x|**2 + |y|**2.

    Raises
    ------
    InputError
        If there are no points, the sample is empty, numbers of columns differ, or entries are masked.
    """
    refuse_masked("points", points)
    refuse_masked("sample", sample)
    if points.ndim != 2 or sample.ndim != 2 or points.shape[1] != sample.shape[1] or not points.size or not sample.size:
        raise InputError(f"points, sample: expected shapes (Q, d) and (N, d), got {points.shape} and {sample.shape}")
    (sample, points), size = comparable(sample, points)
    if _uses_tree(method, sample):  # of distinct points: it cannot separate equal ones, and a search visits all of them
        return np.asarray(size * cKDTree(np.unique(sample, axis=0)).query(points)[0])
    centre = sample.mean(axis=0)
    return size * _by_products(points - centre, sample - centre)


def smallest_distance(sample: Array, method: str = "auto") -> float:
    """Smallest distance min_(i != j) |x_i - x_j| in a sample (N, d), N >= 2; see :func:`nearest_distances`.

    Raises
    ------
    InputError
        If there are fewer than two points, or entries are masked.
    """
    refuse_masked("sample", sample)
    if sample.ndim != 2 or len(sample) < 2 or not sample.size:
        raise InputError(f"sample: expected at least two points in rows, got shape {sample.shape}")
    if len(np.unique(sample, axis=0)) < len(sample):
        return 0.0
    (sample,), size = comparable(sample)
    if _uses_tree(method, sample):
        return size * float(cKDTree(sample).query(sample, k=2)[0][:, 1].min())
    sample = sample - sample.mean(axis=0)
    return size * float(_by_products(sample, sample, others=True).min())


def _uses_tree(method: str, sample: Array) -> bool:
    if method not in ("auto", "tree", "product"):
        raise InputError(f"method: expected auto, tree or product, got {method!r}")
    return method == "tree" or (method == "auto" and sample.shape[1] <= _TREE)


def _by_products(points: Array, sample: Array, others: bool = False) -> Array:
    """Distances to the nearest point of a sample about 0, small norms losing least; or to the nearest *other* point."""
    half, nearest = 0.5 * np.einsum("nd,nd->n", sample, sample), np.empty(len(points), np.int64)
    step = max(1, _BLOCK // len(sample))
    for low in range(0, len(points), step):
        score = points[low : low + step] @ sample.T
        score -= half  # the largest x.y - |y|**2/2 is the nearest
        if others:
            score[np.arange(len(score)), low + np.arange(len(score))] = -np.inf
        nearest[low : low + step] = score.argmax(axis=1)
    difference = points - sample[nearest]
    return np.asarray(np.sqrt(np.einsum("qd,qd->q", difference, difference)))
