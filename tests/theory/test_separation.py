"""Shadows against closed forms, ensembles that lack a half of theirs, and Lemma H.2 along a run."""

import itertools
import math

import iid_laws
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import ConvexHull

import wgflow
from wgflow.base.errors import InputError
from wgflow.model.activations import Activation
from wgflow.theory.one_signed_floor import one_signed_floor
from wgflow.theory.reference_laws import initial_law
from wgflow.theory.separation import (
    SeparationEstimator,
    at_depth,
    kind,
    separation,
    separation_of_law,
)
from wgflow.theory.surrounding import surrounds

X = np.linspace(-3.0, 3.0, 15)[:, None]


def line(activation="relu"):
    """Problem of one column, whose target a flow along depth can reach: sin(0.4 x) rises with x."""
    return wgflow.Problem(X, np.sin(0.4 * X), activation=activation)


def normal(count, columns, seed=0):
    return np.random.default_rng(seed).normal(size=(count, columns))


@given(seed=st.integers(0, 2**32), count=st.integers(1, 12))
def test_surrounding_in_the_plane_is_a_largest_gap_of_angles_below_half_a_turn(seed, count):
    points = normal(count, 2, seed)
    angles = np.sort(np.arctan2(points[:, 1], points[:, 0]))
    gaps = np.append(np.diff(angles), 2 * np.pi - (angles[-1] - angles[0]))
    assume(abs(gaps.max() - np.pi) > 1e-6)
    assert surrounds(points) == bool(gaps.max() < np.pi)


def test_surrounding_has_the_probability_of_wendel():
    """A binomial count, at four standard deviations: fails once in 16000."""
    count, columns, trials = 7, 3, 1500
    chance = 1 - 2.0 ** (1 - count) * sum(math.comb(count - 1, j) for j in range(columns))
    seen = sum(surrounds(normal(count, columns, seed)) for seed in range(trials))
    assert abs(seen - trials * chance) < 4 * math.sqrt(trials * chance * (1 - chance))


@given(seed=st.integers(0, 2**32), scale=st.sampled_from([1e-6, 1.0, 1e6]))
def test_surrounding_outlives_linear_maps_and_lengths(seed, scale):
    """Both are homeomorphisms that keep rays from the origin."""
    rng = np.random.default_rng(seed)
    points, matrix = rng.normal(size=(9, 3)), rng.normal(size=(3, 3)) + 3 * np.eye(3)
    assert surrounds(scale * (points * rng.uniform(0.5, 2, (9, 1))) @ matrix) == surrounds(points)


@pytest.mark.parametrize("columns", [2, 3, 5])
def test_half_spaces_subspaces_and_points_surround_nothing(columns):
    points = normal(200, columns)
    assert surrounds(points)
    half, flat = points.copy(), points.copy()
    half[:, 0], flat[:, 0] = np.abs(half[:, 0]), 0.0
    for lacking in (half, flat, np.tile(points[:1], (200, 1)), points[:columns], points[:0]):
        assert not surrounds(lacking)


def test_holes_of_ensembles_whose_covering_angle_is_known():
    """Point 180 degrees, circle and both poles 90, a cap of half-angle c 180 - c; fresh draws find nearly all of it."""
    made = SeparationEstimator(line(), 400, fresh=4000)
    turn = 2 * np.pi * np.arange(400) / 400
    circle = np.column_stack([np.cos(turn), np.sin(turn), 0 * turn])
    poles = np.tile([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]], (200, 1))
    cap = np.column_stack([np.full(400, 2**0.5), np.cos(turn), np.sin(turn)])
    cap[0] = [1.0, 0.0, 0.0]
    wanted = {"point": 180.0, "circle": 90.0, "poles": 90.0, "cap": 180 - np.degrees(np.arctan(0.5**0.5))}
    for ensemble, angle in zip((poles[:1], circle, poles, cap), wanted.values(), strict=True):
        found = made.measure(ensemble)
        assert angle - 4.0 < found.hole.value <= angle + 1e-6
        assert found.verdict == "fail"
    full = made.measure(normal(400, 3, seed=5))
    assert full.verdict == "unknown"  # no finite set proves more
    assert full.hole.value < 30.0
    assert full.covered.value == pytest.approx(0.95, abs=0.03)


