"""Intervals of depth: against the definition, where ends cross and at the walls, and what converges with N."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import wgflow
from wgflow.base.errors import InputError
from wgflow.kernels.reference import Reference
from wgflow.model.depth import Network
from wgflow.model.depth.check import _try
from wgflow.theory.certificate import certificate
from wgflow.theory.depth_lipschitz import _parts
from wgflow.theory.separation import at_depth
from wgflow.theory.stationarity import balance, residual

STEP = 1e-30
SPECS = [
    {"name": "intervals", "layers": layers, "width": width}
    for layers, width in [(1, 1.0), (2, 1.0), (4, 0.0), (5, 1.0), (16, 1.0), (9, 3.5)]
]


def assert_gradient(problem, rho, spec, backend, by_complex_step, defined_energy):
    """E, v_theta = -(1/mass) dE/dtheta, and (1 - w) v_tau = -(1/mass) dE/da, derivatives of the definition."""
    velocity = wgflow.Energy(problem, spec, backend).velocity(rho)
    energy = defined_energy(problem, spec, rho.theta, rho.tau, rho.mass)
    assert velocity.energy == pytest.approx(energy, rel=1e-13)
    by_theta, by_tau = (by_complex_step(problem, spec, rho, name) for name in ("theta", "tau"))
    np.testing.assert_allclose(velocity.theta, -by_theta / rho.mass[:, None], rtol=1e-10, atol=1e-12)
    room = 1 - np.minimum(1, spec["width"] * rho.mass)
    expected = np.divide(-by_tau, rho.mass * room**2, out=np.zeros(len(rho)), where=room > 0)
    np.testing.assert_allclose(velocity.tau, expected, rtol=1e-10, atol=1e-12)
    dissipated = rho.mass @ (velocity.theta**2).sum(axis=1) + rho.mass @ (room * velocity.tau) ** 2
    assert velocity.dissipation == pytest.approx(dissipated, rel=1e-12)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_velocity_against_the_definition(case, block, spec, backend, by_complex_step, defined_energy):
    problem, rho = case(block=block, outputs=2)
    assert_gradient(problem, rho, spec, backend, by_complex_step, defined_energy)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    layers=st.integers(1, 12),
    tau=st.lists(st.sampled_from([0.0, 1e-12, 0.25, 0.5, 1 - 1e-12, 1.0]), min_size=1, max_size=5),
    width=st.sampled_from([0.0, 0.1, 1.0, 2.5]),
)
def test_velocity_at_walls_edges_and_crossings(case, seed, layers, tau, width, by_complex_step, defined_energy):
    """Equal masses, so that ends coincide with each other, with the walls and with the edges of layers."""
    problem, _ = case()
    theta = np.random.default_rng(seed).normal(size=(len(tau), problem.shape[3]))
    spec = {"name": "intervals", "layers": layers, "width": width}
    rho = wgflow.Particles(theta, tau)
    assert_gradient(problem, rho, spec, "cpu", by_complex_step, defined_energy)
    _try(wgflow.Intervals(layers, width), rho)


@pytest.mark.parametrize(("width", "error"), [(0.0, 1e-11), (1e-9, 1e-6)])
def test_no_width_is_deposit(case, width, error):
    problem, rho = case()
    found, expected = (
        wgflow.Energy(problem, depth).velocity(rho) for depth in (wgflow.Intervals(6, width), wgflow.Deposit(6))
    )
    np.testing.assert_allclose(found.theta, expected.theta, rtol=error)
    np.testing.assert_allclose(found.tau, expected.tau, rtol=error)
    assert found.energy == pytest.approx(expected.energy, rel=error)
    net = wgflow.Intervals(6, width).network(rho)
    np.testing.assert_allclose(np.bincount(net.particle, net.weight), rho.mass, rtol=1e-14)


def test_the_weights_of_a_tiling_are_the_layers_steps():
    """Intervals [i/N, (i + 1)/N]: L layers of one step 1/L each, less in the outer ones if the shape is clipped."""
    count, layers = 7, 12
    rho = wgflow.Particles(np.zeros((count, 3)), np.arange(count) / (count - 1))
    net = wgflow.Intervals(layers).network(rho)
    steps = np.add.reduceat(net.weight, net.first[:-1])
    np.testing.assert_allclose(steps, 1 / layers, rtol=1e-12)
    start, width = wgflow.Intervals(layers).ends(rho)
    np.testing.assert_allclose([start[0], start[-1] + width[-1]], [0, 1], atol=1e-15)


def test_a_particle_without_mass_follows_the_first_variation(case):
    problem, rho = case()
    mass = np.where(np.arange(6) == 2, 0.0, rho.mass)
    energy, rho = wgflow.Energy(problem, wgflow.Intervals(5)), wgflow.Particles(rho.theta, rho.tau, mass)
    velocity = energy.velocity(rho)
    _, by_theta, by_t = energy.first_variation_gradient(rho, rho.theta[2:3], rho.tau[2:3])
    np.testing.assert_allclose(velocity.theta[2], -by_theta[0], rtol=1e-12)
    assert velocity.tau[2] == pytest.approx(-by_t[0], rel=1e-12)


def merged(parts):
    """One network of several with equally many layers, and the number of particles before each one's own."""
    layers, flat = parts[0][1].layers, ([], [])
    for k in range(layers):
        for j, column in enumerate(("particle", "weight")):
            of = [getattr(net, column)[net.first[k] : net.first[k + 1]] + (0 if j else shift) for shift, net in parts]
            flat[j].append(np.concatenate(of))
    return Network(np.cumsum([0, *map(len, flat[0])]), *map(np.concatenate, flat))


