"""Minimum-norm weights against constrained least squares, their laws, and the degeneracy of standard draws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from wgflow.base.errors import InputError
from wgflow.base.rng import normal
from wgflow.systems.neural_feature_flow.flow import run, start
from wgflow.systems.neural_feature_flow.initial import minimum_norm, regress, root, spread, standard
from wgflow.systems.neural_feature_flow.network import Network

TOY = np.linspace(-np.pi, np.pi, 100)


def toy(kind="resnet", layers=4):
    """The paper's benchmark: sin at 100 points, tanh."""
    return Network(TOY[:, None], np.sin(TOY), layers, kind, backend="reference")


@given(
    units=st.integers(1, 12),
    points=st.integers(1, 12),
    rank=st.integers(1, 12),
    ridge=st.sampled_from([0.0, 1e-3, 0.5]),
    seed=st.integers(0, 2**32 - 1),
)
def test_regression_is_the_least_of_its_kind(units, points, rank, ridge, seed):
    rng = np.random.default_rng(seed)
    rank = min(units, points, rank)
    h = rng.normal(size=(units, rank)) @ rng.normal(size=(rank, points))
    alpha = rng.normal(size=(3, units)) @ h / units  # in range
    found = regress(h, alpha, ridge)
    v = found.weights.dense()
    assert found.rank == rank
    if ridge:  # the stacked least-squares problem of the penalty
        a = np.vstack([h.T / units, np.sqrt(ridge / units) * np.eye(units)])
        expected = np.linalg.lstsq(a, np.vstack([alpha.T, np.zeros((units, 3))]))[0]
        assert np.allclose(v, expected, atol=1e-8 * np.abs(expected).max())
        return
    assert np.abs(v.T @ h / units - alpha).max() <= 1e-10 * max(1, np.abs(alpha).max())
    assert found.residual <= 1e-10 * max(1, np.abs(alpha).max())
    wt = np.linalg.svd(h.T)[2]
    null = wt[rank:]  # directions that change no feature: a minimum has no part in them
    assert np.abs(null @ v).max(initial=0) <= 1e-8 * np.abs(v).max()


def test_features_out_of_range_leave_their_distance(rng):
    h = rng.normal(size=(3, 6))
    alpha = rng.normal(size=(2, 6))
    found = regress(h, alpha)
    inside = h.T @ np.linalg.lstsq(h.T, alpha.T)[0]
    assert found.rank == 3
    assert found.residual == pytest.approx(np.abs(alpha.T - inside).max())
    assert found.residual > 0.1


@pytest.mark.parametrize("draw", ["features", "weights"])
@pytest.mark.parametrize("units", [30, 400])
def test_minimum_norm_weights_give_the_features_drawn(kind, units, draw):
    """On the paper's toy, whose Gram matrices have rank far below N = 100."""
    network = toy(kind)
    begin = minimum_norm(network, units, seed=3, draw=draw)
    assert all(rank < min(units, 100) for rank in begin.rank) or units == 30
    for v, alpha, below in zip(begin.weights.middle, begin.features.alpha, begin.features.beta, strict=False):
        assert np.abs(v.T @ np.tanh(below) / units - alpha).max() < 1e-10
    assert max(begin.residual) < 1e-10
    recomputed = network.features(begin.weights)
    assert np.abs(np.array(recomputed.beta) - np.array(begin.features.beta)).max() < 1e-10
    assert np.all(begin.weights.outer == 1.0)


def test_a_cruder_tolerance_misses_features():
    """The negative control of rcond: at 1e-3 the features are no longer met."""
    network = toy()
    begin = minimum_norm(network, 400, seed=3)
    h = np.tanh(begin.features.beta[0])
    fit = regress(h, begin.features.alpha[0], rcond=1e-3)
    assert fit.residual > 1e-6 > 1e-10 > regress(h, begin.features.alpha[0]).residual


