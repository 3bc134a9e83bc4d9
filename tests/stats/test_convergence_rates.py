"""Rates from simulated clouds whose exponents are known, and the cases in which there is no rate to find.

Everything is seeded, so a test either always passes or never; the numbers in comments are what chance would do.
"""

import numpy as np
import pytest

from wgflow.base.errors import InputError
from wgflow.stats.convergence_rates import estimate, mean, norm_of_mean, rms

SIZES = (16, 32, 64, 128, 256, 512)


def clouds(rng, seeds, sizes=SIZES, dimension=6, reference=None):
    """Squared distances of means of n Gaussian vectors, (S, n); clouds of one seed share their first particles."""
    draws = rng.standard_normal((seeds, max(sizes), dimension))
    means = np.stack([draws[:, :n].mean(axis=1) for n in sizes], axis=1)
    if reference:
        means = means - rng.standard_normal(dimension) / np.sqrt(reference)
    return (means**2).mean(axis=2)


def test_the_exponent_of_fluctuations_is_covered(rng):
    """200 studies of 6 seeds: a 95% interval covers 1/2 in 190 of them, give or take 3; below 180 it would be wrong."""
    rates = [estimate(SIZES, 6, rms(clouds(rng, 6)), f"{k}").rate for k in range(200)]
    covered = sum(rate.low <= 0.5 <= rate.high for rate in rates)
    assert 180 <= covered <= 199
    assert np.mean([rate.exponent for rate in rates]) == pytest.approx(0.5, abs=0.01)


def test_the_references_own_error_is_taken_out(rng):
    """Against a reference of twice the largest N the plain slope is too flat by 0.07; corrected it is not."""
    squares = [clouds(rng, 8, dimension=30, reference=1024) for _ in range(60)]
    plain = np.mean([estimate(SIZES, 8, rms(each)).rate.exponent for each in squares])
    corrected = np.mean([estimate(SIZES, 8, rms(each), reference=1024).rate.exponent for each in squares])
    assert plain < 0.46
    assert corrected == pytest.approx(0.5, abs=0.015)


def test_exact_powers_are_recovered_exactly():
    values = 3.0 * np.asarray(SIZES, float) ** -1.25
    found = estimate(SIZES, 5, mean(np.tile(values, (5, 1))))
    assert found.rate.exponent == pytest.approx(1.25, abs=1e-12)
    assert found.rate.constant == pytest.approx(3.0, rel=1e-12)
    np.testing.assert_allclose(found.value, values)
    with_reference = np.sqrt(np.asarray(SIZES, float) ** -1.0 + 1 / 4096)
    found = estimate(SIZES, 5, mean(np.tile(with_reference, (5, 1))), reference=4096)
    assert found.rate.exponent == pytest.approx(0.5, abs=1e-8)
    np.testing.assert_allclose(found.value, np.asarray(SIZES, float) ** -0.5, rtol=1e-8)


def test_sub_samples_of_the_reference(rng):
    """Exact powers of 1/N - 1/reference; then sub-sampled clouds of 1024, whose plain slope is too steep by 0.1."""
    sizes = np.asarray(SIZES, float)
    for r in (0.5, 1.0):
        values = 3.0 * (1 / sizes - 1 / 600) ** r
        found = estimate(SIZES, 5, mean(np.tile(values, (5, 1))), reference=600, nested=True)
        assert found.rate.exponent == pytest.approx(r, abs=1e-12)
        assert found.rate.constant == pytest.approx(3.0, rel=1e-10)
        np.testing.assert_allclose(found.value, 3.0 * sizes**-r, rtol=1e-10)
    plain, corrected = [], []
    for k in range(60):
        draws = rng.standard_normal((8, 600, 20))
        whole = draws.mean(axis=1)
        squares = np.stack([((draws[:, :n].mean(axis=1) - whole) ** 2).mean(axis=1) for n in SIZES], axis=1)
        plain.append(estimate(SIZES, 8, rms(squares), f"{k}").rate.exponent)
        corrected.append(estimate(SIZES, 8, rms(squares), f"{k}", reference=600, nested=True).rate)
    assert np.mean(plain) > 0.6
    assert np.mean([rate.exponent for rate in corrected]) == pytest.approx(0.5, abs=0.015)
    assert sum(rate.low <= 0.5 <= rate.high for rate in corrected) >= 52  # 57 expected; fewer than 52: 1%
    with pytest.raises(InputError, match="below the reference's 512"):
        estimate(SIZES, 8, rms(squares), reference=512, nested=True)


def test_a_negative_bias_has_a_rate_too():
    values = -(np.asarray(SIZES, float) ** -1.0)
    assert estimate(SIZES, 5, mean(np.tile(values, (5, 1)))).rate.exponent == pytest.approx(1.0)


def test_no_decay_is_no_rate(rng):
    """The same spread at every N: chance claims a rate in 2.5% of studies; of 60 that is 1.5, and at most 6."""
    claimed = 0
    for k in range(60):
        squares = (rng.standard_normal((6, len(SIZES), 4)) ** 2).mean(axis=2)
        found = estimate(SIZES, 6, rms(squares), f"{k}").rate
        claimed += bool(found)
        assert found or "no decay" in found.reason
        assert found or np.isnan(found.exponent)
    assert claimed <= 6


def test_noise_around_zero_is_no_bias(rng):
    """Means of noise: 4 sizes in a row differ significantly from 0 by chance in about one study of 10**5."""
    for k in range(40):
        found = estimate(SIZES, 6, mean(rng.standard_normal((6, len(SIZES)))), f"{k}").rate
        assert not found
        assert "differ significantly from 0" in found.reason or "span" in found.reason


@pytest.mark.parametrize(
    ("sizes", "seeds", "words"),
    [((16, 32, 64), 6, "3 sizes, 4 that span a factor of 8"), ((16, 20, 24, 28), 6, "span a factor of 8"),
     (SIZES, 3, "3 seeds, 4 are needed"), (SIZES, 1, "1 seed, 4 are needed")],
)  # fmt: skip
def test_too_few_points_or_seeds(rng, sizes, seeds, words):
    found = estimate(sizes, seeds, rms(clouds(rng, seeds, sizes)))
    assert not found.rate
    assert words in found.rate.reason


def test_the_norm_of_a_mean_is_not_raised_by_noise(rng):
    """Vectors of mean 0: the squares' mean is 0 within 4 standard errors; the naive square would be 1/S = 0.125."""
    squares = []
    for _ in range(400):
        v = rng.standard_normal((8, 3, 20))
        value = norm_of_mean(np.einsum("snm,tnm->nst", v, v) / 20)(np.ones((1, 8)))[0]
        squares.append(np.sign(value) * value**2)
    assert abs(np.mean(squares)) < 4 * np.std(squares) / np.sqrt(1200)
    v = 0.7 + np.zeros((8, 3, 20))
    np.testing.assert_allclose(norm_of_mean(np.einsum("snm,tnm->nst", v, v) / 20)(np.ones((1, 8)))[0], 0.7)


def test_the_same_data_give_the_same_numbers(rng):
    squares = clouds(rng, 6)
    assert estimate(SIZES, 6, rms(squares), "a").rate == estimate(SIZES, 6, rms(squares), "a").rate


def test_sizes_must_increase():
    with pytest.raises(InputError, match="expected increasing numbers of particles"):
        estimate((32, 16), 4, mean(np.ones((4, 2))))
