"""Tangent kernels against a network of plain NumPy, differentiated by complex steps; the inequalities they give."""

import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError
from wgflow.theory.tangent_kernel import conditional_kernels, not_proved, tangent_kernel

SCHEMES = [
    {"name": "gaps"}, {"name": "deposit", "layers": 4}, {"name": "intervals", "layers": 8},
    {"name": "layers", "layers": 3}, {"name": "shallow"},
]  # fmt: skip
IN_ONE_LAYER = [spec for spec in SCHEMES if spec["name"] not in ("deposit", "intervals")]
STEP = 1e-30


def block(x, theta):
    """The ridge block a tanh(w . x + b), complex arguments included."""
    width = x.shape[1]
    return np.tanh(x @ theta[width : 2 * width] + theta[-1])[:, None] * theta[:width]


def entries(net, k):
    span = slice(net.first[k], net.first[k + 1])
    return zip(net.particle[span], net.weight[span], strict=True)


def tail(problem, net, theta, x, k):
    """Outputs (M, K) of the layers from the k-th on, from states x (M, D)."""
    for layer in range(k, net.layers):
        x = x + sum((weight * block(x, theta[i]) for i, weight in entries(net, layer)), 0 * x)
    return x @ problem.readout.T


def by_parameters(problem, net, theta):
    """Jacobian of all outputs, (N, M K, P), by complex steps through the whole network."""
    start, columns = problem.x @ problem.embed.T, []
    for i, p in np.ndindex(*theta.shape):
        moved = theta.astype(complex)
        moved[i, p] += 1j * STEP
        columns.append(tail(problem, net, moved, start + 0j, 0).imag.ravel() / STEP)
    return np.reshape(columns, (*theta.shape, -1)).swapaxes(1, 2)


def kernel_of(problem, net, rho, mobility=1.0):
    """Theta of the flow v_i = -(1/mass_i) dE/dtheta_i, whatever the scheme."""
    jacobian = by_parameters(problem, net, rho.theta) * np.sqrt(mobility)
    return np.einsum("nap,nbp,n->ab", jacobian, jacobian, 1 / rho.mass)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda spec: spec["name"])
def test_the_kernel_is_that_of_the_outputs_derivatives(case, scheme, outputs):
    problem, rho = case(particles=12, samples=4, scheme=scheme, outputs=outputs)
    energy = wgflow.Energy(problem, scheme)
    found = tangent_kernel(energy, rho)
    expected = kernel_of(problem, energy.network(rho), rho)
    np.testing.assert_allclose(found.matrix, expected, rtol=1e-11, atol=1e-13 * expected.max())
    assert found.least == pytest.approx(np.linalg.eigvalsh(expected)[0], rel=1e-9)
    assert found.rank == 12 * 7
    assert found.rate == 2 * found.least / 4


@pytest.mark.parametrize("kind", ["ridge", "matrix", "two_layer", "saturated_matrix", "gaussian_matrix"])
@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda spec: spec["name"])
def test_the_kernel_gives_the_dissipation_and_the_slope_of_e(case, scheme, kind):
    """r' Theta r / M**2 = sum_i mass_i |v_i|**2 = -dE/dh along h v_theta, the latter by central differences."""
    problem, rho = case(particles=6, samples=5, scheme=scheme, outputs=2, block=kind)
    energy, h = wgflow.Energy(problem, scheme), 1e-5
    name = next(iter(problem.groups))
    for mobility in ({}, {name: 3.0, "tau": 0.5}, dict.fromkeys(problem.groups, 0.25)):
        found, by_column = tangent_kernel(energy, rho, mobility), problem.by_column(mobility)
        v = energy.velocity(rho).theta * by_column
        quadratic = found.residual @ found.matrix @ found.residual / 25
        assert quadratic == pytest.approx(np.sum(rho.mass[:, None] * v**2 / by_column), rel=1e-11)
        ahead, behind = (energy(rho.moved(rho.theta + step * v, rho.tau)) for step in (h, -h))
        assert (behind - ahead) / (2 * h) == pytest.approx(quadratic, rel=1e-6)