def test_a_ensemble_at_the_origin_casts_no_shadow():
    found = SeparationEstimator(line(), 8).measure(np.zeros((8, 3)))
    assert (found.covered.value, found.hole.value, found.verdict, found.high) == (0.0, 180.0, "fail", 0.0)


def test_holes_are_the_brute_force():
    problem, ensemble = line("tanh"), normal(20, 3, seed=3)
    made = SeparationEstimator(problem, 20, fresh=50, ensembles=4, seed=2)
    fresh = made._reference.fresh
    inside = ensemble[np.abs(ensemble[:, 0]) <= made.r0, 1:]
    apart = np.sqrt(((fresh[:, None] - (inside / made._scale)[None]) ** 2).sum(axis=2)).min(axis=1)
    found = made.measure(ensemble)
    assert (found.r0, found.inside) == (made.r0, len(inside))
    assert made.r0 == pytest.approx(0.67, abs=0.2)  # the median of |a|, a standard Gaussian, from 50 draws
    assert found.hole.value == pytest.approx(apart.max(), rel=1e-12)
    assert found.covered.value == np.mean(apart <= made._reference.radius)
    assert (found.low, found.high) == (ensemble[:, 0].min(), ensemble[:, 0].max())


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_an_iid_ensemble_has_the_largest_hole_as_often_as_any_other(activation):
    """Exchangeable, so with probability 1/(ensembles + 1) = 1/4; a two-sided binomial test that fails once in 10**4."""
    problem, above = line(activation), 0
    for seed in range(120):
        found = SeparationEstimator(problem, 12, fresh=60, ensembles=3, seed=seed).measure(
            normal(12, 3, seed=10_000 + seed)
        )
        above += found.hole.value > found.largest_iid
    assert stats.binomtest(above, 120, 0.25).pvalue > 1e-4


def test_lengths_change_nothing_for_2_homogeneous_blocks_and_the_sign_of_theta_1_nothing_for_the_others():
    ensemble, factor = normal(32, 3, seed=1), np.random.default_rng(2).uniform(0.1, 9.0, (32, 1))
    rays, lines = SeparationEstimator(line(), 32), SeparationEstimator(line("tanh"), 32)
    assert rays.measure(factor * ensemble).hole.value == pytest.approx(rays.measure(ensemble).hole.value, rel=1e-9)
    turned = ensemble * [-1.0, 1.0, 1.0]
    assert lines.measure(turned).hole == lines.measure(ensemble).hole
    assert lines.measure(ensemble * [9.0, 1.0, 1.0]).inside < lines.measure(ensemble).inside
    assert lines.measure(factor * ensemble).hole != lines.measure(ensemble).hole  # the control: lengths of all of theta


def test_kinds_and_the_shadow_of_a_vector():
    assert kind(line("relu")) == "2-homogeneous"
    assert kind(line("regularised_relu")) == kind(line("squared_relu")) == "partially 1-homogeneous"
    with pytest.raises(InputError, match=r"block: expected .* 2-homogeneous or linear .* got matrix with tanh"):
        kind(wgflow.Problem(X, X, block="matrix"))
    made = SeparationEstimator(wgflow.Problem.padded(X, X, activation="tanh"), 30)  # a in R^2, so [u | w | b]
    ensemble = normal(30, 5)
    shadow = made.shadow(ensemble)
    assert shadow.shape == (30, 5)
    ensemble[:, :2] *= 7.0
    np.testing.assert_allclose(made.shadow(ensemble), shadow, rtol=1e-12)
    ensemble[:, :2] *= -1.0
    assert not np.allclose(made.shadow(ensemble), shadow)


@pytest.mark.parametrize("depth", [{"name": "layers", "layers": 4}, "shallow", {"name": "deposit", "layers": 4}])
def test_particles_at_a_depth_are_those_of_its_layer(depth):
    scheme, tau = wgflow.Energy(line(), depth).depth, (np.arange(16) + 0.5) / 16
    rho = wgflow.Particles(np.ones((16, 3)), tau)
    here = at_depth(scheme, rho, 0.6)
    assert here.tolist() == (list(range(16)) if depth == "shallow" else [8, 9, 10, 11])
    with pytest.raises(InputError, match=r"t0: expected a depth in \[0, 1\], got 1\.5"):
        at_depth(scheme, rho, 1.5)


