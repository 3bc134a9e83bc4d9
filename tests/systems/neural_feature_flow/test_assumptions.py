"""Assumptions 1 to 3 and Lemma 3, against dense grids and data for which they are false."""

import numpy as np
import pytest

from wgflow.model.activations import ACTIVATIONS, Activation, activation
from wgflow.model.losses import LOSSES, Squared
from wgflow.systems.neural_feature_flow.assumptions import (
    bounded_and_smooth,
    check,
    convex_loss,
    dependence,
    initial_law,
    loss_bounds,
    non_parallel,
    smallest_angle,
    strong_universal,
)
from wgflow.systems.neural_feature_flow.gram import mean_gram
from wgflow.systems.neural_feature_flow.network import Network
from wgflow.theory.regularity_classes import suprema


def make(x=((1.0, 0.3), (-0.4, 1.1)), **options):
    x = np.array(x, float)
    options = {"layers": 3, "backend": "reference"} | options
    return Network(x, np.sign(np.arange(len(x)) - 0.5), **options)


def finding(assumption, name):
    (found,) = [each for each in assumption.conditions if each.name == name]
    return found.finding


@pytest.mark.parametrize("name", [*sorted(ACTIVATIONS), {"name": "regularised_relu", "eta": 0.2}], ids=str)
def test_closed_bounds_are_the_suprema(name):
    """On a grid: finite ones are reached within 1e-3 and never exceeded, infinite ones are passed by any number."""
    h = activation(name)
    z = np.linspace(-30, 30, 600_001)
    step = z[1] - z[0]
    seen = np.abs(h.value(z)).max(), np.abs(h.slope(z)).max(), np.abs(np.diff(h.slope(z))).max() / step
    for number, supremum in zip(seen, suprema(h), strict=True):
        if np.isinf(supremum):
            assert number > 25
        else:
            assert supremum * (1 - 1e-3) <= number <= supremum * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize("name", ["squared", "huber", "logistic"])
def test_closed_bounds_of_losses_are_the_suprema(name):
    outputs = np.linspace(-60, 60, 240_001)[:, None]
    slope = LOSSES[name].gradient(outputs, np.ones_like(outputs))[:, 0]
    seen = np.abs(slope).max(), np.abs(np.diff(slope)).max() / (outputs[1, 0] - outputs[0, 0])
    for number, supremum in zip(seen, loss_bounds(LOSSES[name]), strict=True):
        assert number > 50 if np.isinf(supremum) else number == pytest.approx(supremum, rel=1e-3)


@pytest.mark.parametrize(("loss", "verdict"), [("squared", "fail"), ("huber", "pass"), ("logistic", "pass")])
def test_assumption_1_by_loss(loss, verdict):
    found = bounded_and_smooth(make(loss=loss))
    assert found.verdict == verdict
    assert finding(found, "|phi'| <= L4") == ("refuted" if loss == "squared" else "proved")
    assert ("sup |phi'| = inf for squared" in found.sentence) == (loss == "squared")


def test_assumption_1_by_activation():
    for h, wrong in (("relu", {"|h1| <= L1", "h1' L3-Lipschitz"}), ("gelu", {"|h1| <= L1"}), ("sin", set())):
        found = bounded_and_smooth(make(h1=h, loss="huber"))
        assert {each.name for each in found.conditions if each.finding == "refuted"} == wrong
    assert bounded_and_smooth(make(h2="relu", loss="huber")).verdict == "fail"
    # a DNN has no h2
    assert not any("h2" in each.name for each in bounded_and_smooth(make(kind="dnn", loss="huber")).conditions)


def test_what_is_of_your_own_is_not_checked():
    class Own(Squared):
        name = "own"

    own = Activation("mine", np.tanh, lambda z: 1 - np.tanh(z) ** 2)
    found = bounded_and_smooth(make(h1=own, loss=Own()))
    assert finding(found, "|h1| <= L1") == finding(found, "|phi'| <= L4") == "not checked"
    assert found.verdict == "unknown"
    assert convex_loss(make(loss=Own())).finding == "not checked"
    assert finding(strong_universal(make(h2=own)), "lambda_min(f2) >= lambda > 0 for |f2| <= C_B") == "not checked"


