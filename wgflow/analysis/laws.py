"""Laws of the rms output error over depth L and width M_l, with a finite reference: constants, exponents, intervals.

With the depth term A = |L**-a - L_ref**-a| and the width term B = (M_l**-2b L**-2g -+ M_ref**-2b L_ref**-2g)**(1/2),
minus for sub-samples of the reference and plus for an independent one, the laws are

    path          rms**2 = (c1 A)**2 + (c2 B)**2    a, b, g = 1, 1/2, 0     Ding et al., arXiv:2110.02926, Theorem 5.1
    independent   rms**2 = (c1 A)**2 + (c2 B)**2    a, b, g = 1, 1/2, 1/2   the same with independent layers, derived
    additive      rms = c1 A + c2 sqrt(D) B         a, b, g = 1, 1/2, 1/2   Chizat, arXiv:2509.10167
    free          rms**2 = (c1 A)**2 + (c2 B)**2    a, b, g fitted

The papers state bounds with a reference of infinite size; the terms of a finite one are derived.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

from wgflow.analysis.rates import FEWEST_SEEDS, Interval, resamples, standard_error, student
from wgflow.errors import InputError, lookup
from wgflow.types import Array, real

RESAMPLES = 400  # each is a fit; the standard error from 400 is itself known to 4%
_FLAT = 1e-12  # a term that the reference cancels to this share counts as this
_STEEP = 300.0  # logarithms above this are cut: no exponent that a fit could end at comes near
_STARTS = ((-0.35, -0.35), (0.0, -3.0), (-3.0, 0.0))  # log shares of depth and width: equal, all depth, all width
_FREE = ((1.0, 0.5, 0.0), (1.0, 0.5, 0.5), (0.5, 0.25, 0.25), (2.0, 1.0, 0.0))


@dataclass(frozen=True)
class Law:
    """One of the laws above.

    Attributes
    ----------
    name : str
        Key of :data:`LAWS`.
    exponents : tuple of float or None
        a, b, g; None if they are fitted.
    additive : bool
        Whether the terms add rather than their squares.
    """

    name: str
    exponents: tuple[float, float, float] | None
    additive: bool = False

    @property
    def parameters(self) -> int:
        """Numbers fitted."""
        return 2 if self.exponents else 5


LAWS = {
    "path": Law("path", (1.0, 0.5, 0.0)),
    "independent": Law("independent", (1.0, 0.5, 0.5)),
    "additive": Law("additive", (1.0, 0.5, 0.5), additive=True),
    "free": Law("free", None),
}


@dataclass(frozen=True)
class Sizes:
    """The grid of networks and what they are compared with.

    Attributes
    ----------
    depths, widths : tuple of int
        L and M_l, increasing.
    reference : tuple of float or None
        L_ref and M_ref; None if the reference's own error is negligible.
    nested : bool
        Whether networks are sub-samples of the reference, so that none is larger. The error of an independent one adds
        in square; if all seeds share it, no interval knows of it.
    dimension : int
        D of the additive law; the constants of the others have it in them.

    Raises
    ------
    InputError
        If there are fewer than two depths or widths, they do not increase, or nested ones exceed the reference.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    reference: tuple[float, float] | None = None
    nested: bool = True
    dimension: int = 1

    def __post_init__(self) -> None:
        for name, sizes in (("depths", self.depths), ("widths", self.widths)):
            if len(sizes) < 2 or sizes[0] < 1 or (np.diff(sizes) <= 0).any():
                raise InputError(f"{name}: expected at least two increasing sizes >= 1, got {sizes}; add some")
        real("dimension", self.dimension, above=0.0)
        if self.reference is not None:
            for largest, limit in zip((self.depths[-1], self.widths[-1]), self.reference, strict=True):
                real("reference", limit, least=1.0)
                if self.nested and largest > limit:
                    raise InputError(f"sizes: expected nested ones up to the reference's {limit:g}, got {largest}")


class Fit(NamedTuple):
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


