"""Failure probability P(E > eps) over seeds, at each depth and width, with exact intervals and a phase diagram.

Intervals are those of Clopper and Pearson (1934, Biometrika 26:404), whose coverage is at least nominal for every
probability and number of seeds. For k failures in S seeds, with B the quantile function of the beta distribution,

    low = B(alpha/2; k, S - k + 1),   high = B(1 - alpha/2; k + 1, S - k),   upper = B(1 - alpha; k + 1, S - k).

Verdicts on single sizes hold at 5% each; the smallest of many that pass is falsely named far more often. The smallest
size is therefore named by a fixed-sequence test (Maurer, Hothorn and Lehmacher 1995): sizes in an order fixed before
the runs, each at 5%, until the first that is not shown to meet the target. A size that does not meet it is then named
with a probability of at most 5%, for any probabilities and any dependence between sizes: the first such size in the
order has to pass its own test.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, bdtrc, betaincinv

from wgflow.base.errors import InputError, describe
from wgflow.base.types import Array, Index
from wgflow.base.validate import real
from wgflow.stats.scaling_laws import Sizes, check_shape

ALPHA = 0.05
MEETS, FAILS, UNDECIDED, MISSING = "meets", "fails", "undecided", ""
_MAX_SEEDS = 2**20  # beyond which a size counts as undecidable


class FailureRates(NamedTuple):
    """Failures at each size, as arrays (nL, nM).

    Attributes
    ----------
    failed, seeds : ndarray, int64
        Seeds with E > eps, and all seeds; diverged runs (infinite E) count as failures.
    rate, low, high, upper : ndarray
        Their ratio, two-sided 95% interval and one-sided 95% bound of the probability; NaN without seeds.
    """

    failed: Index
    seeds: Index
    rate: Array
    low: Array
    high: Array
    upper: Array


class SequenceTest(NamedTuple):
    """Fixed-sequence test of P(E > eps) > eta at one size after the other.

    Attributes
    ----------
    order : tuple of (int, int)
        L and M_l of the sizes in the order of testing, from the largest down; sizes without seeds are left out.
    p : ndarray (n,)
        p-value P(X <= k; S, eta) of each on its own.
    passed : int
        Sizes before the first with p > 5%: those that are shown to meet the target.
    """

    order: tuple[tuple[int, int], ...]
    p: Array
    passed: int

    @property
    def smallest(self) -> tuple[int, int] | None:
        """The last size that passed; None if the first did not."""
        return self.order[self.passed - 1] if self.passed else None

    @property
    def stopped(self) -> tuple[int, int] | None:
        """The size at which the test stopped; None if all passed."""
        return self.order[self.passed] if self.passed < len(self.order) else None


class PhaseDiagram(NamedTuple):
    """Phase diagram: which sizes meet P(E > eps) <= eta.

    Attributes
    ----------
    verdict : ndarray (nL, nM), str
        ``meets`` if the one-sided upper bound is at most eta, ``fails`` if the two-sided interval lies above eta,
        ``undecided``, or empty without seeds. Of each size on its own.
    needed : ndarray (nL, nM)
        Seeds that would decide at the observed failure rate: S if decided already; infinite if the rate is so close to
        eta that a million seeds do not suffice.
    tested : SequenceTest
        Test along :func:`order_of_testing`, from which alone follows the smallest size shown to meet the target.
    """

    verdict: NDArray[np.str_]
    needed: Array
    tested: SequenceTest

    @property
    def smallest(self) -> tuple[int, int] | None:
        """L and M_l of the smallest size shown to meet the target, false with a probability of at most 5%."""
        return self.tested.smallest


class MonotonicityViolation(NamedTuple):
    """Two neighbouring sizes, the larger of which fails more often.

    Attributes
    ----------
    smaller, larger : tuple of int
        Their L and M_l.
    worse, better : int
        Seeds that fail only at the larger size, and only at the smaller.
    p : float
        p-value of the exact McNemar test (sign test on the seeds that differ), with Bonferroni correction for the
        number of neighbours on the grid.
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
    """Two-sided interval of a probability after ``count`` events in ``seeds`` trials, of the same shape."""
    k, n = np.asarray(count, float), np.asarray(seeds, float)
    with np.errstate(invalid="ignore"):  # quantiles with a parameter 0 are NaN, and not used
        low = np.where(k > 0, betaincinv(k, n - k + 1, alpha / 2), 0.0)
        high = np.where(k < n, betaincinv(k + 1, n - k, 1 - alpha / 2), 1.0)
    return low, high


def upper_bound(count: ArrayLike, seeds: ArrayLike) -> Array:
    """One-sided upper bound of a probability; arguments as for :func:`clopper_pearson`."""
    return clopper_pearson(count, seeds, 2 * ALPHA)[1]


def failure_rates(energies: Array, sizes: Sizes, eps: float) -> FailureRates:
    """Failure rates with intervals.

    Parameters
    ----------
    energies : ndarray (S, nL, nM)
        E of each seed and size; NaN for a missing run, infinity for a diverged one.
    sizes : Sizes
        L and M_l.
    eps : float
        Target loss, > 0; E = eps meets it.

    Raises
    ------
    InputError
        If eps <= 0 or the shape does not fit.
    """
    level = real("target.eps", eps, above=0.0)
    values = check_shape("energies", energies, sizes)
    seeds, count = (~np.isnan(values)).sum(axis=0), (values > level).sum(axis=0)
    low, high = clopper_pearson(count, seeds)
    present = seeds > 0
    rate = np.divide(count, seeds, out=np.full(count.shape, np.nan), where=present)
    low, high, upper = (np.where(present, bound, np.nan) for bound in (low, high, upper_bound(count, seeds)))
    return FailureRates(count, seeds, rate, low, high, upper)


