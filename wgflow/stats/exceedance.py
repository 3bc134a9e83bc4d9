"""How often a network of a size misses a target: P(E > eps) over seeds, and what S seeds can say of it.

Intervals are those of Clopper and Pearson (1934, Biometrika 26:404), which cover at least as often as they say for
every probability and every number of seeds. For k of S failures, with B the quantiles of beta laws,

    low = B(alpha/2; k, S - k + 1),   high = B(1 - alpha/2; k + 1, S - k),   upper = B(1 - alpha; k + 1, S - k).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, bdtrc
from scipy.stats import beta

from wgflow.base.errors import InputError, describe
from wgflow.base.types import Array, Index
from wgflow.base.validate import real
from wgflow.stats.scaling_laws import Sizes

ALPHA = 0.05
MEETS, FAILS, UNDECIDED, MISSING = "meets", "fails", "undecided", ""
_MOST = 2**20  # seeds beyond which nobody will go to decide


class FailureRates(NamedTuple):
    """Failures at every size, arrays (nL, nM).

    Attributes
    ----------
    failed, seeds : ndarray, int64
        Seeds with E > eps, and seeds there are; diverged ones (E infinite) have failed.
    rate : ndarray
        Their quotient, NaN without seeds.
    low, high : ndarray
        Two-sided 95% interval of the probability.
    upper : ndarray
        One-sided 95% bound of the probability.
    """

    failed: Index
    seeds: Index
    rate: Array
    low: Array
    high: Array
    upper: Array


class PhaseDiagram(NamedTuple):
    """The phase diagram: which sizes meet P(E > eps) <= eta.

    Attributes
    ----------
    verdict : ndarray (nL, nM), str
        ``meets`` if the one-sided upper bound is at most eta, ``fails`` if the two-sided interval lies above eta,
        ``undecided``, or empty without seeds.
    needed : ndarray (nL, nM)
        Seeds that would decide if failures went on at the rate observed: S if decided already; infinite if that rate
        is eta or so near to it that a million do not do.
    smallest : tuple of int or None
        L and M_l of the size that meets the target with the smallest L M_l, of several the one of smallest L.
    """

    verdict: NDArray[np.str_]
    needed: Array
    smallest: tuple[int, int] | None


class MonotonicityViolation(NamedTuple):
    """Two neighbours on the grid of which the larger fails more often.

    Attributes
    ----------
    smaller, larger : tuple of int
        Their L and M_l.
    worse, better : int
        Seeds that fail only in the larger, and only in the smaller.
    p : float
        Probability of so many worse ones by chance: the exact sign test on seeds that differ (McNemar), times the
        number of neighbours on the grid, at most 1.
    """

    smaller: tuple[int, int]
    larger: tuple[int, int]
    worse: int
    better: int
    p: float


def check_target(eps: object, eta: object) -> tuple[float, float]:
    """Check a target P(E > eps) <= eta; raises InputError unless eps > 0 and 0 < eta < 1."""
    level = real("target.eps", eps, above=0.0)
    probability = real("target.eta", eta, above=0.0)
    if probability >= 1.0:
        raise InputError(f"target.eta: expected a probability with 0 < eta < 1, got {describe(eta)}")
    return level, probability


def clopper_pearson(count: ArrayLike, seeds: ArrayLike, alpha: float = ALPHA) -> tuple[Array, Array]:
    """Two-sided interval of a probability of which ``count`` of ``seeds`` came up; arrays of one shape."""
    k, n = np.asarray(count, float), np.asarray(seeds, float)
    with np.errstate(invalid="ignore"):  # beta laws with a parameter 0 are NaN, and not used
        low = np.where(k > 0, beta.ppf(alpha / 2, k, n - k + 1), 0.0)
        high = np.where(k < n, beta.ppf(1 - alpha / 2, k + 1, n - k), 1.0)
    return low, high


def upper_bound(count: ArrayLike, seeds: ArrayLike, alpha: float = ALPHA) -> Array:
    """One-sided upper bound of a probability, as :func:`clopper_pearson`."""
    return clopper_pearson(count, seeds, 2 * alpha)[1]


def failure_rates(energies: Array, sizes: Sizes, eps: float) -> FailureRates:
    """Count the seeds that miss a loss, with intervals.

    Parameters
    ----------
    energies : ndarray (S, nL, nM)
        E of every seed and size; NaN for a missing run, infinity for one that diverged.
    sizes : Sizes
        L and M_l.
    eps : float
        The loss to reach, > 0; E = eps has reached it.

    Raises
    ------
    InputError
        If eps <= 0 or the shape does not fit.
    """
    level = real("target.eps", eps, above=0.0)
    values = check_energies(energies, sizes)
    seeds = (~np.isnan(values)).sum(axis=0)
    count = (values > level).sum(axis=0)
    low, high = clopper_pearson(count, seeds)
    there = seeds > 0
    rate = np.divide(count, seeds, out=np.full(count.shape, np.nan), where=there)
    low, high, upper = (np.where(there, each, np.nan) for each in (low, high, upper_bound(count, seeds)))
    return FailureRates(count, seeds, rate, low, high, upper)


def check_energies(energies: Array, sizes: Sizes) -> Array:
    """Energies as an array (S, nL, nM); raises InputError if they are none."""
    values = np.array(energies, dtype=float)
    shape = (len(sizes.depths), len(sizes.widths))
    if values.ndim != 3 or values.shape[1:] != shape or len(values) == 0:
        raise InputError(f"energies: expected shape (seeds, {shape[0]}, {shape[1]}), got {values.shape}")
    return values


def min_seeds(eta: float) -> int:
    """Seeds that bound a probability by eta if none fails: the least S with (1 - eta)**S <= 5%."""
    return math.ceil(math.log(ALPHA) / math.log1p(-eta))


def phase_diagram(found: FailureRates, sizes: Sizes, eta: float) -> PhaseDiagram:
    """Decide at every size whether P(E > eps) <= eta.

    Parameters
    ----------
    found : Failures
        Of these sizes.
    sizes : Sizes
        L and M_l.
    eta : float
        0 < eta < 1.

    Returns
    -------
    Phase
        At one size a false ``meets`` has probability at most 5%, a false ``fails`` at most 2.5%.

    Raises
    ------
    InputError
        If eta is outside its range, or so small that not even a size without failures could be known to meet it.
    """
    _, eta = check_target(1.0, eta)
    most = int(found.seeds.max())
    if most < min_seeds(eta):
        raise InputError(
            f"seeds: expected at least {min_seeds(eta)} for target.eta = {eta:g}, got {most}: without any failure "
            f"{most} bound the probability by {1 - ALPHA ** (1 / max(most, 1)):.3g} only; run more or raise target.eta"
        )
    verdict = np.select(
        [found.seeds == 0, found.upper <= eta, found.low > eta], [MISSING, MEETS, FAILS], default=UNDECIDED
    )
    needed = found.seeds.astype(float)
    for cell in zip(*np.nonzero(verdict == UNDECIDED), strict=True):
        needed[cell] = _needed(int(found.failed[cell]), int(found.seeds[cell]), eta)
    area = np.outer(sizes.depths, sizes.widths)
    meeting = [(area[i, j], sizes.depths[i], sizes.widths[j]) for i, j in np.argwhere(verdict == MEETS)]
    return PhaseDiagram(verdict, needed, min(meeting)[1:] if meeting else None)


def _needed(count: int, seeds: int, eta: float) -> float:
    """Fewest seeds that decide if failures go on at the rate count/seeds."""
    first = seeds
    while count != eta * seeds and first < _MOST:
        n = np.arange(first, 2 * first)
        if count < eta * seeds:  # the upper bound is at most eta where P(X <= k; eta) <= alpha
            decided = bdtr(-(-count * n // seeds), n, eta) <= ALPHA
        else:
            k = count * n // seeds
            decided = (k > 0) & (bdtrc(np.maximum(k - 1, 0), n, eta) < ALPHA / 2)
        if decided.any():
            return float(n[np.argmax(decided)])
        first *= 2
    return math.inf


def monotonicity_violations(energies: Array, sizes: Sizes, eps: float) -> list[MonotonicityViolation]:
    """Find where a larger network fails more often than its smaller neighbour in L or in M_l.

    Nothing forbids it: E may lie below its limit at small sizes. But the smallest size that meets a target says little
    where larger ones do not, so it is reported, with the probability that it is chance. Seeds are compared with
    themselves, since runs of one seed have random numbers in common.

    Raises
    ------
    InputError
        As :func:`failure_rates`.
    """
    level, values = real("target.eps", eps, above=0.0), check_energies(energies, sizes)
    failed, there = values > level, ~np.isnan(values)
    rows, columns = len(sizes.depths), len(sizes.widths)
    pairs = [((i, j), (i + 1, j)) for i in range(rows - 1) for j in range(columns)]
    pairs += [((i, j), (i, j + 1)) for i in range(rows) for j in range(columns - 1)]
    out = []
    for small, large in pairs:
        both = there[:, *small] & there[:, *large]
        worse = int((both & failed[:, *large] & ~failed[:, *small]).sum())
        better = int((both & failed[:, *small] & ~failed[:, *large]).sum())
        if worse > better:
            chance = float(bdtrc(worse - 1, worse + better, 0.5))
            names = [(sizes.depths[i], sizes.widths[j]) for i, j in (small, large)]
            out.append(MonotonicityViolation(names[0], names[1], worse, better, min(1.0, chance * len(pairs))))
    return out
