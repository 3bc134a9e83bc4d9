"""Powers of two that keep squares representable: exact, and 1 for numbers of ordinary size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgflow.base.scaling import column_spread, comparable, norms, unit

sizes = st.floats(0.0, allow_nan=False, allow_infinity=False)


@given(size=sizes)
def test_a_unit_is_a_power_of_two_near_the_size(size):
    found = float(unit(size))
    assert np.frexp(found)[0] == 0.5
    if size == 0 or 1e-70 < size < 1e70:
        assert found == 1.0
    else:
        assert 2.0**-251 < size / found < 2.0**251
        assert size / found * found == size


@given(sizes=st.lists(sizes, min_size=1, max_size=4))
def test_norms_of_rows_of_any_size(sizes):
    """Of a row (3 x, 4 x) it is 5 x, as far as that can be held."""
    x = np.minimum(np.array(sizes), 3e307)
    np.testing.assert_allclose(norms(np.column_stack([3 * x, 4 * x])), 5 * x, rtol=1e-15, atol=1e-323)


def test_ordinary_clouds_stay_as_they_are(rng):
    x, y = rng.normal(size=(5, 2)), 1e60 * rng.normal(size=(4, 2))
    (a, b), own = comparable(x, y)
    assert a is x
    assert b is y
    assert own == 1.0


@pytest.mark.parametrize("far", [0.0, 1e200, -1.7e308])
@pytest.mark.parametrize("size", [1e-300, 1e-100, 1e150, 1e300])
def test_clouds_come_back_by_their_unit(far, size):
    if abs(far) > 1e16 * size > 0:
        size = 1e-10 * abs(far)
    x = far + size * np.array([[0.0, 1.0], [2.0, 5.0]])
    (a,), own = comparable(x)
    assert 0.1 < np.abs(a).max() < 100
    np.testing.assert_array_equal(a[0], [0.0, 0.0])
    np.testing.assert_allclose((a[1] - a[0]) * own, x[1] - x[0], rtol=1e-15)


def test_spread_in_the_units_of_the_columns(rng):
    z = rng.normal(size=(50, 1))
    found = column_spread(np.hstack([z, 1e200 * z, 1e-200 * z, np.full((50, 1), 1e200)]))
    assert found.unit[0] == 1.0
    np.testing.assert_allclose(found.unit[:3] * found.deviation[:3], np.array([1, 1e200, 1e-200]) * z.std(), rtol=1e-12)
    np.testing.assert_allclose(found.unit[:3] * found.mean[:3], np.array([1, 1e200, 1e-200]) * z.mean(), rtol=1e-12)
    assert found.constant.tolist() == [False, False, False, True]
