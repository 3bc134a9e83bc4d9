"""Fits of the laws of depth and width to measured errors, with intervals over whole seeds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from wgflow.base.errors import InputError
from wgflow.base.registry import lookup
from wgflow.base.types import Array
from wgflow.stats.convergence_rates import MIN_SEEDS, Interval, bootstrap_weights, standard_error, student_t
from wgflow.stats.scaling_laws import LAWS, MAX_PARAMETER, Law, Sizes, log_rms, predict, terms

RESAMPLES = 400  # each is a fit; the standard error from 400 is itself known to 4%
_STARTS = ((-0.35, -0.35), (0.0, -3.0), (-3.0, 0.0))  # log shares of depth and width: equal, all depth, all width
_VANISHING = 1e-3  # share of a term below which its constant is at the boundary 0
_STEPS = 60  # evaluations of a fit at most: one that takes more has an exponent that the sizes leave open
_FREE = ((1.0, 0.5, 0.0), (1.0, 0.5, 0.5), (0.5, 0.25, 0.25), (2.0, 1.0, 0.0))


class LawFit(NamedTuple):
    """A law fitted to the rms error at all sizes.

    Attributes
    ----------
    law : str
        Its name.
    depth, width : Interval
        c1 and c2, >= 0.
    exponents : tuple of Interval
        a, b, g; an exponent that the law states has no width.
    rms, predicted : ndarray (nL, nM)
        Measured (NaN where there is none) and by the law.
    residual : float
        Mean squared difference of the logarithms of the two.
    """

    law: str
    depth: Interval
    width: Interval
    exponents: tuple[Interval, Interval, Interval]
    rms: Array
    predicted: Array
    residual: float


def fit_law(squares: Array, sizes: Sizes, law: str = "path", name: str = "") -> LawFit:
    """Fit a law to squares of the output error, all sizes with the same weight.

    Parameters
    ----------
    squares : ndarray (S, nL, nM)
        Squared errors averaged over samples and outputs, >= 0, a row for each seed; NaN for a missing run.
    sizes : Sizes
        Their L and M_l and the reference. At the reference's own size every law is 0; such a cell is left out.
    law : str, optional
        Key of :data:`LAWS`.
    name : str, optional
        Names the stream of random numbers.

    Returns
    -------
    Fit
        The minimiser of the squared differences of log rms (Levenberg-Marquardt of MINPACK through
        ``scipy.optimize.least_squares``, the best of several starts, in the logarithms of c1 and c2). Intervals are
        value +- t se by the bootstrap over whole seeds as in :mod:`wgflow.stats.convergence_rates`, cut at c >= 0;
        NaN below
        4 seeds. Where a term adds less than 0.1% at every size its constant is given as 0, with an upper end from the
        fit that is linear in the constants (their squares, unless the law is additive), which knows no boundary. On 120
        simulated studies of 6 seeds on 5 x 6 sizes they covered each constant and exponent in 92% to
        98%, the law being the right one (all laws but the additive).

    Raises
    ------
    InputError
        If the law is unknown, shapes do not match, an error is negative or 0, or too few sizes have one (two depths and
        two widths; three of each for exponents).
    """
    chosen, squares = lookup("law", law, LAWS), check_squares(squares, sizes)
    observed = cell_rms(squares, np.ones((1, len(squares))))[0]
    check_identifiable(observed, chosen)
    best = fit_parameters(observed, sizes, chosen)
    drawn = np.full((1, chosen.parameters), np.nan)
    if len(squares) >= MIN_SEEDS:
        weight = bootstrap_weights(len(squares), f"law {law} {name}", RESAMPLES)
        drawn = np.array([fit_parameters(each, sizes, chosen, best) for each in cell_rms(squares, weight)])
    fitted = predict(best, sizes, chosen)
    residual = float(np.nanmean((np.log(observed) - np.log(fitted)) ** 2))
    depth, width, *free = _intervals(best, drawn, len(squares))
    if chosen.exponents and len(squares) >= MIN_SEEDS:
        depth, width = _at_the_boundary(
            (depth, width), observed, cell_rms(squares, weight), sizes, chosen, len(squares)
        )
    stated = [Interval(each, each, each) for each in chosen.exponents or ()] or free
    return LawFit(law, depth, width, (stated[0], stated[1], stated[-1]), observed, fitted, residual)


def check_squares(squares: Array, sizes: Sizes) -> Array:
    """Squares (S, nL, nM) with the reference's own cell missing; raises InputError if they cannot be errors."""
    shape = (len(sizes.depths), len(sizes.widths))
    array = np.array(squares, dtype=float)
    if array.ndim != 3 or array.shape[1:] != shape or len(array) == 0:
        raise InputError(f"squares: expected shape (seeds, {shape[0]}, {shape[1]}), got {array.shape}")
    if sizes.nested and sizes.reference == (float(sizes.depths[-1]), float(sizes.widths[-1])):
        array[:, -1, -1] = np.nan
    if (array < 0).any() or np.isinf(array).any():
        raise InputError("squares: expected finite numbers >= 0 or NaN, got others; leave diverged runs out as NaN")
    if (np.nansum(array, axis=0)[~np.isnan(array).all(axis=0)] <= 0).any():
        raise InputError("squares: expected errors above 0, got a size without any; is it the reference? set it to NaN")
    return array


