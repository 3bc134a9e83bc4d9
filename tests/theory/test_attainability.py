"""Whether E = 0 is attained: conditions against flows that attain it, and against data for which none does."""

import numpy as np
import pytest
from verdict_checks import made_false, made_true

import wgflow
from wgflow.base.rng import normal
from wgflow.model.losses import Squared
from wgflow.theory import reference_laws
from wgflow.theory.assumption_checks import check_assumptions
from wgflow.theory.attainability import attainable, lower_bound, order_bound

LINE = np.linspace(-2.0, 2.0, 9)[:, None]


def problem(samples=12, width=3, seed=0, **options):
    x = normal(seed, "x", (samples, width))
    return wgflow.Problem(x, np.sin(x[:, 0]), **options)


def verdict(case, **options):
    return attainable(case, reference_laws.initial_law(case), **options).verdict


def refuted(case, **options):
    found = attainable(case, reference_laws.initial_law(case), **options)
    return [one.name for one in found.conditions if one.finding == "refuted"]


def test_distinct_inputs_can_be_fitted():
    case = problem(10)
    found = attainable(case, reference_laws.initial_law(case))
    assert found.verdict == "pass"
    assert found.number < 1e-20
    assert {one.finding for one in found.conditions} == {"proved"}
    made_true(found.verdicts, "features_fit_targets")
    made_false(found.verdicts, "loss_bounded_above_zero")
    part = attainable(problem(1100, activation="relu"), reference_laws.initial_law(case))
    assert (part.verdict, "1024 of 1100 samples" in part.sentence) == ("pass", True)


def test_a_fit_is_no_proof():
    """An own block fits as well as the built-in one, and is not known to be dense or Lipschitz."""

    class Own(wgflow.model.blocks.Ridge):
        pass

    found = attainable(problem(10, block=Own()), reference_laws.initial_law(problem(10)))
    made_true(found.verdicts, "features_fit_targets")
    assert found.verdict == "unknown"


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_flow_on_the_line_keeps_the_order(activation, sign):
    """y = -x: the best increasing fit is constant, E >= Var(y)/2; no flow in steps of 1/400 is below it."""
    case = wgflow.Problem(LINE, -sign * LINE, activation=activation, readout=[[sign]])
    found = attainable(case, reference_laws.initial_law(case))
    assert found.verdict == "fail"
    assert found.number == pytest.approx(0.5 * LINE.var())
    made_true(found.verdicts, "order_bounds_loss")
    energy = wgflow.Energy(case, {"name": "layers", "layers": 400})
    for scale in (0.5, 2.0, 4.0):
        rho = wgflow.Particles.draw_layers(case, 400, 2, 3, {"a": scale}, coupling="path")
        assert energy(rho) >= found.number
    assert verdict(case, flow=False) == "pass"  # X(0) + int f(X(0)) is any function
    panels = [
        check_assumptions(wgflow.Energy(case, depth), wgflow.Particles.draw(case, 8), starts=2)
        for depth in ("shallow", "gaps")
    ]
    assert [{one.name: one.verdict for one in each}["zero loss attainable"] for each in panels] == ["pass", "fail"]
    rises = attainable(wgflow.Problem(LINE, sign * np.tanh(LINE), readout=[[sign]]), reference_laws.initial_law(case))
    assert rises.verdict == "pass"
    made_false(rises.verdicts, "order_bounds_loss")


def test_two_steps_exchange_points_that_no_flow_exchanges():
    """The bound is one of flows: an Euler network of one layer, X + a tanh(w X), has y = -x exactly at two points."""
    x = np.array([[-1.0], [1.0]])
    case = wgflow.Problem(x, -x)
    rho = wgflow.Particles([[-2 / np.tanh(1.0), 1.0, 0.0]], [0.5])
    assert wgflow.Energy(case, {"name": "layers", "layers": 1})(rho) < 1e-28
    assert verdict(case) == "fail"


