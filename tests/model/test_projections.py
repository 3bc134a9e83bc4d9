import numpy as np
import pytest

from wgflow.base.errors import InputError
from wgflow.model.projections import principal_directions, projection_matrix


def test_principal_directions_are_those_of_the_covariance(rng):
    rows = rng.normal(size=(300, 4)) @ np.diag([1.0, 5.0, 2.0, 0.1]) + 7
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    found = principal_directions(np.split(rows, 3), 3)
    np.testing.assert_allclose(abs(found), abs(vectors[:, ::-1][:, :3]), atol=1e-9)
    assert (found[abs(found).argmax(axis=0), range(3)] > 0).all()
    np.testing.assert_allclose(np.var(rows @ found, axis=0, ddof=1), values[::-1][:3])
    assert not np.allclose(abs(principal_directions([rows[:50]], 3)), abs(found))  # other rows, other directions


def test_few_parameters_and_enormous_numbers(rng):
    assert principal_directions([rng.normal(size=(5, 1))]).tolist() == [[1.0, 0.0, 0.0]]
    rows = rng.normal(size=(20, 2)) * [1e200, 1e190]
    np.testing.assert_allclose(principal_directions([rows], 1), [[1.0], [0.0]], atol=1e-9)


def test_axes_by_name(rng):
    theta = rng.normal(size=(50, 3))
    onto = projection_matrix(["tau", "2", "pc1"], 3, lambda: principal_directions([theta]))
    np.testing.assert_array_equal(onto[:, :2].T, [[0, 0, 0, 1], [0, 0, 1, 0]])
    np.testing.assert_array_equal(onto[:3, 2:], principal_directions([theta], 1))
    for axis in ("3", "pc4", "depth"):
        with pytest.raises(InputError, match="axes: expected tau, pc1 to pc3"):
            projection_matrix([axis], 3, lambda: principal_directions([theta]))
