"""Forward passes and drifts against complex steps of the paper's formulas written as sums over units."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wgflow.base.errors import InputError
from wgflow.model.activations import Activation
from wgflow.systems.neural_feature_flow.initial import regress
from wgflow.systems.neural_feature_flow.low_rank import LowRank, dense
from wgflow.systems.neural_feature_flow.network import Network
from wgflow.systems.neural_feature_flow.state import Features, Weights

ANALYTIC = ["tanh", "sin", "gelu"]


def close(found, expected, tolerance=1e-10):
    """Whether two arrays agree relative to the largest entry."""
    found, expected = np.asarray(found), np.asarray(expected)
    return found.shape == expected.shape and np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


shapes = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["resnet", "dnn"]),
        "layers": st.integers(2, 5),
        "points": st.integers(1, 6),
        "inputs": st.integers(1, 3),
        "h1": st.sampled_from(ANALYTIC),
        "h2": st.sampled_from(ANALYTIC),
    }
)


@given(options=shapes, units=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_weight_drifts_are_scaled_gradients(twin, options, units, seed):
    rng = np.random.default_rng(seed)
    network = twin.make_network(rng, **options)
    weights = twin.make_weights(rng, network, units)
    expected = twin.scaled_gradient(network, weights)
    for drift in (network.gradient(weights), network.drift(weights, network.features(weights))):
        found = [dense(each) for each in twin.leaves(drift.weights)]
        scale = max(np.abs(each).max() for each in expected)  # a gradient may vanish at one layer
        for a, b in zip(found, expected, strict=True):
            assert np.abs(a - b).max() <= 1e-10 * scale


@given(options=shapes, units=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_feature_drifts_are_directional_derivatives(twin, options, units, seed):
    rng = np.random.default_rng(seed)
    network = twin.make_network(rng, **options)
    weights = twin.make_weights(rng, network, units)
    drift = network.drift(weights, network.features(weights))
    alpha, beta = twin.along(network, weights, [dense(each) for each in twin.leaves(drift.weights)])
    scale = max(np.abs(beta).max(), np.abs(alpha).max())
    assert np.abs(np.array(drift.features.alpha) - alpha).max() <= 1e-10 * scale
    assert np.abs(np.array(drift.features.beta) - beta).max() <= 1e-10 * scale


@given(options=shapes, units=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_forward_is_the_sums_over_units(twin, options, units, seed):
    rng = np.random.default_rng(seed)
    network = twin.make_network(rng, **options)
    weights = twin.make_weights(rng, network, units)
    alpha, beta, output = twin.sums(network, weights)
    features = network.features(weights)
    assert close(features.alpha, alpha, 1e-12)
    assert close(features.beta, beta, 1e-12)
    scale = np.abs(weights.outer).max()
    assert np.abs(network.output(weights, features) - output).max() <= 1e-12 * scale
    assert np.abs(network.predict(weights, network.x) - output).max() <= 1e-12 * scale
    value = 0.5 * np.mean((output - network.y) ** 2)
    assert network.value(weights) == pytest.approx(value, rel=1e-12)


def test_drifts_at_features_that_are_not_the_weights(twin, kind, rng):
    """The drifts are functions of independent states: the formulas of Definition 2 with explicit sums."""
    network = twin.make_network(rng, points=3, layers=4, kind=kind)
    weights = twin.make_weights(rng, network)
    m, n = 5, 3
    beta = [rng.normal(size=(m, n)) for _ in range(4)]
    alpha = beta[1:] if kind == "dnn" else [rng.normal(size=(m, n)) for _ in range(3)]
    drift = network.drift(weights, Features(tuple(alpha), tuple(beta)))
    h, slope = network.h1.value, network.h1.slope
    output = sum(weights.outer[i] * h(beta[3][i]) for i in range(m)) / m
    d_beta = [weights.outer[i] * (output - network.y) * slope(beta[3][i]) for i in range(m)]
    g_middle, d_alphas = [None] * 3, [None] * 3
    for k in (2, 1, 0):
        d_alphas[k] = [d_beta[j] * network.h2.slope(alpha[k][j]) for j in range(m)]
        v = weights.middle[k]
        g_middle[k] = [[d_alphas[k][j] @ h(beta[k][i]) / n for j in range(m)] for i in range(m)]
        pulled = [sum(v[i, j] * d_alphas[k][j] for j in range(m)) / m * slope(beta[k][i]) for i in range(m)]
        d_beta = [p + (b if kind == "resnet" else 0) for p, b in zip(pulled, d_beta, strict=True)]
        assert close(dense(drift.weights.middle[k]), g_middle[k], 1e-12)
    assert close(drift.weights.inner, network.x.T @ np.array(d_beta).T / n, 1e-12)
    g_beta = (network.x @ drift.weights.inner / network.inputs).T
    for k in range(3):
        v, g = weights.middle[k], g_middle[k]
        g_alpha = [
            sum(v[i, j] * slope(beta[k][i]) * g_beta[i] + h(beta[k][i]) * g[i][j] for i in range(m)) / m
            for j in range(m)
        ]
        assert close(drift.features.alpha[k], g_alpha, 1e-12)
        g_beta = np.array(g_alpha) * network.h2.slope(alpha[k]) + (g_beta if kind == "resnet" else 0)
        assert close(drift.features.beta[k + 1], g_beta, 1e-12)


def test_more_points_than_units(twin, kind, rng):
    """The other order of the triple product."""
    network = twin.make_network(rng, points=9, kind=kind)
    weights = twin.make_weights(rng, network, 3)
    drift = network.drift(weights, network.features(weights))
    alpha, beta = twin.along(network, weights, [dense(each) for each in twin.leaves(drift.weights)])
    assert close(drift.features.alpha, alpha)
    assert close(drift.features.beta, beta)


def test_the_checks_can_fail(twin, rng):
    """Each of the paper's misprints, and a lost factor, is seen."""
    network = twin.make_network(rng, points=4, inputs=4)
    weights = twin.make_weights(rng, network)
    drift = network.drift(weights, network.features(weights))
    back = network.adjoint(weights, network.features(weights))
    expected = twin.scaled_gradient(network, weights)
    assert close(drift.weights.inner, expected[0])
    assert not close(network.x @ back.beta[0].T / 4, expected[0], 1e-2)  # (12c) as printed, X for its transpose
    assert not close(dense(drift.weights.middle[0]).T, expected[1], 1e-2)  # target unit first
    assert not close(drift.weights.outer / 5, expected[-1], 1e-2)  # without the factor m


