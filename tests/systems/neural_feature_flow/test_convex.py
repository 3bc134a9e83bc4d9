"""The convex programme on a grid of features against sums over units, another solver, and its own lower bounds."""

import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from wgflow.base.errors import InputError
from wgflow.systems.neural_feature_flow import convex
from wgflow.systems.neural_feature_flow.constraints import Dual, constraints, lower_bound, project
from wgflow.systems.neural_feature_flow.convex import Point, lift, objective, residual
from wgflow.systems.neural_feature_flow.flow import run
from wgflow.systems.neural_feature_flow.initial import minimum_norm
from wgflow.systems.neural_feature_flow.network import Network
from wgflow.systems.neural_feature_flow.optimum import optimality_gap, reformulate
from wgflow.systems.neural_feature_flow.state import Features, Weights

LAM = (0.02, 0.05, 0.03)  # one for each layer of three, all different


def regularised(twin, network, weights, lam):
    """Loss plus penalties of the network itself, unit by unit."""
    m = len(weights.outer)
    total = np.mean((twin.sums(network, weights)[2] - network.y) ** 2) / 2
    for strength, v in zip(lam, weights.middle, strict=False):
        total += strength / m * sum((sum(abs(v[i, j]) for j in range(m)) / m) ** 2 for i in range(m))
    return total + lam[-1] / m * sum(v**2 for v in weights.outer)


def feasible(rng, network, grid, slack=0.0, scale=None):
    """A random point that satisfies the constraints, with laws from nearly even to nearly concentrated."""
    sizes = [len(each) for each in grid.beta]
    laws = [0.99 * rng.dirichlet(np.full(m, rng.uniform(0.1, 2))) + 0.01 / m for m in sizes]
    laws = len(sizes) * [laws[0]] if network.skip else laws
    scale = rng.exponential(2) if scale is None else scale
    omega = [scale * rng.normal(size=(len(p), len(q))) * p[:, None] * q for p, q in pairwise(laws)]
    omega.append(scale * rng.normal(size=sizes[-1]) * laws[-1])
    return project(constraints(network, grid, slack), Point(tuple(omega), tuple(laws)))


def between(a, b, t):
    mixed = [tuple((1 - t) * p + t * q for p, q in zip(u, v, strict=True)) for u, v in zip(a, b, strict=True)]
    return Point(*mixed)


def bulge(function, a, b, t):
    """How far a function lies above its chord, <= 0 where it is convex."""
    chord = (1 - t) * function(a) + t * function(b)
    return (function(between(a, b, t)) - chord) / (1 + abs(chord))


def sine(kind="dnn", layers=3, points=10, **options):
    x = np.linspace(-np.pi, np.pi, points)[:, None]
    return Network(x, np.sin(x[:, 0]), layers, kind=kind, backend="reference", **options)


def test_objective_is_the_regularised_loss_of_the_network(twin, kind, rng):
    network = twin.make_network(rng, kind=kind)
    weights = twin.make_weights(rng, network)
    grid, point = network.features(weights), lift(weights)
    cost = objective(network, grid, point, LAM)
    assert cost.value == pytest.approx(regularised(twin, network, weights, LAM), rel=1e-13)
    assert cost.loss == pytest.approx(network.value(weights))
    assert cost.regulariser == pytest.approx(cost.value - cost.loss)
    assert residual(network, grid, point) < 1e-15
    moved = Point((point.omega[0] + 0.1, *point.omega[1:]), point.p)
    assert residual(network, grid, moved) > 1e-2  # it can fail


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.sampled_from(["resnet", "dnn"]))
@settings(max_examples=60)
def test_objective_is_convex_along_segments_of_feasible_points(twin, seed, t, kind):
    rng = np.random.default_rng(seed)
    network = twin.make_network(rng, kind=kind)
    grid = network.features(twin.make_weights(rng, network, 6))
    a, b = feasible(rng, network, grid), feasible(rng, network, grid)
    assert max(residual(network, grid, each) for each in (a, b, between(a, b, t))) < 1e-10
    assert bulge(lambda point: objective(network, grid, point, LAM).value, a, b, t) < 1e-12