def min_seeds(eta: float) -> int:
    """Smallest S for which no failure in S seeds bounds the probability by eta: (1 - eta)**S <= 5%."""
    return math.ceil(math.log(ALPHA) / math.log1p(-eta))


def phase_diagram(rates: FailureRates, sizes: Sizes, eta: float) -> PhaseDiagram:
    """Decide at every size whether P(E > eps) <= eta.

    Parameters
    ----------
    rates, sizes : FailureRates, Sizes
        Failure rates at these L and M_l.
    eta : float
        0 < eta < 1.

    Returns
    -------
    PhaseDiagram
        At each size the probability of a false ``meets`` is at most 5%, of a false ``fails`` at most 2.5%; the
        probability that the smallest size is falsely named is at most 5%.

    Raises
    ------
    InputError
        If eta is out of range, or too small for this number of seeds even without failures.
    """
    _, eta = check_target(1.0, eta)
    most = int(rates.seeds.max())
    if most < min_seeds(eta):
        raise InputError(
            f"seeds: expected at least {min_seeds(eta)} for target.eta = {eta:g}, got {most}: even without failures "
            f"they bound the probability only by {1 - ALPHA ** (1 / max(most, 1)):.3g}; run more or raise target.eta"
        )
    verdict = np.select(
        [rates.seeds == 0, rates.upper <= eta, rates.low > eta], [MISSING, MEETS, FAILS], default=UNDECIDED
    )
    needed = rates.seeds.astype(float)
    for cell in zip(*np.nonzero(verdict == UNDECIDED), strict=True):
        needed[cell] = _needed(int(rates.failed[cell]), int(rates.seeds[cell]), eta)
    return PhaseDiagram(verdict, needed, sequence_test(rates, sizes, eta))


def order_of_testing(sizes: Sizes) -> list[tuple[int, int]]:
    """Places (i, j) of the sizes that are tested, from the largest L and M_l to the smallest.

    Each step takes the next smaller L or M_l, whichever has more of its values left, of equal shares the smaller L. The
    order depends on the grid alone. It leaves out most shapes of as many particles: every further size in the order
    would have to pass before a smaller one could be named.
    """
    i, j = len(sizes.depths) - 1, len(sizes.widths) - 1
    order, (deepest, widest) = [(i, j)], (i, j)
    while i or j:
        if i * widest >= j * deepest:
            i -= 1
        else:
            j -= 1
        order.append((i, j))
    return order


def sequence_test(rates: FailureRates, sizes: Sizes, eta: float) -> SequenceTest:
    """Test sizes along :func:`order_of_testing`, each at 5%, until one is not shown to meet P(E > eps) <= eta."""
    order = [cell for cell in order_of_testing(sizes) if rates.seeds[cell]]
    p = np.array([bdtr(float(rates.failed[cell]), int(rates.seeds[cell]), eta) for cell in order])
    passed = next((k for k, chance in enumerate(p) if not chance <= ALPHA), len(order))
    return SequenceTest(tuple((sizes.depths[i], sizes.widths[j]) for i, j in order), p, passed)


def detectable(seeds: int, eta: float, power: float = 0.8) -> float:
    """Failure probability up to which a size passes the test of P(E > eps) <= eta with this power.

    0 if no number of failures in so many seeds would pass.
    """
    allowed = np.flatnonzero(upper_bound(np.arange(seeds), np.full(seeds, seeds)) <= eta)
    if not len(allowed):
        return 0.0
    most = int(allowed[-1])
    return float(betaincinv(most + 1, seeds - most, 1.0 - power))


def _needed(count: int, seeds: int, eta: float) -> float:
    """Fewest seeds that decide at the failure rate count/seeds."""
    first = seeds
    while count != eta * seeds and first < _MAX_SEEDS:
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
    """Neighbouring sizes in L or M_l of which the larger fails more often.

    This is possible, since E may lie below its limit at small sizes, but then the smallest size that meets a target
    means little. The comparison is paired, since runs of one seed share random numbers.

    Raises
    ------
    InputError
        As :func:`failure_rates`.
    """
    level, values = real("target.eps", eps, above=0.0), check_shape("energies", energies, sizes)
    failed, passed = values > level, values <= level  # neither without a run
    rows, columns = len(sizes.depths), len(sizes.widths)
    pairs = [((i, j), (i + 1, j)) for i in range(rows - 1) for j in range(columns)]
    pairs += [((i, j), (i, j + 1)) for i in range(rows) for j in range(columns - 1)]
    out = []
    for small, large in pairs:
        worse = int((failed[:, *large] & passed[:, *small]).sum())
        better = int((failed[:, *small] & passed[:, *large]).sum())
        if worse > better:
            chance = float(bdtrc(worse - 1, worse + better, 0.5))
            smaller, larger = ((sizes.depths[i], sizes.widths[j]) for i, j in (small, large))
            out.append(MonotonicityViolation(smaller, larger, worse, better, min(1.0, chance * len(pairs))))
    return out