def test_a_loss_and_activations_of_your_own(twin, rng):
    class Quartic:
        name = "quartic"

        def value(self, output, y):
            return ((output - y) ** 4).sum(axis=1)

        def gradient(self, output, y):
            return 4 * (output - y) ** 3

        def check(self, y):
            pass

    own = Activation("softened", lambda z: z / (1 + z * z), lambda z: (1 - z * z) / (1 + z * z) ** 2)
    network = twin.make_network(rng, h1=own, h2=own, loss=Quartic(), backend="cpu")
    weights = twin.make_weights(rng, network)
    found = network.gradient(weights).weights
    for a, b in zip(twin.leaves(found), twin.scaled_gradient(network, weights), strict=True):
        assert close(dense(a), b)


def test_predictions_do_not_depend_on_the_other_points(twin, kind, rng):
    network = twin.make_network(rng, kind=kind)
    weights = twin.make_weights(rng, network)
    x = rng.normal(size=(7, 2))
    assert np.allclose([network.predict(weights, row[None])[0] for row in x], network.predict(weights, x), rtol=1e-12)


def test_weights_of_low_rank_are_weights(twin, kind, rng):
    network = twin.make_network(rng, kind=kind)
    factors = [LowRank(rng.normal(size=(5, 2)), rng.normal(size=(5, 2))) for _ in range(2)]
    weights = twin.make_weights(rng, network)._replace(middle=tuple(factors))
    full = weights._replace(middle=tuple(each.dense() for each in factors))
    features = network.features(full)
    a, b = network.drift(weights, features), network.drift(full, features)
    assert a.loss == pytest.approx(b.loss, rel=1e-13)
    assert close(a.features.beta, b.features.beta, 1e-12)
    assert close(a.weights.inner, b.weights.inner, 1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": [1.0]}, "y: expected one target per row"),
        ({"layers": 1}, "layers: expected a whole number >= 2"),
        ({"kind": "res"}, "unknown kind 'res'"),
        ({"loss": "cross_entropy"}, "loss: expected a loss of one output"),
        ({"backend": "gpu"}, "unknown backend"),
        ({"h1": "tan"}, "unknown activation"),
    ],
)
def test_bad_networks(change, message):
    with pytest.raises(InputError, match=message):
        Network(**({"x": [[0.0], [1.0]], "y": [0.0, 1.0]} | change))


def test_bad_shapes(twin, rng):
    network = twin.make_network(rng)
    weights = twin.make_weights(rng, network)
    features = network.features(weights)
    with pytest.raises(InputError, match="weights: expected the shapes"):
        network.gradient(Weights(weights.inner, weights.middle[:1], weights.outer))
    with pytest.raises(InputError, match="features: expected 2 alpha and 3 beta"):
        network.drift(weights, Features(features.alpha, features.beta[:2]))
    with pytest.raises(InputError, match="x: expected 2 columns"):
        network.predict(weights, np.zeros((3, 5)))


def test_masked_weights_and_features_are_refused(twin):
    rng = np.random.default_rng(0)
    network = twin.make_network(rng)
    weights = twin.make_weights(rng, network, 4)
    masked = np.ma.masked_less(weights.outer, weights.outer.max())
    with pytest.raises(InputError, match="weights: expected numbers without gaps, got 3 masked"):
        network.features(weights._replace(outer=masked))
    features = network.features(weights)
    odd = features._replace(beta=(np.ma.masked_array(features.beta[0], mask=True), *features.beta[1:]))
    with pytest.raises(InputError, match=r"features: .* masked"):
        network.output(weights, odd)
    with pytest.raises(InputError, match=r"alpha: .* masked"):
        regress(features.beta[0], odd.beta[0])