def test_smallest_angle_is_the_least_over_pairs(rng):
    x = rng.normal(size=(9, 3)) * rng.uniform(0.1, 10, (9, 1))
    found = smallest_angle(x)
    angles = {}
    for i in range(9):
        for j in range(i + 1, 9):
            sine = np.linalg.norm(np.cross(x[i], x[j])) / np.linalg.norm(x[i]) / np.linalg.norm(x[j])
            angles[i, j] = np.arcsin(sine)
    assert found.angle == pytest.approx(min(angles.values()), rel=1e-10)
    assert angles[found.pair] == min(angles.values())
    assert found.cosine == pytest.approx(np.cos(found.angle), rel=1e-12)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_angles_do_not_depend_on_the_size_of_inputs(size):
    """Squares of these numbers are 0 or infinite."""
    apart = smallest_angle(size * np.array([[1.0, 0.0], [1.0, 1.0], [-2.0, 0.5]]))
    assert apart.angle == pytest.approx(np.arctan(0.25), rel=1e-12)
    assert apart.pair == (0, 2)
    assert smallest_angle(size * np.array([[1.0, 2.0], [2.0, 4.0]])).angle < 1e-15


def test_an_angle_below_rounding_is_neither_proved_nor_refuted():
    """(1, 1e-17) and (1, 0) are not parallel; 3 (0.1, 0.3) in floating point is not on the line of (0.1, 0.3)."""
    for rows in ([[1.0, 1e-17], [1.0, 0.0]], [[0.1, 0.3], [3 * 0.1, 3 * 0.3]]):
        assert finding(non_parallel(make(rows)), "no two inputs are parallel") == "not checked"
    assert finding(non_parallel(make([[0.1, 0.3], [-0.2, -0.6]])), "no two inputs are parallel") == "refuted"


def test_small_angles_are_not_lost_to_rounding():
    """1e-9 rad has a cosine of 1 - 5e-19, which is 1 in double precision."""
    network = make([[1.0, 0.0], [0.0, 1.0], [-2.0, 2e-9]])
    found = non_parallel(network)
    assert found.number == pytest.approx(1e-9, rel=1e-6)
    assert finding(found, "no two inputs are parallel") == "proved"


@pytest.mark.parametrize(
    "x", [[[1.0, 0.3], [0.2, 1.0], [-2.0, -0.6]], [[1.0], [2.0]], [[1.0, 0.3], [0.0, 0.0]], [[1.0, 0.1], [1.0, 0.1]]]
)
def test_parallel_inputs_refute_lemma_3(x):
    found = non_parallel(make(x))
    assert found.verdict == "fail"
    assert finding(found, "no two inputs are parallel") == "refuted"


def test_lemma_3_is_proved_for_powers_of_relu_alone():
    assert non_parallel(make(h1="relu")).verdict == "pass"
    assert non_parallel(make(h1="tanh")).verdict == "unknown"


SINGULAR = [
    ([[1.0, 0.3], [1.0, 0.3]], "gelu", "equal inputs"),
    ([[1.0, 0.3], [0.5, 0.0], [-1.0, -0.3]], "tanh", "rows 0 and 2, x and -x, under an odd h1"),
    ([[1.0, 0.3], [0.0, 0.0]], "sin", "an input of zeros where h1(0) = 0"),
    ([[1.0, 0.3], [0.2, 0.1], [0.3, 0.9]], "linear", "3 linear functions of 2 inputs"),
]


@pytest.mark.parametrize(("x", "h1", "words"), SINGULAR)
def test_exact_dependences_refute_assumptions_2_and_3(x, h1, words):
    """And the Gram matrix over draws of v is singular, as it is not with one number changed."""
    network = make(x, h1=h1)
    assert dependence(network) == words
    assert strong_universal(network).verdict == initial_law(network, "minimum_norm").verdict == "fail"

    def least(network):
        v = np.random.default_rng(0).normal(size=(4000, network.inputs))
        values = np.linalg.eigvalsh(mean_gram(network.h1.value(v @ network.x.T / network.inputs)))
        return values[0] / values[-1]

    other = make(np.array(x) + np.diag([0.5] * len(x))[:, :2], h1="gelu" if h1 == "linear" else h1)
    assert least(network) < 1e-15 < 1e-8 < least(other)
    assert dependence(other) == ""


