"""Support against laws whose distances are known, brute force, and ensembles that lack some."""

import iid_laws
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

import wgflow
from wgflow.base.errors import InputError
from wgflow.theory import nearest_neighbours, reference_laws
from wgflow.theory.nearest_neighbours import nearest_distances, smallest_distance
from wgflow.theory.support import SupportEstimator, directions, thinnest, uniformity


def support(theta, tau, law, draws=2000, ensembles=8, seed=0, groups=None):
    return SupportEstimator(law, len(theta), draws, ensembles, seed, groups).measure(theta, tau)


def brute(x, y):
    return np.sqrt(((x[:, None, :] - y[None, :, :]) ** 2).sum(axis=2))


@given(seed=st.integers(0, 2**32), d=st.integers(1, 12), n=st.integers(2, 40), far=st.sampled_from([0.0, 1.0, 1e3]))
@example(seed=195690, d=1, n=31, far=0.0)  # a distance of 1e-5
def test_nearest_by_both_methods_is_the_brute_force(seed, d, n, far):
    rng = np.random.default_rng(seed)
    x, y = far + rng.normal(size=(17, d)), far + rng.normal(size=(n, d))
    own = brute(y, y) + np.where(np.eye(n), np.inf, 0.0)
    rounding = 4 * np.finfo(float).eps * np.abs(np.vstack([x, y])).max()  # of the coordinates, in a small difference
    for method in ("tree", "product", "auto"):
        found, exact = nearest_distances(x, y, method), brute(x, y).min(axis=1)
        np.testing.assert_allclose(found, exact, rtol=1e-12, atol=rounding)
        assert smallest_distance(y, method) == pytest.approx(own.min(), rel=1e-12, abs=rounding)


def test_products_are_cut_into_blocks(monkeypatch, rng):
    monkeypatch.setattr("wgflow.theory.nearest_neighbours._BLOCK", 64)
    x, y = rng.normal(size=(50, 9)), rng.normal(size=(30, 9))
    np.testing.assert_allclose(nearest_distances(x, y, "product"), brute(x, y).min(axis=1), rtol=1e-12)
    assert smallest_distance(y, "product") == pytest.approx((brute(y, y) + 1e9 * np.eye(30)).min(), rel=1e-12)


def test_equal_points_are_one_point_of_the_tree(monkeypatch, rng):
    """A search among N equal points would visit all of them, N**2 in all."""
    sizes = []
    tree = nearest_neighbours.cKDTree
    monkeypatch.setattr(nearest_neighbours, "cKDTree", lambda points: sizes.append(len(points)) or tree(points))
    places = rng.normal(size=(10, 2))
    for sample, distinct in ((np.full((2000, 3), 0.1), 1), (np.repeat(places, 200, axis=0), 10)):
        assert (nearest_distances(sample[:50] + 1, sample) > 0).all()
        assert smallest_distance(sample) == 0.0
        assert sizes.pop() == distinct
    assert not sizes


def test_coincident_particles_are_zero_apart(rng):
    y = rng.normal(size=(20, 10))
    y[7] = y[3]
    assert smallest_distance(y, "product") == smallest_distance(y, "tree") == 0.0


@pytest.mark.parametrize("name", ["sphere", "ball", "box"])
@pytest.mark.parametrize("parameters", [1, 3])
def test_laws_have_the_marginals_they_say(name, parameters):
    """Kolmogorov-Smirnov at level 1e-6, four tests a law."""
    theta, tau = iid_laws.LAWS[name](parameters, 2.0)(20_000, 1)
    assert stats.kstest(tau, "uniform").pvalue > 1e-6
    size = np.linalg.norm(theta, axis=1) / 2
    if name == "sphere":
        np.testing.assert_allclose(size, 1.0, rtol=1e-12)
    if name == "ball":
        assert stats.kstest(size**parameters, "uniform").pvalue > 1e-6
    if name == "box":
        assert stats.kstest((theta.ravel() + 2) / 4, "uniform").pvalue > 1e-6
    if name == "sphere" and parameters == 3:  # Archimedes: a coordinate is uniform
        assert stats.kstest((theta[:, 0] + 2) / 4, "uniform").pvalue > 1e-6


