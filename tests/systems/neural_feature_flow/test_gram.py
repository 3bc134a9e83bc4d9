"""Smallest eigenvalues, the gap to zero loss, and Assumption 2 against its exact value for two points."""

import numpy as np
import pytest

from wgflow.base.errors import InputError
from wgflow.model.losses import LOSSES
from wgflow.systems.neural_feature_flow.flow import run
from wgflow.systems.neural_feature_flow.gram import (
    _adversary,
    excess,
    grams,
    infimum,
    smallest_eigenvalues,
    strong_universality,
)
from wgflow.systems.neural_feature_flow.initial import minimum_norm
from wgflow.systems.neural_feature_flow.network import Network


class Logistic:
    """log(1 + exp(-y output)), whose infimum 0 is at infinity, or, for y = 0, log 2 everywhere."""

    name = "logistic"

    def value(self, output, y):
        return np.logaddexp(0, -y * output).sum(axis=1)

    def gradient(self, output, y):
        return -y * 0.5 * (1 - np.tanh(0.5 * y * output))

    def check(self, y):
        pass


class Exponential(Logistic):
    """exp(-y output), which overflows long before the other end is found."""

    name = "exponential"

    def value(self, output, y):
        return np.exp(-y * output).sum(axis=1)

    def gradient(self, output, y):
        return -y * np.exp(-y * output)


class Lifted(Logistic):
    """|output - 1000 y|^4 + y^2, least y^2."""

    name = "lifted"

    def value(self, output, y):
        return ((output - 1000 * y) ** 4 + y**2).sum(axis=1)

    def gradient(self, output, y):
        return 4 * (output - 1000 * y) ** 3


def test_eigenvalues_are_those_of_the_gram_matrices(twin, kind, rng):
    network = twin.make_network(rng, points=4, kind=kind)
    features = network.features(twin.make_weights(rng, network, 9))
    found = smallest_eigenvalues(network, features)
    for value, gram, beta in zip(found, grams(network, features), features.beta, strict=True):
        expected = sum(np.outer(h, h) for h in np.tanh(beta)) / 9
        assert np.allclose(gram, expected, atol=1e-14)
        assert value == pytest.approx(np.linalg.eigvalsh(expected)[0], rel=1e-8)
    few = network.features(twin.make_weights(rng, network, 3))
    assert np.array_equal(smallest_eigenvalues(network, few), np.zeros(3))


def test_infimum():
    y = np.array([1.0, -2.0, 0.5])
    assert infimum(LOSSES["squared"], y) == 0.0
    assert infimum(Lifted(), y) == pytest.approx(np.mean(y**2), abs=1e-12)
    assert infimum(Logistic(), y) == pytest.approx(0.0, abs=1e-12)
    assert infimum(Exponential(), y) == pytest.approx(0.0, abs=1e-12)
    assert infimum(Logistic(), np.array([1.0, 0.0])) == pytest.approx(np.log(2) / 2)


def test_a_loss_of_your_own_named_squared_is_no_squared_loss():
    class Squared(Lifted):
        name = "squared"

    y = np.array([1.0, -2.0, 0.5])
    assert infimum(Squared(), y) == pytest.approx(np.mean(y**2), abs=1e-12)


def test_excess_is_a_mean_and_training_closes_it(twin, rng):
    network = twin.make_network(rng, points=3, inputs=4)
    begin = minimum_norm(network, 60, seed=1)
    shots = list(run(network, begin.weights, 400, 0.2, every=400))
    before, after = (excess(network, each.output) for each in shots)
    assert before.loss == pytest.approx(np.mean((shots[0].output - network.y) ** 2) / 2)
    assert before.gap == before.loss - before.infimum
    assert before.slope**2 == pytest.approx(2 * before.loss)
    assert after.gap < 1e-6 < 1e-2 < before.gap


def two_points(bound, h1="tanh", seed=0, x=((1.0, 0.3), (-0.4, 1.1))):
    return Network(2 * np.array(x), [0.0, 1.0], 2, h1=h1, backend="reference")


