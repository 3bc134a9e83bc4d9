"""Spreads whose exponent in L is known: 0 for one path through all layers, 1/2 for independent ones."""

import numpy as np
import pytest
from verdict_checks import made_false, made_true

from wgflow.base.errors import InputError
from wgflow.stats.convergence_rates import Interval, exponent_interval, standard_deviation
from wgflow.studies.depth_width.reduce import DepthFluctuation

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


def fluctuation(rng, seeds, path, name, outputs=12):
    statistic = standard_deviation(products(rng, seeds, path, outputs))
    return DepthFluctuation(
        DEPTHS, 8, statistic(np.ones((1, seeds)))[0], exponent_interval(DEPTHS, seeds, statistic, name)
    )


def test_one_path_has_no_gain_and_independent_layers_have(rng):
    """40 studies of 8 seeds each: 2.5% of the gains that are not there are said, more than 4 with 0.3%."""
    found = {path: [fluctuation(rng, 8, path, f"{k}") for k in range(40)] for path in (True, False)}
    assert sum(bool(each.verdict.holds) for each in found[True]) <= 4
    for each in found[False]:
        assert "falls by a factor of" in made_true(each.verdict, "depth_reduces_fluctuation")
    assert "does not change significantly at M_l = 8" in made_false(found[True][0].verdict, "depth_reduces_fluctuation")
    covered = sum(each.exponent.low <= 0.5 <= each.exponent.high for each in found[False])
    assert covered >= 34  # 38 are expected; fewer than 34 has probability 1.4%


def test_a_gain_within_the_noise_is_printed_as_the_factor_that_it_may_be(rng):
    """Nothing is called nothing: of 16 times the depth, layers that are independent by a tenth gain a factor of 1.3."""
    depths = np.array(DEPTHS, float)
    weak = DepthFluctuation(DEPTHS, 8, depths**-0.09, Interval(0.09, -0.02, 0.20))
    text = made_false(weak.verdict, "depth_reduces_fluctuation")
    assert "falls by a factor of 1.28 (0.95 to 1.74)" in text
    assert "low end of the factor's 95% interval = 0.946 ≤ 1, its high end = 1.74 ≥ 1" in text
    assert "nothing" not in text


def test_fluctuations_that_grow_with_depth_are_said_to_grow():
    grows = DepthFluctuation(DEPTHS, 8, np.ones(5), Interval(-0.5, -0.6, -0.4)).verdict
    assert "grows at M_l = 8: it falls by a factor of 0.25" in made_true(grows, "depth_increases_fluctuation")
    steady = DepthFluctuation(DEPTHS, 8, np.ones(5), Interval(0.0, -0.1, 0.1)).verdict
    made_false(steady, "depth_increases_fluctuation")
    unknown = DepthFluctuation(DEPTHS, 8, np.ones(5), Interval(0.0, np.nan, np.nan)).verdict
    assert (unknown.holds, unknown.sentence[:16]) == (None, "nothing is known")


def test_independent_layers_meet_their_own_exponent(rng):
    found = exponent_interval(DEPTHS, 24, standard_deviation(products(rng, 24, False, outputs=60)))
    assert found.low <= 0.5 <= found.high
    assert found.value == pytest.approx(0.5, abs=0.1)


def test_noise_is_not_taken_for_a_gain(rng):
    """Four seeds of one number each: the intervals are wide; a gain is said in at most 2 of 20 of one path."""
    found = [fluctuation(rng, 4, True, f"{k}", outputs=1) for k in range(20)]
    assert sum(bool(each.verdict.holds) for each in found) <= 2
    wide = [fluctuation(rng, 4, False, f"{k}", outputs=1).factor for k in range(20)]
    assert sum(each.high / each.low > 4 for each in wide) >= 10


def test_what_is_refused(rng):
    values = standard_deviation(products(rng, 5, True))
    with pytest.raises(InputError, match="at least 3 increasing sizes"):
        exponent_interval((4, 8), 5, values)
    with pytest.raises(InputError, match="seeds: expected a whole number >= 4"):
        exponent_interval(DEPTHS, 3, values)
    with pytest.raises(InputError, match="positive values"):
        exponent_interval(DEPTHS, 5, standard_deviation(np.zeros((5, 5, 5))))
