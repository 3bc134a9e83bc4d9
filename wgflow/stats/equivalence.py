"""Equivalence test: whether an exponent is the one that theory predicts, within a margin.

A decay that is not significant proves nothing, since noise can hide it. Equivalence holds if the whole confidence
interval of the exponent lies within a margin stated beforehand, and is refuted if the interval lies outside.
Networks whose layers share one path of particles (Ding et al., arXiv:2110.02926, Theorem 5.1) fluctuate as
M_l**(-1/2) whatever L is; with independent layers (Chizat, arXiv:2509.10167) the exponent in L is 1/2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.validate import real, whole
from wgflow.stats.convergence_rates import MIN_SEEDS, RESAMPLES, Interval, Statistic, bootstrap_weights, fit_exponent

MIN_SIZES = 3
MARGIN = 0.1


class Equivalence(NamedTuple):
    """Whether an exponent equals its theoretical value, up to a margin.

    Attributes
    ----------
    exponent : Interval
        r of C L**(-r), 95%.
    expected, margin : float
        The hypothesis is |r - expected| <= margin.
    verdict : str
        ``holds`` if the interval lies within the margin, ``refuted`` if it lies outside, otherwise ``undecided``.
    """

    exponent: Interval
    expected: float
    margin: float
    verdict: str

    def __bool__(self) -> bool:
        return self.verdict == "holds"


def exponent_equivalence(
    sizes: Sequence[int],
    seeds: int,
    statistic: Statistic,
    name: str = "",
    expected: float = 0.0,
    margin: float = MARGIN,
) -> Equivalence:
    """Test whether the exponent of a statistic equals an expected one, by default 0, up to a margin.

    Parameters
    ----------
    sizes : sequence of int (n,)
        L, increasing, at least three, at one M_l.
    seeds : int
        S >= 4, number of seeds.
    statistic : callable
        Maps weights of the seeds (B, S) to values (B, n) > 0, typically
        :func:`wgflow.stats.convergence_rates.standard_deviation`.
    name : str, optional
        Name of the random stream.
    expected : float, optional
        Theoretical exponent.
    margin : float, optional
        Largest difference that counts as equal, > 0.

    Returns
    -------
    Equivalence
        The probabilities of a false ``holds`` and of a false ``refuted`` are at most 2.5% each, since one end of a 95%
        interval would have to lie on the wrong side.

    Raises
    ------
    InputError
        If there are too few sizes or seeds, the sizes do not increase, or a value is not positive.
    """
    margin, expected = real("margin", margin, above=0.0), real("expected", expected)
    seeds = whole("seeds", seeds, MIN_SEEDS)
    n = np.asarray(sizes, float)
    if len(n) < MIN_SIZES or (n <= 0).any() or (np.diff(n) <= 0).any():
        raise InputError(f"sizes: expected at least {MIN_SIZES} increasing sizes, got {list(sizes)}")
    value = statistic(np.ones((1, seeds)))[0]
    if not (value > 0).all():
        raise InputError(f"statistic: expected positive values, got {value.tolist()}; an exponent needs logarithms")
    exponent, valid = fit_exponent(n, value, statistic(bootstrap_weights(seeds, name)), seeds)
    if valid < RESAMPLES / 2:
        return Equivalence(exponent._replace(low=np.nan, high=np.nan), expected, margin, "undecided")
    low, high = exponent.low - expected, exponent.high - expected
    inside, outside = low >= -margin and high <= margin, low > margin or high < -margin
    return Equivalence(exponent, expected, margin, "holds" if inside else "refuted" if outside else "undecided")