def test_weights_are_algorithm_2_to_the_letter(kind):
    """draw="weights": the same draws by hand, with the inverse of Khat where that exists."""
    gen = np.random.default_rng(0)
    network = Network(gen.normal(size=(4, 5)), gen.normal(size=4), 3, kind, backend="reference")
    m, sigma = 12, 0.8
    begin = minimum_norm(network, m, seed=7, sigma=sigma, draw="weights", outer=-2.0)
    v1 = np.sqrt(5) * sigma * normal(7, "inner weights", (m, 5)).T
    beta = (network.x @ v1 / 5).T
    assert np.allclose(begin.weights.inner, v1, atol=1e-14)
    for k in range(2):
        h = np.tanh(beta)
        drawn = np.empty((m, m))
        for j in range(m):
            drawn[:, j] = np.sqrt(m) * sigma * normal(7, f"weights {k + 2}", (1, m), step=j)[0]
        alpha = drawn.T @ h / m
        v = h @ np.linalg.inv(h.T @ h / m) @ alpha.T
        assert np.allclose(begin.weights.middle[k].dense(), v, rtol=1e-8, atol=1e-8)
        beta = beta + np.tanh(alpha) if kind == "resnet" else alpha
        assert np.allclose(begin.features.beta[k + 1], beta, atol=1e-10)


def test_a_regressed_last_layer_keeps_the_outputs_of_a_standard_draw(kind):
    """By hand with the inverse of Khat_L; the layers below are those of the constant one."""
    gen = np.random.default_rng(0)
    network = Network(gen.normal(size=(4, 5)), gen.normal(size=4), 3, kind, backend="reference")
    m, sigma = 12, 0.8
    begin = minimum_norm(network, m, seed=7, sigma=sigma, last="regressed")
    h = np.tanh(begin.features.beta[-1])
    drawn = np.sqrt(m) * sigma * normal(7, "outer weights", (m, 1))[:, 0]
    output = drawn @ h / m
    assert np.allclose(begin.weights.outer, h @ np.linalg.inv(h.T @ h / m) @ output, rtol=1e-8)
    assert np.allclose(network.output(begin.weights, begin.features), output, atol=1e-12)
    assert np.linalg.norm(begin.weights.outer) < 0.9 * np.linalg.norm(drawn)
    assert (len(begin.rank), begin.rank[-1], begin.last) == (3, 4, "regressed")
    plain = minimum_norm(network, m, seed=7, sigma=sigma)
    assert np.array_equal(plain.features.beta[-1], begin.features.beta[-1])
    assert plain.last == "constant"


def test_outputs_of_a_regressed_last_layer_have_variance_of_order_one():
    """(1/m) sum v h1 ~ N(0, sigma^2 Khat_L): the sum of squares of 200 seeds is chi-squared; error rate 2e-6."""
    network = Network(np.random.default_rng(1).normal(size=(1, 4)), [0.0], 2, backend="reference")
    squares = []
    for seed in range(200):
        begin = minimum_norm(network, 40, seed=seed, sigma=1.7, last="regressed")
        h = np.tanh(begin.features.beta[-1])
        squares.append((network.output(begin.weights, begin.features)[0] ** 2) / (1.7**2 * np.mean(h**2)))
    assert stats.chi2.ppf(1e-6, 200) < np.sum(squares) < stats.chi2.isf(1e-6, 200)


@pytest.mark.parametrize("draw", ["features", "weights"])
def test_features_are_gaussian_with_the_gram_covariance(draw):
    # Error rate: chi-squared and Kolmogorov tests at 1e-6 each for a right law; the seed is fixed.
    gen = np.random.default_rng(1)
    network = Network(gen.normal(size=(3, 4)), gen.normal(size=3), 2, backend="reference")
    m, sigma = 2000, 1.7
    begin = minimum_norm(network, m, seed=11, sigma=sigma, draw=draw)
    h = np.tanh(begin.features.beta[0])
    white = np.linalg.solve(np.linalg.cholesky(sigma**2 * h.T @ h / m), begin.features.alpha[0].T)
    assert stats.kstest(white.ravel(), "norm").pvalue > 1e-6
    products = np.array([white[0] * white[1], white[0] * white[2], white[1] * white[2]])
    assert np.abs(products.mean(axis=1)).max() < stats.norm.isf(1e-7) / np.sqrt(m)


