"""Certificates against dense grids in one dimension, against slopes of E, and against an independent convex solver."""

import numpy as np
import pytest
from scipy.optimize import nnls
from verdict_checks import made_false, made_true

import wgflow
from wgflow.base.errors import InputError
from wgflow.kernels.reference import Reference
from wgflow.model.depth import Network
from wgflow.model.losses import Squared
from wgflow.theory.certificate import certificate
from wgflow.theory.signed_direction import signed_direction, states_and_adjoints

SCHEMES = [{"name": "gaps"}, {"name": "layers", "layers": 3}, {"name": "deposit", "layers": 3}, {"name": "shallow"}]
RADIUS = 2.0


@pytest.fixture(params=SCHEMES, ids=lambda spec: spec["name"])
def scheme(request):
    return request.param


def make(scheme, seed=0, bias=False, samples=9, particles=6, activation="tanh", loss="squared"):
    """One state column: theta = (a, w) or (a, w, b)."""
    rng = np.random.default_rng(seed)
    block = {"name": "ridge", "bias": bias}
    x = rng.normal(size=(samples, 1))
    problem = wgflow.Problem(x, np.sin(2 * x) + 0.3, block, activation, readout=[[1.0]], loss=loss)
    theta = 0.5 * rng.normal(size=(particles, problem.shape[3]))
    if scheme["name"] == "layers":
        tau, mass = (np.arange(particles) + 0.5) / particles, None
    else:
        tau, mass = np.sort(rng.uniform(size=particles)), rng.dirichlet(np.ones(particles))
    return wgflow.Energy(problem, scheme, threads=1), wgflow.Particles(theta, tau, mass)


def ball(bias, points):
    """A grid of the ball of radius R with about so many points, and the distance to the nearest of any point."""
    if not bias:
        radius, angle = np.meshgrid(np.linspace(0, RADIUS, points), np.linspace(0, 2 * np.pi, 4 * points))
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).reshape(-1, 2), RADIUS / points
    axis = np.linspace(-RADIUS, RADIUS, points)
    cube = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)
    inside = cube[np.linalg.norm(cube, axis=1) <= RADIUS]
    gauss = np.random.default_rng(0).normal(size=(40 * points**2, 3))  # the minimum sits on the sphere
    return np.concatenate([inside, RADIUS * gauss / np.linalg.norm(gauss, axis=1, keepdims=True)]), 2 * RADIUS / points


def layers_by_hand(energy, rho):
    """States and adjoints of scalar blocks a tanh(w x + b), layer by layer."""
    problem, net = energy.problem, energy.depth.network(rho)
    unit = np.column_stack([rho.theta, np.zeros(len(rho))])[:, :3]
    x, tape = problem.x[:, 0].copy(), []
    for k in range(net.layers):
        entries = [(net.weight[e], *unit[net.particle[e]]) for e in range(net.first[k], net.first[k + 1])]
        tape.append((x, entries))
        x = x + sum(m * a * np.tanh(w * x + b) for m, a, w, b in entries)
    p, out = x - problem.y[:, 0], []
    for at, entries in reversed(tape):
        out.append((at, p))
        p = p + p * sum(m * a * w / np.cosh(w * at + b) ** 2 for m, a, w, b in entries)
    return out[::-1]


def potential(energy, rho, theta):
    """dE/drho without the shape functions, (L, Q): mean a tanh(w x_k + b) p_(k+1)."""
    unit = np.column_stack([theta, np.zeros(len(theta))])[:, :3]
    a, w, b = unit.T
    return np.array([a * (np.tanh(np.outer(x, w) + b).T @ p) / len(p) for x, p in layers_by_hand(energy, rho)])


