"""Admissible starts: the support of the law against that of the sample, and the moments of Definition E.1."""

import numpy as np
import pytest
from scipy import stats

import wgflow
from wgflow.base.errors import InputError
from wgflow.sims.bundled import study_path
from wgflow.stats.limit_admissibility import limit_admissible
from wgflow.study import grid, schema
from wgflow.systems.problem import problems
from wgflow.systems.residual import law_of_start
from wgflow.theory.admissibility import process_moments, radius
from wgflow.theory.homogeneity import leading_group
from wgflow.theory.reference_laws import initial_law


def problem(width=1, **options):
    return wgflow.Problem(np.linspace(-1, 1, 4 * width).reshape(4, width), np.zeros(4), **options)


def drawn(case, law, scale=None, count=30):
    return wgflow.Particles.draw(case, count, 1, scale, law=law), initial_law(case, scale, law)


# --- support


def test_radius_of_the_particles():
    case = problem(width=2)
    theta = np.zeros((3, 5))
    theta[0, :2], theta[1, 2:4], theta[2, 0] = [3.0, 4.0], [6.0, 8.0], 100.0
    rho = wgflow.Particles(theta, [0.1, 0.5, 0.9], [0.5, 0.5, 0.0])
    found = radius(case, rho)
    assert (found.number, found.verdict) == (5.0, "unknown")  # of a law that nothing is known about
    assert "max |theta_[1]| = 5" in found.sentence
    assert radius(case, rho, bound=5.0).verdict == "unknown"
    assert radius(case, rho, bound=4.9).verdict == "fail"
    assert "5 > 4.9" in radius(case, rho, bound=4.9).sentence
    whole = radius(problem(width=2, block="matrix"), wgflow.Particles(np.ones((2, 6)), [0.5, 0.6]))
    assert whole.number == pytest.approx(np.sqrt(6))


def test_a_gaussian_start_is_refuted_though_its_sample_is_bounded():
    case = problem()
    rho, law = drawn(case, "gaussian", {"a": 0.5})
    found = radius(case, rho, law)
    assert found.verdict == "fail"
    largest = np.abs(rho.theta[:, 0]).max()
    assert found.number == largest
    assert f">= {2 * stats.norm.sf(largest / 0.5):.2g} > 0" in found.sentence
    assert radius(case, rho, law, bound=largest).verdict == "fail"


