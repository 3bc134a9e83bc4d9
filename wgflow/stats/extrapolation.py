"""Model of the energy over depth and width, and the failure probability that it predicts at other sizes.

Over seeds, the energy at one s, or its logarithm, is modelled as normal with

    mean = e + a/L + b/W,   standard deviation = c / W**(1/2),   P(E > eps) = Phi((mean - z) / sd),

where z is eps or log eps, and W = M_l if all layers start from one path of particles, W = L M_l if they are
independent: the orders in Theorem 5.1 of Ding et al. (arXiv:2110.02926) and in Chizat (arXiv:2509.10167). The constants
depend on the problem and are fitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from wgflow.base.errors import InputError, describe
from wgflow.base.registry import lookup
from wgflow.base.types import Array
from wgflow.base.validate import real
from wgflow.stats.convergence_rates import (
    MIN_SEEDS,
    RESAMPLES,
    Interval,
    bootstrap_weights,
    half_width,
    intervals,
    student_t,
)
from wgflow.stats.scaling_laws import Sizes, check_shape

SCALES = ("linear", "log")
MIN_LEVELS = 3  # depths and widths, so that a line in 1/L or 1/W can be contradicted
MAX_MISFIT = 1.5  # up to which a model counts as adequate
_MIN_SIZES = 4  # three constants of the mean and one degree of freedom for the error

_EFFECTIVE: dict[str, Callable[[Array, Array], Array]] = {  # W
    "path": lambda depth, width: width + 0.0 * depth,
    "independent": lambda depth, width: depth * width,
}


class EnergyModel(NamedTuple):
    """Fitted model of the energy over L and M_l.

    Attributes
    ----------
    scale : str
        Whether E (``linear``) or log E (``log``) is normal.
    coupling : str
        ``path`` or ``independent``, which determines W.
    sizes, seeds : Sizes, int
        The grid and S.
    point, covariance : ndarray (4,), (4, 4)
        e, a, b and log c, and their covariance by the bootstrap over whole seeds.
    limit, depth, width, spread : Interval
        E at infinite size, on the scale of E; a, b and c.
    score : dict of str to float
        Leave-one-size-out mean log density of E for each scale that was tried; higher is better.
    misfit : float
        Root mean square of the cells' residuals in units of their standard errors: about 1 for an adequate model and
        independent cells, less if cells share random numbers. A misfit above 1 widens all intervals by that factor.
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
    value: Array  # (S, n) on the scale, minus the cell's mean
    mean: Array  # (n,)
    present: Array  # (S, n), 1 or 0
    design: Array  # (n, 3)
    effective: Array  # (n,), W


def fit_energy_model(
    energies: Array, sizes: Sizes, coupling: str = "path", scale: str | None = None, name: str = ""
) -> EnergyModel:
    """Fit the energy model to all sizes.

    Parameters
    ----------
    energies : ndarray (S, nL, nM)
        E at one s, S >= 4; NaN for a missing run. Sizes with a diverged run (infinite E) or fewer than two runs are
        left out.
    sizes : Sizes
        L and M_l.
    coupling : str, optional
        ``path`` or ``independent``.
    scale : str, optional
        ``linear`` or ``log``; by default the one with the higher score.
    name : str, optional
        Name of the random stream.

    Returns
    -------
    EnergyModel
        The mean is fitted by least squares with weights W S_cell, c by the pooled variance within sizes.

    Raises
    ------
    InputError
        If the coupling or scale is unknown, there are too few sizes or seeds, the seeds do not differ, or an energy is
        not positive with ``log``.
    """
    values = check_shape("energies", energies, sizes)
    lookup("coupling", coupling, _EFFECTIVE)
    if scale is not None and scale not in SCALES:
        raise InputError(f"scale: expected one of {', '.join(SCALES)}, got {describe(scale)}")
    if len(values) < MIN_SEEDS:
        raise InputError(f"energies: expected at least {MIN_SEEDS} seeds, got {len(values)}; run more")
    positive = not (values <= 0).any()
    if scale == "log" and not positive:
        raise InputError("energies: expected positive energies for scale = 'log', got others; use scale = 'linear'")
    scales = [scale] if scale else ["linear", "log"] if positive else ["linear"]
    cells = {option: _cells(values, sizes, coupling, option) for option in scales}
    score = {option: _score(cells[option], option) for option in scales}
    best = max(scales, key=lambda option: score[option])
    return _model(cells[best], sizes, coupling, best, score, f"{name} {coupling} {best}")


def fit_asymptotic_range(energies: Array, sizes: Sizes, coupling: str = "path") -> EnergyModel:
    """Fit the energy model to the largest part of the grid on which it is adequate, leaving out small sizes.

    The model is asymptotic in L and W, and need not hold for a single layer or a single particle per layer.

    Parameters
    ----------
    energies, sizes, coupling : ndarray, Sizes, str
        As for :func:`fit_energy_model`.

    Returns
    -------
    EnergyModel
        Model of the sizes from some L and M_l on, at least three of each: the most cells with a misfit of at most 1.5,
        or those with the smallest misfit if there are none. Its ``sizes`` are those used.

    Raises
    ------
    InputError
        If there are fewer than three depths or widths, or as :func:`fit_energy_model`.
    """
    values = check_shape("energies", energies, sizes)
    deep, wide = len(sizes.depths), len(sizes.widths)
    if min(deep, wide) < MIN_LEVELS:
        raise InputError(
            f"energies: expected at least {MIN_LEVELS} depths and {MIN_LEVELS} widths to fit a model of E, got "
            f"{deep} and {wide}; enlarge the grid"
        )
    parts = [(i, j) for i in range(deep - MIN_LEVELS + 1) for j in range(wide - MIN_LEVELS + 1)]
    models = []
    for i, j in sorted(parts, key=lambda at: (-(deep - at[0]) * (wide - at[1]), at)):
        model = fit_energy_model(values[:, i:, j:], Sizes(sizes.depths[i:], sizes.widths[j:]), coupling)
        if model.misfit <= MAX_MISFIT:
            return model
        models.append(model)
    return min(models, key=lambda model: model.misfit)