def test_the_initial_law_is_that_of_draw(case):
    problem, _ = case()
    theta, tau = reference_laws.initial_law(problem, {"a": 0.5})(7, 3)
    drawn = wgflow.Particles.draw(problem, 7, 3, {"a": 0.5}, "uniform")
    assert (theta == drawn.theta).all()
    assert (tau == drawn.tau).all()


@pytest.mark.parametrize("parameters", [1, 3, 33])
def test_an_iid_ensemble_is_like_an_iid_cloud(parameters):
    """Within five standard deviations, plus the finite number of fresh draws that all ensembles share."""
    law = iid_laws.sphere(parameters)
    estimator = SupportEstimator(law, 300, ensembles=20)
    found = estimator.measure(*law(300, 99))
    for name in ("coverage", "covering", "separation", "thinnest", "tau"):
        each = getattr(found, name)
        assert abs(each.value - each.iid) <= 6 * each.spread, name
    assert found.coverage.iid == pytest.approx(0.95, abs=1e-3)  # by construction
    assert found.coverage.spread < 0.02
    assert found.ratio > 0.8


def test_coverage_against_the_definition(rng):
    """The same numbers from distance matrices."""
    law = iid_laws.box(2)
    estimator = SupportEstimator(law, 40, draws=300, ensembles=5, seed=4)
    fresh = np.column_stack(reference_laws.draws(law, 300, 4, 1, "fresh draws")[0])
    iid = [np.column_stack(ensemble) for ensemble in reference_laws.draws(law, 40, 4, 5)]
    scale = np.concatenate([*iid, fresh]).std(axis=0)
    distances = [brute(fresh / scale, ensemble / scale).min(axis=1) for ensemble in iid]
    radius = np.quantile(np.concatenate(distances), 0.95)
    theta, tau = 0.3 * rng.normal(size=(40, 2)), rng.uniform(size=40)
    own = brute(fresh / scale, np.column_stack([theta, tau]) / scale).min(axis=1)
    found = estimator.measure(theta, tau)
    assert found.coverage.value == pytest.approx((own <= radius).mean())
    assert found.coverage.iid == pytest.approx(np.mean([(d <= radius).mean() for d in distances]))
    assert found.coverage.spread == pytest.approx(np.std([(d <= radius).mean() for d in distances], ddof=1))
    assert found.covering.value == pytest.approx(own.max())
    assert found.covering.iid == pytest.approx(np.mean([d.max() for d in distances]))


def test_uniform_points_on_the_line_have_the_known_radius():
    """N points on [0, 1], circular spacing: P(distance > r) = (1 - 2r)**N up to the ends, so r95 = 1.5/N nearly."""
    count = 2000

    def law(number, seed):
        return np.zeros((number, 1)), wgflow.base.rng.uniform(seed, "line", (number, 1))[:, 0]

    estimator = SupportEstimator(law, count, draws=4000, ensembles=30)
    radius = estimator._joint.radius * estimator.scale[1]
    assert radius == pytest.approx(np.log(20) / (2 * count), rel=0.05)
    assert estimator.scale[0] == 1.0  # a column without spread is left alone


def test_half_a_sphere_is_covered_half():
    """Negative control: theta_0 > 0 only."""
    law = iid_laws.sphere(3)
    theta, tau = law(1000, 8)
    theta[:, 0] = np.abs(theta[:, 0])
    found = support(theta, tau, law)
    assert 0.45 < found.coverage.value < 0.7
    assert 0.45 < found.directions["theta"].value < 0.6
    assert found.covering.value > 2 * found.covering.iid
    assert found.tau.value < 3 * found.tau.iid


def test_one_direction_is_no_support():
    law = iid_laws.sphere(20)
    theta, tau = law(300, 8)
    theta[:] = theta[0]
    found = support(theta, tau, law)
    assert found.directions["theta"].value < 0.03
    assert found.ratio < 1e-6
    assert found.thinnest.value < 1e-7