def least_for_two(network, bound, count, seed):
    """The infimum over all f2, exactly, on the same draws of v.

    For a direction u and increasing h1, u . h1(base + f2) fills an interval, and its least square is 0 or that of an
    end; lambda_min is the least over u of the mean, here over a grid of angles.
    """
    from wgflow.base.rng import normal

    base = normal(seed, "draws of v", (count, network.inputs)) @ network.x.T / network.inputs
    low, high = np.tanh(base - bound), np.tanh(base + bound)
    values = []
    for angle in np.linspace(0, np.pi, 2001):
        u = np.array([np.cos(angle), np.sin(angle)])
        bottom, top = np.minimum(u * low, u * high).sum(1), np.maximum(u * low, u * high).sum(1)
        values.append(np.mean(np.maximum(0, np.maximum(bottom, -top)) ** 2))
    return min(values)


@pytest.mark.parametrize("bound", [0.0, 0.1, 0.4])
def test_adversaries_find_the_infimum_for_two_points(bound):
    network = two_points(bound)
    found = strong_universality(network, bound, count=1000, seed=3)
    exact = least_for_two(network, bound, 1000, 3)
    assert found.smallest == pytest.approx(exact, rel=1e-3)
    assert found.smallest == min(found.kinds.values())
    assert set(found.kinds) == {"zero", "constant", "smooth", "signs", "adversarial"}
    if bound:
        assert found.kinds["adversarial"] < 0.9 * min(
            value for name, value in found.kinds.items() if name != "adversarial"
        )
    else:
        assert found.smallest == pytest.approx(found.kinds["zero"], rel=1e-12)


def test_an_adversary_is_the_best_reply_to_its_direction(rng):
    """For increasing h1: the mean square distance of 0 from the interval that u . h1 can reach."""
    network = Network(rng.normal(size=(5, 3)), np.zeros(5), 2, backend="reference")
    base, u = 1.5 * rng.normal(size=(300, 5)), rng.normal(size=5)
    shift = _adversary(network, base, u, 0.3)
    assert np.abs(shift).max() <= 0.3
    low, high = np.tanh(base - 0.3), np.tanh(base + 0.3)
    bottom, top = np.minimum(u * low, u * high).sum(1), np.maximum(u * low, u * high).sum(1)
    expected = np.maximum(0, np.maximum(bottom, -top))
    assert np.allclose(np.abs(np.tanh(base + shift) @ u), expected, atol=1e-10)
    assert 0.1 < np.mean(expected == 0) < 0.9  # both cases occur


def test_f2_only_lowers_the_eigenvalue():
    values = [strong_universality(two_points(b), b, count=500, trials=3).smallest for b in (0.0, 0.1, 0.3, 1.0)]
    assert np.all(np.diff(values) < 0)


def test_points_that_repeat_and_units_that_are_linear_fail():
    """The negative controls: equal points have equal features, and N > d linear functions are dependent."""
    repeated = two_points(0.2, x=((1.0, 0.3), (1.0, 0.3)))
    assert strong_universality(repeated, 0.0, count=500, trials=2).smallest < 1e-25
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 2))
    flat, curved = (
        strong_universality(Network(x, np.zeros(4), 2, h1=h1, backend="reference"), 0.0, count=500, trials=2).smallest
        for h1 in ("linear", "sin")
    )
    assert flat < 1e-25 < 1e-8 < curved


def test_error_is_that_of_the_sample():
    # Error rate: 5 standard errors between two samples, below 1e-5.
    a, b = (strong_universality(two_points(0.2), 0.2, count=3000, trials=2, seed=s) for s in (1, 2))
    assert abs(a.smallest - b.smallest) < 5 * np.hypot(a.error, b.error)
    assert 0 < a.error < 0.3 * a.smallest


@pytest.mark.parametrize(("name", "value"), [("bound", -1.0), ("count", 0), ("trials", 0), ("rounds", 0)])
def test_bad_arguments(name, value):
    with pytest.raises(InputError, match=f"{name}: expected"):
        strong_universality(two_points(1.0), **({"bound": 1.0} | {name: value}))