def on_a_grid(energy, rho, theta):
    """inf over nu on the grid of <dE/drho, nu - rho>, by hand."""
    values, name = potential(energy, rho, theta), energy.depth.name
    if name == "deposit":
        t = np.linspace(0, 1, 61)
        stencil = energy.depth.sample(rho, t)
        low = min(float((w @ values[k]).min()) for k, w in zip(stencil.layer, stencil.weight, strict=True))
    else:
        net = energy.depth.network(rho)
        weight = np.add.reduceat(net.weight, net.first[:-1])
        low = float(weight @ values.min(axis=1))
    return low - float(energy.weights(rho) @ energy.first_variation(rho, rho.theta, rho.tau))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_it_finds_what_a_dense_grid_finds(scheme, bias, seed):
    """Never above the grid's value, and below by no more than the grid's spacing times the largest slope."""
    energy, rho = make(scheme, seed, bias)
    theta, spacing = ball(bias, 60 if bias else 150)
    expected = on_a_grid(energy, rho, theta)
    found = certificate(energy, rho, RADIUS)
    assert found.value <= expected + 1e-9
    some = theta[::7]
    steepest = np.linalg.norm(energy.first_variation_gradient(rho, some, np.full(len(some), 0.5))[1], axis=1)
    assert found.value >= expected - 2 * spacing * steepest.max() - 0.02 * abs(expected)
    assert found.value < -0.01
    assert (np.linalg.norm(found.theta, axis=1) <= RADIUS * (1 + 1e-12)).all()
    assert found.weight.sum() == pytest.approx(energy.weights(rho).sum())
    pairing = found.weight @ energy.first_variation(rho, found.theta, found.t)
    own = energy.weights(rho) @ energy.first_variation(rho, rho.theta, rho.tau)
    assert found.value == pytest.approx(pairing - own, abs=1e-12)


def test_too_few_starts_and_steps_are_seen(scheme):
    """Negative control: a search cut short lies above the grid, and reports that it has not converged."""
    energy, rho = make(scheme, 1, bias=True)
    expected = on_a_grid(energy, rho, ball(True, 60)[0])
    short = certificate(energy, rho, RADIUS, starts=3, steps=1)
    assert short.value > expected + 1e-3
    assert short.converged < len(short.weight)
    assert "so far" in str(short.verdict)
    short_of = len(short.weight) - short.converged
    assert f"ran out of steps at {short_of} of its" in made_false(short.searched, "certificate_converged")
    full = certificate(energy, rho, RADIUS, steps=1000)
    assert full.converged == len(full.weight)
    assert "so far" not in str(full.verdict)
    made_true(full.searched, "certificate_converged")


def test_a_wrong_first_variation_is_seen(scheme, monkeypatch):
    energy, rho = make(scheme)
    expected = on_a_grid(energy, rho, ball(False, 150)[0])
    right = type(energy).first_variation_gradient
    monkeypatch.setattr(
        type(energy), "first_variation_gradient", lambda *args: tuple(0.9 * each for each in right(*args))
    )
    assert abs(certificate(energy, rho, RADIUS).value - expected) > 0.05 * abs(expected)


def direction_of(scheme, energy, rho, found):
    """rho + lambda (nu - rho) as a network, with lambda to be put in: entries of both, layer by layer."""
    net = energy.depth.network(rho)
    owner = np.repeat(np.arange(net.layers), np.diff(net.first))
    weight_of = np.add.reduceat(net.weight, net.first[:-1])
    if scheme["name"] in ("gaps", "layers"):
        layer, weight = np.flatnonzero(weight_of > 0), found.weight
        atom = np.arange(len(layer))
    else:
        stencil = energy.depth.sample(rho, found.t)
        layer, weight, atom = (
            stencil.layer[0],
            found.weight[0] * stencil.weight[0],
            np.zeros(len(stencil.layer[0]), int),
        )
    theta = np.concatenate([rho.theta, found.theta])
    every = np.concatenate([owner, layer])
    place = np.argsort(every, kind="stable")
    particle = np.concatenate([net.particle, len(rho) + atom])[place]
    first = np.searchsorted(every[place], np.arange(net.layers + 1))
    return lambda at: (Network(first, particle, np.concatenate([(1 - at) * net.weight, at * weight])[place]), theta)