def test_a_subspace_is_noticed_in_high_dimension():
    """Coverage by nearest neighbours alone would call this better than iid; the thinnest direction does not."""
    law = iid_laws.ball(40)
    theta, tau = law(500, 8)
    theta[:, 20:] = 0.0
    found = support(theta, tau, law)
    assert found.coverage.ratio > 1.0
    assert found.thinnest.value < 1e-7
    assert found.ratio < 1e-6


def test_bunched_depths_show_in_tau():
    law = iid_laws.sphere(2)
    theta, tau = law(500, 8)
    found = support(theta, tau / 2, law)
    assert found.tau.value == pytest.approx(0.5, abs=0.02)
    assert found.tau.value > 10 * found.tau.iid
    assert found.directions["theta"].ratio > 0.95


@given(seed=st.integers(0, 2**32), n=st.integers(1, 30))
def test_uniformity_is_the_kolmogorov_smirnov_distance(seed, n):
    tau = np.random.default_rng(seed).beta(2, 1, n)
    assert uniformity(tau) == pytest.approx(stats.kstest(tau, "uniform").statistic, abs=1e-14)


def test_thinnest_is_the_smallest_over_directions(rng):
    points = rng.normal(size=(50, 3)) @ np.diag([1.0, 2.0, 0.3]) @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    angles = rng.normal(size=(200_000, 3))
    angles /= np.linalg.norm(angles, axis=1, keepdims=True)
    assert thinnest(points) == pytest.approx((points @ angles.T).std(axis=0).min(), rel=1e-2)
    assert thinnest(points) <= (points @ angles.T).std(axis=0).min()


def test_directions_by_group_and_groups_that_never_move(case):
    problem, _ = case()
    law = reference_laws.initial_law(problem, {"a": 0.0})
    theta, tau = law(200, 5)
    found = support(theta, tau, law, groups=problem.groups)
    assert set(found.directions) == {"theta", "w", "b"}  # a is 0 under the law
    assert found.directions["w"].iid == pytest.approx(0.95, abs=2e-3)
    assert found.directions["b"].iid == 1.0  # two signs
    one = theta.copy()
    one[:, problem.groups["b"]] = np.abs(one[:, problem.groups["b"]])
    assert 0.4 < support(one, tau, law, groups=problem.groups).directions["b"].value < 0.6
    none = theta.copy()
    none[:, problem.groups["w"]] = 0.0
    assert support(none, tau, law, groups=problem.groups).directions["w"].value == 0.0
    assert len(directions(np.zeros((3, 2)))) == 0


def test_a_run_is_not_compared_with_its_own_start(case):
    """Small seeds, as runs have them, do not give the draws that are compared with."""
    problem, _ = case()
    law = reference_laws.initial_law(problem)
    own = law(50, 0)[0]
    for theta, _ in reference_laws.draws(law, 50, 0, 3) + reference_laws.draws(law, 50, 0, 1, "fresh draws"):
        assert not np.isin(theta, own).any()


