"""Failure probabilities: closed forms, exact coverage by binomial sums, verdicts by brute force."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom

from wgflow.base.errors import InputError
from wgflow.stats import exceedance
from wgflow.stats.exceedance import (
    FAILS,
    MEETS,
    UNDECIDED,
    check_target,
    clopper_pearson,
    detectable,
    failure_rates,
    min_seeds,
    monotonicity_violations,
    order_of_testing,
    phase_diagram,
    sequence_test,
    upper_bound,
)
from wgflow.stats.scaling_laws import Sizes

SIZES = Sizes((2, 4, 8), (4, 8))


def energies(counts, seeds):
    """E = 2 for the first of the seeds of each size, and 0.5 for the others; the target is 1."""
    counts = np.asarray(counts)
    return np.where(np.arange(seeds)[:, None, None] < counts, 2.0, 0.5)


@pytest.mark.parametrize("seeds", [1, 5, 30])
def test_closed_forms_at_the_ends(seeds):
    low, high = clopper_pearson([0, seeds], [seeds, seeds])
    assert low[0] == 0
    assert high[1] == 1
    assert high[0] == pytest.approx(1 - 0.025 ** (1 / seeds))
    assert low[1] == pytest.approx(0.025 ** (1 / seeds))
    assert upper_bound(0, seeds) == pytest.approx(1 - 0.05 ** (1 / seeds))
    assert upper_bound(seeds, seeds) == 1


@pytest.mark.parametrize("seeds", [3, 10, 40])
def test_coverage_is_exact(seeds):
    """Sums of the binomial law at 99 probabilities; the normal interval, which is often used, falls far below."""
    k, p = np.arange(seeds + 1), np.linspace(0.01, 0.99, 99)[:, None]
    mass = binom.pmf(k, seeds, p)

    def coverage(low, high):
        return (mass * ((low <= p) & (p <= high))).sum(axis=1)

    two_sided = coverage(*clopper_pearson(k, np.full_like(k, seeds)))
    one_sided = coverage(0.0, upper_bound(k, np.full_like(k, seeds)))
    assert two_sided.min() >= 0.95
    assert 0.95 <= one_sided.min() < 0.96  # attained just below each bound
    wide = 1.96 * np.sqrt(k / seeds * (1 - k / seeds) / seeds)
    assert coverage(k / seeds - wide, k / seeds + wide).min() < 0.5


def test_counts_of_missing_and_diverged_runs():
    values = np.full((4, 3, 2), 0.5)
    values[0, 0, 0], values[1, 0, 0], values[2, 0, 0] = np.nan, np.inf, 1.0
    values[:, 2, 1] = np.nan
    found = failure_rates(values, SIZES, 1.0)
    assert found.failed[0, 0] == 1
    assert found.seeds[0, 0] == 3
    assert found.rate[0, 0] == pytest.approx(1 / 3)
    assert found.seeds[2, 1] == 0
    assert np.isnan([each[2, 1] for each in found[2:]]).all()
    assert phase_diagram(found, SIZES, 0.6).verdict[2, 1] == ""


def test_verdicts_and_the_smallest_size():
    found = failure_rates(energies([[60, 12], [4, 0], [0, 0]], 60), SIZES, 1.0)
    result = phase_diagram(found, SIZES, 0.1)
    assert result.verdict.tolist() == [[FAILS, FAILS], [UNDECIDED, MEETS], [MEETS, MEETS]]
    assert result.smallest == (4, 8)  # 8 x 4 has as many, and more layers
    assert (result.needed[result.verdict != UNDECIDED] == 60).all()
    assert phase_diagram(failure_rates(energies(np.full((3, 2), 60), 60), SIZES, 1.0), SIZES, 0.1).smallest is None


GRID = Sizes((1, 2, 4, 8, 16, 32), (1, 2, 4, 8, 16, 32))
BLOCKS = np.multiply.outer(GRID.depths, GRID.widths)
ETA = 0.1


def falsely_named(rng, probability, seeds, studies, shared=False):
    """In how many studies the smallest size that is named misses the target with more than ETA."""
    false = 0
    for _ in range(studies):
        drawn = rng.uniform(size=(seeds, 1, 1) if shared else (seeds, 6, 6))
        values = np.where(drawn < probability, 2.0, 0.5)
        named = phase_diagram(failure_rates(values, GRID, 1.0), GRID, ETA).smallest
        false += named is not None and probability[GRID.depths.index(named[0]), GRID.widths.index(named[1])] > ETA
    return false


@pytest.mark.parametrize(
    ("probability", "shared"),
    [
        (np.full((6, 6), ETA + 1e-6), False),  # the worst case of a pointwise test: false in 72% of studies
        (np.full((6, 6), ETA + 1e-6), True),
        (np.where(BLOCKS > 64, 0.0, np.where(BLOCKS == 64, ETA + 0.005, 0.9)), False),  # plausible: 14% pointwise
        (np.where(BLOCKS > 64, 0.0, np.where(BLOCKS >= 32, ETA + 1e-6, 0.9)), True),
    ],
)
@pytest.mark.parametrize("seeds", [32, 64])
def test_the_smallest_size_is_falsely_named_in_5_percent_at_most(rng, monkeypatch, probability, shared, seeds):
    """A test with a rate of 5% fails each of these eight counts with a probability of at most 0.1%."""
    monkeypatch.setattr(exceedance, "_needed", lambda *cell: math.inf)  # takes long, and does not matter here
    assert falsely_named(rng, probability, seeds, 400, shared) <= binom.ppf(0.999, 400, 0.05)


def test_the_sequence_has_power(rng, monkeypatch):
    """Probabilities that fall with L M_l as in the bundled study: 32 or 64 particles are named in most studies."""
    monkeypatch.setattr(exceedance, "_needed", lambda *cell: math.inf)
    probability = np.select([BLOCKS >= 64, BLOCKS == 32, BLOCKS == 16], [0.0, 0.02, 0.3], 0.9)
    named = []
    for _ in range(200):
        values = np.where(rng.uniform(size=(32, 6, 6)) < probability, 2.0, 0.5)
        named.append(math.prod(phase_diagram(failure_rates(values, GRID, 1.0), GRID, ETA).smallest))
    assert set(named) == {32, 64}
    chance = 0.98**32  # of no failure in 32 seeds, which passes 32 particles
    assert abs(named.count(32) - 200 * chance) < 4 * math.sqrt(200 * chance * (1 - chance))  # misses in 1 of 16,000


def test_the_order_of_testing_is_one_path_of_the_grid():
    order = order_of_testing(GRID)
    assert order[0] == (5, 5)
    assert order[-1] == (0, 0)
    assert all(sum(a) == sum(b) + 1 and b[0] <= a[0] and b[1] <= a[1] for a, b in itertools.pairwise(order))
    assert max(abs(i - j) for i, j in order) == 1  # shapes as square as the grid allows
    assert order_of_testing(SIZES) == [(2, 1), (1, 1), (1, 0), (0, 0)]


def test_the_sequence_stops_at_the_first_that_is_not_shown():
    counts = np.array([[60, 0], [4, 0], [0, 0]])  # (4, 4) has 4 of 60; later sizes do not count, whatever they are
    found = sequence_test(failure_rates(energies(counts, 60), SIZES, 1.0), SIZES, 0.1)
    assert found.order == ((8, 8), (4, 8), (4, 4), (2, 4))
    np.testing.assert_allclose(found.p, binom.cdf([0, 0, 4, 60], 60, 0.1))
    assert (found.passed, found.smallest, found.stopped) == (2, (4, 8), (4, 4))
    everything = sequence_test(failure_rates(energies(0 * counts, 60), SIZES, 1.0), SIZES, 0.1)
    assert (everything.smallest, everything.stopped) == ((2, 4), None)
    none = sequence_test(failure_rates(energies([[0, 0], [0, 0], [0, 60]], 60), SIZES, 1.0), SIZES, 0.1)
    assert (none.smallest, none.stopped) == (None, (8, 8))
    values = energies(counts, 60)
    values[:, 1, 0] = np.nan  # never run: the sequence goes on without it
    assert sequence_test(failure_rates(values, SIZES, 1.0), SIZES, 0.1).order == ((8, 8), (4, 8), (2, 4))


def test_what_so_many_seeds_detect():
    assert detectable(32, 0.1) == pytest.approx(1 - 0.8 ** (1 / 32))
    assert detectable(28, 0.1) == 0  # even without a failure
    for seeds in (48, 64, 128):
        most = max(k for k in range(seeds) if upper_bound(k, seeds) <= 0.1)
        assert binom.cdf(most, seeds, detectable(seeds, 0.1)) == pytest.approx(0.8)


@pytest.mark.parametrize(("count", "seeds", "eta"), [(1, 30, 0.1), (0, 8, 0.1), (5, 30, 0.1), (7, 50, 0.1)])
def test_seeds_that_would_decide(count, seeds, eta):
    """Against trying every number in turn with the intervals themselves."""
    values = energies([[count, count], [0, 0], [0, 0]], seeds)
    values = np.concatenate([values, np.full((60, 3, 2), np.nan)])
    values[seeds:, 2, 1] = 0.5  # another size has seeds enough
    result = phase_diagram(failure_rates(values, SIZES, 1.0), SIZES, eta)
    n = seeds
    while True:
        up, down = math.ceil(count * n / seeds - 1e-9), math.floor(count * n / seeds + 1e-9)
        if (upper_bound(up, n) <= eta) if count < eta * seeds else (clopper_pearson(down, n)[0] > eta):
            break
        n += 1
    assert result.needed[0, 0] == n > seeds


def test_a_rate_of_eta_is_never_decided():
    found = failure_rates(energies([[15, 0], [0, 0], [0, 0]], 60), SIZES, 1.0)
    assert math.isinf(phase_diagram(found, SIZES, 0.25).needed[0, 0])


def test_fewest_seeds_is_the_least():
    for eta in (0.5, 0.1, 0.01):
        assert (1 - eta) ** min_seeds(eta) <= 0.05 < (1 - eta) ** (min_seeds(eta) - 1)


def test_rises_are_found_and_chance_is_not(rng):
    values = energies([[0, 0], [0, 0], [0, 20]], 30)
    found = monotonicity_violations(values, SIZES, 1.0)
    assert {(each.smaller, each.larger) for each in found} == {((4, 8), (8, 8)), ((8, 4), (8, 8))}
    assert all(each.worse == 20 and each.better == 0 for each in found)
    assert found[0].p == pytest.approx(7 * 0.5**20)
    assert monotonicity_violations(energies([[30, 20], [20, 10], [5, 0]], 30), SIZES, 1.0) == []
    claimed = (
        0  # 100 grids without any order: a p below 5% somewhere has probability 5% at most, in over 12 of 100 0.1%
    )
    for _ in range(100):
        claimed += any(each.p < 0.05 for each in monotonicity_violations(rng.uniform(0, 2, (20, 3, 2)), SIZES, 1.0))
    assert claimed <= 12


def test_what_is_refused():
    values = energies(np.zeros((3, 2)), 20)
    for eps in (0.0, -1.0, np.nan, "1"):
        with pytest.raises(InputError, match=r"target.eps: expected a finite number > 0"):
            failure_rates(values, SIZES, eps)
    for eta in (0.0, 1.0, -0.5, 2.0):
        with pytest.raises(InputError, match=r"target.eta: expected"):
            check_target(1.0, eta)
    with pytest.raises(InputError, match=r"at least 59 for target.eta = 0.05, got 20"):
        phase_diagram(failure_rates(values, SIZES, 1.0), SIZES, 0.05)
    with pytest.raises(InputError, match=r"expected shape \(seeds, 3, 2\)"):
        failure_rates(values[:, :2], SIZES, 1.0)
    with pytest.raises(InputError, match="at least two increasing sizes"):
        failure_rates(values, Sizes((2,), (4, 8)), 1.0)