@pytest.mark.parametrize("scheme", IN_ONE_LAYER, ids=lambda spec: spec["name"])
def test_kernels_of_layers_are_those_of_plain_numpy(case, scheme):
    problem, rho = case(particles=36 if scheme["name"] != "gaps" else 5, samples=2, scheme=scheme, outputs=2)
    energy = wgflow.Energy(problem, scheme)
    found, net = conditional_kernels(energy, rho), energy.network(rho)
    x, total = problem.x @ problem.embed.T, 0.0
    for k in range(net.layers):
        states, after = np.zeros((6, 6)), x.copy()
        for i, weight in entries(net, k):
            columns = [block(x, rho.theta[i] + 1j * STEP * e).imag.ravel() / STEP for e in np.eye(7)]
            states += weight**2 / rho.mass[i] * np.transpose(columns) @ columns
            after += weight * block(x, rho.theta[i])
        x = after
        moved = [tail(problem, net, rho.theta, x + 1j * STEP * e, k + 1).imag / STEP for e in np.eye(3)]
        transport = np.moveaxis(moved, 0, 1)  # (M, D, K)
        whole = np.zeros((6, 4))
        whole[:3, :2], whole[3:, 2:] = transport
        outputs = whole.T @ states @ whole
        least = np.linalg.svd(transport, compute_uv=False)[:, -1].min() ** 2
        assert found.states[k] == pytest.approx(np.linalg.eigvalsh(states)[0], rel=1e-8)
        assert found.outputs[k] == pytest.approx(np.linalg.eigvalsh(outputs)[0], rel=1e-8)
        assert found.transport[k] == pytest.approx(least, rel=1e-10)
        total = total + outputs
    np.testing.assert_allclose(tangent_kernel(energy, rho).matrix, total, rtol=1e-10, atol=1e-13 * total.max())
    assert found.states.min() > 0 or scheme["name"] == "gaps"


@pytest.mark.parametrize("scheme", IN_ONE_LAYER, ids=lambda spec: spec["name"])
def test_each_bound_is_below_the_one_before(case, scheme):
    problem, rho = case(particles=48, samples=3, scheme=scheme)
    energy = wgflow.Energy(problem, scheme)
    layers, velocity = conditional_kernels(energy, rho), energy.velocity(rho)
    chain = [
        layers.conditional, layers.by_depth, tangent_kernel(energy, rho).rate,
        energy.dissipation(rho, velocity.theta, 0 * velocity.tau) / velocity.energy,
        velocity.dissipation / velocity.energy,
    ]  # fmt: skip
    assert chain == sorted(chain)
    assert 0 < chain[1] < chain[3]
    assert (chain[0] > 0) == (scheme["name"] != "gaps")  # one particle a layer: rank 7 < M D = 9


def test_the_bound_is_a_prediction_that_does_not_know_the_targets(case):
    """Other targets change the ratio dissipation/E, which used to be its own prediction, but not the bound."""
    problem, rho = case(particles=24, samples=5)
    rates, ratios = [], []
    for y in np.random.default_rng(0).normal(size=(200, 5, 1)):
        energy = wgflow.Energy(problem.replace(problem.x, y), {"name": "deposit", "layers": 3})
        velocity = energy.velocity(rho)
        ratios.append(velocity.dissipation / velocity.energy)
        if len(rates) < 3:
            rates.append(tangent_kernel(energy, rho).rate)
    assert rates[0] == rates[1] == rates[2] > 0
    assert min(ratios) >= rates[0]
    assert max(ratios) > 2 * min(ratios)


def test_the_bound_is_attained_by_some_targets(case):
    """With the residual along the last eigenvector dissipation/E in theta equals the bound: no constant is lost."""
    problem, rho = case(particles=24, samples=5)
    energy = wgflow.Energy(problem, "shallow")
    found = tangent_kernel(energy, rho)
    worst = np.linalg.eigh(found.matrix)[1][:, :1]
    aimed = wgflow.Energy(problem.replace(problem.x, energy.predict(rho, problem.x) + worst), "shallow")
    velocity = aimed.velocity(rho)
    assert velocity.dissipation / velocity.energy == pytest.approx(found.rate, rel=1e-6)


def test_kernels_without_enough_particles_are_singular_and_bounds_vacuous(case):
    problem, rho = case(particles=4, samples=12, outputs=3)  # N P = 28 < M K = 36
    energy = wgflow.Energy(problem, {"name": "deposit", "layers": 2})
    few = tangent_kernel(energy, rho)
    assert (few.rank, few.least) == (28, 0.0)
    assert np.linalg.matrix_rank(few.matrix) == 28
    problem, rho = case(particles=12, samples=5)
    twice = problem.replace(np.concatenate([problem.x, problem.x[:1]]), np.append(problem.y, 3.0)[:, None])
    assert tangent_kernel(wgflow.Energy(problem, "shallow"), rho).least > 0
    assert tangent_kernel(wgflow.Energy(twice, "shallow"), rho).least == 0


