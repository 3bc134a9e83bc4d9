"""Paired comparison: Student's interval of the mean difference, and a sign-flip permutation test.

The two runs of a seed share random numbers, so that their difference varies less than either.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wgflow.base import rng
from wgflow.base.errors import InputError
from wgflow.base.types import Array
from wgflow.base.verdict import Claim, Verdict, first_that_holds
from wgflow.stats.convergence_rates import student_t

SIGNIFICANT = 0.05  # p-values below it are
_ALL = 14  # pairs up to which all sign flips are enumerated
_DRAWN = 2**14  # random sign flips for more pairs


class PairedTest(NamedTuple):
    """Result of a paired comparison.

    Attributes
    ----------
    pairs : int
        S.
    difference : float
        Mean of second minus first.
    low, high : float
        95% interval by Student's t with S - 1 degrees of freedom, for Gaussian differences; infinite for S = 1.
    p_signs : float
        Two-sided p-value of the sign-flip permutation test (Fisher 1935): the share of all 2**S sign flips whose mean
        is at least as far from 0. It assumes only that without an effect the differences are symmetric about 0.
    p_least : float
        Smallest possible p_signs, 2**(1 - S): 0.25 for three pairs, which can never be significant at 5%.
    lower, higher, equal : int
        Pairs whose second is lower, higher, or equal.
    """

    pairs: int
    difference: float
    low: float
    high: float
    p_signs: float
    p_least: float
    lower: int
    higher: int
    equal: int


def paired_test(first: Sequence[float], second: Sequence[float]) -> PairedTest:
    """Compare paired values by the difference second minus first.

    Parameters
    ----------
    first, second : sequence of float (S,)
        S >= 1.

    Raises
    ------
    InputError
        If their numbers differ, there are none, or a difference is not finite.
    """
    if len(first) != len(second) or not len(first):
        raise InputError(
            f"pairs: expected equally many numbers on both sides, at least one, got {len(first)} and {len(second)}"
        )
    difference = np.asarray(second, float) - np.asarray(first, float)
    if not np.isfinite(difference).all():
        raise InputError(f"pairs: expected finite numbers, got differences {difference.tolist()}")
    count, mean = len(difference), float(difference.mean())
    half = student_t(count) * float(difference.std(ddof=1)) / np.sqrt(count) if count > 1 else np.inf
    lower, higher = int((difference < 0).sum()), int((difference > 0).sum())
    least = max(2.0 ** (1 - count), 1 / (_DRAWN + 1))
    p_signs = _p_signs(difference)
    return PairedTest(count, mean, mean - half, mean + half, p_signs, least, lower, higher, count - lower - higher)


def _p_signs(difference: Array) -> float:
    count = len(difference)
    if count <= _ALL:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=count)))
    else:
        drawn = rng.uniform(0, "signs of pairs", (_DRAWN, count))
        signs = np.vstack([np.ones(count), np.where(drawn < 0.5, -1.0, 1.0)])  # with the observed signs, p is never 0
    means = np.abs(signs @ difference) / count
    return float(np.mean(means >= abs(difference.mean()) - 1e-12 * np.abs(difference).max(initial=1e-300)))


MEAN_FIELD = Claim(
    "mean_field_is_lower", "high end of the difference's 95% interval", "<", "",
    holds="mean-field is lower", fails="the difference is not significant",
    unknown="without a spread over pairs nothing is said of the difference",
)  # fmt: skip
VANILLA = Claim(
    "vanilla_is_lower", "its low end", ">", "",
    holds="vanilla is lower", fails=MEAN_FIELD.fails, unknown=MEAN_FIELD.unknown,
)  # fmt: skip
SIGNS = Claim(
    "signs_confirm", "p of the sign flips", "<", "",
    holds="the permutation test confirms it", fails="the permutation test does not confirm it",
    unknown="no permutation test was made",
)  # fmt: skip


def conclusion(test: PairedTest) -> list[Verdict]:
    """Conclusion of a paired comparison of vanilla with mean-field training; if significant, also of the signs.

    Equal differences, such as that of a single pair, have no spread and so no conclusion.
    """
    low, high = (test.low, test.high) if test.low < test.high < np.inf else (np.nan, np.nan)
    found = first_that_holds([MEAN_FIELD(high, 0.0), VANILLA(low, 0.0)])
    return [found, SIGNS(test.p_signs, SIGNIFICANT)] if found.holds else [found]