def test_an_even_activation_of_opposite_inputs_is_not_called_dependent():
    assert dependence(make([[1.0, 0.3], [-1.0, -0.3]], h1="gelu")) == ""


def test_assumption_2_is_never_proved():
    found = strong_universal(make(10 * np.eye(2)))
    assert found.verdict == "unknown"
    assert 0 < found.number < 1
    assert f"at most {found.number:.2g}" in found.sentence
    assert "C_B = 2" in found.sentence  # two layers of |h2| <= 1 above the first
    assert "0 up to rounding" in strong_universal(make(0.01 * np.eye(2))).sentence  # f2 moves far beyond X v / d
    assert "sup |h2| is infinite for relu" in strong_universal(make(h2="relu")).sentence


def test_assumption_2_is_not_searched_with_hardly_more_draws_than_points(rng):
    """As many draws as points give an eigenvalue near 0 whatever the truth is."""
    found = strong_universal(make(rng.normal(size=(257, 300))))
    assert (found.verdict, "not searched: 257 points" in found.sentence) == ("unknown", True)


def test_assumption_3_by_start():
    full = "p has full support"
    assert finding(initial_law(make(), "standard"), full) == "refuted"
    assert finding(initial_law(make(), "minimum_norm"), full) == "not checked"
    outer = "v_(L+1) bounded and Lipschitz"
    assert finding(initial_law(make(h1="relu"), "minimum_norm"), outer) == "proved"
    assert finding(initial_law(make(h1="relu"), "minimum_norm", "regressed"), outer) == "not checked"
    assert finding(initial_law(make(), "minimum_norm", "regressed"), outer) == "proved"


@pytest.mark.parametrize("start", ["minimum_norm", "standard"])
@pytest.mark.parametrize("which", ["h1", "h2"])
def test_of_an_own_activation_no_moments_are_known(start, which):
    """E exp(beta^2)^2 is infinite for beta of variance above 1/4: p is no Gaussian law, nor alpha_l O(m^(-1/2))."""
    own = Activation("steep", lambda z: np.exp(z**2), lambda z: 2 * z * np.exp(z**2))
    found = initial_law(make(**{which: own}), start)
    assert found.verdict == "unknown"
    unknown = {one.name for one in found.conditions if "of your own may be infinite" in one.reason}
    assert unknown == ({"(v_l, p) feasible", "p sub-Gaussian"} if start == "minimum_norm" else {"p has full support"})
    if which == "h2":  # a DNN has none
        assert finding(initial_law(make(h2=own, kind="dnn"), "standard"), "p has full support") == "refuted"


def test_a_single_input_of_zeros_is_not_sufficient():
    """For relu lambda_min is 0 at f2 = 0, so that Lemma 3 must not pass."""
    network = make([[0.0, 0.0]], h1="relu", h2="tanh")
    assert strong_universal(network).verdict == "fail"
    assert non_parallel(network).verdict == "fail"
    assert non_parallel(make([[0.0, 1.0]], h1="relu")).verdict == "pass"


def test_evenly_spaced_points_of_one_input_refute_every_assumption():
    """They are parallel, and hold x and -x, so that assumptions 2 and 3 fail under tanh; random ones are parallel."""
    network = make(np.linspace(-np.pi, np.pi, 100)[:, None], layers=4)
    assert [each.verdict for each in check(network, "minimum_norm")] == ["fail", "fail", "fail", "fail"]
    random = make(np.random.default_rng(0).uniform(-np.pi, np.pi, (100, 1)), layers=4)
    assert [each.verdict for each in check(random, "minimum_norm")] == ["fail", "unknown", "fail", "unknown"]
