"""Critical values of dE/drho(., t0) on a sphere, by descent and ascent from many starts: a proxy for Sard's condition.

Ding, Chen, Li and Wright (arXiv:2110.02926), Theorem 6.1, assume that the regular values of dE/drho(., t0) on the
sphere are dense. Minima and maxima are found here but no saddles, so isolated values support the assumption and prove
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
from wgflow.base.verdict import Claim
from wgflow.energy import Energy
from wgflow.model.blocks import BLOCKS
from wgflow.model.particles import Particles
from wgflow.model.regularisers import REGULARISERS
from wgflow.theory.assumption import DING, Assumption, Condition, listed, verdict_of
from wgflow.theory.regularity_classes import regularity_class

Field: TypeAlias = Callable[[Array], tuple[Array, Array]]  # points (Q, P) -> values (Q,), gradients (Q, P)

_FLAT = 1e-6  # points with a gradient below this fraction of those at the starts are critical
AGREE = Claim(
    "critical_values_agree", "starts that ended at a value found more than once", ">", "half of those that converged",
    holds="The values found look isolated, which proves nothing",
    fails="Too few starts agree to say more",
    unknown="Most starts did not converge",
)  # fmt: skip
_SAME = 1e-6  # critical values nearer than this fraction of the largest are equal


class Extrema(NamedTuple):
    """Local minima and maxima of a function on the unit sphere.

    Attributes
    ----------
    value, number : ndarray (V,)
        Distinct values found, increasing, and the number of starts that ended at each.
    """

    value: Array
    number: Index


def extrema(field: Field, starts: Array, iterations: int = 120) -> Extrema:
    """Local extrema reached by descent from the first half of the starts and by ascent from the rest.

    Parameters
    ----------
    field : callable
        Values and gradients of g at points of the unit sphere, many at a time.
    starts : ndarray (S, P)
        Points other than 0, which are scaled to the sphere.
    iterations : int, optional
        Calls of ``field``, >= 1, with all points in each.

    Returns
    -------
    Extrema
        Only of starts whose tangential gradient fell to 10**-6 of its median at the start.
    """
    sign = np.where(np.arange(len(starts)) < (len(starts) + 1) // 2, 1.0, -1.0)
    points = starts / np.linalg.norm(starts, axis=1, keepdims=True)
    points, value, slope, unit = _descend(field, points, sign, iterations)
    size = np.linalg.norm(slope, axis=1)
    ended = np.sort((sign * value)[size <= _FLAT * unit])
    if not ended.size:
        return Extrema(np.empty(0), np.empty(0, np.int64))
    cut = np.flatnonzero(np.diff(ended) > _SAME * np.abs(ended).max()) + 1
    groups = np.split(ended, cut)
    return Extrema(np.array([group.mean() for group in groups]), np.array([len(group) for group in groups]))


def critical_values(
    energy: Energy, rho: Particles, t0: float = 0.5, starts: int = 48, seed: int = 0, iterations: int = 120
) -> Assumption:
    """Check whether the critical values of dE/drho(., t0) on the unit sphere look isolated.

    Parameters
    ----------
    energy, rho : Energy, Particles
        E and the measure.
    t0 : float, optional
        Depth in [0, 1].
    starts, seed, iterations : int, optional
        Random starts, >= 2, half of them for descent; their seed; calls of the first variation.

    Returns
    -------
    Assumption
        ``number`` counts the distinct values found. ``pass`` in closed form only: an analytic function on the compact
        sphere has finitely many critical values. Otherwise ``unknown``, whatever the search found, since no search
        shows that values are isolated, nor that they fill an interval.
    """
    starts = whole("starts", starts, least=2)
    if not 0 <= real("t0", t0) <= 1:
        raise InputError(f"t0: expected a depth in [0, 1], got {describe(t0)}")

    def field(theta: Array) -> tuple[Array, Array]:
        value, slope, _ = energy.first_variation_gradient(rho, theta, np.full(len(theta), t0))
        return value, slope

    ends = extrema(field, rng.normal(seed, "sard", (starts, rho.theta.shape[1])), iterations)
    converged, shared = int(ends.number.sum()), int(ends.number[ends.number > 1].sum())
    agree = AGREE(shared, 0.5 * converged if 2 * converged > starts else np.nan)
    conditions = (_finitely_many(energy),)
    sentence = (
        f"At t0 = {t0:g}, {converged} of {starts} starts of descent and ascent on |theta| = 1 converged, to "
        f"{len(ends.value)} distinct values. {agree}; saddles are not looked for. {listed(conditions)}"
    )
    source, name = f"{DING}, Theorem 6.1, Sard-type regularity", "isolated critical values"
    return Assumption(name, verdict_of(conditions), float(len(ends.value)), sentence, source, conditions, (agree,))


def _finitely_many(energy: Energy) -> Condition:
    """Finitely many critical values in closed form: dE/drho(., t0) is analytic where block and regulariser are."""
    problem, name = energy.problem, "finitely many critical values"
    known = regularity_class(problem.activation)
    plain = energy.regulariser is None or type(energy.regulariser) in REGULARISERS.values()
    if known is not None and known.analytic and type(problem.block) in BLOCKS.values() and plain:
        reason = f"{problem.activation.name} is analytic, so dE/drho is analytic on the compact sphere |theta| = 1"
        return Condition(name, "proved", reason)
    return Condition(name, "not checked", "block, activation or regulariser is not known to be analytic")


def _descend(field: Field, points: Array, sign: Array, calls: int) -> tuple[Array, Array, Array, float]:
    """BFGS on the sphere for every row of points at once, each with its own inverse Hessian and step.

    Returns the points, sign * g there, its tangential gradients, and the median size of those at the start.
    """
    rows, width = points.shape

    def evaluate(at: Array) -> tuple[Array, Array]:
        value, slope = field(at)
        slope = sign[:, None] * slope
        return sign * value, slope - np.einsum("sp,sp->s", slope, at)[:, None] * at

    value, slope = evaluate(points)
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
        converged = size <= 1e-3 * _FLAT * unit  # further steps would be rounding
        if converged.all():
            break
        trial = points + step[:, None] * move
        trial /= np.linalg.norm(trial, axis=1, keepdims=True)
        trial_value, gradient = evaluate(trial)
        rounding = 1e-14 * np.abs(value)
        better = ~converged & (trial_value <= value + 1e-4 * step * downhill + rounding)
        _update(inverse, trial - points, gradient - slope, better)
        points, slope = np.where(better[:, None], trial, points), np.where(better[:, None], gradient, slope)
        value = np.where(better, trial_value, value)
        fresh = ~better & ~converged & ((step < 1e-6) | (downhill >= 0))
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
