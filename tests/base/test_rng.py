import numpy as np
import pytest
from scipy import stats

from wgflow.base import rng
from wgflow.base.errors import InputError


def test_a_row_depends_on_its_particle_only():
    assert np.array_equal(rng.normal(3, "a", (10, 7))[:4], rng.normal(3, "a", (4, 7)))


@pytest.mark.parametrize("other", [(4, "a", 0), (3, "b", 0), (3, "a", 1)])
def test_seed_stream_and_step_give_other_numbers(other):
    seed, stream, step = other
    assert not np.isin(rng.uniform(seed, stream, (50, 5), step), rng.uniform(3, "a", (50, 5))).any()


def test_normal_numbers_are_normal_and_independent():
    # Error rate: each of the two tests fails a right generator with probability 1e-6; the seed is fixed.
    x = rng.normal(0, "test", (20_000, 5))
    assert stats.kstest(x.ravel(), "norm").pvalue > 1e-6
    correlation = np.corrcoef(x.T)[np.triu_indices(5, 1)]
    assert np.abs(correlation).max() < stats.norm.isf(1e-6 / 20) / np.sqrt(len(x))


def test_permutation_is_one():
    assert np.array_equal(np.sort(rng.permutation(1, "p", 100)), np.arange(100))


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, True, "0"])
def test_bad_seed(seed):
    with pytest.raises(InputError, match="seed: expected an integer"):
        rng.uniform(seed, "a", (1, 1))