@pytest.mark.parametrize("width", [0.0, 1e-2, 1.0, 4.0])
def test_first_variation_identity(case, defined_network, defined_spread, width):
    """d/deps E(rho + eps (nu - rho)) = <dE/drho, nu - rho>, nu of other intervals; the left side by complex step."""
    problem, rho = case(outputs=2)
    g, spec = np.random.default_rng(5), {"name": "intervals", "layers": 5, "width": width}
    nu = wgflow.Particles(g.normal(size=(4, problem.shape[3])), g.uniform(size=4), g.dirichlet(np.ones(4)))
    energy = wgflow.Energy(problem, spec)
    own, other = (defined_network(spec, one.tau, one.mass) for one in (rho, nu))
    own = own._replace(weight=own.weight * (1 - 1j * STEP))
    net = merged([(0, own), (len(rho), other._replace(weight=other.weight * 1j * STEP))])
    slope = Reference(problem).energy(net, np.concatenate([rho.theta, nu.theta])).imag / STEP

    def pairing(one):
        particle, t, share = defined_spread(spec, one.tau, one.mass)
        return (one.mass[particle] * share) @ energy.first_variation(rho, one.theta[particle], t)

    assert slope == pytest.approx(pairing(nu) - pairing(rho), rel=1e-11)
    assert rho.mass @ energy.pairings(rho) == pytest.approx(pairing(rho), rel=1e-12)


def steps_between_ends(start, width):
    """Layers between all ends of intervals, in each those that act there: Euler steps whose grid moves with them."""
    cuts = np.unique(np.concatenate([[0.0], start, start + width, [1.0]]))
    layers = [np.flatnonzero((start <= a) & (b <= start + width)) for a, b in pairwise(cuts)]
    weights = [np.full(len(layer), b - a) for layer, (a, b) in zip(layers, pairwise(cuts), strict=True)]
    return Network(np.cumsum([0, *map(len, layers)]), np.concatenate(layers), np.concatenate(weights))


def slopes_at_a_crossing(count, scheme, problem):
    """One-sided derivatives over mass of E in the start of an interval whose end meets another's start, in (0, 1)."""
    width = 1 / count
    start = np.linspace(0.1, 0.8, count)
    i = count // 2
    start[i + 1] = start[i] + width
    theta = np.random.default_rng(1).normal(size=(count, problem.shape[3]))
    reference, h = Reference(problem), 1e-5 * width

    def energy(shift):
        moved = start.copy()
        moved[i] += shift
        if scheme is None:
            return float(reference.energy(steps_between_ends(moved, np.full(count, width)), theta))
        return float(reference.energy(scheme.network(wgflow.Particles(theta, moved / (1 - width))), theta))

    e = [energy(shift) for shift in (-2 * h, -h, 0, h, 2 * h)]
    below, above = (3 * e[2] - 4 * e[1] + e[0]) / (2 * h), (-3 * e[2] + 4 * e[3] - e[4]) / (2 * h)
    return below * count, above * count


@pytest.mark.parametrize("count", [8, 32, 128])
def test_e_is_smooth_where_ends_cross_and_on_their_own_grid_it_is_not(case, count):
    """On a grid of the ends E has kinks of the gradient's size whatever N; here one-sided derivatives are one."""
    problem, _ = case()
    below, above = slopes_at_a_crossing(count, wgflow.Intervals(4 * count), problem)
    assert abs(above - below) < 1e-3 * abs(above)
    below, above = slopes_at_a_crossing(count, None, problem)
    assert abs(above - below) > 0.05 * abs(above)


