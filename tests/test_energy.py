"""The mathematics: gradients against complex step, hand-written cases, and the identities of the schemes."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wgflow
from wgflow.base.errors import InputError
from wgflow.kernels.reference import Reference
from wgflow.model.depth import Network

STEP = 1e-30


def assert_velocity(problem, rho, spec, backend, by_complex_step, defined_energy):
    """v_theta = -(1/mass) dE/dtheta and v_tau = -kappa dE/dtau, the derivatives by complex step of the definition."""
    velocity = wgflow.Energy(problem, spec, backend).velocity(rho)
    theta = -by_complex_step(problem, spec, rho, "theta") / rho.mass[:, None]
    np.testing.assert_allclose(velocity.theta, theta, rtol=1e-10, atol=1e-12)
    kappa = {"gaps": rho.mass, "deposit": 1 / rho.mass}.get(spec["name"], 0.0 * rho.mass)
    tau = -kappa * by_complex_step(problem, spec, rho, "tau")
    np.testing.assert_allclose(velocity.tau, tau, rtol=1e-10, atol=1e-12)
    energy = defined_energy(problem, spec, rho.theta, rho.tau, rho.mass)
    assert velocity.energy == pytest.approx(energy, rel=1e-13)
    assert wgflow.Energy(problem, spec, backend)(rho) == pytest.approx(energy, rel=1e-13)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize(("loss", "outputs"), [("squared", 1), ("squared", 2), ("cross_entropy", 3)])
def test_velocity_of_every_block_scheme_and_loss(
    case, block, scheme, loss, outputs, backend, by_complex_step, defined_energy
):
    problem, rho = case(block=block, scheme=scheme, loss=loss, outputs=outputs)
    assert_velocity(problem, rho, scheme, backend, by_complex_step, defined_energy)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    particles=st.integers(1, 4),
    samples=st.integers(1, 9),
    width=st.integers(1, 4),
    outputs=st.integers(1, 3),
)
def test_velocity_over_shapes(
    case, block, scheme, seed, particles, samples, width, outputs, by_complex_step, defined_energy
):
    """Every block and scheme, N = 1, M = 1, D = 1 among the shapes; Layers with one to four particles in each."""
    if scheme["name"] == "layers":
        particles *= scheme["layers"]
    loss = "squared" if seed % 2 or outputs == 1 else "cross_entropy"
    problem, rho = make_shape(seed, particles, samples, width, outputs, block, loss, scheme)
    assert_velocity(problem, rho, scheme, "cpu", by_complex_step, defined_energy)


def make_shape(seed, particles, samples, width, outputs, block, loss, scheme):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(samples, outputs)) if loss == "squared" else rng.dirichlet(np.ones(outputs), samples)
    readout = rng.normal(size=(outputs, width))
    problem = wgflow.Problem(rng.normal(size=(samples, width)), y, block, "tanh", readout=readout, loss=loss)
    theta = 0.5 * rng.normal(size=(particles, problem.shape[3]))
    if scheme["name"] == "layers":
        return problem, wgflow.Particles(theta, (np.arange(particles) + 0.5) / particles)
    return problem, wgflow.Particles(theta, rng.uniform(size=particles), rng.uniform(0.5, 1.5, particles) / particles)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("depth", [{"name": "gaps"}, {"name": "deposit", "layers": 4}], ids=lambda spec: spec["name"])
def test_velocity_of_every_activation(case, activation, depth, backend, by_complex_step, defined_energy):
    problem, rho = case(activation=activation, block={"name": "ridge", "bias": False}, outputs=2)
    assert_velocity(problem, rho, depth, backend, by_complex_step, defined_energy)


def test_mass_zero_is_allowed_where_nothing_is_divided_by_it(case):
    problem, rho = case()
    mass = np.where(np.arange(6) == 2, 0.0, rho.mass)
    for depth in (wgflow.Deposit(4), wgflow.Shallow()):
        energy = wgflow.Energy(problem, depth)
        velocity = energy.velocity(wgflow.Particles(rho.theta, rho.tau, mass))
        assert np.isfinite(velocity.theta).all()
        _, by_theta, by_t = energy.first_variation_gradient(
            wgflow.Particles(rho.theta, rho.tau, mass), rho.theta, rho.tau
        )
        np.testing.assert_allclose(velocity.theta, -by_theta, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(velocity.tau, -by_t, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_gradient_of_the_first_variation(case, block, scheme, backend, rng):
    """By central differences at random points of Theta x [0, 1], away from the edges of layers."""
    problem, rho = case(block=block, scheme=scheme, outputs=2)
    energy = wgflow.Energy(problem, scheme, backend)
    theta, t, h = rng.normal(size=(5, problem.shape[3])), np.array([0.03, 0.29, 0.55, 0.7, 0.93]), 1e-6
    value, by_theta, by_t = energy.first_variation_gradient(rho, theta, t)
    np.testing.assert_allclose(value, energy.first_variation(rho, theta, t))
    for j in range(problem.shape[3]):
        shift = h * np.eye(problem.shape[3])[j]
        difference = energy.first_variation(rho, theta + shift, t) - energy.first_variation(rho, theta - shift, t)
        np.testing.assert_allclose(by_theta[:, j], difference / (2 * h), rtol=1e-6, atol=1e-7)
    difference = energy.first_variation(rho, theta, t + h) - energy.first_variation(rho, theta, t - h)
    np.testing.assert_allclose(by_t, difference / (2 * h), rtol=1e-6, atol=1e-6)
    if scheme["name"] != "deposit":
        assert (by_t == 0).all()


def test_one_particle_by_hand():
    """X = x + tau a tanh(w x + b), E = (W1 X - y)**2 / 2, every derivative by the chain rule on paper."""
    x, y, a, w, b, tau, readout = 0.7, -0.4, 1.3, -0.8, 0.2, 0.6, 1.5
    problem = wgflow.Problem([[x]], [y], readout=[[readout]])
    h = np.tanh(w * x + b)
    r = readout * (x + tau * a * h) - y
    p = readout * r
    slope = 1 - h * h
    for backend in ("reference", "cpu"):
        velocity = wgflow.Energy(problem, backend=backend).velocity(wgflow.Particles([[a, w, b]], [tau]))
        assert velocity.energy == pytest.approx(r * r / 2, rel=1e-14)
        np.testing.assert_allclose(velocity.theta, [[-tau * p * h, -tau * p * a * slope * x, -tau * p * a * slope]])
        np.testing.assert_allclose(velocity.tau, [-p * a * h])
        expected = tau**2 * p * p * (h**2 + (a * slope) ** 2 * (x**2 + 1)) + (p * a * h) ** 2
        assert velocity.dissipation == pytest.approx(expected, rel=1e-13)


def test_two_particles_by_hand():
    """Linear blocks without bias in one dimension: X(1) = (1 + (tau2 - tau1) a2 w2)(1 + tau1 a1 w1) x."""
    x, y = np.array([1.0, -2.0]), np.array([0.5, 0.3])
    theta, tau = np.array([[0.4, 1.1], [-0.7, 0.9]]), np.array([0.9, 0.25])  # the second comes first
    problem = wgflow.Problem(x[:, None], y, {"name": "ridge", "bias": False}, "linear")
    early, late = 0.25 * -0.63, 0.65 * 0.44
    factor = (1 + early) * (1 + late)
    energy = wgflow.Energy(problem)
    assert energy(wgflow.Particles(theta, tau)) == pytest.approx(np.mean((factor * x - y) ** 2) / 2, rel=1e-14)
    along = np.mean((factor * x - y) * x)  # dE/dfactor
    by_tau = np.array([along * (1 + early) * 0.44, along * (-0.63 * (1 + late) - 0.44 * (1 + early))])
    np.testing.assert_allclose(energy.velocity(wgflow.Particles(theta, tau)).tau, -by_tau / 2, rtol=1e-13)


def test_identities_of_gaps(case, by_complex_step):
    """dE/dtau^l = g_l - g_(l+1) and dE/dtheta^l = gap_l d_theta dE/drho, with g from the first variation."""
    problem, rho = case(particles=6)
    energy = wgflow.Energy(problem)
    order = np.argsort(rho.tau)
    g = energy.first_variation(rho, rho.theta[order], rho.tau[order])
    by_tau = by_complex_step(problem, {"name": "gaps"}, rho, "tau")[order]
    np.testing.assert_allclose(by_tau, g - np.append(g[1:], 0.0), rtol=1e-11, atol=1e-13)
    by_theta = by_complex_step(problem, {"name": "gaps"}, rho, "theta")[order]
    gaps, h = np.diff(rho.tau[order], prepend=0.0), 1e-6
    for layer, i in enumerate(order):
        for j in range(problem.shape[3]):
            shift = h * np.eye(problem.shape[3])[j]
            ends = energy.first_variation(rho, [rho.theta[i] + shift, rho.theta[i] - shift], [rho.tau[i]] * 2)
            assert by_theta[layer, j] == pytest.approx(gaps[layer] * (ends[0] - ends[1]) / (2 * h), rel=1e-6, abs=1e-9)
    np.testing.assert_allclose(energy.weights(rho)[order], gaps)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_first_variation_of_gaps_is_the_derivative_in_an_inserted_block(case, backend):
    """Beside layer l, and beyond the last: a second block of weight i*epsilon in the same step, by complex step."""
    problem, rho = case(particles=3)
    point = np.linspace(-1, 1, problem.shape[3])
    order = np.argsort(rho.tau)
    tau = rho.tau[order]
    gaps = np.diff(tau, prepend=0.0)
    energy = wgflow.Energy(problem, backend=backend)
    for layer, t in enumerate([tau[0] / 2, (tau[0] + tau[1]) / 2, (tau[1] + tau[2]) / 2, (tau[2] + 1) / 2]):
        first = np.append(np.arange(4), 3 if layer < 3 else 4)[: 4 if layer < 3 else 5]
        first = np.where(np.arange(len(first)) > layer, first + 1, first) if layer < 3 else first
        particle, weight = np.insert(order, layer, 3), np.insert(gaps.astype(complex), layer, STEP * 1j)
        net = Network(first, particle, weight)
        theta = np.vstack([rho.theta, point])
        expected = Reference(problem).energy(net, theta).imag / STEP
        np.testing.assert_allclose(energy.first_variation(rho, point[None], [t]), [expected], rtol=1e-11)


def test_first_variation_in_many_sweeps(case, monkeypatch):
    problem, rho = case()
    theta, t = np.random.default_rng(1).normal(size=(50, 7)), np.linspace(0, 1, 50)
    energy = wgflow.Energy(problem)
    whole = energy.first_variation(rho, theta, t)
    monkeypatch.setattr("wgflow.energy._QUERIES", 7)
    np.testing.assert_allclose(energy.first_variation(rho, theta, t), whole, rtol=1e-13)


def test_order_of_the_particles_does_not_matter(case, rng, scheme):
    problem, rho = case(particles=9, scheme=scheme)
    place = rng.permutation(9)
    energy = wgflow.Energy(problem, scheme)
    a, b = energy.velocity(rho), energy.velocity(wgflow.Particles(rho.theta[place], rho.tau[place], rho.mass[place]))
    assert a.energy == pytest.approx(b.energy, rel=1e-13)
    np.testing.assert_allclose(b.theta, a.theta[place], rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(b.tau, a.tau[place], rtol=1e-10, atol=1e-13)


def test_a_wrong_adjoint_is_noticed(case, monkeypatch, by_complex_step):
    """Negative control: the complex-step test above fails if the adjoint forgets the Jacobian."""
    problem, rho = case()
    backward = type(problem.block).backward

    def forgetful(self, x, theta, p, sigma):
        return 0.0 * p, backward(self, x, theta, p, sigma)[1]

    monkeypatch.setattr(type(problem.block), "backward", forgetful)
    velocity = wgflow.Energy(problem, backend="reference").velocity(rho)
    right = -by_complex_step(problem, {"name": "gaps"}, rho, "theta") / rho.mass[:, None]
    assert np.abs(velocity.theta - right).max() > 1e-3


def test_specs_rebuild_the_energy(case):
    problem, rho = case(activation={"name": "regularised_relu", "eta": 0.3}, block={"name": "ridge", "bias": False})
    energy = wgflow.Energy(problem, "shallow")
    again = wgflow.Energy.from_spec(energy.spec(), problem.arrays())
    assert again.spec() == energy.spec()
    assert again(rho) == energy(rho)
    with pytest.raises(InputError, match="expected the array of shape"):
        wgflow.Energy.from_spec(energy.spec(), problem.arrays() | {"y": problem.y + 1})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda e, rho: e(wgflow.Particles(np.zeros((2, 4)), [0.1, 0.2])),
            r"theta: expected 7 columns .* a \(3\), w \(3\), b \(1\)",
        ),
        (lambda e, rho: e.velocity(rho, [99]), r"batch: expected rows in 0..6, got 99..99"),
        (lambda e, rho: e.velocity(rho, [0.5]), "batch: expected a non-empty list of row numbers"),
        (lambda e, rho: e.first_variation(rho, np.zeros((1, 7)), [1.5]), r"t: expected depths in \[0, 1\], got 1\.5"),
        (lambda e, rho: e.predict(rho, np.zeros((2, 2))), "x: expected 3 columns, got 2"),
    ],
)
def test_bad_input(case, call, words):
    problem, rho = case()
    with pytest.raises(InputError, match=words):
        call(wgflow.Energy(problem), rho)


@pytest.mark.parametrize("depth", [wgflow.Gaps(), wgflow.Layers(2), wgflow.Shallow(), wgflow.Deposit(3)])
def test_a_network_is_kept_only_for_the_same_depths_and_masses(depth):
    problem = wgflow.Problem.padded([[-1.0], [0.5], [1.0]], [1.0, 0.0, 1.0])
    energy, g = wgflow.Energy(problem, depth), np.random.default_rng(0)
    rho = wgflow.Particles(g.standard_normal((8, problem.shape[3])), (np.arange(8) + 0.5) / 8)
    kept = energy._network(rho)
    same = rho.moved(rho.theta + 1.0, rho.tau, fresh=True)
    assert energy._network(same) is kept
    swapped = same.moved(same.theta, same.tau[::-1].copy(), fresh=True)
    masses = wgflow.Particles(same.theta, same.tau, same.mass)
    for other in (swapped, masses):
        assert energy._network(other) is not kept
        fresh = wgflow.Energy(problem, depth).field(other)
        assert all(np.array_equal(left, right) for left, right in zip(energy.field(other), fresh, strict=True))
        energy._network(rho)
    with pytest.raises(InputError, match="theta: expected"):
        energy.field(wgflow.Particles(np.zeros((8, 2)), rho.tau).moved(np.zeros((8, 2)), rho.tau, fresh=True))


def test_a_network_of_a_users_scheme_is_never_kept():
    class Own(wgflow.Shallow):
        pass

    Own.__module__ = "elsewhere"
    problem = wgflow.Problem.padded([[-1.0], [0.5], [1.0]], [1.0, 0.0, 1.0])
    energy, rho = wgflow.Energy(problem, Own()), wgflow.Particles.draw(problem, 8)
    assert energy._network(rho) is not energy._network(rho)
    assert energy.motion is None
