"""Nearest-neighbour entropy against closed forms, occupancy against its expectation."""

from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from wgflow.base.errors import InputError
from wgflow.model import projections
from wgflow.theory import reference
from wgflow.theory.entropy import entropy, occupancy, project, projected_entropy
from wgflow.theory.nearest_neighbours import nearest, neighbour, smallest_gap


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 3])
def test_entropy_of_gaussians(dimensions, k, rng):
    """H = log det(2 pi e C) / 2; the standard deviation at N = 4000 is about 0.02, so 0.1 errs once in 10**6."""
    turn = rng.normal(size=(dimensions, dimensions)) + 2 * np.eye(dimensions)
    points = rng.normal(size=(4000, dimensions)) @ turn.T
    expected = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * turn @ turn.T)[1]
    assert entropy(points, k) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_entropy_of_the_uniform_law(dimensions, rng):
    assert entropy(rng.uniform(0, 2, size=(4000, dimensions))) == pytest.approx(dimensions * np.log(2), abs=0.1)


@given(seed=st.integers(0, 2**32), scale=st.floats(0.01, 100), d=st.integers(1, 3), k=st.integers(1, 4))
def test_entropy_moves_with_scale_and_not_with_place(seed, scale, d, k):
    points = np.random.default_rng(seed).normal(size=(30, d))
    assert entropy(3.0 + scale * points, k) == pytest.approx(entropy(points, k) + d * np.log(scale), abs=1e-6)


def test_entropy_by_hand():
    """Three points on a line, k = 1: psi(3) - psi(1) = 3/2, V_1 = 2, distances 1, 1, 2."""
    assert entropy(np.array([[0.0], [1.0], [3.0]]), 1) == pytest.approx(1.5 + np.log(2) + np.log(2) / 3)


def test_a_cloud_on_a_point_has_no_entropy(rng):
    points = rng.normal(size=(50, 2))
    points[:4] = points[0]
    assert entropy(points, 3) == -np.inf
    assert np.isfinite(entropy(points, 4))


def test_a_narrow_cloud_has_less_than_iid():
    """Negative control, and the difference is the logarithm of the width."""
    law = reference.box(3)
    theta, tau = law(800, 7)
    same = projected_entropy(theta, tau, law, ("0", "tau"))
    narrow = projected_entropy(0.1 * theta, tau, law, ("0", "tau"))
    assert abs(same.value - same.iid) < 6 * same.spread
    assert same.iid == pytest.approx(np.log(2), abs=0.1)
    assert narrow.value == pytest.approx(narrow.iid - np.log(10), abs=0.2)


@pytest.mark.parametrize("axes", [("tau",), ("0", "tau"), ("0", "1", "tau")])
def test_occupancy_of_independent_axes_has_its_expectation(axes):
    law, count, cells = reference.box(2), 100, 4
    theta, tau = law(count, 7)
    found = occupancy(theta, tau, law, axes, cells, clouds=60)
    total = cells ** len(axes)
    expected = 1 - (1 - 1 / total) ** count
    assert found.iid == pytest.approx(expected, abs=max(5 * found.spread / np.sqrt(60), 1e-3))
    assert abs(found.value - found.iid) <= 6 * found.spread + 1e-12
    gathered = occupancy(np.zeros((count, 2)), np.full(count, 0.5), law, axes, cells)
    assert gathered.value == 1 / total


def test_occupancy_counts_cells(rng):
    law = reference.box(1)
    theta = np.array([[-0.9], [-0.8], [0.6], [70.0]])
    found = occupancy(theta, np.array([0.1, 0.2, 0.9, 0.9]), law, ("0", "tau"), 2)
    assert found.value == 2 / 4
    with pytest.raises(InputError, match="atoms"):
        occupancy(theta, np.zeros(4), lambda n, seed: (np.zeros((n, 1)), np.zeros(n)), ("0",), 3)