def test_dead_mass_is_no_support():
    rho = wgflow.Particles(normal(6, 3), np.full(6, 0.5), [0.5, 0, 0, 0, 0.5, 0])
    assert at_depth(wgflow.Energy(line(), "shallow").depth, rho, 0.5).tolist() == [0, 4]


def test_particles_beyond_r0_cast_no_shadow():
    """Whatever their inner parameters: theta_1 >= 2, and the cone theta_1 >= sqrt(2) |theta| of the study's control."""
    energy, rho = wgflow.Energy(line("tanh"), "shallow"), wgflow.Particles.draw(line("tanh"), 64, seed=3)
    beyond, cone = rho.theta.copy(), rho.theta.copy()
    beyond[:, 0] = 2 + np.abs(beyond[:, 0])
    cone[:, 0] = np.sqrt(2) * np.linalg.norm(cone, axis=1)
    assert separation(energy, rho).verdict == separation(energy, rho, r0=0.7).verdict == "unknown"
    for lacking in (beyond, cone):
        assert separation(energy, rho.moved(lacking, rho.tau), r0=0.7).verdict == "fail"
    found = separation(energy, rho.moved(beyond, rho.tau))
    assert "0 of 64 particles, those with |theta_[1]| <= r0 = 0.6" in found.sentence
    assert "a half-space is empty." in found.sentence
    assert found.verdict == "unknown"  # a half-space separates for large r0
    wide = separation(energy, rho.moved(beyond, rho.tau), r0=100.0)
    assert wide.verdict == "unknown"
    assert "64 of 64 particles, those with |theta_[1]| <= r0 = 100," in wide.sentence
    with pytest.raises(InputError, match="r0"):
        separation(energy, rho, r0=0.0)


@pytest.mark.parametrize("count", [64, 2000])
def test_a_support_with_a_full_shadow_that_a_path_avoids_does_not_pass(count):
    """theta_1 = 0.3 sign(w) at r0 = 1: every segment along theta_1 meets its closure, and the path through w = 0
    from theta_1 = -1 to -0.1 at w > 0, to w < 0, and up meets none of it."""
    energy, rho = wgflow.Energy(line("tanh"), "shallow"), wgflow.Particles.draw(line("tanh"), count, seed=3)
    theta = rho.theta.copy()
    theta[:, 0] = 0.3 * np.sign(theta[:, 1])
    path = [(-1.0, 1.0), (0.0, 1.0), (0.0, -1.0), (1.0, -1.0)]  # corners in (theta_1, w)
    for (a, w), (c, v) in itertools.pairwise(path):
        for share in np.linspace(0, 1, 101):
            at, inner = a + share * (c - a), w + share * (v - w)
            assert inner == 0.0 or at != 0.3 * np.sign(inner)
    found = separation(energy, rho.moved(theta, rho.tau), r0=1.0)
    assert found.verdict == "unknown"
    assert found.conditions[0].finding == "not checked"
    assert found.number > 0.9  # its shadow is that of the law
    assert "finitely many particles separate nothing" in found.sentence


def test_draws_of_a_law_with_full_support_about_another_mean_are_not_refuted():
    """N(5, 1) has full support and the property, and no sample in the other half-space."""

    def law(count, seed):
        return 5 + normal(count, 3, seed), np.full(count, 0.5)

    rho = wgflow.Particles(*law(50, 1))
    for activation in ("relu", "tanh"):
        energy = wgflow.Energy(line(activation), "shallow")
        assert separation(energy, rho, law=law).verdict == "unknown"
        found = separation(energy, rho)
        assert found.verdict == "fail"  # as draws of N(0, 1), which they are not
        assert "as of draws of the reference law" in found.sentence


