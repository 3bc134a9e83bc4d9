"""Histories of low rank against the matrices they stand for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgflow.base.errors import InputError
from wgflow.flow.integrators import RK4
from wgflow.systems.neural_feature_flow.flow import run
from wgflow.systems.neural_feature_flow.initial import minimum_norm
from wgflow.systems.neural_feature_flow.low_rank import LowRank, Updated, add, ahead, dense, total


def pair(rng, rows=6, columns=4, rank=2):
    return LowRank(rng.normal(size=(rows, rank)), rng.normal(size=(columns, rank)))


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_every_form_is_the_matrix(rows, columns, rank, seed):
    rng = np.random.default_rng(seed)
    low, base = pair(rng, rows, columns, rank), rng.normal(size=(rows, columns))
    matrix = sum(np.outer(low.left[:, k], low.right[:, k]) for k in range(rank))
    right, left = rng.normal(size=(columns, 3)), rng.normal(size=(rows, 3))
    for form, expected in (
        (low, matrix),
        (Updated(base, low), base + matrix),
        (total([low, low.scaled(-0.5)]), 0.5 * matrix),
        (ahead(base, low), base + matrix),
        (ahead(low, low), 2 * matrix),
        (add(base, low), base + matrix),
        (add(low, low), 2 * matrix),
    ):
        assert form.shape == (rows, columns)
        assert np.allclose(dense(form), expected, atol=1e-12)
        assert np.allclose(form @ right, expected @ right, atol=1e-12)
        assert np.allclose(form.T @ left, expected.T @ left, atol=1e-12)


def test_adding_in_place_writes_only_where_allowed(rng):
    base, low = rng.normal(size=(6, 4)), pair(rng)
    kept = base.copy()
    expected = base + low.dense()
    assert add(base, low) is not base
    assert np.array_equal(base, kept)
    assert add(base, low, own=True) is base
    assert np.allclose(base, expected, atol=1e-14)
    frozen = kept.copy()
    frozen.flags.writeable = False
    assert np.allclose(add(frozen, low, own=True), expected, atol=1e-14)
    assert np.array_equal(frozen, kept)
    turned = np.asfortranarray(kept)
    assert np.allclose(add(turned, low, own=True), expected, atol=1e-14)


def test_a_history_becomes_a_matrix_where_that_is_cheaper(rng):
    m = 41
    history = pair(rng, m, m, 5)
    forms = []
    for _ in range(5):
        history = add(history, pair(rng, m, m, 5))
        forms.append(type(history).__name__)
    assert forms == ["LowRank", "LowRank", "LowRank", "ndarray", "ndarray"]  # ranks 10, 15, 20, 25
    assert isinstance(add(pair(rng, m, m, 10), pair(rng, m, m, 10)), LowRank)
    assert isinstance(add(pair(rng, m, m, 10), pair(rng, m, m, 11)), np.ndarray)


@pytest.mark.parametrize("method", ["euler", RK4])
@pytest.mark.parametrize("flow", [True, False])
def test_a_run_as_history_is_the_run_of_matrices(twin, rng, kind, method, flow):
    """Within 1e-12 as long as it is the cheaper form, and after it has turned into a matrix."""
    network = twin.make_network(rng, points=3, kind=kind)
    begin = minimum_norm(network, 130, seed=2).weights
    full = begin._replace(middle=tuple(each.dense() for each in begin.middle))
    seen = set()
    runs = (run(network, each, 24, 0.1, method, flow=flow) for each in (begin, full))
    for history, matrices in zip(*runs, strict=True):
        for a, b in zip(history.state.weights.middle, matrices.state.weights.middle, strict=True):
            seen.add(type(a))
            assert np.abs(dense(a) - b).max() <= 1e-12 * np.abs(b).max()
        for a, b in zip(history.state.features.beta, matrices.state.features.beta, strict=True):
            assert np.abs(a - b).max() <= 1e-12 * np.abs(b).max()
    assert seen == {LowRank, np.ndarray}


def test_a_lost_term_would_be_seen(rng):
    terms = [pair(rng) for _ in range(3)]
    assert not np.allclose(total(terms[:2]).dense(), sum(each.dense() for each in terms), atol=1e-3)


def test_factors_must_fit(rng):
    with pytest.raises(InputError, match="factors: expected two matrices"):
        LowRank(np.zeros((3, 2)), np.zeros((3, 1)))