def test_projection_by_names(rng):
    theta, tau = rng.normal(size=(40, 4)) * [1, 5, 2, 0.1], rng.uniform(size=40)
    assert (project(theta, tau, ("2", "tau")) == np.column_stack([theta[:, 2], tau])).all()
    centred = theta - theta.mean(axis=0)
    _, _, rows = np.linalg.svd(centred, full_matrices=False)
    found = project(theta, tau, ("pc1", "pc2"))
    for k in range(2):
        assert abs(np.corrcoef(found[:, k], centred @ rows[k])[0, 1]) == pytest.approx(1.0)
    fixed = project(theta, tau, ("pc1",), np.eye(4)[:, 2:])
    assert (fixed[:, 0] == theta[:, 2]).all()
    assert projections.principal([theta[:, :1]]).tolist() == [[1.0, 0.0, 0.0]]


def test_principal_axes_of_many_clouds_are_those_of_all_rows(rng):
    theta = 5 + rng.normal(size=(60, 3)) * [1, 3, 2]
    one, many = projections.principal([theta]), projections.principal(iter(np.split(theta, 4)))
    np.testing.assert_allclose(one, many, atol=1e-12)
    assert projected_entropy(theta, rng.uniform(size=60), reference.box(3, 5.0), ("pc1", "pc2")).spread > 0


@pytest.mark.parametrize(
    ("axes", "message"),
    [((), "one to three"), (("0", "1", "2", "tau"), "one to three"), (("9",), "axes: expected tau")],
)
def test_bad_axes_are_refused(axes, message):
    with pytest.raises(InputError, match=message):
        project(np.zeros((3, 4)), np.zeros(3), axes)


def test_bad_numbers_are_refused(rng):
    with pytest.raises(InputError, match="more than k = 5"):
        entropy(rng.normal(size=(5, 2)), 5)
    with pytest.raises(InputError, match="1 to 3 dimensions"):
        entropy(rng.normal(size=(9, 4)))
    with pytest.raises(InputError, match="cells"):
        occupancy(rng.normal(size=(9, 2)), np.zeros(9), reference.box(2), ("0",), 1)


class Counted:
    """A tree that tells how many points it holds and how often it was asked."""

    seen: ClassVar[list] = []

    def __init__(self, points):
        self.tree = cKDTree(points)
        self.seen.append(len(points))

    def query(self, points, **options):
        self.seen.append(len(points))
        return self.tree.query(points, **options)


def test_points_at_one_place_are_one_point_of_the_tree(monkeypatch, rng):
    """A tree cannot part identical points: a search among N of them looks at all, N**2 in all."""
    monkeypatch.setattr("wgflow.theory.nearest_neighbours.cKDTree", Counted)
    places = rng.normal(size=(10, 2))
    for cloud, distinct in ((np.full((2000, 3), 0.1), 1), (np.repeat(places, 200, axis=0), 10)):
        Counted.seen.clear()
        assert entropy(cloud, 3) == -np.inf
        assert (nearest(cloud[:50] + 1, cloud) > 0).all()
        assert smallest_gap(cloud) == 0.0
        assert Counted.seen == [distinct, distinct, distinct, 50]


@given(seed=st.integers(0, 2**32), k=st.integers(1, 8), d=st.integers(1, 3))
def test_neighbours_among_copies_are_those_of_all_distances(seed, k, d):
    cloud = np.random.default_rng(seed).integers(-1, 2, size=(12, d)).astype(float)
    apart = np.sort(np.sqrt(((cloud[:, None] - cloud[None]) ** 2).sum(axis=2)), axis=1)
    np.testing.assert_array_equal(neighbour(cloud, k), apart[:, k])


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e170, 1e300])
def test_entropy_of_numbers_of_any_size(size, rng):
    points = rng.normal(size=(60, 2))
    assert entropy(size * points) == pytest.approx(entropy(points) + 2 * np.log(size), rel=1e-12)
    lines = projections.principal([size * points])
    np.testing.assert_allclose(lines, projections.principal([points]), atol=1e-9)
