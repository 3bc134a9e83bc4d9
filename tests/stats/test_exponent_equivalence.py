"""Spreads whose exponent in L is known: 0 for one path through all layers, 1/2 for independent ones."""

import numpy as np
import pytest

from wgflow.base.errors import InputError
from wgflow.stats.convergence_rates import exponent_equivalence, standard_deviation

DEPTHS = (4, 8, 16, 32, 64)


def products(rng, seeds, path, outputs=12, depths=DEPTHS):
    """Outputs over L: a bias 3/L that no spread may see, and fluctuations of seeds that layers share or do not."""
    if path:
        noise = rng.standard_normal((seeds, 1, outputs)) + 0.1 * rng.standard_normal((seeds, len(depths), outputs))
    else:
        layers = rng.standard_normal((seeds, max(depths), outputs))
        noise = np.stack([layers[:, :n].mean(axis=1) for n in depths], axis=1)
    v = 3.0 / np.asarray(depths)[:, None] + noise
    return np.einsum("snk,tnk->nst", v, v)


def test_spread_is_the_standard_deviation(rng):
    v = rng.standard_normal((7, 3, 5)) + 4.0
    found = standard_deviation(np.einsum("snk,tnk->nst", v, v))(np.ones((1, 7)))[0]
    np.testing.assert_allclose(found, np.sqrt(v.var(axis=0, ddof=1).sum(axis=1)), rtol=1e-10)
    weight = np.array([3.0, 0, 1, 1, 2, 0, 0])  # a resample is a sample with repetitions
    again = np.repeat(v, weight.astype(int), axis=0)
    expected = np.sqrt(again.var(axis=0, ddof=1).sum(axis=1))
    np.testing.assert_allclose(
        standard_deviation(np.einsum("snk,tnk->nst", v, v))(weight[None])[0], expected, rtol=1e-10
    )


def test_one_path_has_no_gain_and_independent_layers_have(rng):
    """40 studies of 8 seeds each: a wrong verdict has probability 2.5% at most, more than 4 wrong 0.3%."""
    verdicts = {
        path: [exponent_equivalence(DEPTHS, 8, standard_deviation(products(rng, 8, path)), f"{k}") for k in range(40)]
        for path in (True, False)
    }
    assert sum(bool(each) for each in verdicts[True]) >= 36
    assert all(each.verdict != "refuted" for each in verdicts[True])
    assert all(each.verdict == "refuted" for each in verdicts[False])
    covered = sum(each.exponent.low <= 0.5 <= each.exponent.high for each in verdicts[False])
    assert covered >= 34  # 38 are expected; fewer than 34 has probability 1.4%


def test_independent_layers_meet_their_own_exponent(rng):
    found = exponent_equivalence(DEPTHS, 24, standard_deviation(products(rng, 24, False, outputs=60)), expected=0.5)
    assert found
    assert found.exponent.value == pytest.approx(0.5, abs=0.1)


def test_noise_is_not_taken_for_equivalence(rng):
    """Four seeds of one number each: nothing is known of the exponent, and nothing is claimed."""
    verdicts = [
        exponent_equivalence(DEPTHS, 4, standard_deviation(products(rng, 4, False, outputs=1)), f"{k}").verdict
        for k in range(20)
    ]
    assert verdicts.count("holds") <= 2
    assert verdicts.count("undecided") >= 5


def test_what_is_refused(rng):
    values = standard_deviation(products(rng, 5, True))
    with pytest.raises(InputError, match="at least 3 increasing sizes"):
        exponent_equivalence((4, 8), 5, values)
    with pytest.raises(InputError, match="seeds: expected a whole number >= 4"):
        exponent_equivalence(DEPTHS, 3, values)
    with pytest.raises(InputError, match="margin"):
        exponent_equivalence(DEPTHS, 5, values, margin=0.0)
    with pytest.raises(InputError, match="positive values"):
        exponent_equivalence(DEPTHS, 5, standard_deviation(np.zeros((5, 5, 5))))