def test_the_order_bound_is_the_best_increasing_fit(rng):
    """Against pooled adjacent means, tied inputs and two outputs included."""
    x = rng.integers(0, 12, (30, 1)).astype(float)
    case = wgflow.Problem(x, rng.normal(size=(30, 2)), readout=[[2.0], [-1.0]])
    along = case.readout[:, 0]
    z = case.y @ along / 5.0  # least squares along the range of W1
    blocks = [[z[x[:, 0] == each].mean(), int((x == each).sum())] for each in np.unique(x)]
    k = 0
    while k + 1 < len(blocks):
        if blocks[k][0] > blocks[k + 1][0]:
            (a, m), (b, n) = blocks[k], blocks.pop(k + 1)
            blocks[k], k = [(a * m + b * n) / (m + n), m + n], max(k - 1, 0)
        else:
            k += 1
    fit = np.repeat([value for value, _ in blocks], [number for _, number in blocks])
    best = np.empty(30)
    best[np.argsort(x[:, 0], kind="stable")] = fit
    assert order_bound(case) == pytest.approx(0.5 * np.mean(((case.y - np.outer(best, along)) ** 2).sum(axis=1)))


def test_ties_leave_an_infimum_that_is_not_attained():
    found = attainable(wgflow.Problem(LINE, np.floor(LINE)), reference_laws.initial_law(wgflow.Problem(LINE, LINE)))
    assert (found.verdict, found.number) == ("fail", 0.0)
    assert "is not attained" in found.sentence
    plane, y = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])
    one_to_one = wgflow.Problem(plane, y, readout=np.eye(2))
    assert refuted(one_to_one) == ["distinct inputs can have distinct end states"]
    assert verdict(one_to_one, flow=False) == "pass"
    assert verdict(one_to_one.replace(plane, y + np.array([[0.0, 0.0], [0.0, 1e-9], [0.0, 0.0]]))) == "pass"
    assert verdict(wgflow.Problem(plane, y[:, 0])) == "pass"  # the mean of two columns is free in their difference


@pytest.mark.parametrize("size", [1e-250, 1e-8, 1.0, 1e8])
def test_the_size_of_data_decides_nothing(size):
    line = [wgflow.Problem(LINE, size * sign * LINE, readout=[[1.0]]) for sign in (1.0, -1.0)]
    assert [verdict(case) for case in line] == ["pass", "fail"]
    twice = np.array([[0.0, 1.0], [0.0, 1.0], [2.0, 0.0]])
    assert verdict(wgflow.Problem(twice, size * np.array([1.0, 1.0, 3.0]))) == "pass"
    assert verdict(wgflow.Problem(twice, size * np.array([1.0, 2.0, 3.0]))) == ("fail" if size > 1e-100 else "unknown")
    outside = wgflow.Problem(np.eye(2), size * np.array([[1.0, 1.0], [2.0, 0.0]]), readout=[[1.0, 0.0], [1.0, 0.0]])
    assert verdict(outside) == ("fail" if size > 1e-100 else "unknown")


def test_rounding_of_means_and_projections_refutes_nothing():
    """0.1 three times has a mean that is not 0.1; W1 W1^+ of (1/3, 1/3, 1/3) is not 1."""
    x = np.array([[0.0, 1.0, 0.0]] * 3 + [[1.0, 0.0, 0.0]])
    assert verdict(wgflow.Problem(x, [0.1, 0.1, 0.1, 0.7], readout=[[1 / 3, 1 / 3, 1 / 3]])) == "pass"
    assert verdict(wgflow.Problem(np.eye(2), [[1.0, 2.0], [3.0, 4.0]], readout=[[1.0, 0.0], [0.0, 1e-20]])) == "pass"
    deficient = wgflow.Problem(np.eye(2), [[1.0, 1.0], [2.0, 2.0]], readout=[[0.1, 0.7], [0.1, 0.7]])
    assert verdict(deficient) == "unknown"  # in the range, as far as rounding shows
    assert verdict(deficient.replace(np.eye(2), np.zeros((2, 2)))) == "pass"


def test_a_large_readout_without_full_rank_is_not_decided(rng):
    """40 x 40 numbers are not eliminated exactly; whether they are one-to-one is then not known."""
    readout = rng.normal(size=(40, 39)) @ rng.normal(size=(39, 40))
    case = wgflow.Problem(np.eye(40)[:3], np.zeros((3, 40)), readout=readout)
    found = attainable(case, reference_laws.initial_law(case))
    assert found.verdict == "unknown"
    assert "whether W1 is one-to-one is not seen up to rounding" in found.sentence
    assert verdict(wgflow.Problem(np.eye(40)[:3], np.zeros((3, 39)), readout=readout[:39])) == "pass"