def test_its_value_is_the_slope_of_the_energy_along_its_direction(scheme):
    energy, rho = make(scheme, 2, bias=True)
    found = certificate(energy, rho, RADIUS)
    mixed = direction_of(scheme, energy, rho, found)
    slope = Reference(energy.problem).energy(*mixed(1e-30j)).imag / 1e-30
    assert slope == pytest.approx(found.value, rel=1e-9)
    small = Reference(energy.problem).energy(*mixed(1e-3))
    assert small < energy(rho) + 0.5e-3 * found.value < energy(rho)


@pytest.mark.parametrize("name", ["deposit", "shallow"])
def test_mixing_with_the_direction_lowers_the_energy(name):
    scheme = {"name": name} | ({"layers": 3} if name == "deposit" else {})
    energy, rho = make(scheme, 3)
    found = certificate(energy, rho, RADIUS)

    def mixture(at):
        theta, tau = np.concatenate([rho.theta, found.theta]), np.concatenate([rho.tau, found.t])
        return energy(wgflow.Particles(theta, tau, np.concatenate([(1 - at) * rho.mass, at * found.weight])))

    assert mixture(0.0) == pytest.approx(energy(rho), rel=1e-14)
    assert (mixture(1e-6) - mixture(0.0)) / 1e-6 == pytest.approx(found.value, rel=1e-3)
    assert min(mixture(at) for at in (0.01, 0.1, 0.3)) < energy(rho) + 0.01 * 0.5 * found.value


def test_no_direction_at_a_network_that_fits(scheme):
    """y is what the measure answers, so p = 0 and dE/drho = 0."""
    energy, rho = make(scheme, 4, bias=True)
    fitted = wgflow.Energy(energy.problem.replace(energy.problem.x, energy.predict(rho, energy.problem.x)), scheme)
    found = certificate(fitted, rho, RADIUS)
    assert abs(found.value) < 1e-14
    assert not found.descends
    assert made_false(found.verdict, "descent_direction").startswith("no descent direction below")
    off = certificate(energy, rho, RADIUS)
    assert off.descends
    assert made_true(off.verdict, "descent_direction").startswith(
        f"the steepest slope found is {off.value:.2g}, from 64 starts"
    )


def test_a_stuck_measure_is_seen_through_at_once(scheme):
    """Blocks that neither read nor write: the gradient is 0 exactly, and E > 0."""
    energy, rho = make(scheme, 0, bias=True)
    still = rho.moved(np.zeros_like(rho.theta), rho.tau)
    assert energy.velocity(still).dissipation == 0
    found = certificate(energy, still, radius=1.0)
    assert found.descends
    assert found.value < -0.02
    with pytest.raises(InputError, match="radius"):
        certificate(energy, still)


def test_fewer_depths_than_layers_still_give_the_slope_of_a_true_direction():
    energy, rho = make({"name": "gaps"}, 5, bias=True, particles=40)
    every, few = certificate(energy, rho, RADIUS, depths=40), certificate(energy, rho, RADIUS, depths=4)
    assert (every.depths, few.depths, len(few.weight)) == (40, 4, 40)
    assert every.value <= few.value < 0
    assert few.value < 0.97 * every.value
    slope = Reference(energy.problem).energy(*direction_of({"name": "gaps"}, energy, rho, few)(1e-30j)).imag / 1e-30
    assert slope == pytest.approx(few.value, rel=1e-9)


def test_equal_depths_and_depths_short_of_one_are_held_by_gaps():
    energy, rho = make({"name": "gaps"}, 6, bias=True)
    tied = wgflow.Particles(rho.theta, [0.2, 0.2, 0.5, 0.5, 0.5, 0.8], rho.mass)
    found = certificate(energy, tied, RADIUS)
    np.testing.assert_allclose(found.weight, [0.2, 0.3, 0.3])
    slope = Reference(energy.problem).energy(*direction_of({"name": "gaps"}, energy, tied, found)(1e-30j)).imag / 1e-30
    assert slope == pytest.approx(found.value, rel=1e-9)


