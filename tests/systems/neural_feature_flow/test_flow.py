"""Euler on the weights is scaled gradient descent; independent features leave a defect of the method's order."""

import numpy as np
import pytest

from wgflow.base.errors import DivergenceError, InputError
from wgflow.flow.integrators import EULER, HEUN, RK4, Tableau
from wgflow.systems.neural_feature_flow.flow import State, defect, descent_step, flow_step, run, start
from wgflow.systems.neural_feature_flow.initial import minimum_norm
from wgflow.systems.neural_feature_flow.low_rank import dense
from wgflow.systems.neural_feature_flow.state import Features


def flat(weights):
    return np.concatenate([dense(each).ravel() for each in (weights.inner, *weights.middle, weights.outer)])


def test_descent_is_gradient_descent_with_the_paper_s_factors(twin, kind, rng):
    network = twin.make_network(rng, kind=kind)
    weights = twin.make_weights(rng, network)
    found = weights
    for _ in range(3):
        drifts = twin.scaled_gradient(network, weights)
        weights = twin.rebuilt([a - 0.3 * b for a, b in zip(twin.leaves(weights), drifts, strict=True)])
        found = descent_step(network, found, 0.3)
    assert np.abs(flat(found) - flat(weights)).max() <= 1e-12 * np.abs(flat(weights)).max()


def test_euler_on_weights_with_features_recomputed_is_gradient_descent(twin, kind, rng):
    """Bit by bit where the weights are concerned: the two differ in the features alone."""
    network = twin.make_network(rng, kind=kind)
    weights = twin.make_weights(rng, network)
    other = weights
    for _ in range(5):
        state = flow_step(network, start(network, weights), 0.2)
        weights = state.weights
        other = descent_step(network, other, 0.2)
    assert np.array_equal(flat(weights), flat(other))
    assert defect(network, state).largest > 1e-4  # which the step's own features are not


def test_a_step_by_hand(twin, kind, rng):
    network = twin.make_network(rng, kind=kind)
    state = start(network, twin.make_weights(rng, network))
    drift = network.drift(*state)
    after = flow_step(network, state, 0.1)
    assert np.allclose(flat(after.weights), flat(state.weights) - 0.1 * flat(drift.weights), rtol=0, atol=1e-14)
    for part in ("alpha", "beta"):
        before, moved, now = (np.array(getattr(f, part)) for f in (state.features, drift.features, after.features))
        assert np.allclose(now, before - 0.1 * moved, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("table", "largest"), [(EULER, 0.02), (HEUN, 0.04), (RK4, 0.2)], ids=["euler", "heun", "rk4"])
def test_constraint_defect_is_of_the_method_s_order(twin, kind, rng, table, largest):
    """And so are the weights' distances from the flow whose features are recomputed, gradient descent for Euler."""
    network = twin.make_network(rng, kind=kind)
    weights = twin.make_weights(rng, network)
    sizes = largest / np.array([1, 2, 4])
    defects, apart = [], []
    for h in sizes:
        *_, last = run(network, weights, round(1 / h), h, table, every=999)
        *_, plain = run(network, weights, round(1 / h), h, table, every=999, flow=False)
        defects.append(last.defect)
        apart.append(np.abs(flat(last.state.weights) - flat(plain.state.weights)).max())
        assert plain.defect < 1e-13
    for errors in (defects, apart):
        slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
        assert slope == pytest.approx(table.order, abs=0.1)


def test_defect_is_seen_layer_by_layer(twin, kind, rng):
    network = twin.make_network(rng, layers=4, kind=kind)
    state = start(network, twin.make_weights(rng, network))
    assert defect(network, state).largest < 1e-13
    beta = [each.copy() for each in state.features.beta]
    beta[3][2, 1] += 0.5
    moved = Features(tuple(beta[1:]) if kind == "dnn" else state.features.alpha, tuple(beta))
    found = defect(network, State(state.weights, moved))
    assert found.largest == pytest.approx(0.5)
    assert (found.alpha if kind == "dnn" else found.beta)[2] == pytest.approx(0.5)
    weights = state.weights._replace(inner=state.weights.inner + 1.0)
    assert defect(network, State(weights, state.features)).first > 1e-3


def test_loss_falls_and_rk4_follows_the_flow(twin, kind, rng):
    network = twin.make_network(rng, points=5, kind=kind)
    begin = minimum_norm(network, 40, seed=1)
    losses = [each.loss for each in run(network, begin.weights, 40, 0.05)]
    assert np.all(np.diff(losses) < 0)
    *_, fine = run(network, begin.weights, 200, 0.01, RK4)
    *_, coarse = run(network, begin.weights, 40, 0.05, RK4)
    assert fine.s == pytest.approx(coarse.s)
    assert coarse.loss == pytest.approx(fine.loss, rel=1e-5)
    assert losses[-1] != pytest.approx(fine.loss, rel=1e-5)  # Euler is coarser


def test_a_method_whose_stages_repeat(twin, rng):
    """A row of zeros is the first stage again: Euler in two halves of one."""
    network = twin.make_network(rng)
    state = start(network, twin.make_weights(rng, network))
    twice = flow_step(network, state, 0.1, Tableau("twice", 1, ((0.0,),), (0.5, 0.5)))
    assert np.allclose(flat(twice.weights), flat(flow_step(network, state, 0.1).weights), rtol=0, atol=1e-14)


def test_snapshots(twin, rng):
    network = twin.make_network(rng)
    weights = twin.make_weights(rng, network)
    kept = flat(weights)
    shots = list(run(network, weights, 7, 0.1, every=3))
    assert [each.step for each in shots] == [0, 3, 6, 7]
    assert np.array_equal(flat(weights), kept)  # the caller's arrays are not written to
    again = list(run(network, weights, 7, 0.1, every=1))
    assert [np.array_equal(flat(a.state.weights), flat(again[a.step].state.weights)) for a in shots] == 4 * [True]
    on = list(run(network, shots[2].state, 1, 0.1))[-1]
    assert np.array_equal(flat(on.state.weights), flat(shots[3].state.weights))
    assert on.loss == shots[3].loss


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"h": 0.0}, "h: expected a finite number > 0"),
        ({"steps": -1}, "steps: expected a whole number >= 0"),
        ({"every": 0}, "every: expected"),
        ({"method": "rk5"}, "unknown integrator"),
    ],
)
def test_bad_arguments(twin, rng, change, message):
    network = twin.make_network(rng)
    with pytest.raises(InputError, match=message):
        list(run(network, twin.make_weights(rng, network), **({"steps": 2, "h": 0.1} | change)))


def test_divergence_keeps_the_last_good_snapshot(twin, rng):
    network = twin.make_network(rng, h1="squared_relu", h2="squared_relu")
    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match="lower h") as caught:
        list(run(network, twin.make_weights(rng, network), 200, 50.0))
    assert np.isfinite(caught.value.frame.loss)
