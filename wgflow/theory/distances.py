"""Distances between measures: Wasserstein-2 exactly and by slices, and depth by depth.

W2^2(mu, nu) = min over couplings pi of int |x - y|**2 pi(dx, dy), between points (theta, scale * tau) or, depth by
depth, between the conditional laws of theta: sup_t W2 is the d1 of Ding, Chen, Li and Wright (arXiv:2110.02926,
Definition 4.1), and sqrt(int_0^1 W2^2 dt) the conditional distance of Barboni, Peyre and Vialard (arXiv:2403.12887).
Their d2, the supremum over flow time too, is in :mod:`wgflow.theory.distances_along_flow`.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import util
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from wgflow.base import rng
from wgflow.base.errors import InputError
from wgflow.base.extras import install
from wgflow.base.registry import unknown
from wgflow.base.scaling import comparable, largest, unit
from wgflow.base.types import Array, Index
from wgflow.base.validate import finite_array, real, whole
from wgflow.model.particles import Particles

METHODS = ("exact", "sliced")
_FEW = 1000  # points a side up to which exact distances are computed in series (0.1 s each)
_MOST = 10_000**2  # pairs of points of an exact distance: costs and coupling take 16 bytes each
_ITERATIONS = 10**9  # of the network simplex, which ends long before
_EQUAL = 1e-9  # relative differences of masses due to rounding
_SINGLE = 1e-6  # and of sums of masses that may have been computed in single precision


class Distance(NamedTuple):
    """Distance, with the method of its computation.

    Attributes
    ----------
    value : float
        The distance.
    method : str
        ``"exact"`` for W2, or ``"sliced"`` for another, smaller distance.
    error : float
        Standard error of the value from the random directions of ``"sliced"``; 0 for W2.
    """

    value: float
    method: str
    error: float


class ByDepth(NamedTuple):
    """Distances between conditional laws of theta in L slices of depth.

    Attributes
    ----------
    slices : ndarray (L,)
        W2, or sliced W2, between the two laws in each slice.
    conditional, largest : float
        sqrt(mean of slices**2), the conditional distance, and d1, the largest.
    method : str
        As in :class:`Distance`, of all slices.
    """

    slices: Array
    conditional: float
    largest: float
    method: str


def distance(
    a: Particles, b: Particles, method: str = "exact", scale: float = 1.0, directions: int = 256, seed: int = 0
) -> Distance:
    """W2 between two measures on Theta x [0, 1], or its mean over slices.

    Parameters
    ----------
    a, b : Particles
        Of equal total mass. Under ``Gaps`` depth is integrated by gaps: pass these as the masses if that is meant. A
        block of ``Intervals`` is a point here, at its tau.
    method : {"exact", "sliced"}, optional
        W2, for up to 10000 points each, by an assignment for equally many equal masses and otherwise by the network
        simplex of POT; or another, smaller distance, at any size. W2**2 is exact to rounding of the largest squared
        distance between points times the total mass.
    scale : float, optional
        Weight of depth: a difference of 1 in depth is this distance in theta, >= 0.
    directions, seed : int, optional
        Random directions of ``sliced``, >= 2, and their seed.

    Raises
    ------
    InputError
        If the measures have other numbers of parameters or other total masses, a name is unknown, a number is out of
        range, or ``exact`` is asked for with more points, or with unequal masses where POT is not installed.
    """
    scale = real("scale", scale, least=0.0)
    if a.theta.shape[1] != b.theta.shape[1]:
        raise InputError(f"a, b: expected equally many parameters, got {a.theta.shape[1]} and {b.theta.shape[1]}")
    points = [np.column_stack([rho.theta, scale * rho.tau]) for rho in (a, b)]
    return between(points[0], points[1], a.mass, b.mass, method, directions, seed)


def between(
    x: Array, y: Array, a: Array, b: Array, method: str = "exact", directions: int = 256, seed: int = 0
) -> Distance:
    """W2 between points x (N, d) and y (N', d) of masses a (N,) and b (N',) >= 0; see :func:`distance`."""
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    x, y, a, b = _measures(x, y, a, b)
    with np.errstate(over="ignore"):  # an infinite sum is refused
        total, other = float(a.sum()), float(b.sum())
    if not (total > 0 and abs(total - other) <= _SINGLE * total):
        raise InputError(f"mass: expected two measures of equal mass > 0, got {total:.9g} and {other:.9g}; rescale one")
    x, y, a, b = x[a > 0], y[b > 0], a[a > 0] / total, b[b > 0] / other
    return _exact(x, y, a, b) if method == "exact" else _sliced(x, y, a, b, directions, seed)


def bounded_lipschitz(x: Array, y: Array, a: Array, b: Array) -> float:
    """Bounded-Lipschitz distance between points x (N, d) and y (N', d) of masses a (N,) and b (N',).

    The supremum of int f d(mu - nu) over |f| <= 1 with Lipschitz constant 1, of measures rescaled to mass 1. By
    Kantorovich's duality it is the least cost of a coupling at cost min(|x - y|, 2).

    Raises
    ------
    InputError
        If shapes do not fit, or masses are unequal and POT is not installed.
    """
    x, y, a, b = _measures(x, y, a, b)
    x, y, a, b = x[a > 0], y[b > 0], a[a > 0] / a.sum(), b[b > 0] / b.sum()
    cost = np.minimum(cdist(x, y), 2.0)
    if _uniform(a, b):
        row, column = linear_sum_assignment(cost)
        return float(cost[row, column].mean())
    row, column, moved = _coupling(cost.copy(), a, b)
    return float(moved @ cost[row, column])


def quick_method(masses: Iterable[Array]) -> str:
    """One method for many distances between measures of these masses, so that all can be compared.

    ``exact`` where that takes no package that is missing, and 0.1 s a distance at most: up to 1000 points each.
    """
    masses = [mass / mass.sum() for mass in masses]
    few = max(map(len, masses)) <= _FEW
    solvable = all(_uniform(masses[0], mass) for mass in masses) or util.find_spec("ot") is not None
    return "exact" if few and solvable else "sliced"


def _sliced(x: Array, y: Array, a: Array, b: Array, directions: int, seed: int) -> Distance:
    """Sliced distance, the root of the mean over unit vectors u of W2^2(u.x, u.y) on the line; at most W2.

    Between N(0, A) and N(0, B) with A = alpha**2 I, B = beta**2 I it is |alpha - beta|, W2 over sqrt(d). Bonneel,
    Rabin, Peyre and Pfister (2015).
    """
    (x, y), size = comparable(x, y)
    onto = rng.normal(seed, "sliced distance", (whole("directions", directions, least=2), x.shape[1]))
    onto /= np.linalg.norm(onto, axis=1, keepdims=True)
    u, v = x @ onto.T, y @ onto.T  # (N, directions)
    if _uniform(a, b):
        gaps = np.sort(u, axis=0) - np.sort(v, axis=0)
        own = float(unit(largest(gaps)))  # measures may differ by far less than they extend
        gaps, size = gaps / own, size * own
        squares = (gaps**2).mean(axis=0)
    else:
        squares = np.array([_on_the_line(u[:, k], v[:, k], a, b) for k in range(directions)])
    value = float(np.sqrt(squares.mean()))
    spread = float(squares.std(ddof=1) / np.sqrt(directions))
    return Distance(size * value, "sliced", size * (spread / (2 * value)) if value else 0.0)


def by_depth(a: Particles, b: Particles, layers: int, method: str = "exact") -> ByDepth:
    """Distances between the conditional laws of theta, slice by slice of depth.

    Under ``Layers(L)`` with ``layers = L`` slices are layers and this is exact; for other measures depth is cut into
    ``layers`` equal slices, within which depth is forgotten.

    Parameters
    ----------
    a, b : Particles
        The measures; in each slice the masses are rescaled to sum 1.
    layers : int
        L >= 1, slice of tau floor(tau L).
    method : {"exact", "sliced"}, optional
        As in :func:`distance`.

    Raises
    ------
    InputError
        If a slice of one of them has no mass, or as for :func:`distance`.
    """
    layers = whole("layers", layers)
    if a.theta.shape[1] != b.theta.shape[1]:
        raise InputError(f"a, b: expected equally many parameters, got {a.theta.shape[1]} and {b.theta.shape[1]}")
    parts = [conditionals(rho, layers) for rho in (a, b)]
    values = np.array(
        [
            between(rho.theta[i], nu.theta[j], p, q, method).value
            for rho, nu, (i, p), (j, q) in ((a, b, *pair) for pair in zip(*parts, strict=True))
        ]
    )
    size = float(unit(values.max()))
    conditional = size * float(np.sqrt(((values / size) ** 2).mean()))
    return ByDepth(values, conditional, float(values.max()), method)


def slices(rho: Particles, layers: int) -> tuple[Index, Array]:
    """Slice floor(tau L) of each particle (N,), and mass of each of the L slices of depth (L,)."""
    place = np.clip((rho.tau * layers).astype(np.int64), 0, layers - 1)
    return place, np.bincount(place, rho.mass, minlength=layers).astype(np.float64)


def conditionals(rho: Particles, layers: int) -> list[tuple[Index, Array]]:
    """Particles of each of L slices of depth and their masses, rescaled to sum 1; InputError if a slice has none."""
    place, mass = slices(rho, layers)
    if not mass.all():
        raise InputError(
            f"layers: expected mass in each of {layers} slices of depth, got none in slice {int(np.argmin(mass))} "
            f"({np.count_nonzero(mass == 0)} empty); use fewer slices"
        )
    rows = [np.flatnonzero(place == k) for k in range(layers)]
    return [(row, rho.mass[row] / mass[k]) for k, row in enumerate(rows)]


def _measures(x: Array, y: Array, a: Array, b: Array) -> tuple[Array, Array, Array, Array]:
    """Points and masses of two measures, checked: equally many masses and points, equal dimensions, masses >= 0."""
    x, y = finite_array("x", x, 2), finite_array("y", y, 2)
    a, b = finite_array("mass of x", a, 1), finite_array("mass of y", b, 1)
    if x.shape[1] != y.shape[1]:
        raise InputError(f"x, y: expected points with equally many columns, got {x.shape[1]} and {y.shape[1]}")
    for name, points, mass in (("x", x, a), ("y", y, b)):
        if len(mass) != len(points):
            raise InputError(f"mass of {name}: expected one for each of {len(points)} points, got {len(mass)}")
        if (mass < 0).any():
            where = int(np.argmax(mass < 0))
            raise InputError(f"mass of {name}: expected weights >= 0, got {mass[where]} for point {where}")
    return x, y, a, b


def _uniform(a: Array, b: Array) -> bool:
    """Whether all masses are equal and equally many, so that an optimal coupling is a permutation (Birkhoff)."""
    return len(a) == len(b) and bool(np.allclose(np.append(a, b), 1 / len(a), rtol=_EQUAL, atol=0.0))


def _exact(x: Array, y: Array, a: Array, b: Array) -> Distance:
    """W2 from an optimal coupling; InputError where that cannot be had."""
    if len(a) * len(b) > _MOST:
        raise InputError(
            f"method: expected at most {_MOST:.0e} pairs of points for exact, got {len(a)} times {len(b)}; take fewer "
            f"points, or sliced, another distance"
        )
    (x, y), size = comparable(x, y)
    cost = cdist(x, y, "sqeuclidean")
    if _uniform(a, b):
        row, column = linear_sum_assignment(cost)
        moved = np.full(len(row), 1 / len(row))
    else:
        row, column, moved = _coupling(cost, a, b)
    gaps = x[row] - y[column]
    own = float(unit(largest(gaps)))  # squares of far smaller gaps than the points' extent underflow in the costs
    return Distance(size * own * float(np.sqrt(moved @ ((gaps / own) ** 2).sum(axis=1))), "exact", 0.0)


def _coupling(cost: Array, a: Array, b: Array) -> tuple[Index, Index, Array]:
    """Rows, columns and masses of an optimal coupling, computed by the network simplex method."""
    try:
        import ot
    except ImportError as error:
        raise InputError(
            f"method: expected POT for exact between unequal masses, got no such package; {install('ot')}, or take "
            f"sliced, another distance"
        ) from error
    cost /= cost.max() or 1.0  # the solver starts from costs above 1
    coupling, log = ot.emd(a, b, cost, numItermax=_ITERATIONS, log=True)
    if log["warning"] is not None:
        raise InputError(f"method: expected masses that can be coupled exactly, got {log['warning']!r}; take sliced")
    row, column = np.nonzero(coupling)
    return row, column, coupling[row, column]


def _on_the_line(u: Array, v: Array, a: Array, b: Array) -> float:
    """W2^2 on the line: quantiles are coupled, piecewise constant between the jumps of either."""
    first, second = np.argsort(u), np.argsort(v)
    up, down = np.cumsum(a[first]), np.cumsum(b[second])
    levels = np.sort(np.concatenate([up, down]))
    width = np.diff(levels, prepend=0.0)
    middle = levels - 0.5 * width
    i = np.minimum(np.searchsorted(up, middle), len(u) - 1)
    j = np.minimum(np.searchsorted(down, middle), len(v) - 1)
    return float(width @ (u[first][i] - v[second][j]) ** 2)