def failure_probability(
    model: EnergyModel, eps: float, depth: ArrayLike, width: ArrayLike
) -> tuple[Array, Array, Array]:
    """Probability P(E > eps), and its 95% interval, at depths and widths of shapes that broadcast.

    The interval is that of (z - mean)/sd, by the delta method and Student's t, mapped by Phi.
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
    half = student_t(model.seeds) * np.sqrt(np.maximum(variance, 0.0))
    return ndtr(-margin), ndtr(-margin - half), ndtr(-margin + half)


def _design_row(depth: Array, effective: Array) -> Array:
    """Row of the design matrix, the factors of e, a, b, (..., 3)."""
    return np.stack([np.ones_like(depth), 1 / depth, 1 / effective], axis=-1)


def _cells(values: Array, sizes: Sizes, coupling: str, scale: str) -> _Cells:
    """Usable sizes as columns."""
    usable = ~np.isinf(values).any(axis=0) & ((~np.isnan(values)).sum(axis=0) >= 2)
    depth, width = (axis[usable] for axis in sizes.grid)
    if len(depth) < _MIN_SIZES or min(len(set(depth)), len(set(width))) < 2:
        raise InputError(
            f"energies: expected at least {_MIN_SIZES} sizes of two depths and two widths, with two finite energies "
            f"each, got {len(depth)}; enlarge the grid"
        )
    column = np.log(values[:, usable]) if scale == "log" else values[:, usable]
    present, mean = (~np.isnan(column)).astype(float), np.nanmean(column, axis=0)
    centred = np.where(present > 0, column - mean, 0.0)
    if not (centred != 0).any():
        raise InputError(
            "energies: expected seeds that differ, got the same energies for all; no probability can be fitted"
        )
    effective = np.asarray(_EFFECTIVE[coupling](depth, width))
    return _Cells(centred, mean, present, _design_row(depth, effective), effective)


def _solve(cells: _Cells, weight: Array, keep: Array) -> Array:
    """e, a, b, log c, (B, 4), from weights of the seeds (B, S) and of the cells (n,), 1 or 0."""
    number = weight @ cells.present
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = weight @ cells.value / number
        squares = weight @ cells.value**2 - number * shift**2
        variance = (squares * cells.effective * keep).sum(axis=1) / ((number - 1) * keep).sum(axis=1)
        importance = np.sqrt(cells.effective * cells.present.sum(axis=0)) * keep
        inverse = np.linalg.pinv(cells.design * importance[:, None]) * importance
        point = (cells.mean + shift) @ inverse.T
        return np.column_stack([point, 0.5 * np.log(variance)])


def _score(cells: _Cells, scale: str) -> float:
    """Leave-one-cell-out mean log density of E."""
    everyone, score = np.ones((1, len(cells.value))), []
    for k in range(len(cells.mean)):
        keep = np.ones(len(cells.mean))
        keep[k] = 0.0
        point = _solve(cells, everyone, keep)[0]
        deviation = math.exp(point[3]) / math.sqrt(cells.effective[k])
        value = cells.value[cells.present[:, k] > 0, k] + cells.mean[k]
        off = (value - cells.design[k] @ point[:3]) / deviation
        density = -0.5 * off**2 - math.log(deviation * math.sqrt(2 * math.pi))
        score.append(float(np.mean(density - value if scale == "log" else density)))  # dE = E d(log E)
    return float(np.mean(score))


def _model(cells: _Cells, sizes: Sizes, coupling: str, scale: str, score: dict[str, float], name: str) -> EnergyModel:
    """Fit to all cells with intervals, which a misfit above 1 widens by that factor."""
    seeds, keep = len(cells.value), np.ones(len(cells.mean))
    point = _solve(cells, np.ones((1, seeds)), keep)[0]
    drawn = _solve(cells, bootstrap_weights(seeds, f"energy {name}"), keep)
    number = cells.present.sum(axis=0)
    off = (cells.mean - cells.design @ point[:3]) * np.sqrt(cells.effective * number) / math.exp(point[3])
    misfit = math.sqrt(float((off**2).sum()) / (len(off) - 3))
    widening = max(1.0, misfit)
    drawn = drawn[np.isfinite(drawn).all(axis=1)]  # resamples without any seed of some size have no fit
    if len(drawn) < RESAMPLES / 2:
        raise InputError("energies: expected more seeds at every size, got too many missing runs; leave such sizes out")
    half = half_width(drawn, seeds, widening)
    low, high, value = point - half, point + half, point.copy()
    for constants in (value, low, high):
        with np.errstate(over="ignore"):  # overflow gives infinity
            constants[3] = np.exp(constants[3])
            constants[0] = np.exp(constants[0]) if scale == "log" else constants[0]
    covariance = widening**2 * np.cov(drawn, rowvar=False) * seeds / (seeds - 1)
    limit, deep, wide, spread = intervals(value, low, high)
    return EnergyModel(scale, coupling, sizes, seeds, point, covariance, limit, deep, wide, spread, score, misfit)