def test_plain_weight_decay_is_not_convex(twin, rng):
    """From few connections to many on other units, omega^2 / (p p') is nearly all there halfway."""
    network = twin.make_network(rng, points=2, kind="dnn")
    grid = network.features(twin.make_weights(rng, network, 6))
    pairs = [[feasible(rng, network, grid, scale=scale) for scale in (0, 10)] for _ in range(100)]

    def decay(point):
        layers = zip(point.omega, point.p, point.p[1:], strict=False)
        return sum((w**2 / np.multiply.outer(p, q)).sum() for w, p, q in layers)

    def worst(function):
        return max(bulge(function, a, b, 0.5) for a, b in pairs)

    assert worst(decay) > 0.1
    assert worst(lambda point: objective(network, grid, point, LAM).value) < 1e-12


def test_loss_is_not_convex_in_the_weights(twin, kind, rng):
    """Two networks that differ by the order of their units, and the one halfway between."""
    network = twin.make_network(rng, kind=kind)
    weights, order = twin.make_weights(rng, network, 6, scale=3.0), rng.permutation(6)
    middle = tuple(v[order][:, order] for v in weights.middle)
    other = Weights(weights.inner[:, order], middle, weights.outer[order])
    halfway = twin.rebuilt([(p + q) / 2 for p, q in zip(twin.leaves(weights), twin.leaves(other), strict=True)])
    ends = [regularised(twin, network, each, LAM) for each in (weights, other)]
    assert ends[0] == pytest.approx(ends[1])
    network = Network(network.x, network.predict(weights, network.x), 3, kind=kind, backend="reference")
    ends = [network.value(each) for each in (weights, other)]
    assert max(ends) < 1e-25
    assert network.value(halfway) > 1e-3


def by_slsqp(network, grid, lam, start):
    """The programme for two hidden layers by sequential quadratic programming, omega as a difference of positives."""
    h, top, alpha = network.h1.value(grid.beta[0]), network.h1.value(grid.beta[1]), grid.alpha[0]
    m = len(h)
    square, laws = m * m, 1 if network.skip else 2

    def parts(z):
        up, down, out = z[:square].reshape(m, m), z[square : 2 * square].reshape(m, m), z[2 * square :][:m]
        p, q = z[-laws * m :][:m], z[-m:]  # one array in a Res-Net
        return up, down, out, p, q

    def value(z):
        up, down, out, p, q = parts(z)
        loss = np.mean((out @ top - network.y) ** 2) / 2
        return loss + lam[0] * np.sum((up + down).sum(axis=1) ** 2 / p) + lam[1] * np.sum(out**2 / q)

    def equalities(z):
        up, down, _, p, q = parts(z)
        found = [((up - down).T @ h - alpha * q[:, None]).ravel(), [p.sum() - 1, q.sum() - 1][:laws]]
        return np.concatenate(found)

    (w, out), (p, q) = start
    z = np.concatenate([np.maximum(w, 0).ravel(), np.maximum(-w, 0).ravel(), out, p, q][: 3 + laws])
    bounds = 2 * square * [(0, None)] + m * [(None, None)] + laws * m * [(1e-9, None)]
    limits = {"type": "eq", "fun": equalities}
    found = minimize(
        value, z, method="SLSQP", bounds=bounds, constraints=limits, options={"maxiter": 500, "ftol": 1e-13}
    )
    assert found.success
    assert np.abs(equalities(found.x)).max() < 1e-9
    return found.fun


@pytest.mark.parametrize("solver", ["clarabel", "scs"])
def test_another_solver_finds_the_same_optimum(twin, kind, rng, solver):
    pytest.importorskip("cvxpy")
    network = twin.make_network(rng, points=2, layers=2, kind=kind)
    weights = twin.make_weights(rng, network, 4)
    grid = network.features(weights)
    found = reformulate(network, grid, LAM[:2], solver=solver)
    expected = by_slsqp(network, grid, LAM[:2], lift(weights))
    assert found.value == pytest.approx(expected, rel=1e-5)
    assert expected >= found.bound - 1e-12
    assert objective(network, grid, lift(weights), LAM[:2]).value > 1.05 * expected  # there was something to find
    assert found.solver.lower() == solver


