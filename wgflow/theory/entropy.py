"""Entropy and cell occupancy of particles on named projections to one, two or three dimensions.

In more dimensions neither says anything about N = 1000 points: coverage (:mod:`wgflow.theory.support`) does. All
particles count alike here: of a measure with unequal masses both describe where its particles are, not its density.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import digamma, gammaln

from wgflow.base.errors import InputError, describe
from wgflow.base.types import Array
from wgflow.base.validate import finite_array, whole
from wgflow.model import projections
from wgflow.theory.nearest_neighbours import neighbour
from wgflow.theory.reference import Beside, Law, beside, draws

_DIMENSIONS = 3
_MANY = 20_000  # draws behind a law's quantiles


def project(theta: Array, tau: Array, axes: Sequence[str], leading: Array | None = None) -> Array:
    """Particles on named axes, (N, A).

    Parameters
    ----------
    theta, tau : ndarray (N, P), (N,)
        The particles.
    axes : sequence of str
        One to three of ``"tau"``, a component of theta from ``"0"``, ``"pc1"``, ``"pc2"``.
    leading : ndarray (P, 3), optional
        What pc1 to pc3 mean, e.g. :func:`wgflow.model.projections.principal` of a trajectory; by default of theta
        itself.

    Raises
    ------
    InputError
        If there are none or more than three axes, or one is unknown.
    """
    if isinstance(axes, str) or not 1 <= len(axes) <= _DIMENSIONS:
        raise InputError(f"axes: expected one to three names of axes, got {describe(axes)}; more say nothing here")
    theta, tau = finite_array("theta", theta, 2), finite_array("tau", tau, 1)
    onto = projections.directions(
        axes, theta.shape[1], lambda: projections.principal([theta]) if leading is None else leading
    )
    return np.asarray(np.column_stack([theta, tau]) @ onto)


def entropy(points: Array, k: int = 3) -> float:
    """Differential entropy from k-th nearest neighbours, H = psi(N) - psi(k) + log V_d + (d/N) sum_i log r_i.

    r_i is the distance of point i from its k-th neighbour, V_d the volume of the unit ball. Kozachenko and Leonenko
    (1987); Kraskov, Stoegbauer and Grassberger (2004), eq. (20).

    Parameters
    ----------
    points : ndarray (N, d)
        N > k points in 1 to 3 dimensions.
    k : int, optional
        >= 1; more neighbours vary less and are biased more.

    Returns
    -------
    float
        In nats; -inf if a point has k others at its place, since then there is no density.

    Raises
    ------
    InputError
        If d is not 1, 2 or 3, or there are too few points.
    """
    points = finite_array("points", points, 2)
    count, dimensions = points.shape
    if whole("k", k) >= count or dimensions > _DIMENSIONS:
        raise InputError(f"points: expected more than k = {k} points in 1 to 3 dimensions, got shape {points.shape}")
    radius = neighbour(points, k)
    if not (radius > 0).all():
        return -np.inf
    volume = dimensions / 2 * np.log(np.pi) - gammaln(dimensions / 2 + 1)
    return float(digamma(count) - digamma(k) + volume + dimensions * np.log(radius).mean())


def projected_entropy(
    theta: Array,
    tau: Array,
    law: Law,
    axes: Sequence[str],
    k: int = 3,
    clouds: int = 8,
    seed: int = 0,
    leading: Array | None = None,
) -> Beside:
    """:func:`entropy` of particles on named axes beside that of N iid draws from a law on the same axes.

    Arguments as for :func:`project`, :func:`entropy` and :class:`wgflow.theory.support.Yardstick`; raises InputError
    likewise.
    """
    leading = _leading(theta, axes, leading)
    value = entropy(project(theta, tau, axes, leading), k)
    iid = [entropy(project(*cloud, axes, leading), k) for cloud in draws(law, len(theta), seed, _two(clouds))]
    return beside(value, iid)


def occupancy(
    theta: Array,
    tau: Array,
    law: Law,
    axes: Sequence[str],
    cells: int | None = None,
    clouds: int = 8,
    seed: int = 0,
    leading: Array | None = None,
) -> Beside:
    """Fraction of cells of a projection that hold a particle, beside that of N iid draws from a law.

    An axis is cut at the law's quantiles into ``cells`` parts, the outer two unbounded. If the law's projections are
    independent, all C = cells**A cells are equally likely and N iid draws fill 1 - (1 - 1/C)**N of them on average.

    Parameters
    ----------
    theta, tau, law, axes, leading
        As for :func:`projected_entropy`.
    cells : int, optional
        Parts of an axis, >= 2; by default about one cell for two particles.
    clouds, seed : int, optional
        Clouds of iid draws, >= 2, and their seed.

    Raises
    ------
    InputError
        If a number is out of range, or the law puts several quantiles of an axis at one place.
    """
    leading = _leading(theta, axes, leading)
    points = project(theta, tau, axes, leading)
    count, dimensions = points.shape
    if cells is None:
        cells = max(2, int((count / 2) ** (1 / dimensions)))
    cells = whole("cells", cells, least=2)
    many = project(*draws(law, _MANY, seed, 1, "quantiles")[0], axes, leading)
    edges = np.quantile(many, np.arange(1, cells) / cells, axis=0)  # (cells - 1, A)
    if (np.diff(edges, axis=0) <= 0).any():
        raise InputError(f"law: expected one that spreads over the axes {', '.join(axes)}, got atoms there")
    iid = [_filled(project(*cloud, axes, leading), edges) for cloud in draws(law, count, seed, _two(clouds))]
    return beside(_filled(points, edges), iid)


def _filled(points: Array, edges: Array) -> float:
    """Fraction of the cells between edges (cells - 1, A) that hold one of the points (N, A)."""
    cells, dimensions = len(edges) + 1, points.shape[1]
    place = np.zeros(len(points), np.int64)
    for axis in range(dimensions):
        place = place * cells + np.searchsorted(edges[:, axis], points[:, axis], side="right")
    return float(len(np.unique(place)) / cells**dimensions)


def _leading(theta: Array, axes: Sequence[str], leading: Array | None) -> Array | None:
    """Principal axes of the particles, which the iid draws are then seen along as well."""
    if leading is None and any(axis.startswith("pc") for axis in axes):
        return projections.principal([finite_array("theta", theta, 2)])
    return leading


def _two(clouds: int) -> int:
    return whole("clouds", clouds, least=2)