X = np.array([[0.3, 1.0], [-0.8, 1.0], [1.1, 1.0]])
PROBLEM = wgflow.Problem(X, [0.5, -0.2, 0.9], "ridge", "tanh", readout=[[1.0, 0.5]])


def paths(t):
    """Two curves of (a, w, b) in depth, (2, ..., 5)."""
    t = np.asarray(t)
    one = [np.cos(2 * t), np.sin(3 * t), 1 + t, np.cos(t) - 1.5 * t, 0.5 * t]
    return np.stack([np.stack(one, -1), np.stack([np.sin(2 * t), t - 1, np.cos(3 * t), t + 0.5, 0 * t - 0.7], -1)])


class Limit:
    """The differential equation of rho(., t), half of it at each of the paths' points, and its adjoint."""

    def __init__(self):
        options = {"rtol": 1e-12, "atol": 1e-13, "dense_output": True}
        self.x = solve_ivp(lambda t, x: self.rate(t, x.reshape(3, 2)).ravel(), (0, 1), X.ravel(), **options).sol
        residual = self.x(1).reshape(3, 2) @ [1, 0.5] - PROBLEM.y[:, 0]
        self.energy = np.mean(residual**2) / 2
        last = np.outer(residual, [1, 0.5]).ravel()
        self.p = solve_ivp(lambda t, p: self.back(t, p.reshape(3, 2)).ravel(), (1, 0), last, **options).sol

    def rate(self, t, x):
        return np.mean([np.tanh(x @ z[2:4] + z[4])[:, None] * z[:2] for z in paths(t)], axis=0)

    def back(self, t, p):
        x = self.x(t).reshape(3, 2)
        slopes = [(1 - np.tanh(x @ z[2:4] + z[4]) ** 2) * (p @ z[:2]) for z in paths(t)]
        return -np.mean([slope[:, None] * z[2:4] for slope, z in zip(slopes, paths(t), strict=True)], axis=0)

    def first_variation(self, z, t):
        return np.mean(np.tanh(self.x(t).reshape(3, 2) @ z[2:4] + z[4]) * (self.p(t).reshape(3, 2) @ z[:2]))

    def force(self, z, start, width):
        """-(h(b) - h(a))/w, by differences about the middle where there is no width."""
        half = max(width / 2, 1e-5)
        ends = start + width / 2 + np.array([-half, half])
        return -(self.first_variation(z, ends[1]) - self.first_variation(z, ends[0])) / (2 * half)


@pytest.fixture(scope="module")
def limit():
    return Limit()


def blocks(count, width, seed=0):
    """Blocks of both curves at stratified random depths; intervals of one width about them, inside [0, 1]."""
    half = count // 2
    at = (np.arange(half) + np.random.default_rng(seed).uniform(size=(2, half))) / half
    at = np.clip(at, width / 2, 1 - width / 2)
    theta = np.concatenate([paths(at[0])[0], paths(at[1])[1]])
    return theta, at.ravel() - width / 2


def errors(limit, count, scheme, seed=0):
    """Error of E, and root mean square error of the velocity in depth."""
    width = getattr(scheme, "width", 0.0) / count
    theta, start = blocks(count, width, seed)
    velocity = wgflow.Energy(PROBLEM, scheme).velocity(wgflow.Particles(theta, np.minimum(1.0, start / (1 - width))))
    exact = np.array([limit.force(z, a, width) for z, a in zip(theta, start, strict=True)])
    rms = np.sqrt(np.mean(((1 - width) * velocity.tau - exact) ** 2))
    return abs(velocity.energy - limit.energy), rms


def test_e_tends_to_the_limit_of_gaps_and_deposit(limit):
    """All three from the same blocks, whose random gaps make the error of Gaps one of order 1/2; rms over 8 seeds."""

    def rms(count, scheme):
        return np.sqrt(np.mean([errors(limit, count, scheme, seed)[0] ** 2 for seed in range(8)]))

    for scheme in (lambda n: wgflow.Gaps(), wgflow.Deposit, wgflow.Intervals, lambda n: wgflow.Intervals(n, n**0.5)):
        coarse, fine = rms(64, scheme(64)), rms(1024, scheme(1024))
        assert fine < coarse / (2 if scheme(1).name == "gaps" else 8)
        assert fine < (0.02 if scheme(1).name == "gaps" else 1e-3)