def test_optimum_lies_between_its_bound_and_every_feasible_point(twin, kind, rng):
    pytest.importorskip("cvxpy")
    network = twin.make_network(rng, kind=kind)
    grid = network.features(twin.make_weights(rng, network, 7))
    found = reformulate(network, grid, LAM)
    best = Point(found.omega, found.p)
    assert found.status == "optimal"
    assert found.residual < 1e-12
    assert objective(network, grid, best, LAM) == (found.value, found.loss, found.regulariser)
    assert 0 <= found.value - found.bound < 1e-6
    assert abs(found.solver_value - found.value) < 1e-6
    assert abs(found.solver_gap - (found.solver_value - found.bound)) < 1e-15
    for _ in range(30):
        other = feasible(rng, network, grid)
        assert objective(network, grid, other, LAM).value > found.value
        near = objective(network, grid, between(best, other, 1e-3), LAM).value
        assert near >= found.bound
        assert near > found.value - 1e-7


@given(st.integers(0, 2**32 - 1), st.sampled_from(["resnet", "dnn"]), st.sampled_from([0.0, 0.1]), st.booleans())
@settings(max_examples=60)
def test_any_multipliers_bound_every_feasible_point(twin, seed, kind, slack, fixed):
    rng = np.random.default_rng(seed)
    network = twin.make_network(rng, points=3, kind=kind)
    grid = network.features(twin.make_weights(rng, network, 4))
    limits, point = constraints(network, grid, slack), feasible(rng, network, grid, slack)
    scale = rng.exponential(0.2)
    dual = Dual(scale * rng.normal(size=3), tuple(scale * rng.normal(size=each.targets.shape) for each in limits))
    bound = lower_bound(network, grid, LAM, limits, dual, point.p[0] if fixed else None)
    assert bound <= objective(network, grid, point, LAM).value + 1e-9


def test_bound_is_the_minimum_of_the_lagrangian(twin, kind, rng):
    """The minimiser omega of each term, from its formula, and the best vertex of the laws, found by trying all."""
    network = twin.make_network(rng, points=3, kind=kind)
    grid = network.features(twin.make_weights(rng, network, 4))
    limits = constraints(network, grid)
    dual = Dual(rng.normal(size=3), tuple(rng.normal(size=each.targets.shape) for each in limits))

    def lagrangian(laws):
        total = -np.mean(dual.slope**2 / 2 + dual.slope * network.y)  # the outputs' part at output = y + slope
        for limit, m, strength, p, q in zip(limits, dual.layers, LAM, laws, laws[1:], strict=False):
            steep = limit.rows.T @ m
            for i, row in enumerate(steep):
                j = np.abs(row).argmax()  # all of a row's connection goes to its steepest unit
                w = -row[j] * p[i] / (2 * strength)
                total += row[j] * w + (strength * w**2 / p[i] if p[i] else 0.0)
            total -= (limit.targets * m * q).sum()
        g = network.h1.value(grid.beta[-1]) @ dual.slope / 3
        w = -g * laws[-1] / (2 * LAM[-1])
        return total + g @ w + LAM[-1] * np.sum(w[laws[-1] > 0] ** 2 / laws[-1][laws[-1] > 0])

    vertices = np.eye(4)
    choices = (
        [(a, a, a) for a in vertices]
        if network.skip
        else [(a, b, c) for a in vertices for b in vertices for c in vertices]
    )
    least = min(lagrangian(each) for each in choices)
    assert lower_bound(network, grid, LAM, limits, dual) == pytest.approx(least, rel=1e-12)
    laws = 3 * [rng.dirichlet(np.ones(4))]
    if network.skip:
        assert lower_bound(network, grid, LAM, limits, dual, laws[0]) == pytest.approx(lagrangian(laws), rel=1e-12)


def test_a_given_first_law(twin, kind, rng):
    pytest.importorskip("cvxpy")
    network = twin.make_network(rng, kind=kind)
    weights = twin.make_weights(rng, network, 6)
    grid, p = network.features(weights), rng.dirichlet(np.ones(6))
    free, fixed = reformulate(network, grid, LAM), reformulate(network, grid, LAM, first=p)
    assert np.allclose(fixed.p[0], p)
    assert free.value < fixed.value
    assert 0 <= fixed.value - fixed.bound < 1e-6
    uniform = optimality_gap(network, weights, LAM, first_free=False)
    assert free.value <= uniform.optimum.value <= uniform.own.value
    again = reformulate(network, grid, LAM, first=free.p[0])
    assert again.value == pytest.approx(free.value, abs=1e-6)
    with pytest.raises(InputError, match="may not span the features above"):
        reformulate(network, grid, LAM, first=np.eye(6)[0], solver="clarabel")


