"""Fits of the scaling laws in depth and width to measured errors, and cross-validation: which law predicts best.

Fits have bootstrap intervals over whole seeds. Cross-validation leaves out one size (L, M_l) at a time, or a whole
depth or width, which tests interpolation and extrapolation to other depths or widths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from wgflow.base.errors import InputError, describe
from wgflow.base.registry import lookup
from wgflow.base.types import Array
from wgflow.stats.convergence_rates import MIN_SEEDS, Interval, bootstrap_weights, half_width, intervals, student_t
from wgflow.stats.scaling_laws import LAWS, MAX_PARAMETER, Law, Sizes, check_shape, log_rms, predict, terms

RESAMPLES = 400  # each needs a fit; the standard error is accurate to 4%
_STARTS = ((-0.35, -0.35), (0.0, -3.0), (-3.0, 0.0))  # log shares of depth and width: equal, depth, width
_VANISHING = 1e-3  # share of a term below which its constant counts as 0
_STEPS = 60  # evaluations at most; a fit that needs more has an exponent that the sizes do not determine
LEAVE = ("size", "depth", "width")
_FREE = ((1.0, 0.5, 0.0), (1.0, 0.5, 0.5), (0.5, 0.25, 0.25), (2.0, 1.0, 0.0))


class LawFit(NamedTuple):
    """Law fitted to the rms error at all sizes.

    Attributes
    ----------
    law : str
        Its name.
    depth, width, exponents : Interval, Interval, tuple of Interval
        c1 and c2, >= 0; a, b, g, where the interval of a fixed exponent has width 0.
    rms, predicted : ndarray (nL, nM)
        Measured (NaN where missing) and according to the law.
    residual : float
        Mean squared difference of their logarithms.
    """

    law: str
    depth: Interval
    width: Interval
    exponents: tuple[Interval, Interval, Interval]
    rms: Array
    predicted: Array
    residual: float


class CrossValidation(NamedTuple):
    """Laws ranked by their error at sizes left out.

    Attributes
    ----------
    laws : tuple of str
        Best first.
    score : ndarray (n,)
        Mean squared error of the predicted log rms, in that order.
    behind : tuple of Interval
        Score minus that of the best law, with a 95% interval of the paired difference; 0 for the best law.
    left_out : str
        What was left out at a time.
    """

    laws: tuple[str, ...]
    score: Array
    behind: tuple[Interval, ...]
    left_out: str

    @property
    def decided(self) -> bool:
        """Whether every other law's interval lies above 0."""
        return all(gap.low > 0 for gap in self.behind[1:])


def fit_law(squares: Array, sizes: Sizes, law: str = "path", name: str = "", log_intervals: bool = False) -> LawFit:
    """Fit a law to squared output errors, with equal weights for all sizes.

    Parameters
    ----------
    squares : ndarray (S, nL, nM)
        Squared errors >= 0 of each seed, averaged over samples and outputs; NaN for a missing run.
    sizes : Sizes
        L, M_l and the reference. The reference's own size, where every law is 0, is left out.
    law : str, optional
        Key of :data:`~wgflow.stats.scaling_laws.LAWS`.
    name : str, optional
        Name of the random stream.
    log_intervals : bool, optional
        Whether intervals of c1 and c2 are symmetric in their logarithms, value exp(+- t se). For rows whose constants
        differ by factors: in 250 simulated studies of 12 rows, with constants log-normal (deviations 0.28 and 0.57) as
        among the draws of the data of the bundled study ``hidden_width``, they covered the two constants of the
        additive law in 93% and 92%, symmetric ones in 92% and 88%.

    Returns
    -------
    LawFit
        Least-squares fit of log rms by MINPACK's Levenberg-Marquardt method in log c1, log c2 and the exponents, the
        best of several starts. Intervals are value +- t se by the bootstrap over whole seeds as in
        :mod:`wgflow.stats.convergence_rates`, cut at c >= 0; NaN below 4 seeds. A constant whose term contributes less
        than 0.1% at every size is given as 0, with an upper end from the fit that is linear in the constants (in their
        squares, unless the law is additive) and unconstrained. In 120 simulated studies of 6 seeds on 5 x 6 sizes, with
        the correct law (all but the additive), intervals covered each constant and exponent in 92% to 98%.

    Raises
    ------
    InputError
        If the law is unknown, shapes do not match, an error is negative or 0, or too few sizes have one (two depths and
        two widths are needed, three of each to fit exponents).
    """
    chosen, squares = lookup("law", law, LAWS), check_squares(squares, sizes)
    observed = cell_rms(squares, np.ones((1, len(squares))))[0]
    check_identifiable(observed, chosen)
    best = fit_parameters(observed, sizes, chosen)
    drawn = np.full((1, chosen.parameters), np.nan)
    if len(squares) >= MIN_SEEDS:
        weight = bootstrap_weights(len(squares), f"law {law} {name}", RESAMPLES)
        drawn = np.array([fit_parameters(rms, sizes, chosen, best) for rms in cell_rms(squares, weight)])
    fitted = predict(best, sizes, chosen)
    residual = float(np.nanmean((np.log(observed) - np.log(fitted)) ** 2))
    depth, width, *free = _intervals(best, drawn, len(squares), log_intervals)
    if chosen.exponents and len(squares) >= MIN_SEEDS:
        depth, width = _at_the_boundary(
            (depth, width), observed, cell_rms(squares, weight), sizes, chosen, len(squares)
        )
    exponents = [Interval(value, value, value) for value in chosen.exponents or ()] or free
    return LawFit(law, depth, width, (exponents[0], exponents[1], exponents[-1]), observed, fitted, residual)