def test_velocity_in_depth_converges_if_many_blocks_overlap_or_share_a_layer(limit):
    """One block in N feels those that overlap it: with widths 1/N in fine layers these are one or two, whatever N."""
    wide = [errors(limit, count, wgflow.Intervals(4 * count, count**0.5))[1] for count in (16, 256)]
    coarse = [errors(limit, count, wgflow.Intervals(count // 8))[1] for count in (16, 256)]
    narrow = [errors(limit, count, wgflow.Intervals(4 * count))[1] for count in (16, 256)]
    assert wide[1] < wide[0] / 2
    assert coarse[1] < coarse[0] / 2
    assert narrow[1] > narrow[0] / 2


def test_energy_balance_has_no_jumps(case):
    """Ends cross all along, and yet drop = dissipation up to O(h**2), and E falls in every step."""
    problem, rho = case(particles=24)
    defects = []
    for step in (0.02, 0.01):
        energy = wgflow.Energy(problem, wgflow.Intervals(48, 2.0))
        frames = list(wgflow.Flow(energy, "heun", step=step).run(rho, until=1.0))
        ends = [np.concatenate([a, a + w]) for a, w in (energy.depth.ends(frame.particles) for frame in frames)]
        crossed = sum(not np.array_equal(np.argsort(a), np.argsort(b)) for a, b in pairwise(ends))
        assert crossed > 10
        assert frames[-1].switches == 0
        identity = balance(*([getattr(frame, name) for frame in frames] for name in ("s", "energy", "dissipation")))
        assert (np.diff(identity.drop) > 0).all()
        defects.append(identity.relative)
    assert defects[1] < defects[0] / 3 < 1e-3


def test_residual_bounds_the_dissipation_and_the_bound_is_the_integral(case, defined_spread):
    """int |grad dE/drho|**2 drho by independent quadrature; blocks move as wholes, so they dissipate at most that."""
    problem, rho = case()
    spec = {"name": "intervals", "layers": 4, "width": 1.5}
    energy = wgflow.Energy(problem, spec)
    particle, t, share = defined_spread(spec, rho.tau, rho.mass)
    _, by_theta, by_t = energy.first_variation_gradient(rho, rho.theta[particle], t)
    weight = rho.mass[particle] * share
    found, velocity = residual(energy, rho), energy.velocity(rho)
    assert found.theta == pytest.approx(weight @ (by_theta**2).sum(axis=1), rel=1e-11)
    assert found.t == pytest.approx(weight @ by_t**2, rel=1e-11)
    assert 0 < found.force < found.t
    assert velocity.dissipation < found.total


def test_the_certificate_is_a_slope_of_e(case, defined_network):
    problem, rho = case()
    spec = {"name": "intervals", "layers": 4, "width": 1.0}
    found = certificate(wgflow.Energy(problem, spec), rho, starts=9, steps=30)
    assert found.descends
    own = defined_network(spec, rho.tau, rho.mass)
    point = defined_network({"name": "deposit", "layers": 4}, found.t, found.weight)
    own = own._replace(weight=own.weight * (1 - 1j * STEP))
    net = merged([(0, own), (len(rho), point._replace(weight=point.weight * 1j * STEP))])
    slope = Reference(problem).energy(net, np.concatenate([rho.theta, found.theta])).imag / STEP
    assert found.value == pytest.approx(slope, rel=1e-11)


def test_mass_in_slices_of_depth(case):
    problem, rho = case()
    for width in (0.0, 1.0, 3.0):
        energy = wgflow.Energy(problem, wgflow.Intervals(4, width))
        part = _parts(energy, rho, 4)
        start, length = energy.depth.ends(rho)
        fine = (start + length * (np.arange(20000)[:, None] + 0.5) / 20000) * 4
        expected = [np.mean(fine.astype(int) == k, axis=0) * rho.mass for k in range(4)]
        np.testing.assert_allclose(part, expected, atol=1e-4)
        np.testing.assert_allclose(part.sum(axis=0), rho.mass, rtol=1e-12)


def test_blocks_at_a_depth_are_those_whose_middle_is_there():
    rho = wgflow.Particles(np.zeros((4, 3)), [0.0, 0.4, 0.6, 1.0])
    depth = wgflow.Intervals(4)  # middles 1/8, 17/40, 23/40, 7/8
    assert [at_depth(depth, rho, t).tolist() for t in (0.0, 0.3, 0.6, 1.0)] == [[0], [1], [2], [3]]


def test_options():
    with pytest.raises(InputError, match="layers: expected a whole number >= 1, got 0"):
        wgflow.Intervals(0)
    with pytest.raises(InputError, match="width"):
        wgflow.Intervals(3, -1.0)
    with pytest.raises(InputError, match=r"tau: expected depths in \[0, 1\] under intervals"):
        wgflow.Intervals(3).network(wgflow.Particles(np.zeros((1, 3)), [1.5], free=True))