def test_training_closes_the_gap(kind):
    """Step by step in the Res-Net; in the DNN the features first get better than what the network makes of them."""
    pytest.importorskip("cvxpy")
    network = sine(kind)
    shots = run(network, minimum_norm(network, 20, seed=1).weights, 1600, 0.05, every=400, flow=False)
    gaps = [optimality_gap(network, shot.state.weights, 1e-4) for shot in shots]
    values = [each.gap for each in gaps]
    assert 0 < values[-1] < 0.2 * values[0]
    assert kind == "dnn" or all(later < earlier for earlier, later in pairwise(values))
    for each in gaps:
        assert each.gap == each.own.value - each.optimum.bound
        assert each.optimum.value < each.own.value
        assert each.rounding < 1e-9


def test_an_optimal_network_has_no_gap(twin, rng):
    """Weights read off an optimum with a fixed uniform law of a Res-Net are a network's, and nothing beats them."""
    pytest.importorskip("cvxpy")
    network = twin.make_network(rng, kind="resnet", points=3)
    weights = twin.make_weights(rng, network, 6)
    m, grid = 6, network.features(weights)
    found = reformulate(network, grid, LAM, first=np.full(m, 1 / m))
    best = Weights(weights.inner, tuple(m**2 * w for w in found.omega[:-1]), m * found.omega[-1])
    assert all(np.allclose(a, b, atol=1e-9) for a, b in zip(network.features(best).beta, grid.beta, strict=True))
    assert regularised(twin, network, best, LAM) == pytest.approx(found.value, rel=1e-9)
    assert -1e-9 < optimality_gap(network, best, LAM, first_free=False).gap < 1e-5
    assert optimality_gap(network, weights, LAM, first_free=False).gap > 1e-2


def test_fewer_units_than_points_and_units_without_mass(twin, kind, rng):
    pytest.importorskip("cvxpy")
    network = twin.make_network(rng, points=6, kind=kind)
    weights = twin.make_weights(rng, network, 3)
    grid = network.features(weights)
    assert [len(each.rows) for each in constraints(network, grid)] == [3, 3]
    found = reformulate(network, grid, LAM)
    assert found.value <= objective(network, grid, lift(weights), LAM).value
    assert found.residual < 1e-12
    p = (np.array([0.0, 0.4, 0.6]),) * 3
    omega = [np.outer(a, b) for a, b in pairwise(p)] + [p[-1]]
    value = objective(network, grid, Point(tuple(omega), p), LAM)
    assert np.isfinite(value.value)
    omega[-1] = np.ones(3)
    assert objective(network, grid, Point(tuple(omega), p), LAM).regulariser == np.inf
    cut_off = project(constraints(network, grid), Point((np.ones((3, 3)), np.ones((3, 3)), np.ones(3)), p))
    assert not any(each[0].any() for each in cut_off.omega)


def test_dead_layers_and_twins():
    """Units without activity span nothing but 0, and a unit twice does no harm."""
    pytest.importorskip("cvxpy")
    network = sine(points=4)
    dead = Weights(np.zeros((1, 3)), (np.ones((3, 3)), np.ones((3, 3))), np.ones(3))
    found = optimality_gap(network, dead, 0.1)
    assert found.optimum.value == pytest.approx(np.mean(network.y**2) / 2, abs=1e-7)
    assert found.own.value == pytest.approx(found.optimum.value + 0.3)
    assert found.rounding == 0
    grid = network.features(minimum_norm(network, 5, seed=1).weights)
    double = Features(
        tuple(np.repeat(a, 2, axis=0) for a in grid.alpha), tuple(np.repeat(b, 2, axis=0) for b in grid.beta)
    )
    assert reformulate(network, double, 0.01).value == pytest.approx(reformulate(network, grid, 0.01).value, abs=1e-6)