def test_the_same_seed_gives_the_same_numbers_and_another_does_not():
    law = iid_laws.ball(2)
    ensemble = law(60, 5)
    assert support(*ensemble, law, draws=100) == support(*ensemble, law, draws=100)
    assert support(*ensemble, law, draws=100) != support(*ensemble, law, draws=100, seed=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SupportEstimator(iid_laws.box(2), 0), "count: expected"),
        (lambda: SupportEstimator(iid_laws.box(2), 5, ensembles=1), "ensembles: expected"),
        (lambda: SupportEstimator(iid_laws.box(2), 5, draws=3), "draws: expected"),
        (lambda: SupportEstimator(lambda n, seed: None, 5), "law: expected"),
        (lambda: SupportEstimator(lambda n, seed: (np.zeros((3, 2)), np.zeros(3)), 5), "law: expected 5 draws"),
        (lambda: support(np.zeros((4, 3)), np.zeros(4), iid_laws.box(2)), "theta, tau: expected"),
        (lambda: support(np.full((4, 2), np.nan), np.zeros(4), iid_laws.box(2)), "theta: expected finite"),
        (lambda: nearest_distances(np.zeros((2, 2)), np.zeros((2, 3))), "points, sample: expected"),
        (lambda: nearest_distances(np.zeros((2, 2)), np.zeros((2, 2)), "grid"), "method: expected"),
        (lambda: smallest_distance(np.zeros((1, 2))), "sample: expected"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize(("parameters", "count"), [(3, 20), (7, 32), (12, 200)])
def test_iid_ensembles_are_where_iid_ensembles_are(parameters, count):
    """The ratio of an iid ensemble lies in the range of 8 others; of 40 ratios about 2 in 9 lie outside."""
    law = iid_laws.sphere(parameters)
    estimator = SupportEstimator(law, count, draws=500, seed=3)
    found = [estimator.measure(*law(count, 1000 + seed)) for seed in range(40)]
    assert len(found[0].iid) == 8
    inside = np.mean([min(each.iid) <= each.ratio <= max(each.iid) for each in found])
    assert inside > 0.4  # fewer than 16 of 40 at a chance of 7/9: below 1e-6
    shrunk = estimator.measure(*(part * factor for part, factor in zip(law(count, 7), (0.02, 1.0), strict=True)))
    assert shrunk.ratio < min(shrunk.iid)


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e170, 1e300])
@pytest.mark.parametrize("method", ["tree", "product"])
def test_neighbours_of_numbers_of_any_size(size, method, rng):
    x, y = rng.normal(size=(9, 3)), rng.normal(size=(12, 3))
    np.testing.assert_allclose(
        nearest_distances(size * x, size * y, method) / size, nearest_distances(x, y, method), rtol=1e-12
    )
    assert smallest_distance(size * y, method) / size == pytest.approx(smallest_distance(y, method), rel=1e-12)
    np.testing.assert_allclose(directions(size * y), directions(y), rtol=1e-12)
    assert thinnest(size * y) / size == pytest.approx(thinnest(y), rel=1e-12)


@pytest.mark.parametrize("size", [1e-170, 1e170])
def test_support_beside_a_law_of_any_size(size):
    law = iid_laws.ball(3)
    large = lambda count, seed: (size * law(count, seed)[0], law(count, seed)[1])  # noqa: E731
    theta, tau = law(40, 1)
    one, found = (support(scale * theta, tau, each, 50, 3) for scale, each in ((1.0, law), (size, large)))
    for name in ("coverage", "covering", "separation", "thinnest", "tau"):
        np.testing.assert_allclose(getattr(found, name), getattr(one, name), rtol=1e-9)


def test_a_law_that_keeps_a_column_is_not_divided_by_rounding():
    """The deviation of 0.1 taken 300 times is 1e-17, and that of 1e12 + N(0, 1) is 1."""
    ball = iid_laws.ball(2)

    def law(count, seed):
        theta, tau = ball(count, seed)
        return np.column_stack([np.full(count, 0.1), 1e12 + theta[:, 0]]), tau

    scale = SupportEstimator(law, 300, 50, 2).scale
    assert scale[0] == 1.0
    assert scale[1] == pytest.approx(0.5, rel=0.1)


def test_depths_count_by_their_mass():
    assert uniformity(np.array([0.2, 0.9]), np.array([3.0, 1.0])) == pytest.approx(0.75 - 0.2)
    assert uniformity(np.array([0.9, 0.2]), np.array([2.0, 2.0])) == uniformity(np.array([0.2, 0.9]))
    estimator = SupportEstimator(iid_laws.box(1), 3, 50, 2)
    theta, tau = np.array([[0.1], [0.2], [50.0]]), np.array([0.2, 0.9, 0.5])
    found = estimator.measure(theta, tau, np.array([0.75, 0.25, 0.0]))
    assert found.tau.value == pytest.approx(0.55)
    assert found.covering.value == estimator.measure(theta[:2], tau[:2]).covering.value
    for mass in ([0.5, 0.5], [-1.0, 1.0, 1.0], [0.0, 0.0, 0.0], np.ma.masked_array([1.0, 1, 1], mask=[1, 0, 0])):
        with pytest.raises(InputError, match="mass: expected"):
            estimator.measure(theta, tau, mass)