def fit_point(squares: Array, sizes: Sizes, law: str = "path") -> tuple[float, float]:
    """c1 and c2 of a law with fixed exponents as :func:`fit_law` finds them, without intervals; raises as it does."""
    chosen, squares = lookup("law", law, LAWS), check_squares(squares, sizes)
    observed = cell_rms(squares, np.ones((1, len(squares))))[0]
    check_identifiable(observed, chosen)
    depth, width = np.exp(fit_parameters(observed, sizes, chosen)[:2])
    return float(depth), float(width)


def check_squares(squares: Array, sizes: Sizes) -> Array:
    """Squared errors (S, nL, nM) without the reference's own cell; raises InputError if they are invalid."""
    array = check_shape("squares", squares, sizes)
    if sizes.nested and sizes.reference == (float(sizes.depths[-1]), float(sizes.widths[-1])):
        array[:, -1, -1] = np.nan
    if (array < 0).any() or np.isinf(array).any():
        raise InputError("squares: expected finite numbers >= 0 or NaN, got others; leave diverged runs out as NaN")
    if (np.nansum(array, axis=0)[~np.isnan(array).all(axis=0)] <= 0).any():
        raise InputError("squares: expected errors > 0, got a size with error 0; if it is the reference, set it to NaN")
    return array


def cell_rms(squares: Array, weight: Array) -> Array:
    """Root mean square over the seeds of each size, (B, nL, nM), from weights (B, S); NaN without seeds."""
    present = ~np.isnan(squares)
    total = np.einsum("bs,slm->blm", weight, np.where(present, squares, 0.0))
    with np.errstate(invalid="ignore"):  # 0/0 where no seed is left
        return np.asarray(np.sqrt(total / np.einsum("bs,slm->blm", weight, present.astype(float))))


def check_identifiable(observed: Array, law: Law) -> None:
    """Raise InputError if too few sizes (nL, nM) have a measured error to determine the law's parameters."""
    present = ~np.isnan(observed)
    fewest = 2 if law.exponents else 3
    depths, widths = int(present.any(axis=1).sum()), int(present.any(axis=0).sum())
    if min(depths, widths) < fewest or present.sum() <= law.parameters:
        raise InputError(
            f"squares: expected {fewest} depths, {fewest} widths and more than {law.parameters} sizes with an error "
            f"for the law {law.name!r}, got {depths}, {widths} and {present.sum()}; enlarge the grid"
        )


def fit_parameters(observed: Array, sizes: Sizes, law: Law, start: Array | None = None) -> Array:
    """Parameters of :func:`~wgflow.stats.scaling_laws.predict` by least squares in log rms (nL, nM), without NaN."""
    present = ~np.isnan(observed)
    depth, width = (axis[present] for axis in sizes.grid)
    target = np.log(observed[present])
    starts = [start] if start is not None else _starts(target, depth, width, sizes, law)
    solutions = [
        least_squares(
            lambda p: log_rms(p, depth, width, sizes, law)[0] - target,
            first,
            jac=lambda p: log_rms(p, depth, width, sizes, law)[1],
            method="lm",
            max_nfev=_STEPS,
        )
        for first in starts
    ]
    best = min(solutions, key=lambda solution: float(solution.cost))
    return np.asarray(np.clip(best.x, -MAX_PARAMETER, MAX_PARAMETER))


def _starts(target: Array, depth: Array, width: Array, sizes: Sizes, law: Law) -> list[Array]:
    """Initial parameters at which the law matches the mean log rms of the data."""
    out = []
    for exponents in [law.exponents] if law.exponents else _FREE:
        for shares in _STARTS:
            point = np.array([*shares, *exponents])[: law.parameters]
            point[:2] += np.mean(target - log_rms(point, depth, width, sizes, law)[0])
            out.append(point)
    return out


def _at_the_boundary(
    constants: tuple[Interval, Interval], observed: Array, drawn: Array, sizes: Sizes, law: Law, seeds: int
) -> tuple[Interval, Interval]:
    """Intervals of c1 and c2; those of vanishing terms are replaced, since their logarithms have no standard error."""
    power = 1.0 if law.additive else 2.0
    columns = [term**power for term in terms(sizes, law)]
    parts = [constant.value**power * column for constant, column in zip(constants, columns, strict=True)]
    present = ~np.isnan(observed)
    vanishing = [(part / sum(parts))[present].max() <= _VANISHING for part in parts]
    if not any(vanishing):
        return constants
    linear = _linear(observed[None], columns, present, power)[0]
    upper = np.maximum(linear, 0.0) + half_width(_linear(drawn, columns, present, power), seeds)
    first, second = (
        Interval(0.0, 0.0, float(end ** (1 / power))) if gone else constant
        for constant, gone, end in zip(constants, vanishing, upper, strict=True)
    )
    return first, second


