"""Lipschitz continuity in depth of the law of the blocks, ||rho(., t) - rho(., t')||_BL <= C |t - t'|.

The law of a finite network is a step function of depth, so the assumption of Lu, Ma, Lu, Lu and Ying
(arXiv:2003.05508) is one on its limit. Of that limit N blocks bound C from below, with an error rate: if rho is
Lipschitz, the mean laws of neighbouring slices of depth 1/J are C/J apart at most (derived: the difference of the means
is the mean over a slice of rho(., t + 1/J) - rho(., t)). Nothing bounds C from above, so that nothing here proves it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wgflow.base import rng
from wgflow.base.errors import InputError
from wgflow.base.types import Array, Index
from wgflow.base.validate import real
from wgflow.energy import Energy
from wgflow.model.depth import Gaps, Intervals, Layers, Shallow
from wgflow.model.particles import Particles
from wgflow.theory.assumption import LU, Assumption, Condition, Finding, listed, verdict_of
from wgflow.theory.distances import bounded_lipschitz

_FEWEST, _MOST = 8, 200  # blocks of a slice: fewer end the refinement, more are left out of the distances
_FINEST = 32  # slices
_DIRECTIONS = 32  # random ones, in which a test function is sought
_WHOLE = 1e-9  # difference of a slice's mass from that of a full one due to rounding


class Refinement(NamedTuple):
    """Difference quotients between the laws in neighbouring slices of depth, the depth cut into ever more slices.

    Attributes
    ----------
    slices : ndarray (n,), int64
        J = 2, 4, ..., 32, as long as each slice holds 8 blocks.
    quotient : ndarray (n,)
        Largest bounded-Lipschitz distance between two neighbours, from up to 200 blocks of each, over the difference
        1/J of their depths; it includes what finitely many blocks of one law differ by, so it is no bound of C. NaN if
        it takes a package that is missing.
    permuted : ndarray (n,)
        The same of the same blocks at permuted depths: that part alone.
    least : ndarray (n,)
        Lower bound of C, >= 0. All of them hold together with probability 1 - error for independent blocks, or for
        independent paths under Layers.
    """

    slices: Index
    quotient: Array
    permuted: Array
    least: Array


def lipschitz(
    energy: Energy, rho: Particles, bound: float | None = None, seed: int = 0, error: float = 0.05
) -> Assumption:
    """Lipschitz continuity in depth: C bounded from below, and compared with a bound if one is given.

    Parameters
    ----------
    energy, rho : Energy, Particles
        The measure and its depth scheme.
    bound : float, optional
        A value of C >= 0 to refute; any finite value is possible without one.
    seed : int, optional
        Seed of the test functions and permutations.
    error : float, optional
        Error rate of the lower bound, 0 < error < 1.

    Returns
    -------
    Assumption
        ``number`` is the lower bound of C.
    """
    result = partial(Assumption, "Lipschitz in depth", source=f"{LU}, assumption of Lipschitz continuity in depth")
    if bound is not None:
        bound = real("bound", bound, least=0.0)
    if isinstance(energy.depth, Shallow):
        proved = Condition("C = 0", "proved", "the shallow model has no depth")
        return result("pass", 0.0, listed([proved]), conditions=(proved,))
    found = refinement(energy, rho, error, seed)
    least = float(found.least.max(initial=0.0))
    at_least = f"C >= {least:.4g} at an error rate of {100 * error:g}% if blocks are independent"
    limit = Condition("a finite C", "not checked", f"{at_least}; no finite network bounds it from above")
    conditions = [limit]
    if bound is not None:
        held: Finding = "refuted" if least > bound else "not checked"
        conditions.append(Condition(f"C <= {bound:g}", held, f"{least:.4g} {'>' if least > bound else '<='} {bound:g}"))
    series = [", ".join(f"{value:.3g}" for value in row) for row in (found.quotient, found.permuted)]
    sentence = f"Fewer than {_FEWEST} blocks in a half of depth. "
    if len(found.slices):
        sentence = (
            f"Bounded-Lipschitz distances of neighbours among {', '.join(map(str, found.slices))} slices, over their "
            f"differences in depth, are at most {series[0]}, those of the same blocks at permuted depths {series[1]}. "
        )
    return result(verdict_of(conditions), least, sentence + listed(conditions), conditions=tuple(conditions))


def refinement(energy: Energy, rho: Particles, error: float = 0.05, seed: int = 0) -> Refinement:
    """Distances of neighbouring slices, and lower bounds of C; see :class:`Refinement`.

    Raises
    ------
    InputError
        If the error rate is out of range or the measure does not fit the energy.
    """
    if not 0 < real("error", error) < 1:
        raise InputError(f"error: expected an error rate 0 < error < 1, got {error}")
    parts, slices = list[Array](), 2
    while (
        slices <= _FINEST
        and (part := _parts(energy, rho, slices)).size
        and np.count_nonzero(part, axis=1).min() >= _FEWEST
    ):
        parts.append(part)
        slices *= 2
    unit, tests = _units(energy, rho), sum(len(part) - 1 for part in parts)
    half = rng.uniform(seed, "halves for depth", (int(unit.max()) + 1, 1))[unit, 0] < 0.5
    count, width = rho.theta.shape
    along = rng.normal(seed, "directions for depth", (_DIRECTIONS, width))
    along = np.concatenate([along / np.linalg.norm(along, axis=1, keepdims=True), np.eye(width)])
    some, shuffled = np.argsort(rng.uniform(seed, "permuted depths", (count, 2)), axis=0).T
    quotient, permuted, least = (np.zeros(len(parts)) for _ in range(3))
    for n, part in enumerate(parts):
        quotient[n] = len(part) * max(_distances(rho.theta, part, some))
        permuted[n] = len(part) * max(_distances(rho.theta[shuffled], part, some))
        full = np.abs(part.sum(axis=1) * len(part) / part.sum() - 1).max() < _WHOLE
        reach = (1.0 if full else 2.0) / len(part)  # largest difference of depth, on average
        for a, b in pairwise(part):
            row = np.flatnonzero(a + b)
            pair = (a[row], b[row], half[row], unit[row])
            least[n] = max(least[n], _apart(rho.theta[row] @ along.T, *pair, math.log(tests / error)) / reach)
    return Refinement(2 ** np.arange(1, len(parts) + 1), quotient, permuted, least)


def _parts(energy: Energy, rho: Particles, slices: int) -> Array:
    """Mass of each block in each slice, (J, N): under Gaps and Intervals the part of its interval in it."""
    edges = np.arange(slices + 1)[:, None] / slices
    if isinstance(energy.depth, Gaps):
        net = energy.network(rho)
        upper, lower = rho.tau, np.empty(len(rho))
        lower[net.particle] = rho.tau[net.particle] - net.weight
        lengths: Array = np.minimum(upper, edges[1:]) - np.maximum(lower, edges[:-1])
        return np.clip(lengths, 0.0, None)
    if isinstance(energy.depth, Intervals):
        start, width = energy.depth.ends(rho)
        part = np.clip((edges - start) / np.where(width > 0, width, 1.0), 0.0, 1.0)
        above = np.where(width > 0, part, start < edges)  # share of each block above an edge
        above[-1] = 1.0
        return np.asarray(rho.mass * np.diff(above, axis=0))
    place = np.minimum((rho.tau * slices).astype(np.int64), slices - 1)
    return np.where(place == np.arange(slices)[:, None], rho.mass, 0.0)


def _units(energy: Energy, rho: Particles) -> Index:
    """Numbers of what is independent, (N,): blocks, or under Layers paths, the m-th blocks of all layers."""
    if not isinstance(energy.depth, Layers):
        return np.arange(len(rho))
    layer = energy.depth.sample(rho, rho.tau).layer[:, 0]
    unit = np.empty(len(rho), np.int64)
    for k in range(energy.depth.layers):
        own = layer == k
        unit[own] = np.arange(np.count_nonzero(own))
    return unit


def _distances(theta: Array, part: Array, order: Index) -> Iterator[float]:
    """Distances of neighbouring slices, from the first blocks of each in an order."""
    for a, b in pairwise(part):
        i, j = (order[mass[order] > 0][:_MOST] for mass in (a, b))
        try:
            yield bounded_lipschitz(theta[i], theta[j], a[i], b[j])
        except InputError:  # unequal masses without POT
            yield math.nan


def _apart(along: Array, a: Array, b: Array, half: NDArray[np.bool_], unit: Index, log: float) -> float:
    """Lower bound of the distance of two slices, >= 0: a test function of one half on the other, less its error.

    The function is one of theta along a direction: ``along`` (N, n) has theta along several.

    Hoeffding's inequality: with |f| <= 1 a unit adds at most w_u = sum of its masses in both slices, up or down, and
    the error is beyond sqrt(2 log sum_u w_u**2) with probability exp(-log).
    """
    train, held = ((a * side, b * side) for side in (half, ~half))
    if min(weight.sum() for weight in (*train, *held)) <= 0:
        return 0.0
    (a, b), (c, d) = ((x / x.sum(), y / y.sum()) for x, y in (train, held))
    functions = [_witness(z, a, b) for z in along.T]
    best = functions[int(np.argmax([(a - b) @ f for f in functions]))]
    spread = np.bincount(unit, c + d)
    return max(0.0, float((c - d) @ best) - math.sqrt(2 * log * float(spread @ spread)))


def _witness(z: Array, a: Array, b: Array) -> Array:
    """Values of a function with |f| <= 1 and Lipschitz constant 1 on the line with a large integral against a - b.

    The potential of W1, whose slope is the sign of F_b - F_a, about its middle value, cut to [-1, 1].
    """
    order = np.argsort(z)
    behind = np.cumsum((b - a)[order])[:-1]
    seen = (a + b)[order] > 0
    potential = np.append(0.0, np.cumsum(np.sign(behind) * np.diff(z[order])))
    f = np.empty(len(z))
    f[order] = np.clip(potential - np.median(potential[seen]), -1.0, 1.0)
    return f