def test_few_particles_are_not_refuted_by_their_number():
    """Three points surround nothing in three dimensions, whatever their law."""
    energy = wgflow.Energy(line("relu"), "shallow")
    for seed in range(20):
        assert separation(energy, wgflow.Particles.draw(line(), 3, seed=seed)).verdict == "unknown"
    same = wgflow.Particles(np.tile([[1.0, 2.0, 3.0]], (3, 1)), np.full(3, 0.5))
    assert separation(energy, same).verdict == "fail"  # but one direction three times


@pytest.mark.parametrize("seed", range(6))
def test_draws_of_the_law_are_refuted_for_no_r0(seed):
    """Half-spaces of 40 of 400 draws in two dimensions: one is empty with probability 1e-10 (Wendel)."""
    rho = wgflow.Particles.draw(line("tanh"), 400, seed=seed)
    energy = wgflow.Energy(line("tanh"), "shallow")
    for part in (0.1, 0.25, 0.5):
        r0 = float(np.quantile(np.abs(rho.theta[:, 0]), part))
        assert separation(energy, rho, r0=r0).verdict == "unknown"


@pytest.mark.parametrize(("columns", "count"), [(2, 14), (2, 15), (1, 10), (2, 20)])
def test_draws_of_the_law_are_refuted_in_one_of_twenty_at_most(columns, count):
    """14 draws in R^5 leave a half-space empty with probability 0.13 (Wendel), and 19 of 19 ensembles may not."""
    case = wgflow.Problem(np.eye(2)[:, :columns], [0.0, 1.0], activation="relu")
    law, tries = initial_law(case), 400
    made = SeparationEstimator(case, count, law, fresh=20)
    refuted = sum(made.measure(law(count, 1000 + seed)[0]).lacking_for_all for seed in range(tries))
    assert stats.binomtest(refuted, tries, 0.05, "greater").pvalue > 1e-3