def fit(squares: Array, sizes: Sizes, law: str = "path", name: str = "") -> Fit:
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
        value +- t se by the bootstrap over whole seeds as in :mod:`wgflow.analysis.rates`, cut at c >= 0; NaN below
        4 seeds. Where c is near 0 its interval is too wide rather than too narrow.

    Raises
    ------
    InputError
        If the law is unknown, shapes do not match, an error is negative or 0, or too few sizes have one (two depths and
        two widths; three of each for free exponents).
    """
    chosen, squares = lookup("law", law, LAWS), checked(squares, sizes)
    observed = cell_rms(squares, np.ones((1, len(squares))))[0]
    require(observed, chosen)
    best = solve(observed, sizes, chosen)
    drawn = np.full((1, chosen.parameters), np.nan)
    if len(squares) >= FEWEST_SEEDS:
        weight = resamples(len(squares), f"law {law} {name}", RESAMPLES)
        drawn = np.array([solve(each, sizes, chosen, best) for each in cell_rms(squares, weight)])
    fitted = predict(best, sizes, chosen)
    residual = float(np.nanmean((np.log(observed) - np.log(fitted)) ** 2))
    depth, width, *free = _intervals(best, drawn, len(squares))
    stated = tuple(Interval(each, each, each) for each in chosen.exponents or ())
    a, b, g = stated or free
    return Fit(law, depth, width, (a, b, g), observed, fitted, residual)


def checked(squares: Array, sizes: Sizes) -> Array:
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


def require(observed: Array, law: Law) -> None:
    """Raise InputError if a law has more to tell apart than the sizes with an error, (nL, nM), can."""
    there = ~np.isnan(observed)
    fewest = 2 if law.exponents else 3
    depths, widths = int(there.any(axis=1).sum()), int(there.any(axis=0).sum())
    if min(depths, widths) < fewest or there.sum() <= law.parameters:
        raise InputError(
            f"squares: expected {fewest} depths, {fewest} widths and more than {law.parameters} sizes with an error "
            f"for the law {law.name!r}, got {depths}, {widths} and {there.sum()}; enlarge the grid"
        )


def predict(parameters: Sequence[float] | Array, sizes: Sizes, law: Law) -> Array:
    """Rms error of a law, (nL, nM), at log c1, log c2 and, for free exponents, a, b, g."""
    point = np.asarray(parameters, float)
    depth, width = np.array(sizes.depths, float)[:, None], np.array(sizes.widths, float)[None, :]
    return np.asarray(np.exp(_logarithm(point, depth, width, sizes, law)[0]))


def solve(observed: Array, sizes: Sizes, law: Law, start: Array | None = None) -> Array:
    """Parameters of :func:`predict` that are nearest to an rms error (nL, nM) in logarithms, NaN being left out."""
    there = ~np.isnan(observed)
    grid = np.meshgrid(np.array(sizes.depths, float), np.array(sizes.widths, float), indexing="ij")
    depth, width = grid[0][there], grid[1][there]
    target = np.log(observed[there])
    starts = [start] if start is not None else _starts(target, depth, width, sizes, law)
    found = [
        least_squares(
            lambda p: _logarithm(p, depth, width, sizes, law)[0] - target,
            each,
            jac=lambda p: _logarithm(p, depth, width, sizes, law)[1],
            method="lm",
        )
        for each in starts
    ]
    return np.asarray(min(found, key=lambda each: float(each.cost)).x)


def _starts(target: Array, depth: Array, width: Array, sizes: Sizes, law: Law) -> list[Array]:
    """Starts at which a law with c1 = c2 exp(...) has the level of the data."""
    out = []
    for exponents in [law.exponents] if law.exponents else _FREE:
        for shares in _STARTS:
            point = np.array([*shares, *(() if law.exponents else exponents)])
            point[:2] += np.mean(target - _logarithm(point, depth, width, sizes, law)[0])
            out.append(point)
    return out


def _logarithm(p: Array, depth: Array, width: Array, sizes: Sizes, law: Law) -> tuple[Array, Array]:
    """Log rms at sizes of any one shape and its derivatives by the parameters, on a last axis."""
    a, b, g = law.exponents or p[2:]
    first, d_first = _depth_term(a, depth, sizes)
    second, by_b, by_g = _width_term(b, g, depth, width, sizes)
    if law.additive:
        second = second + 0.5 * np.log(sizes.dimension)
    power = 1.0 if law.additive else 2.0
    one, two = power * (p[0] + first), power * (p[1] + second)
    value = np.logaddexp(one, two)
    share = np.exp(one - value)
    columns = [share, 1.0 - share]
    if not law.exponents:
        columns += [share * d_first, (1.0 - share) * by_b, (1.0 - share) * by_g]
    return value / power, np.stack(np.broadcast_arrays(*columns), axis=-1)


def _depth_term(a: float, depth: Array, sizes: Sizes) -> tuple[Array, Array]:
    """Log of |L**-a - L_ref**-a| and its derivative by a."""
    value, slope = -a * np.log(depth), -np.log(depth)
    if sizes.reference is None:
        return value, slope
    ratio = np.log(depth / sizes.reference[0])
    share = np.exp(np.minimum(a * ratio, _STEEP))
    rest = 1.0 - share
    alive = np.abs(rest) > _FLAT
    rest = np.where(alive, rest, _FLAT)
    return value + np.log(np.abs(rest)), slope - np.where(alive, share * ratio / rest, 0.0)


def _width_term(b: float, g: float, depth: Array, width: Array, sizes: Sizes) -> tuple[Array, Array, Array]:
    """Log of (M**-2b L**-2g -+ M_ref**-2b L_ref**-2g)**(1/2) and its derivatives by b and g."""
    value = -b * np.log(width) - g * np.log(depth)
    if sizes.reference is None:
        return value, -np.log(width), -np.log(depth)
    by_depth, by_width = np.log(depth / sizes.reference[0]), np.log(width / sizes.reference[1])
    share = np.exp(np.minimum(2 * b * by_width + 2 * g * by_depth, _STEEP)) * (-1.0 if sizes.nested else 1.0)
    rest = np.maximum(1.0 + share, _FLAT)
    slope = np.where(rest > _FLAT, share / rest, 0.0)
    return value + 0.5 * np.log(rest), slope * by_width - np.log(width), slope * by_depth - np.log(depth)


def _intervals(best: Array, drawn: Array, seeds: int) -> list[Interval]:
    """Intervals of c1 and c2 and of the exponents after them."""
    value = np.concatenate([np.exp(best[:2]), best[2:]])
    if seeds < FEWEST_SEEDS:
        return [Interval(float(each), np.nan, np.nan) for each in value]
    again = np.concatenate([np.exp(drawn[:, :2]), drawn[:, 2:]], axis=1)
    reach = student(seeds) * standard_error(again, seeds)
    low = value - reach
    low[:2] = np.maximum(low[:2], 0.0)
    return [Interval(float(v), float(x), float(y)) for v, x, y in zip(value, low, value + reach, strict=True)]