def missed(found, grid):
    """Root mean square over the points by which each layer's features are missed, the largest."""
    layers = zip(found.omega, grid.beta, grid.alpha, found.p[1:], strict=False)
    off = [(w.T @ np.tanh(beta))[p > 0] / p[p > 0, None] - alpha[p > 0] for w, beta, alpha, p in layers]
    return max(np.sqrt((each**2).mean(axis=1)).max() for each in off)


def test_slack(twin, kind, rng):
    pytest.importorskip("cvxpy")
    network = twin.make_network(rng, points=6, kind=kind)
    grid = network.features(twin.make_weights(rng, network, 4))
    exact = reformulate(network, grid, LAM).value
    values = []
    for slack in (1e-5, 1e-2, 1e-1):
        found = reformulate(network, grid, LAM, slack=slack)
        values.append(found.value)
        assert 0 <= found.value - found.bound < 1e-6
        assert missed(found, grid) == pytest.approx(slack, rel=1e-4)  # all of it is used
    assert values[2] < values[1] < values[0] <= exact + 1e-7
    assert values[0] == pytest.approx(exact, rel=1e-3)
    noisy = Features(tuple(a + 1e-2 * rng.normal(size=a.shape) for a in grid.alpha), grid.beta)
    with pytest.raises(InputError, match=r"grid: expected alpha_2 in the span"):
        reformulate(network, noisy, LAM)
    found = reformulate(network, noisy, LAM, slack=2e-2)
    assert missed(found, noisy) == pytest.approx(2e-2, rel=1e-4)
    assert 0 <= found.value - found.bound < 1e-6


def test_features_out_of_reach_are_refused(kind):
    pytest.importorskip("cvxpy")
    network = sine(kind)
    grid = network.features(minimum_norm(network, 24, seed=3).weights)
    first = Features(tuple(a[:3] for a in grid.alpha), tuple(b[:3] for b in grid.beta))
    with pytest.raises(InputError, match="in the span"):
        constraints(network, first)


def test_refusals(twin, rng, monkeypatch):
    network = twin.make_network(rng, kind="resnet")
    weights = twin.make_weights(rng, network)
    grid, point = network.features(weights), lift(weights)
    with pytest.raises(InputError, match=r"lam: expected one number > 0, or 3 of them, got \(1, 0, 1\)"):
        objective(network, grid, point, (1, 0, 1))
    with pytest.raises(InputError, match=r"lam: expected a finite number > 0"):
        objective(network, grid, point, -1.0)
    with pytest.raises(InputError, match=r"p: expected 5 numbers >= 0 with sum 1"):
        objective(network, grid, Point(point.omega, (np.ones(5),) * 3), 1.0)
    with pytest.raises(InputError, match="one law for all layers"):
        objective(network, grid, Point(point.omega, (*point.p[:2], np.eye(5)[0])), 1.0)
    with pytest.raises(InputError, match="point: expected omega of shapes"):
        objective(network, grid, Point(point.omega[:2], point.p), 1.0)
    with pytest.raises(InputError, match="grid: expected 3 layers"):
        convex.check_grid(network, Features(grid.alpha, grid.beta[:2]))
    with pytest.raises(InputError, match="equally many"):
        convex.check_grid(network, Features(grid.alpha, (grid.beta[0][:4], *grid.beta[1:])))
    with pytest.raises(InputError, match="unknown solver"):
        reformulate(network, grid, 1.0, solver="simplex")
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    with pytest.raises(InputError, match=r"pip install .*\[convex\]"):
        reformulate(network, grid, 1.0)


def test_other_losses_have_an_objective_only(twin, rng):
    class Quartic:
        name = "quartic"

        def value(self, output, y):
            return ((output - y) ** 4).sum(axis=1)

        def gradient(self, output, y):
            return 4 * (output - y) ** 3

        def check(self, y):
            pass

    network = twin.make_network(rng, kind="dnn", loss=Quartic())
    weights = twin.make_weights(rng, network)
    grid = network.features(weights)
    assert objective(network, grid, lift(weights), LAM).loss == pytest.approx(network.value(weights))
    with pytest.raises(InputError, match="loss: expected 'squared'"):
        reformulate(network, grid, LAM)