def cell_rms(squares: Array, weight: Array) -> Array:
    """Root mean square over the seeds that a size has, (B, nL, nM) from weights (B, S); NaN without any."""
    there = ~np.isnan(squares)
    total = np.einsum("bs,slm->blm", weight, np.where(there, squares, 0.0))
    with np.errstate(invalid="ignore"):  # 0/0 is a size whose seeds were all left out
        return np.asarray(np.sqrt(total / np.einsum("bs,slm->blm", weight, there.astype(float))))


def check_identifiable(observed: Array, law: Law) -> None:
    """Raise InputError if a law has more to tell apart than the sizes with an error, (nL, nM), can."""
    there = ~np.isnan(observed)
    fewest = 2 if law.exponents else 3
    depths, widths = int(there.any(axis=1).sum()), int(there.any(axis=0).sum())
    if min(depths, widths) < fewest or there.sum() <= law.parameters:
        raise InputError(
            f"squares: expected {fewest} depths, {fewest} widths and more than {law.parameters} sizes with an error "
            f"for the law {law.name!r}, got {depths}, {widths} and {there.sum()}; enlarge the grid"
        )


def fit_parameters(observed: Array, sizes: Sizes, law: Law, start: Array | None = None) -> Array:
    """Parameters of :func:`predict` that are nearest to an rms error (nL, nM) in logarithms, NaN being left out."""
    there = ~np.isnan(observed)
    grid = np.meshgrid(np.array(sizes.depths, float), np.array(sizes.widths, float), indexing="ij")
    depth, width = grid[0][there], grid[1][there]
    target = np.log(observed[there])
    starts = [start] if start is not None else _starts(target, depth, width, sizes, law)
    found = [
        least_squares(
            lambda p: log_rms(p, depth, width, sizes, law)[0] - target,
            each,
            jac=lambda p: log_rms(p, depth, width, sizes, law)[1],
            method="lm",
            max_nfev=_STEPS,
        )
        for each in starts
    ]
    best = min(found, key=lambda each: float(each.cost))
    return np.asarray(np.clip(best.x, -MAX_PARAMETER, MAX_PARAMETER))


def _starts(target: Array, depth: Array, width: Array, sizes: Sizes, law: Law) -> list[Array]:
    """Starts at which a law with c1 = c2 exp(...) has the level of the data."""
    out = []
    for exponents in [law.exponents] if law.exponents else _FREE:
        for shares in _STARTS:
            point = np.array([*shares, *exponents])[: law.parameters]
            point[:2] += np.mean(target - log_rms(point, depth, width, sizes, law)[0])
            out.append(point)
    return out


def _at_the_boundary(
    found: tuple[Interval, Interval], observed: Array, drawn: Array, sizes: Sizes, law: Law, seeds: int
) -> tuple[Interval, Interval]:
    """Intervals of c1 and c2 with those of terms that vanish replaced: their logarithms have no standard error."""
    power = 1.0 if law.additive else 2.0
    columns = [each**power for each in terms(sizes, law)]
    parts = [each.value**power * column for each, column in zip(found, columns, strict=True)]
    there = ~np.isnan(observed)
    seeds_error = None
    out = []
    for each, part in zip(found, parts, strict=True):
        if (part / sum(parts))[there].max() > _VANISHING:
            out.append(each)
            continue
        if seeds_error is None:
            linear = _linear(observed[None], columns, there, power)[0]
            again = _linear(drawn, columns, there, power)
            seeds_error = student_t(seeds) * standard_error(again, seeds)
        k = len(out)
        upper = max(linear[k], 0.0) + seeds_error[k]
        out.append(Interval(0.0, 0.0, float(upper ** (1 / power))))
    return out[0], out[1]


def _linear(rms: Array, columns: list[Array], there: NDArray[np.bool_], power: float) -> Array:
    """Coefficients of rms**power in the columns, of either sign, relative errors being weighed alike, (B, 2)."""
    out = []
    for each in rms:
        use = there & ~np.isnan(each)
        scale = each[use] ** power
        design = np.stack([column[use] / scale for column in columns], axis=1)
        out.append(np.linalg.lstsq(design, np.ones(len(scale)), rcond=None)[0])
    return np.array(out)


def _intervals(best: Array, drawn: Array, seeds: int) -> list[Interval]:
    """Intervals of c1 and c2 and of the exponents after them."""
    value = np.concatenate([np.exp(best[:2]), best[2:]])
    if seeds < MIN_SEEDS:
        return [Interval(float(each), np.nan, np.nan) for each in value]
    again = np.concatenate([np.exp(drawn[:, :2]), drawn[:, 2:]], axis=1)
    reach = student_t(seeds) * standard_error(again, seeds)
    low = value - reach
    low[:2] = np.maximum(low[:2], 0.0)
    return [Interval(float(v), float(x), float(y)) for v, x, y in zip(value, low, value + reach, strict=True)]