def distance_to_the_least(energy, rho):
    """E minus its least for Shallow and the squared loss: least squares over masses >= 0 on a fine grid of the ball."""
    theta = ball(False, 40)[0]
    x, y = energy.problem.x[:, 0], energy.problem.y[:, 0]
    features = theta[:, 0] * np.tanh(np.outer(x, theta[:, 1]))
    heavy, total = 1e4, rho.mass.sum()  # a heavy row holds the total mass
    mass = nnls(np.vstack([features, heavy * np.ones(len(theta))]), np.append(y - x, heavy * total))[0]
    assert mass.sum() == pytest.approx(total, rel=1e-3)
    return energy(rho) - 0.5 * np.mean((features @ mass - (y - x)) ** 2)


@pytest.mark.parametrize("seed", range(5))
def test_the_gap_of_a_global_minimum_bounds_the_distance_to_a_convex_solvers_optimum(seed):
    energy, rho = make({"name": "shallow"}, seed)
    gap = certificate(energy, rho, RADIUS).gap
    assert 0.02 * gap < distance_to_the_least(energy, rho) <= gap  # and says something


def test_no_distance_to_the_least_is_claimed_of_a_search_that_missed_the_minimum():
    """-value bounds the gap from below alone: E is farther above the least than it, and the sentence has its "if"."""
    energy, rho = make({"name": "shallow"}, 0)
    found = certificate(energy, rho, RADIUS, starts=3, steps=1)
    assert distance_to_the_least(energy, rho) > 5 * found.gap > 0
    assert found.gap < certificate(energy, rho, RADIUS).gap
    assert f"by at most {found.gap:.2g} if the minimum found is global" in str(found.verdict)


def test_a_distance_to_the_least_is_told_only_where_the_energy_is_convex(scheme):
    energy, rho = make(scheme)
    assert ("above the least" in str(certificate(energy, rho, RADIUS).verdict)) == (scheme["name"] == "shallow")


def test_the_regulariser_counts(scheme):
    energy, rho = make(scheme)
    heavy = wgflow.Energy(energy.problem, scheme, regulariser={"name": "quadratic", "strength": 50.0, "decay": 0.0})
    found = certificate(heavy, rho, RADIUS)
    assert np.abs(found.theta).max() < 0.2  # weight decay that strong puts the minimum near 0
    assert found.value == pytest.approx(-50 * energy.weights(rho) @ np.sum(rho.theta**2, axis=1), rel=0.2)


def test_runs_and_threads_agree(scheme):
    energy, rho = make(scheme, bias=True)
    one = certificate(wgflow.Energy(energy.problem, scheme, threads=1), rho, RADIUS)
    two = certificate(wgflow.Energy(energy.problem, scheme, threads=2), rho, RADIUS)
    assert one.value == two.value
    np.testing.assert_array_equal(one.theta, two.theta)
    assert certificate(energy, rho, RADIUS, seed=1).value == pytest.approx(one.value, rel=1e-4)


@pytest.mark.parametrize("options", [{"radius": 0.0}, {"starts": 2}, {"depths": 0}, {"steps": 0}, {"tolerance": -1.0}])
def test_bad_options_are_refused(options):
    energy, rho = make({"name": "shallow"})
    with pytest.raises(InputError, match=next(iter(options))):
        certificate(energy, rho, **options)


def signed_network(energy, rho, found, at):
    """rho + at nu with nu signed, at depth t."""
    net = energy.depth.network(rho)
    stencil = energy.depth.sample(rho, np.array([found.t]))
    count = len(found.theta)
    layer = np.repeat(stencil.layer[0], count)
    weight = np.outer(stencil.weight[0], found.weight).ravel()
    owner = np.concatenate([np.repeat(np.arange(net.layers), np.diff(net.first)), layer])
    place = np.argsort(owner, kind="stable")
    particle = np.concatenate([net.particle, len(rho) + np.tile(np.arange(count), stencil.layer.shape[1])])[place]
    first = np.searchsorted(owner[place], np.arange(max(net.layers, layer.max() + 1) + 1))
    theta = np.concatenate([rho.theta, found.theta])
    return Network(first, particle, np.concatenate([net.weight + 0j, at * weight])[place]), theta


