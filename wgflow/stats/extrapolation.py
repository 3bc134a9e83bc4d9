"""The energy as a function of depth and width, and the failure probability that follows at sizes never run.

Over seeds the energy at one s, or its logarithm, is taken as normal with

    mean = e + a/L + b/W,   standard deviation = c / W**(1/2),   P(E > eps) = Phi((mean - z) / sd),

z being eps or log eps, and W = M_l if all layers start from one path of particles, W = L M_l if they are independent:
the orders in Theorem 5.1 of Ding et al. (arXiv:2110.02926) and in Chizat (arXiv:2509.10167). The form is derived; its
constants are the user's own problem's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from wgflow.base.errors import InputError, describe
from wgflow.base.registry import lookup
from wgflow.base.types import Array
from wgflow.base.validate import real
from wgflow.stats.convergence_rates import MIN_SEEDS, RESAMPLES, Interval, bootstrap_weights, standard_error, student_t
from wgflow.stats.exceedance import check_energies
from wgflow.stats.scaling_laws import Sizes

SCALES = ("linear", "log")
MIN_LEVELS = 3  # depths and widths below which a line through 1/L or 1/W has nothing left to contradict it
MAX_MISFIT = 1.5  # misfit up to which a model is said to hold
_FEWEST = 4  # sizes: three constants of the mean and one to say how wrong they are


def _path(depth: Array, width: Array) -> Array:
    return width + 0.0 * depth


def _independent(depth: Array, width: Array) -> Array:
    return depth * width


_EFFECTIVE = {"path": _path, "independent": _independent}  # W


class EnergyModel(NamedTuple):
    """The energy over L and M_l, fitted.

    Attributes
    ----------
    scale : str
        ``linear`` or ``log``: what is normal.
    coupling : str
        ``path`` or ``independent``: what W is.
    sizes : Sizes
        The grid.
    seeds : int
        S.
    point : ndarray (4,)
        e, a, b and log c.
    covariance : ndarray (4, 4)
        Of these, by the bootstrap over whole seeds.
    limit : Interval
        E at infinite size, in units of E.
    depth, width, spread : Interval
        a, b and c.
    score : dict of str to float
        Mean log density of the energies of a size left out of the fit, for each scale that was tried, higher being
        better; with the scale's density brought to that of E.
    misfit : float
        Root mean square of the cells' means about the model, in their standard errors: about 1 for a model that fits
        independent cells, less if cells have random numbers in common. A misfit above 1 lengthens all intervals.
    """

    scale: str
    coupling: str
    sizes: Sizes
    seeds: int
    point: Array
    covariance: Array
    limit: Interval
    depth: Interval
    width: Interval
    spread: Interval
    score: dict[str, float]
    misfit: float


class _Cells(NamedTuple):
    value: Array  # (S, n) in the scale, less the cell's mean
    mean: Array  # (n,)
    there: Array  # (S, n), 1 or 0
    design: Array  # (n, 3)
    effective: Array  # (n,), W


def fit_energy_model(
    energies: Array, sizes: Sizes, coupling: str = "path", scale: str | None = None, name: str = ""
) -> EnergyModel:
    """Fit the model of the energy to all sizes.

    Parameters
    ----------
    energies : ndarray (S, nL, nM)
        E at one s, S >= 4; NaN for a missing run. A size with a diverged run (infinite E) or fewer than two is left
        out.
    sizes : Sizes
        L and M_l.
    coupling : str, optional
        ``path`` or ``independent``.
    scale : str, optional
        ``linear`` or ``log``; by default that of the higher score.
    name : str, optional
        Names the stream of random numbers.

    Returns
    -------
    EnergyModel
        The mean by least squares with the model's own weights W S_cell, c by the pooled variance within sizes.

    Raises
    ------
    InputError
        If the coupling or scale is unknown, there are too few sizes or seeds, seeds do not differ, or an energy is not
        positive where ``log`` is asked for.
    """
    values = check_energies(energies, sizes)
    lookup("coupling", coupling, _EFFECTIVE)
    if scale is not None and scale not in SCALES:
        raise InputError(f"scale: expected one of {', '.join(SCALES)}, got {describe(scale)}")
    if len(values) < MIN_SEEDS:
        raise InputError(f"energies: expected at least {MIN_SEEDS} seeds, got {len(values)}; run more")
    positive = not (values <= 0).any()
    if scale == "log" and not positive:
        raise InputError("energies: expected positive ones for scale = 'log', got others; use scale = 'linear'")
    tried = [scale] if scale else ["linear", "log"] if positive else ["linear"]
    cells = {each: _cells(values, sizes, coupling, each) for each in tried}
    score = {each: _score(cells[each], each) for each in tried}
    best = max(tried, key=lambda each: score[each])
    return _model(cells[best], sizes, coupling, best, score, f"{name} {coupling} {best}")


def fit_asymptotic_range(energies: Array, sizes: Sizes, coupling: str = "path", name: str = "") -> EnergyModel:
    """Fit the model to the largest part of the grid on which it holds, small sizes being left out first.

    The form is that of large L and W; a single layer, or a single particle a layer, need not follow it.

    Parameters
    ----------
    energies, sizes, coupling, name : ndarray, Sizes, str, str
        As for :func:`fit_energy_model`.

    Returns
    -------
    EnergyModel
        Of the sizes from some L and M_l on, at least three of each, most cells first, whose misfit is at most 1.5; of
        the part with the least misfit if there is none. Its ``sizes`` say which.

    Raises
    ------
    InputError
        If there are fewer than three depths or widths, or as :func:`fit_energy_model`.
    """
    values = check_energies(energies, sizes)
    deep, wide = len(sizes.depths), len(sizes.widths)
    if min(deep, wide) < MIN_LEVELS:
        raise InputError(
            f"energies: expected at least {MIN_LEVELS} depths and {MIN_LEVELS} widths to tell a law of E by, got "
            f"{deep} and {wide}; enlarge the grid"
        )
    parts = [(i, j) for i in range(deep - MIN_LEVELS + 1) for j in range(wide - MIN_LEVELS + 1)]
    best: EnergyModel | None = None
    for i, j in sorted(parts, key=lambda at: (-(deep - at[0]) * (wide - at[1]), at)):
        model = fit_energy_model(values[:, i:, j:], Sizes(sizes.depths[i:], sizes.widths[j:]), coupling, None, name)
        if model.misfit <= MAX_MISFIT:
            return model
        best = model if best is None or model.misfit < best.misfit else best
    assert best is not None  # there is at least the whole grid
    return best


def failure_probability(
    model: EnergyModel, eps: float, depth: ArrayLike, width: ArrayLike
) -> tuple[Array, Array, Array]:
    """Probability P(E > eps) at sizes of shapes that broadcast, with the ends of its 95% interval.

    The interval is that of (z - mean)/sd, by the bootstrap's covariance to first order and Student's t, through Phi.
    """
    level = real("target.eps", eps, above=0.0)
    deep, wide = np.broadcast_arrays(np.asarray(depth, float), np.asarray(width, float))
    effective = _EFFECTIVE[model.coupling](deep, wide)
    row = _design_row(deep, effective)
    spread = np.exp(model.point[3]) / np.sqrt(effective)
    z = math.log(level) if model.scale == "log" else level
    margin = (z - row @ model.point[:3]) / spread
    slope = np.concatenate([-row / spread[..., None], -margin[..., None]], axis=-1)
    variance = np.einsum("...i,ij,...j->...", slope, model.covariance, slope)
    reach = student_t(model.seeds) * np.sqrt(np.maximum(variance, 0.0))
    return ndtr(-margin), ndtr(-margin - reach), ndtr(-margin + reach)


def _design_row(depth: Array, effective: Array) -> Array:
    """What e, a, b are multiplied by, (..., 3)."""
    return np.stack([np.ones_like(depth), 1 / depth, 1 / effective], axis=-1)


def _cells(values: Array, sizes: Sizes, coupling: str, scale: str) -> _Cells:
    """The sizes that can be used, as columns."""
    usable = ~np.isinf(values).any(axis=0) & ((~np.isnan(values)).sum(axis=0) >= 2)
    depth, width = (each[usable] for each in np.meshgrid(sizes.depths, sizes.widths, indexing="ij"))
    if len(depth) < _FEWEST or min(len(set(depth)), len(set(width))) < 2:
        raise InputError(
            f"energies: expected at least {_FEWEST} sizes of two depths and two widths with two finite energies each, "
            f"got {len(depth)}; enlarge the grid"
        )
    column = np.log(values[:, usable]) if scale == "log" else values[:, usable]
    there, mean = (~np.isnan(column)).astype(float), np.nanmean(column, axis=0)
    centred = np.where(there > 0, column - mean, 0.0)
    if not (centred != 0).any():
        raise InputError("energies: expected seeds that differ, got the same energies for all; there is no probability")
    effective = np.asarray(_EFFECTIVE[coupling](depth.astype(float), width.astype(float)))
    return _Cells(centred, mean, there, _design_row(depth.astype(float), effective), effective)


def _solve(cells: _Cells, weight: Array, keep: Array) -> Array:
    """e, a, b, log c, (B, 4), from weights of the seeds (B, S) and of the cells (n,), 1 or 0."""
    number = weight @ cells.there
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = weight @ cells.value / number
        squares = weight @ cells.value**2 - number * shift**2
        variance = (squares * cells.effective * keep).sum(axis=1) / ((number - 1) * keep).sum(axis=1)
        importance = np.sqrt(cells.effective * cells.there.sum(axis=0)) * keep
        inverse = np.linalg.pinv(cells.design * importance[:, None]) * importance
        point = (cells.mean + shift) @ inverse.T
        return np.column_stack([point, 0.5 * np.log(variance)])


def _score(cells: _Cells, scale: str) -> float:
    """Mean log density of E in cells left out one at a time."""
    everyone, score = np.ones((1, len(cells.value))), []
    for k in range(len(cells.mean)):
        keep = np.ones(len(cells.mean))
        keep[k] = 0.0
        point = _solve(cells, everyone, keep)[0]
        deviation = math.exp(point[3]) / math.sqrt(cells.effective[k])
        seen = cells.there[:, k] > 0
        value = cells.value[seen, k] + cells.mean[k]
        off = (value - cells.design[k] @ point[:3]) / deviation
        density = -0.5 * off**2 - math.log(deviation * math.sqrt(2 * math.pi))
        score.append(float(np.mean(density - value if scale == "log" else density)))  # dE = E d(log E)
    return float(np.mean(score))


def _model(cells: _Cells, sizes: Sizes, coupling: str, scale: str, score: dict[str, float], name: str) -> EnergyModel:
    """The fit with all cells and its intervals, longer by the misfit where the form does not fit the cells."""
    seeds, keep = len(cells.value), np.ones(len(cells.mean))
    point = _solve(cells, np.ones((1, seeds)), keep)[0]
    drawn = _solve(cells, bootstrap_weights(seeds, f"energy {name}"), keep)
    number = cells.there.sum(axis=0)
    off = (cells.mean - cells.design @ point[:3]) * np.sqrt(cells.effective * number) / math.exp(point[3])
    misfit = math.sqrt(float((off**2).sum()) / (len(off) - 3))
    longer = max(1.0, misfit)
    drawn = drawn[np.isfinite(drawn).all(axis=1)]  # a resample without any seed of some size has no fit
    if len(drawn) < RESAMPLES / 2:
        raise InputError("energies: expected more seeds at every size, got too many missing; leave such sizes out")
    reach = longer * student_t(seeds) * standard_error(drawn, seeds)
    low, high, value = point - reach, point + reach, point.copy()
    for each in (value, low, high):
        with np.errstate(over="ignore"):  # an end beyond all numbers is infinite
            each[3] = np.exp(each[3])
            each[0] = np.exp(each[0]) if scale == "log" else each[0]
    intervals = [Interval(float(v), float(x), float(y)) for v, x, y in zip(value, low, high, strict=True)]
    covariance = longer**2 * np.cov(drawn, rowvar=False) * seeds / (seeds - 1)
    limit, deep, wide, spread = intervals
    return EnergyModel(scale, coupling, sizes, seeds, point, covariance, limit, deep, wide, spread, score, misfit)