def test_inputs_that_the_embedding_makes_equal():
    equal = wgflow.Problem([[1.0, 0.0], [0.0, 1.0]], [1.0, 2.0], embed=[[1.0, 1.0], [2.0, 2.0]])
    assert refuted(equal) == ["equal inputs have equal targets, in the range of W1"]
    near = wgflow.Problem([[0.1, 0.2], [0.3, 0.0]], [1.0, 2.0], embed=[[1.0, 1.0]])  # 0.30000000000000004 and 0.3
    assert len(np.unique(near.start())) == 2
    found = attainable(near, reference_laws.initial_law(near))
    assert found.verdict == "unknown"
    assert "differ by no more than rounding" in found.sentence
    assert verdict(wgflow.Problem([[0.1, 0.2], [0.4, 0.0]], [1.0, 2.0], embed=[[1.0, 1.0]])) == "pass"


def test_a_flow_built_as_in_the_text_has_the_targets(rng):
    """Four points of the plane exchanged along paths that do not meet, by velocities that 40 tanh units interpolate."""
    start = np.array([[1.0, 0.0], [-1.0, 0.0], [0.2, 0.9], [0.0, -1.1]])
    end = start[[1, 0, 3, 2]]
    case = wgflow.Problem(start, end, readout=np.eye(2))
    assert verdict(case) == "pass"
    w, b = 2 * rng.normal(size=(40, 2)), rng.normal(size=40)

    def turned(t):
        """Half a turn plus a straight line: distinct at every t."""
        c, s = np.cos(np.pi * t), np.sin(np.pi * t)
        back = end @ np.array([[-1.0, 0.0], [0.0, -1.0]])
        return ((1 - t) * start + t * back) @ np.array([[c, s], [-s, c]])

    def velocity(x, t):
        """int f drho, with outer weights that interpolate the velocities of the paths at their own points."""
        here, h = turned(t), 1e-6
        along = (turned(t + h) - turned(t - h)) / (2 * h)
        outer = np.linalg.lstsq(np.tanh(here @ w.T + b), along, rcond=None)[0]
        return np.tanh(x @ w.T + b) @ outer

    x, steps = start.copy(), 200
    for k in range(steps):
        t, h = k / steps, 1 / steps
        one = velocity(x, t)
        two = velocity(x + h / 2 * one, t + h / 2)
        three = velocity(x + h / 2 * two, t + h / 2)
        x = x + h / 6 * (one + 2 * two + 2 * three + velocity(x + h * three, t + h))
    assert np.abs(x - end).max() < 1e-6


def test_random_features_leave_the_least_squares_residual():
    """Against lstsq with the same features, where they do not suffice."""
    case = problem(10, activation="linear")
    law = reference_laws.initial_law(case)
    theta = reference_laws.draws(law, 20, 0, 1, "features")[0][0]
    features = np.array([case.block.forward(case.x, each, case.activation) @ case.readout[0] for each in theta]).T
    target = case.y[:, 0] - case.x @ case.readout[0]
    left = target - features @ np.linalg.lstsq(features, target, rcond=1e-10)[0]
    found = attainable(case, law)
    assert found.verdict == "unknown"
    assert found.number == pytest.approx(left @ left / (target @ target), rel=1e-6)
    made_false(found.verdicts, "features_fit_targets")


def test_equal_inputs_with_other_targets_fail_by_the_bound():
    x = np.array([[0.0, 1.0], [0.0, 1.0], [2.0, 0.0]])
    case = wgflow.Problem(x, [1.0, 3.0, 5.0])
    found = attainable(case, reference_laws.initial_law(case))
    assert found.verdict == "fail"
    assert found.number == pytest.approx(0.5 * (1 + 1 + 0) / 3)
    made_true(found.verdicts, "loss_bounded_above_zero")
    energy = wgflow.Energy(case, "shallow")
    for seed in range(5):  # no network is below it
        assert energy(wgflow.Particles.draw(case, 9, seed)) >= found.number
    assert verdict(case.replace(x, [1.0, 1.0, 5.0])) == "pass"


@pytest.mark.parametrize("low", [0.1, 1e8])
@pytest.mark.parametrize("readout", [np.eye(2), np.ones((2, 2))])
def test_targets_one_rounding_apart_have_their_bound_and_no_more(low, readout):
    """Their mean is no float; rounded to one of them, it would give twice the bound, which networks are below."""
    high = float(np.nextafter(low, np.inf))
    case = wgflow.Problem(np.ones((2, 2)), [[low, low], [high, high]], readout=readout)
    assert lower_bound(case) == pytest.approx((high - low) ** 2 / 4, rel=1e-12, abs=0)
    assert refuted(case) == ["equal inputs have equal targets, in the range of W1"]


