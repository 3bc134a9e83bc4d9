"""Sard proxy: critical values of dE/drho(., t0) on a sphere, by many starts of descent and ascent.

Ding, Chen, Li and Wright (arXiv:2110.02926), Theorem 6.1, assume that the regular values of dE/drho(., t0) on the
sphere are dense. Minima and maxima are found here and saddles are not, so isolated values speak for it and prove
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from wgflow.base import rng
from wgflow.base.errors import InputError, describe
from wgflow.base.types import Array, Index
from wgflow.base.validate import real, whole
from wgflow.energy import Energy
from wgflow.model.particles import Particles
from wgflow.theory.assumption import DING, Assumption

Field: TypeAlias = Callable[[Array], tuple[Array, Array]]  # points (Q, P) -> values (Q,), gradients (Q, P)

_FLAT = 1e-6  # of the gradients at the starts: what counts as critical
_SAME = 1e-6  # of the largest value: critical values nearer than this are one


class Critical(NamedTuple):
    """Critical values of a function on the unit sphere.

    Attributes
    ----------
    value : ndarray (V,)
        Distinct values found, increasing.
    times : ndarray (V,), int64
        Starts that ended at each.
    starts : int
        Starts in all.
    """

    value: Array
    times: Index
    starts: int


def critical_values(field: Field, starts: Array, iterations: int = 120) -> Critical:
    """Descend from the first half of the starts and ascend from the rest, and gather the values where they end.

    Parameters
    ----------
    field : callable
        Values and gradients of g at points of the unit sphere, many at a time.
    starts : ndarray (S, P)
        Points other than 0, scaled to the sphere.
    iterations : int, optional
        Calls of ``field``, >= 1, with all points in each.

    Returns
    -------
    Critical
        Only of starts whose tangential gradient fell to 10**-6 of its median at the start.
    """
    sign = np.where(np.arange(len(starts)) < (len(starts) + 1) // 2, 1.0, -1.0)
    points = starts / np.linalg.norm(starts, axis=1, keepdims=True)
    points, value, slope, unit = _descend(field, points, sign, iterations)
    size = np.linalg.norm(slope, axis=1)
    ended = np.sort((sign * value)[size <= _FLAT * unit])
    if not ended.size:
        return Critical(np.empty(0), np.empty(0, np.int64), len(starts))
    cut = np.flatnonzero(np.diff(ended) > _SAME * np.abs(ended).max()) + 1
    groups = np.split(ended, cut)
    return Critical(np.array([group.mean() for group in groups]), np.array([len(group) for group in groups]), len(sign))


def sard(
    energy: Energy, rho: Particles, t0: float = 0.5, starts: int = 48, seed: int = 0, iterations: int = 120
) -> Assumption:
    """Whether the critical values of dE/drho(., t0) on the unit sphere look isolated.

    Parameters
    ----------
    energy : Energy
        E.
    rho : Particles
        The measure.
    t0 : float, optional
        Depth in [0, 1].
    starts, seed, iterations : int, optional
        Random starts, >= 2, half of them of descent; their seed; calls of the first variation.

    Returns
    -------
    Assumption
        ``number`` counts the distinct values found. ``pass`` if most starts converged and most of those ended at a
        value that another start found too; else ``unknown``, as for activations with kinks, where gradients jump. It
        never fails: no computation shows values to fill an interval.
    """
    starts = whole("starts", starts, least=2)
    if not 0 <= real("t0", t0) <= 1:
        raise InputError(f"t0: expected a depth in [0, 1], got {describe(t0)}")

    def field(theta: Array) -> tuple[Array, Array]:
        value, slope, _ = energy.first_variation_gradient(rho, theta, np.full(len(theta), t0))
        return value, slope

    found = critical_values(field, rng.normal(seed, "sard", (starts, rho.theta.shape[1])), iterations)
    converged, again = int(found.times.sum()), int(found.times[found.times > 1].sum())
    good = 2 * converged > starts and 2 * again > converged
    said = (
        f"At t0 = {t0:g}, {converged} of {starts} starts of descent and ascent on |theta| = 1 converged, to "
        f"{len(found.value)} distinct values; {again} ended at a value found more than once. "
        f"{'The values look isolated' if good else 'Too few agree to say more'}; saddles are not looked for."
    )
    source = f"{DING}, Theorem 6.1, Sard-type regularity"
    return Assumption("isolated critical values", "pass" if good else "unknown", float(len(found.value)), said, source)


def _descend(field: Field, points: Array, sign: Array, calls: int) -> tuple[Array, Array, Array, float]:
    """BFGS on the sphere for every row of points at once, each with its own inverse Hessian and step.

    Returns the points, sign * g there, its tangential gradients, and the median size of those at the start.
    """
    rows, width = points.shape

    def look(at: Array) -> tuple[Array, Array]:
        value, slope = field(at)
        slope = sign[:, None] * slope
        return sign * value, slope - np.einsum("sp,sp->s", slope, at)[:, None] * at

    value, slope = look(points)
    unit = float(np.median(np.linalg.norm(slope, axis=1)))
    inverse, fresh = np.empty((rows, width, width)), np.ones(rows, bool)
    step = np.ones(rows)
    for _ in range(calls - 1):
        size = np.linalg.norm(slope, axis=1)
        inverse[fresh] = np.eye(width) * (0.3 / np.maximum(size[fresh], 1e-300))[:, None, None]  # a first step of 0.3
        move = -np.einsum("spq,sq->sp", inverse, slope)
        move -= np.einsum("sp,sp->s", move, points)[:, None] * points
        move *= np.minimum(1.0, 0.5 / np.maximum(np.linalg.norm(move, axis=1), 1e-300))[:, None]
        downhill = np.einsum("sp,sp->s", move, slope)
        resting = size <= 1e-3 * _FLAT * unit  # further steps would be rounding
        if resting.all():
            break
        trial = points + step[:, None] * move
        trial /= np.linalg.norm(trial, axis=1, keepdims=True)
        there, gradient = look(trial)
        rounding = 1e-14 * np.abs(value)
        better = ~resting & (there <= value + 1e-4 * step * downhill + rounding)
        _update(inverse, trial - points, gradient - slope, better)
        points, slope = np.where(better[:, None], trial, points), np.where(better[:, None], gradient, slope)
        value = np.where(better, there, value)
        fresh = ~better & ~resting & ((step < 1e-6) | (downhill >= 0))
        step = np.where(better | fresh, 1.0, 0.4 * step)
    return points, value, slope, unit


def _update(inverse: Array, s: Array, y: Array, where: Array) -> None:
    """BFGS update of the inverse Hessians, (S, P, P), in place, where the curvature s.y is positive."""
    curvature = np.einsum("sp,sp->s", s, y)
    use = where & (curvature > 1e-12 * np.linalg.norm(s, axis=1) * np.linalg.norm(y, axis=1))
    s, y, h = s[use], y[use], inverse[use]
    inverted = 1.0 / curvature[use]
    hy = np.einsum("spq,sq->sp", h, y)
    factor = inverted * (1.0 + inverted * np.einsum("sp,sp->s", y, hy))
    cross = inverted[:, None, None] * hy[:, :, None] * s[:, None, :]
    inverse[use] = h + factor[:, None, None] * s[:, :, None] * s[:, None, :] - cross - cross.swapaxes(1, 2)