def test_the_panels_line():
    energy = wgflow.Energy(line(), {"name": "layers", "layers": 2})
    rho = wgflow.Particles.draw_layers(line(), 2, 40, seed=3)
    assert separation(energy, rho).verdict == "unknown"
    theta = rho.theta.copy()
    theta[rho.tau < 0.5] = theta[0]
    mixed = rho.moved(theta, rho.tau)
    assert separation(energy, mixed, t0=0.2).verdict == "fail"
    assert separation(energy, mixed, t0=0.8).verdict == "unknown"
    gathered = wgflow.Particles(rho.theta * [1.0, 8.0, 1.0], rho.tau)
    found = separation(energy, gathered)
    assert found.verdict == "unknown"
    assert "Theorem 6.1" in found.source
    with pytest.raises(InputError, match="t0: expected a depth with particles, got none"):
        separation(wgflow.Energy(line(), {"name": "deposit", "layers": 4}), wgflow.Particles([[1.0, 1, 1]], [0.9]), 0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count"),
        ({"fresh": 3}, "fresh"),
        ({"ensembles": 1}, "ensembles"),
        ({"law": iid_laws.sphere(4)}, "law"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        SeparationEstimator(line("tanh"), **({"count": 8} | arguments)).measure(normal(8, 3))


def tracers(count, seed=0):
    """Points of the unit sphere in R^3 and the triangles between neighbours, seen from outside in positive order."""
    points = normal(count, 3, seed)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    triangles = ConvexHull(points).simplices
    turned = np.linalg.det(points[triangles]) < 0
    triangles[turned] = triangles[turned][:, ::-1]
    return points, triangles


def winding(points, triangles):
    """How often a closed surface wraps the origin: signed solid angles over 4 pi (van Oosterom and Strackee 1983)."""
    a, b, c = (points[triangles] / np.linalg.norm(points[triangles], axis=2, keepdims=True)).transpose(1, 0, 2)
    dots = [np.einsum("td,td->t", *pair) for pair in ((a, b), (b, c), (c, a))]
    return np.arctan2(np.linalg.det(np.stack([a, b, c], axis=1)), 1 + sum(dots)).sum() / (2 * np.pi)


def carried(activation, points, until=6.0, h=0.05):
    """Massless points at t0 = 1/2 carried by the velocity -grad dE/drho(., t0) of a run, by its own Euler steps."""
    energy = wgflow.Energy(line(activation), {"name": "layers", "layers": 4})
    rho = wgflow.Particles.draw_layers(energy.problem, 4, 16, seed=1)
    here = at_depth(energy.depth, rho, 0.5)
    points = np.concatenate([rho.theta[here], points])
    for frame in wgflow.Flow(energy, step=h).run(rho, until=until):
        last = wgflow.Particles(frame.theta, frame.tau, frame.mass)
        np.testing.assert_allclose(points[: len(here)], last.theta[here], rtol=1e-9, atol=1e-12)  # a tracer is a block
        if frame.s > until - h / 2:
            break
        points = points - h * energy.first_variation_gradient(last, points, np.full(len(points), 0.5))[1]
    return points[len(here) :], frame


def test_a_sphere_carried_by_the_flow_still_wraps_the_origin():
    """Lemma H.2: the separation of spheres outlives the flow, here of a surface of tracers between them."""
    start, triangles = tracers(1500)
    assert winding(start, triangles) == pytest.approx(1.0, abs=1e-9)
    end, frame = carried("relu", start)
    assert frame.energy < 0.2
    assert np.abs(end - start).max() > 0.5  # it did move
    assert winding(end, triangles) == pytest.approx(1.0, abs=1e-9)
    holes = [
        SeparationEstimator(line(), n, fresh=400, ensembles=2).measure(end[:n]).hole.value for n in (60, 300, 1500)
    ]
    assert holes[0] > holes[1] > holes[2]
    assert holes[2] < 25.0
    assert SeparationEstimator(line(), 1500).measure(end).surrounds


def test_what_is_missing_at_the_start_stays_missing():
    """The control: a cap of directions is carried to a cap, whatever the number of tracers."""
    start, triangles = tracers(1500)
    start = start[start[:, 0] > 0.8]
    end, _ = carried("relu", start)
    found = SeparationEstimator(line(), len(end)).measure(end)
    assert not found.surrounds
    assert found.hole.value > 90.0
    assert found.verdict == "fail"
    moved = tracers(1500)[0] + [3.0, 0.0, 0.0]  # and the winding number can be 0
    assert winding(moved, triangles) == pytest.approx(0.0, abs=1e-9)


def test_a_plane_carried_by_the_flow_still_separates_theta_1():
    """Lemma H.2, second kind: of the plane theta_1 = 0 over a wide square, as tracers, the shadow stays covered."""
    side = np.linspace(-5.0, 5.0, 41)
    plane = np.column_stack([np.zeros(41**2), *(part.ravel() for part in np.meshgrid(side, side))])
    end, frame = carried("tanh", plane)
    assert frame.energy < 0.4
    assert np.abs(end[:, 0]).max() > 0.1
    moved = np.abs(end[:, 0]).max()  # from the plane theta_1 = 0
    coarse, fine = (SeparationEstimator(line("tanh"), len(each)).measure(each, moved) for each in (end[::20], end))
    assert fine.inside == len(end)
    assert fine.hole.value < 0.5 * coarse.hole.value
    assert fine.surrounds
    strip = end[plane[:, 1] > 0.5]
    assert not SeparationEstimator(line("tanh"), len(strip)).measure(strip).surrounds


@given(seed=st.integers(0, 2**32), activation=st.sampled_from(["relu", "regularised_relu", "squared_relu"]))
def test_blocks_of_one_sign_stay_above_their_floor(seed, activation):
    problem = line(activation)
    gap = X - np.sin(0.4 * X)
    floor = one_signed_floor(problem)
    assert floor == pytest.approx(0.5 * min(np.mean(gap[gap > 0] ** 2), np.mean(gap[gap < 0] ** 2)) * 7 / 15)
    theta = normal(12, 3, seed)
    theta[:, 0] = np.abs(theta[:, 0])
    energy = wgflow.Energy(problem, {"name": "layers", "layers": 3})
    rho = wgflow.Particles(theta, np.repeat([0.1, 0.5, 0.9], 4))
    assert energy(rho) >= floor
    assert energy(rho.moved(theta * [-1.0, 1.0, 1.0], rho.tau)) >= floor


def test_both_signs_get_below_the_floor_and_other_problems_have_none():
    problem = line()
    rho = wgflow.Particles([[-2.0, 1.0, -1.0], [2.0, -1.0, -1.0]], [0.5, 0.5])
    assert wgflow.Energy(problem, "shallow")(rho) < 0.5 * one_signed_floor(problem)
    for other in (line("tanh"), wgflow.Problem.padded(X, X, activation="relu"), wgflow.Problem(X, X, block="matrix")):
        with pytest.raises(InputError, match="problem: expected D = 1"):
            one_signed_floor(other)


def test_an_own_activation_has_no_floor():
    """relu, but z + 50 below -50: with a > 0 alone it pushes both ways, and has less than the floor of relu."""
    own = Activation(
        "mine",
        lambda z: np.where(z < -50, z + 50, np.where(z > 0, z, 0.0)),
        lambda z: ((z < -50) | (z > 0)) * 1.0,
    )
    case, rho = line(own), wgflow.Particles([[0.01, -60.0, 0.0]], [0.5])
    assert wgflow.Energy(case, "shallow")(rho) < 0.5 * one_signed_floor(line("relu"))
    with pytest.raises(InputError, match=r"built-in activation >= 0, got .* mine"):
        one_signed_floor(case)


@pytest.mark.parametrize(("activation", "kept"), [("relu", True), ("regularised_relu", False)])
def test_relu_keeps_the_balance_that_keeps_the_sign(activation, kept):
    """Of a**2 - w**2 - b**2 the flow of 2-homogeneous units changes nothing, by RK4 to its order; others move it."""
    energy = wgflow.Energy(line(activation), {"name": "layers", "layers": 2})
    rho = wgflow.Particles.draw_layers(energy.problem, 2, 8, seed=4)
    balance = []
    for frame in wgflow.Flow(energy, integrator="rk4", step=0.02).run(rho, until=2.0, every=2.0):
        balance.append(frame.theta[:, 0] ** 2 - frame.theta[:, 1] ** 2 - frame.theta[:, 2] ** 2)
    change = np.abs(balance[-1] - balance[0]).max()
    assert (change < 1e-3) == kept


@pytest.mark.parametrize(
    ("block", "activation", "law", "scale", "verdict"),
    [
        ("ridge", "relu", "gaussian", {}, "pass"),
        ("ridge", "relu", {"name": "ball", "bound": 2.0}, {}, "pass"),
        ("ridge", "relu", {"name": "sphere", "bound": 2.0}, {}, "pass"),
        ("ridge", "relu", {"name": "sphere", "bound": 2.0, "groups": ["a"]}, {}, "fail"),  # planes {a = 2}, {a = -2}
        ("ridge", "relu", {"name": "truncated", "bound": 2.0, "groups": ["a"]}, {}, "pass"),
        ("ridge", "relu", "gaussian", {"b": 0.0}, "fail"),
        ("ridge", "tanh", "gaussian", {}, "pass"),
        ("ridge", "tanh", "gaussian", {"a": 0.0}, "pass"),  # the plane {a = 0}
        ("ridge", "tanh", "gaussian", {"w": 0.0}, "fail"),
        ("ridge", "tanh", {"name": "truncated", "bound": 2.0, "groups": ["a"]}, {}, "pass"),
        ("ridge", "tanh", {"name": "sphere", "bound": 2.0, "groups": ["a"]}, {}, "pass"),
        ("ridge", "tanh", {"name": "truncated", "bound": 2.0}, {}, "fail"),
        ("ridge", "tanh", {"name": "ball", "bound": 2.0, "groups": ["w", "b"]}, {}, "fail"),
    ],
)
def test_separation_of_a_law_in_closed_form(block, activation, law, scale, verdict):
    case = wgflow.Problem(np.linspace(-1, 1, 5)[:, None], np.zeros(5), block=block, activation=activation)
    found = separation_of_law(initial_law(case, scale, law))
    assert found.verdict == verdict
    assert f"law {law if isinstance(law, str) else law['name']}" in found.sentence


def test_a_vector_is_no_number_for_the_separation_of_a_law():
    case = wgflow.Problem(np.eye(2), np.zeros(2), activation="tanh")
    assert separation_of_law(initial_law(case)).verdict == "unknown"