def test_an_offset_of_many_equal_inputs_does_not_raise_the_bound():
    noise = 1e-6 * normal(0, "noise", (20_000, 1))
    y = 1e8 + noise
    exact = 0.5 * np.var(y - 1e8)
    assert lower_bound(wgflow.Problem(np.ones((len(y), 1)), y)) == pytest.approx(exact, rel=1e-9, abs=0)


def test_targets_outside_the_range_of_the_readout_fail():
    y = np.array([[1.0, 1.0], [2.0, 0.0]])
    case = wgflow.Problem(np.eye(2), y, readout=[[1.0, 0.0], [1.0, 0.0]])
    assert lower_bound(case) == pytest.approx(0.5 * (0 + 2) / 2)  # (2, 0) is sqrt 2 from the diagonal
    assert attainable(case, reference_laws.initial_law(case)).verdict == "fail"


def test_blocks_of_one_sign_are_not_said_to_fit():
    case = problem(6, block="matrix", activation="gelu")
    found = attainable(case, reference_laws.initial_law(case))
    assert found.verdict == "unknown"
    assert "int f drho has all values at finitely many points (dense in C(|x| < R; R^D) is refuted" in found.sentence


def test_cross_entropy_does_not_attain_zero():
    x, y = np.array([[0.0], [0.0], [1.0]]), np.eye(2)[[0, 1, 1]]
    options = {"readout": [[1.0], [0.0]], "loss": "cross_entropy"}
    mixed = wgflow.Problem(x, y, **options)
    found = attainable(mixed, reference_laws.initial_law(mixed))
    assert found.verdict == "fail"
    assert found.number == pytest.approx(np.log(2) * 2 / 3)
    apart = wgflow.Problem(x[1:], y[1:], **options)
    found = attainable(apart, reference_laws.initial_law(apart))
    assert (found.verdict, found.number) == ("fail", 0.0)
    assert "not attained" in found.sentence


def test_an_own_loss_is_unknown():
    class Own:
        name = "own"

        def value(self, output, y):
            return ((output - y) ** 4).sum(axis=1)

        def gradient(self, output, y):
            return 4 * (output - y) ** 3

        def check(self, y):
            pass

    case = problem(loss=Own())
    assert attainable(case, reference_laws.initial_law(case)).verdict == "unknown"


def test_of_a_loss_of_your_own_named_squared_nothing_is_known():
    class Lifted(Squared):
        def value(self, output, y):
            return super().value(output, y) + 1.0

    problem = wgflow.Problem.padded([[0.0], [1.0]], [1.0, -1.0], loss=Lifted())
    assert attainable(problem, reference_laws.initial_law(problem)).verdict == "unknown"


def test_a_logistic_loss_does_not_attain_zero():
    """Its least value is 0 at infinite outputs, or log 2 / 2 with one of two inputs labelled both ways."""
    for y, bound in (([1.0, -1.0], 0.0), ([1.0, -1.0, 1.0, 1.0], np.log(2) / 2)):
        x = np.array([[0.0], [1.0], [2.0], [2.0]][: len(y)]) if not bound else np.array([[0.0], [0.0], [2.0], [2.0]])
        problem = wgflow.Problem.padded(x, y, loss="logistic")
        found = attainable(problem, reference_laws.initial_law(problem))
        assert found.verdict == "fail"
        assert found.number == pytest.approx(bound, abs=1e-15)
        assert ("only infinite outputs reach" in found.sentence) == (bound == 0)


def test_a_bound_beyond_the_largest_number_is_that_number():
    problem = wgflow.Problem([[1.0], [1.0]], [1e200, -1e200])
    assert lower_bound(problem) == np.finfo(np.float64).max


def test_of_other_losses_a_finding_is_said_too():
    class Own(Squared):
        name = "own"

    x, labels = [[0.0], [1.0]], [[1.0], [-1.0]]
    for loss, finding in (("logistic", "refuted"), (Own(), "not checked")):
        case = wgflow.Problem(x, labels, loss=loss)
        found = attainable(case, reference_laws.initial_law(case))
        assert [one.finding for one in found.conditions] == [finding]
        assert found.sentence.lower().startswith(f"{finding}: ")