@pytest.mark.parametrize(("samples", "states", "outputs"), [(2, True, True), (6, False, True), (15, False, False)])
def test_layers_with_too_few_particles_are_vacuous(case, samples, states, outputs):
    """Two particles of 7 parameters a layer: rank 14 against M D = 6, 18, 45 and M K = 2, 6, 15."""
    scheme = {"name": "layers", "layers": 6}
    problem, rho = case(particles=12, samples=samples, scheme=scheme)
    found = conditional_kernels(wgflow.Energy(problem, scheme), rho)
    assert (found.rank == 14).all()
    assert ((found.states > 0).all(), (found.outputs > 0).all()) == (states, outputs)
    assert (found.conditional > 0, found.by_depth > 0) == (states, outputs)


def test_more_outputs_than_states_leave_no_transport(case):
    scheme = {"name": "layers", "layers": 2}
    problem, rho = case(particles=24, samples=2, outputs=4, scheme=scheme)
    found = conditional_kernels(wgflow.Energy(problem, scheme), rho)
    assert found.states.min() > 0
    assert (found.transport == 0).all()
    assert found.conditional == 0


def test_a_subsample_bounds_from_above_only(case):
    """Interlacing: lambda_min of a principal submatrix is at least that of the matrix, here three times as large."""
    problem, rho = case(particles=40, samples=10)
    some = problem.replace(problem.x[::3], problem.y[::3])
    whole, part = (tangent_kernel(wgflow.Energy(each, "shallow"), rho).least for each in (problem, some))
    assert part > 3 * whole


def test_a_sum_over_layers_would_bound_nothing_under_deposit(case):
    """Jensen: a gradient is averaged over layers before it is squared. Bounds by depth are refused there."""
    problem, rho = case(particles=24, samples=3)
    energy = wgflow.Energy(problem, {"name": "deposit", "layers": 4})
    net, velocity = energy.network(rho), energy.velocity(rho)
    _, _, slope = energy.kernel.gradient(net, rho.theta, None)
    averaged = energy.dissipation(rho, velocity.theta, 0 * velocity.tau)
    assert averaged < net.weight @ np.einsum("ep,ep->e", slope, slope)
    with pytest.raises(InputError, match="each particle in one layer, for which bounds by depth are proved, got dep"):
        conditional_kernels(energy, rho)


def test_the_linearised_flow_is_the_flow_where_particles_hardly_move(case):
    """Large particles: with a theta of scale c the outputs' change needs a motion of 1/c."""
    problem, rho = case(particles=64, samples=4)
    theta = rho.theta.copy()
    theta[1::2] = theta[::2]
    theta[1::2, :3] *= -1  # pairs whose outputs cancel
    defects = []
    for scale in (3.0, 30.0):
        lazy = wgflow.Particles(theta * np.r_[[scale] * 3, np.ones(4)], rho.tau)
        energy = wgflow.Energy(problem, "shallow")
        found, until = tangent_kernel(energy, lazy), 2.0 / scale**2
        last = list(wgflow.Flow(energy, "rk4", until / 100).run(lazy, until))[-1]
        before = energy(lazy)
        assert found.frozen(0.0) == pytest.approx(before, rel=1e-9)
        assert last.energy < 0.8 * before
        defects.append(abs(float(found.frozen(until)) / last.energy - 1))
    assert defects[1] < 0.02
    assert defects[1] < defects[0] / 10


def test_nothing_is_claimed_where_nothing_is_proved(case):
    problem, rho = case(outputs=2, loss="cross_entropy")
    squared, _ = case()
    many, _ = case(samples=513)
    for energy, why in [
        (wgflow.Energy(problem, "shallow"), "the loss is cross_entropy"),
        (wgflow.Energy(squared, "shallow", regulariser={"name": "quadratic", "strength": 0.1}), "regulariser"),
        (wgflow.Energy(many, "shallow"), "513 > 512 rows, and a part of it gives no lower bound"),
    ]:
        assert why in not_proved(energy)
        for function in (tangent_kernel, conditional_kernels):
            with pytest.raises(InputError, match=why):
                function(energy, rho)
    assert not_proved(wgflow.Energy(squared, "shallow")) == ""


def test_a_regulariser_would_break_the_inequality(case):
    """At its stationary point dissipation = 0 < lambda_min E: why energies with a regulariser are refused."""
    problem, rho = case(particles=24, samples=2)
    plain = wgflow.Energy(problem, "shallow")
    energy = wgflow.Energy(problem, "shallow", regulariser={"name": "quadratic", "strength": 0.1, "decay": 0.0})
    last = list(wgflow.Flow(energy, "rk4", 0.2).run(rho, 200.0, every=50.0))[-1]
    velocity = energy.velocity(last.particles, s=200.0)
    assert velocity.dissipation / velocity.energy < 0.1 * tangent_kernel(plain, last.particles).rate
