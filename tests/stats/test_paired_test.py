"""Pairs of numbers: intervals, the test over signs, and verdicts that claim no more than they can."""

import itertools

import numpy as np
import pytest
from scipy import stats
from verdict_checks import made_false, made_true

from wgflow.stats.paired_test import conclusion, paired_test


@pytest.mark.parametrize("count", [2, 3, 6, 11])
def test_intervals_and_p_values_against_scipy_and_all_signs(count, rng):
    first, second = rng.normal(size=(2, count))
    found, difference = paired_test(first, second), second - first
    wanted = stats.ttest_rel(second, first).confidence_interval(0.95)
    np.testing.assert_allclose((found.low, found.high), wanted)
    means = [abs(np.dot(signs, difference)) for signs in itertools.product((-1, 1), repeat=count)]
    assert found.p_signs == pytest.approx(np.mean(np.array(means) >= abs(difference.sum()) * (1 - 1e-12)))
    assert found.p_least == 2.0 ** (1 - count) <= found.p_signs


def test_verdicts():
    better, confirmed = conclusion(paired_test([0] * 6, [-1, -1.1, -0.9, -1, -1.05, -0.95]))
    assert made_true(better, "mean_field_is_lower").startswith("mean-field is lower (high end of")
    made_true(confirmed, "signs_confirm")
    _, doubtful = conclusion(paired_test([0] * 3, [-1, -1.1, -0.9]))
    assert "does not confirm it (p of the sign flips = 0.25 ≥ 0.05)" in made_false(doubtful, "signs_confirm")
    made_true(conclusion(paired_test([0] * 6, [1, 1.1, 0.9, 1, 1.05, 0.95])), "vanilla_is_lower")
    (neither,) = conclusion(paired_test([0] * 3, [-1, 1, 0.5]))
    assert "not significant" in made_false(neither, "mean_field_is_lower")
    made_false(neither, "vanilla_is_lower")
    for first, second in (([1, 2], [0.9375, 1.9375]), ([1], [2])):  # equal differences, and one alone, have no spread
        (unknown,) = conclusion(paired_test(first, second))
        assert (unknown.holds, "nothing is said" in unknown.sentence) == (None, True)