def _linear(resamples: Array, columns: list[Array], present: NDArray[np.bool_], power: float) -> Array:
    """Coefficients (B, 2), of either sign, of rms**power in the columns, by least squares of the relative errors."""
    out = []
    for rms in resamples:
        use = present & ~np.isnan(rms)
        scale = rms[use] ** power
        design = np.stack([column[use] / scale for column in columns], axis=1)
        out.append(np.linalg.lstsq(design, np.ones(len(scale)), rcond=None)[0])
    return np.array(out)


def _intervals(best: Array, drawn: Array, seeds: int, log_intervals: bool) -> list[Interval]:
    """Intervals of c1, c2 and the fitted exponents."""
    value = np.concatenate([np.exp(best[:2]), best[2:]])
    half = np.full(len(value), np.nan)
    if seeds >= MIN_SEEDS:
        half = half_width(np.concatenate([np.exp(drawn[:, :2]), drawn[:, 2:]], axis=1), seeds)
    low, high = value - half, value + half
    low[:2] = np.maximum(low[:2], 0.0)
    if log_intervals and seeds >= MIN_SEEDS:
        logs = np.maximum(drawn[:, :2], best[:2] + np.log(_VANISHING))  # a constant near 0 has no logarithm to speak of
        factor = np.exp(half_width(logs, seeds))
        low[:2], high[:2] = value[:2] / factor, value[:2] * factor
    return intervals(value, low, high)


def cross_validate(
    squares: Array, sizes: Sizes, laws: Sequence[str] = ("path", "independent"), leave: str = "size"
) -> CrossValidation:
    """Rank laws by how well they predict sizes left out.

    Parameters
    ----------
    squares : ndarray (S, nL, nM)
        As for :func:`fit_law`.
    sizes : Sizes
        L, M_l and the reference.
    laws : sequence of str, optional
        At least two keys of :data:`wgflow.stats.scaling_laws.LAWS`.
    leave : str, optional
        ``size``, ``depth`` (all widths of one L) or ``width``.

    Returns
    -------
    CrossValidation
        Intervals are value +- t se with the jackknife standard error over whole seeds (far fewer fits than a bootstrap)
        and Student's t with S - 1 degrees of freedom; NaN below 4 seeds. They cover the variation between seeds on this
        grid, not that between grids.

    Raises
    ------
    InputError
        If a law or ``leave`` is unknown, or too few sizes remain to fit a law.
    """
    if leave not in LEAVE:
        raise InputError(f"leave: expected one of {', '.join(LEAVE)}, got {describe(leave)}")
    if len(set(laws)) < 2 or len(set(laws)) < len(laws):
        raise InputError(f"laws: expected at least two different names, got {list(laws)}")
    chosen = [lookup("law", law, LAWS) for law in laws]
    squares, seeds = check_squares(squares, sizes), len(squares)
    observed = cell_rms(squares, np.ones((1, seeds)))[0]
    score = np.array([_score(observed, sizes, law, leave) for law in chosen])
    order = np.argsort(score, kind="stable")
    gap = score - score[order[0]]
    half = np.full(len(score), np.nan)
    if seeds >= MIN_SEEDS:
        jackknife = cell_rms(squares, 1.0 - np.eye(seeds))
        scores = np.array([[_score(rms, sizes, law, leave) for law in chosen] for rms in jackknife])
        scores -= scores[:, order[:1]]
        half = student_t(seeds) * np.sqrt((seeds - 1) * scores.var(axis=0))
    behind = intervals(gap[order], (gap - half)[order], (gap + half)[order])
    return CrossValidation(tuple(laws[k] for k in order), score[order], tuple(behind), leave)


def _score(observed: Array, sizes: Sizes, law: Law, leave: str) -> float:
    """Mean squared error of the predicted log rms at sizes left out."""
    start, errors = fit_parameters(observed, sizes, law), []
    for out in _parts(observed, leave):
        rest = np.where(out, np.nan, observed)
        check_identifiable(rest, law)
        fitted = predict(fit_parameters(rest, sizes, law, start), sizes, law)
        errors.append((np.log(observed) - np.log(fitted))[out])
    return float(np.mean(np.concatenate(errors) ** 2))


def _parts(observed: Array, leave: str) -> Iterator[NDArray[np.bool_]]:
    """Masks (nL, nM) of the sizes left out at a time."""
    present = ~np.isnan(observed)
    depth, width = np.indices(observed.shape)
    label = {"size": depth * observed.shape[1] + width, "depth": depth, "width": width}[leave]
    for part in np.unique(label[present]):
        yield (label == part) & present