def test_a_probability_below_all_numbers_is_not_printed_as_zero():
    case = problem()
    rho, law = drawn(case, "gaussian")
    found = radius(case, wgflow.Particles(np.full_like(rho.theta, 60.0), rho.tau), law)
    exponent = int(stats.norm.logsf(60.0) // np.log(10))
    assert f">= 1e{exponent} > 0" in found.sentence
    assert ">= 0 > 0" not in found.sentence


def test_bounded_laws_pass_and_a_particle_beyond_fails():
    case = problem()
    rho, law = drawn(case, {"name": "truncated", "bound": 2.0, "groups": ["a"]}, {"a": 0.5, "b": 7.0})
    found = radius(case, rho, law)
    assert found.verdict == "pass"
    assert "R = 1" in found.sentence
    by_name = {one.name: one for one in found.conditions}
    assert by_name["|theta(t0)| < r (Definition 4.2)"].finding == "refuted"  # w and b are not bounded
    assert not by_name["|theta(t0)| < r (Definition 4.2)"].decides
    theta = rho.theta.copy()
    theta[3, 0] = 1.001
    assert radius(case, wgflow.Particles(theta, rho.tau), law).verdict == "fail"
    assert radius(case, rho, law, bound=0.1).verdict == "fail"


@pytest.mark.parametrize("name", ["truncated", "ball", "sphere"])
def test_the_bound_is_the_supremum_of_the_law(name):
    """Over a group, and over all of theta with unequal scales; many draws come near it."""
    case, scale = problem(), {"a": 0.5, "w": 2.0, "b": 0.0}
    rho, law = drawn(case, {"name": name, "bound": 1.5}, scale, 20_000)
    for columns in ([0], [1], [0, 1, 2], [2]):
        sizes = np.linalg.norm(rho.theta[:, columns], axis=1)
        bound = law.bound(np.array(columns))
        assert bound == 1.5 * max((0.5, 2.0, 0.0)[k] for k in columns)
        assert 0.9 * bound <= sizes.max() <= bound * (1 + 1e-12)
    other = initial_law(case, scale, {"name": name, "bound": 1.5, "groups": ["w"]})
    assert [other.bound(np.array([k])) for k in range(3)] == [np.inf, 3.0, 0.0]


def test_a_block_without_a_linear_group_is_held_to_all_of_theta():
    case = problem(block="gaussian_matrix", activation="squared_relu")
    assert radius(case, *drawn(case, "gaussian")).verdict == "fail"
    assert radius(case, *drawn(case, {"name": "truncated", "bound": 3.0})).verdict == "pass"
    assert radius(case, *drawn(case, {"name": "truncated", "bound": 3.0, "groups": ["W"]})).verdict == "fail"


LINEAR_TWICE = {"name": "ridge", "bias": False}  # with the linear activation linear in a and in w


def test_theta_1_is_the_first_group_in_which_f_is_linear():
    """|theta_1| is |a|: a law that bounds a alone is within R, whatever w is."""
    case = problem(block=LINEAR_TWICE, activation="linear")
    rho, law = drawn(case, {"name": "truncated", "bound": 2.0, "groups": ["a"]})
    found = radius(case, rho, law)
    assert found.verdict == "pass"
    assert found.number == np.abs(rho.theta[:, 0]).max()
    assert "over a, as" in found.sentence


def test_theta_1_of_every_block(block, activation):
    case = problem(2, block=block, activation=activation)
    rho = wgflow.Particles(np.arange(1.0, 1 + 2 * case.shape[3]).reshape(2, -1), [0.2, 0.7])
    first = next(iter(case.groups)) if leading_group(case) else None
    assert leading_group(case) == first
    columns = slice(None) if first is None else case.groups[first]
    assert radius(case, rho).number == pytest.approx(np.linalg.norm(rho.theta[1, columns]))


def test_a_sphere_in_single_precision_is_within_its_radius():
    case = problem(block="gaussian_matrix", activation="squared_relu")
    rho, law = drawn(case, {"name": "sphere", "bound": 1.1})
    single = wgflow.Particles(rho.theta.astype(np.float32), rho.tau)
    assert np.linalg.norm(single.theta, axis=1).max() > 1.1 * (1 + 1e-9)
    assert radius(case, single, law).verdict == radius(case, rho, law).verdict == "pass"
    assert radius(case, wgflow.Particles(1.00001 * rho.theta, rho.tau), law).verdict == "fail"
    assert radius(case, single, law, bound=1.1).verdict == "fail"  # a bound of one's own is meant as it is


# --- Definition E.1


def test_moments_of_a_gaussian_path_in_closed_form():
    case, scale, layers, count, seed = problem(2), {"a": 0.7, "b": 2.0}, 3, 11, 6
    law = initial_law(case, scale)
    ends = wgflow.model.initial_laws.standard_layers("path", np.array([0.0, 1.0]), (), (0, count), 5, seed)
    z, z1 = ends * law.spread
    a, b, c = ((x * y).sum() / count for x, y in ((z, z), (z1, z1), (z, z1)))
    found = process_moments(law, layers, count, seed)
    t = np.linspace(0, 1, 200_001)
    square = np.cos(np.pi / 2 * t) ** 2 * a + np.sin(np.pi / 2 * t) ** 2 * b + np.sin(np.pi * t) * c
    assert found.largest == pytest.approx(square.max(), rel=2e-3)
    assert found.largest <= square.max() * (1 + 1e-12)
    exact = 0.0
    for layer in range(layers):
        u = layer / layers
        v = np.linspace(u, u + 1 / layers, 20_001)
        p, q = np.cos(np.pi / 2 * v) - np.cos(np.pi / 2 * u), np.sin(np.pi / 2 * v) - np.sin(np.pi / 2 * u)
        exact += np.trapezoid(p * p * a + q * q * b + 2 * p * q * c, v)
    assert found.roughness == pytest.approx(layers**2 * exact, rel=1e-6)


def test_moments_are_those_of_the_particles_that_are_drawn():
    case, law = problem(2), {"name": "truncated", "bound": 1.3}
    rho = wgflow.Particles.draw_layers(case, 1, 40, 9, coupling="path", law=law)  # its only layer is at t = 1/2
    at_half = np.mean(np.sum(rho.theta**2, axis=1))
    found = process_moments(initial_law(case, None, law), 1, 40, 9)
    assert found.largest >= at_half  # t = 1/2 is on the grid
    assert found.largest <= 1.3**2


def test_independent_layers_are_rough_and_fail():
    law = initial_law(problem())
    smooth, rough = ([process_moments(law, n, 20, 0, c).roughness for n in (4, 16)] for c in ("path", "independent"))
    assert smooth[1] == pytest.approx(smooth[0], rel=0.2)
    assert rough[1] == pytest.approx(16 * rough[0], rel=0.3)
    assert limit_admissible(law, 8, 20, seeds=100).verdict == "pass"
    found = limit_admissible(law, 8, 20, "independent", seeds=100)
    assert (found.verdict, found.number) == ("fail", 0.0)
    assert "C4/L**2" in found.sentence


def test_findings_follow_from_exact_intervals():
    """One C4 after the other: the counts, by direct evaluation, and Clopper and Pearson's interval, by SciPy's."""
    law = initial_law(problem())
    moments = np.array([process_moments(law, 2, 8, seed) for seed in range(80)])
    seen = set()
    for c4 in (*np.quantile(moments[:, 0], [0.05, 0.5, 0.97]), 50.0):
        found = limit_admissible(law, 2, 8, eta=0.05, c4=float(c4), seeds=80)
        held = (moments <= c4).sum(axis=0)
        assert found.number == held.min() / 80
        intervals = [stats.binomtest(int(k), 80).proportion_ci(method="exact") for k in held]
        for k, (low, high) in zip(held, intervals, strict=True):
            assert f"{k} of 80 seeds, 95% interval {low:.3f} to {high:.3f}" in found.sentence
        wanted = ["refuted" if one.high < 0.95 else "not checked" for one in intervals]
        assert [one.finding for one in found.conditions[1:]] == wanted
        assert found.verdict == "pass"  # in closed form, with another C4 where this one fails
        seen |= set(wanted)
    assert seen == {"refuted", "not checked"}


@pytest.mark.parametrize(
    ("law", "columns", "verdict"),
    [
        ("gaussian", None, "pass"),
        ({"name": "truncated", "bound": 2.0}, None, "pass"),
        ({"name": "ball", "bound": 3.0}, None, "pass"),
        ({"name": "sphere", "bound": 1.0}, ["a", "w", "b"], "pass"),
        ({"name": "sphere", "bound": 1.0}, ["a", "w"], "unknown"),
    ],
)
def test_definition_e1_in_closed_form(law, columns, verdict):
    """Both left sides are below the multiple of (1/M) sum R**2 of the argument, R of the Gaussians behind the paths."""
    case = problem(2)
    options = law if columns is None else law | {"groups": columns}
    law = initial_law(case, {"a": 0.5, "w": 1.5, "b": 1.0}, options)
    found = limit_admissible(law, 4, 16, seeds=3)
    assert found.verdict == verdict
    assert limit_admissible(law, 4, 16, "independent", seeds=3).verdict == "fail"
    still = initial_law(case, {"a": 0.0, "w": 0.0, "b": 0.0}, options)
    assert limit_admissible(still, 4, 16, "independent", seeds=3).verdict == "pass"
    if law.theta.name == "sphere":
        return
    r = np.linspace(1e-3, 8, 4000)
    radii = r if law.theta.name == "gaussian" else law.theta.radius(r, 5)
    steep = 1.5 * max((np.diff(radii) / np.diff(r)).max(), (radii / r).max()) * (1 + 1e-6)  # K, Lipschitz
    for seed in range(20):
        ends = wgflow.model.initial_laws.standard_layers("path", np.array([0.0, 1.0]), (), (0, 16), 5, seed)
        square = steep**2 * np.mean((ends**2).sum(axis=(0, 2)))
        moments = process_moments(law, 4, 16, seed)
        assert moments.largest <= square
        assert moments.roughness <= (np.pi / 2) ** 2 / 3 * square


def test_a_sphere_of_radius_c4_is_within_it_up_to_rounding():
    """|theta|**2 = C4 for every particle at every depth, computed as a few units in the last place more."""
    law = initial_law(problem(), {"a": 1.0, "w": 1.0, "b": 1.0}, {"name": "sphere", "bound": 1.1})
    sentence = limit_admissible(law, 8, 8, c4=1.1**2, seeds=20).sentence
    assert "P(sup_t (1/M) sum |theta_m(t)|**2 <= C4) >= 0.95 (20 of 20 seeds" in sentence
    assert "it is 1 here" in sentence


def test_the_first_inequality_is_certain_for_a_bounded_law():
    law = initial_law(problem(), None, {"name": "sphere", "bound": 2.0})
    assert "it is 1 here, since |theta|**2 <= 4" in limit_admissible(law, 2, 8, c4=4.0, seeds=3).sentence
    assert "it is 1" not in limit_admissible(law, 2, 8, c4=3.99, seeds=3).sentence


@pytest.mark.parametrize(
    ("options", "message"),
    [({"eta": 1.0}, "eta"), ({"c4": 0.0}, "c4"), ({"seeds": 0}, "seeds"), ({"coupling": "both"}, "unknown coupling")],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        limit_admissible(initial_law(problem()), 2, 4, **options)


@pytest.mark.parametrize("study", ["depth_width", "zero_loss"])
def test_studies_of_these_theorems_start_within_a_bound(study):
    """For a ridge block all of theta, since its second derivatives in x are bounded by no function of a alone."""
    loaded, _ = schema.load(study_path(study), {})
    plans = [plan for plan in grid.expand(loaded) if plan.member.particles.law != "gaussian"]
    assert plans
    for member in {plan.member.particles.model_dump_json(): plan.member for plan in plans}.values():
        case, _ = problems(member)
        law = law_of_start(case, member)
        found = radius(case, wgflow.Particles.draw(case, 8, member.seed, law=law.theta), law)
        assert found.verdict == "pass"
        if case.block.name != "saturated_matrix":
            assert all(one.finding == "proved" for one in found.conditions)
    if study == "depth_width":
        assert len(plans) == len(grid.expand(loaded))