@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_the_signed_direction_descends_by_the_size_of_the_adjoint(case, scheme, t):
    problem, rho = case(scheme=scheme, outputs=2)
    energy = wgflow.Energy(problem, scheme)
    found = signed_direction(energy, rho, t)
    assert abs(found.weight.sum()) < 1e-9 * found.variation
    slope = Reference(problem).energy(*signed_network(energy, rho, found, 1e-30j)).imag / 1e-30
    assert found.value == pytest.approx(slope, rel=1e-6)
    assert found.residual < 1e-3
    assert found.value == pytest.approx(-found.adjoint, rel=1e-2)


def test_the_adjoint_it_fits_is_the_one_of_the_first_variation(case, scheme):
    """mean f . p over the fields is dE/drho, for any theta."""
    problem, rho = case(scheme=scheme)
    energy = wgflow.Energy(problem, scheme)
    theta = np.random.default_rng(5).normal(size=(3, problem.shape[3]))
    for t in (0.0, 0.31, 1.0):
        total = np.zeros(3)
        for x, p, weight in states_and_adjoints(energy, rho, t):
            for j, row in enumerate(theta):
                total[j] += np.sum(weight[:, None] * problem.block.forward(x, row, problem.activation) * p)
        np.testing.assert_allclose(
            total / len(problem.x), energy.first_variation(rho, theta, np.full(3, t)), rtol=1e-10
        )


def test_too_few_features_are_seen(case):
    problem, rho = case(samples=40)
    energy = wgflow.Energy(problem, "shallow")
    few, many = signed_direction(energy, rho, features=4), signed_direction(energy, rho, features=400)
    assert few.residual > 0.2 > 1e-2 > many.residual
    assert many.value < few.value < 0
    assert few.value == pytest.approx(-(1 - few.residual) * few.adjoint, rel=1e-5)  # c is the least-squares solution


def test_sign_and_size_at_a_fit(case):
    problem, rho = case()
    energy = wgflow.Energy(problem, "shallow")
    fitted = wgflow.Energy(problem.replace(problem.x, energy.predict(rho, problem.x)), "shallow")
    assert abs(signed_direction(fitted, rho).value) < 1e-20
    with pytest.raises(InputError, match="t: expected"):
        signed_direction(fitted, rho, t=1.5)


def test_all_particles_at_depth_zero(rng):
    """Under Gaps no layer then has any weight, so nothing can be changed at this time marginal."""
    problem = wgflow.Problem.padded(rng.normal(size=(6, 1)), rng.normal(size=6))
    rho = wgflow.Particles.draw(problem, 4)
    found = certificate(wgflow.Energy(problem), wgflow.Particles(rho.theta, np.zeros(4)))
    assert (found.value, found.descends, len(found.weight)) == (0.0, False, 0)
    assert "no descent direction" in str(found.verdict)


def test_particles_without_mass_set_no_radius(rng):
    problem = wgflow.Problem.padded(rng.normal(size=(6, 1)), rng.normal(size=6))
    theta = np.vstack([wgflow.Particles.draw(problem, 3).theta, np.full(problem.shape[3], 1e200)])
    rho = wgflow.Particles(theta, np.full(4, 0.5), [0.5, 0.3, 0.2, 0.0])
    found = certificate(wgflow.Energy(problem, "shallow", backend="reference"), rho, starts=3, steps=1)
    assert found.radius == 2 * np.linalg.norm(theta[:3], axis=1).max()


def test_a_loss_of_your_own_is_not_taken_to_be_convex():
    """cos is not, whatever class it is derived from."""

    class Wave(Squared):
        def value(self, output, y):
            return 1 - np.cos(output - y).sum(axis=1)

        def gradient(self, output, y):
            return np.sin(output - y)

    for loss, convex in (("squared", True), (Wave(), False)):
        assert certificate(*make({"name": "shallow"}, loss=loss), RADIUS, starts=3, steps=2).convex == convex
