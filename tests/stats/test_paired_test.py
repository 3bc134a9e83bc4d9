"""Pairs of numbers: intervals, the test over signs, and verdicts that claim no more than they can."""

import itertools

import numpy as np
import pytest
from scipy import stats

from wgflow.base.errors import InputError
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
    assert conclusion(paired_test([0] * 6, [-1, -1.1, -0.9, -1, -1.05, -0.95])) == "mean-field is lower"
    assert "does not confirm" in conclusion(paired_test([0] * 3, [-1, -1.1, -0.9]))
    assert "not significant" in conclusion(paired_test([0] * 3, [-1, 1, 0.5]))
    assert "not significant" in conclusion(paired_test([1, 2], [0.9375, 1.9375]))  # no spread


@pytest.mark.parametrize(("first", "second"), [([], []), ([1.0], [1.0, 2.0]), ([np.nan, 1.0], [1.0, 2.0])])
def test_pairs_that_are_none_are_refused(first, second):
    with pytest.raises(InputError, match="pairs: expected"):
        paired_test(first, second)