def test_first_units_of_a_larger_network_are_those_of_a_smaller_one(kind):
    network = toy(kind)
    small, large = minimum_norm(network, 50, seed=5), minimum_norm(network, 200, seed=5)
    assert np.array_equal(small.weights.inner, large.weights.inner[:, :50])
    assert all(np.array_equal(a, b[:50]) for a, b in zip(small.noise, large.noise, strict=True))
    gap = np.abs(small.features.alpha[0] - large.features.alpha[0][:50]).std()
    other = np.abs(small.features.alpha[0] - minimum_norm(network, 200, seed=6).features.alpha[0][:50]).std()
    assert gap < 0.5 * other
    a, b = standard(network, 20, seed=5), standard(network, 33, seed=5)
    assert all(np.array_equal(v, w[:20, :20]) for v, w in zip(a.middle, b.middle, strict=True))
    assert np.array_equal(a.outer, b.outer[:20])


def test_soft_version(kind):
    network = toy(kind)
    tight, loose = (minimum_norm(network, 100, seed=1, ridge=each) for each in (1e-8, 1.0))
    exact = minimum_norm(network, 100, seed=1)
    for begin in (tight, loose):
        beta = network.features(begin.weights).beta
        assert np.abs(np.array(beta) - np.array(begin.features.beta)).max() < 1e-10  # no defect
    assert max(tight.residual) < 1e-3 < 1e-2 < max(loose.residual)
    norms = [np.linalg.norm(each.weights.middle[0].dense()) for each in (exact, tight, loose)]
    assert norms[0] > norms[1] > norms[2]


def test_root_is_a_root(rng):
    for units in (3, 20):
        h = rng.normal(size=(units, 6))
        r = root(h)
        assert np.allclose(r, r.T)
        assert np.allclose(r @ r, h.T @ h / units)


def slope(sizes, values):
    return np.polyfit(np.log(sizes), np.log(values), 1)[0]


def test_standard_draws_degenerate_and_minimum_norm_ones_do_not(kind):
    """Proposition 1, at the start, and in a DNN after training too, for layers l < L as there.

    A Res-Net's alpha_l sum over betas of order 1, a DNN's over features that are themselves O(m^(-(l-2)/2)) since
    tanh(0) = 0. The largest of m Gaussians grows as sqrt(log m) in both, so the ratio is fitted. Means over eight fixed
    seeds.
    """
    x = np.linspace(-np.pi, np.pi, 6)
    network = Network(x[:, None], np.sin(x), 4, kind, backend="reference")
    sizes = [30, 60, 120, 240]
    falls, stays, trained = np.zeros((3, 4, 3))
    for k, m in enumerate(sizes):
        for seed in range(8):
            weights = standard(network, m, seed=seed)
            falls[k] += spread(network.features(weights)) / 8
            stays[k] += spread(minimum_norm(network, m, seed=seed).features) / 8
            *_, last = run(network, weights, 10, 0.05, every=10, flow=False)
            trained[k] += spread(last.state.features) / 8
    for layer in range(3):
        exponent = -0.5 * (layer + 1 if kind == "dnn" else 1)
        assert slope(sizes, falls[:, layer] / stays[:, layer]) == pytest.approx(exponent, abs=0.2)
        assert 0 < slope(sizes, stays[:, layer]) < 0.25  # the negative control
        assert stays[:, layer].min() > 1
        if layer < 2 and kind == "dnn":  # a Res-Net's skips hand v_(L+1) down, which tells units apart
            assert slope(sizes, trained[:, layer] / stays[:, layer]) < -0.4


def test_spread_is_the_largest_difference(twin, rng):
    network = twin.make_network(rng)
    features = start(network, twin.make_weights(rng, network)).features
    for found, alpha in zip(spread(features), features.alpha, strict=True):
        assert found == max(np.abs(a - b).max() for a in alpha for b in alpha)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": 0}, "units: expected a whole number >= 1"),
        ({"sigma": 0.0}, "sigma: expected a finite number > 0"),
        ({"ridge": -1.0}, "ridge: expected a finite number >= 0"),
        ({"draw": "both"}, "draw: expected 'features' or 'weights'"),
        ({"seed": -1}, "seed: expected"),
        ({"last": "drawn"}, "last: expected 'constant' or 'regressed'"),
        ({"last": "regressed", "outer": 2.0}, "outer: expected no constant"),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(InputError, match=message):
        minimum_norm(toy(), **({"units": 3} | change))


def test_shapes_must_fit():
    with pytest.raises(InputError, match="alpha: expected features"):
        regress(np.zeros((3, 2)), np.zeros((3, 4)))
