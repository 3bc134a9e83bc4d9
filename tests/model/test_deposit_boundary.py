"""Deposit near tau = 0 and 1: exactness of its energy's gradient, convergence of d_t dE/drho, particles that leave."""

import numpy as np
import pytest

import wgflow
from wgflow.flow.stepsize import Adaptive, Constant, Descent

DEPTHS = np.array([0.0, 0.01, 0.5, 1.0])
X0 = np.array([[0.8, -0.5], [-0.3, 0.9], [0.4, 0.7]])
Y = np.array([[1.0], [-0.6], [0.3]])
SHEETS = np.array([[[0.9, -0.4, 0.7, 0.5, 0.3], [0.2, 0.6, -0.5, 0.3, -0.2]],  # at depth 0, and the slope in depth
                   [[-0.5, 0.8, 0.3, -0.9, 0.1], [0.6, -0.3, 0.4, 0.2, 0.3]]])  # fmt: skip
QUERY = np.array([0.7, 0.6, -0.8, 0.5, 0.2])


def ridge(x, theta):
    """f = a tanh(w . x + b), and its Jacobian (M, D, D)."""
    a, w, b = theta[:2], theta[2:4], theta[4]
    z = np.tanh(x @ w + b)
    return z[:, None] * a, (1 - z**2)[:, None, None] * a[:, None] * w


def continuum(steps=400):
    """G' = d_t dE/drho of QUERY at DEPTHS and E, of sheets theta_j(t) of density 1/2, by RK4 of the ODEs of X and p."""
    readout = problem().readout

    def field(t, x):
        parts = [ridge(x, at + t * along) for at, along in SHEETS]
        return sum(f for f, _ in parts) / 2, sum(j for _, j in parts) / 2

    def rk4(rate, y, t, h):
        k1 = rate(t, y)
        k2 = rate(t + h / 2, y + h / 2 * k1)
        k3 = rate(t + h / 2, y + h / 2 * k2)
        return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + rate(t + h, y + h * k3))

    h, x = 1 / steps, [X0]
    for k in range(steps):
        x.append(rk4(lambda t, y: field(t, y)[0], x[-1], k * h, h))
    residual = x[-1] @ readout.T - Y

    def both(t, y):  # X and p backwards together, so that p's stages see X's
        f, j = field(t, y[0])
        return np.stack([f, -np.einsum("mde,md->me", j, y[1])])

    y, found = np.stack([x[-1], residual @ readout]), {}
    for k in range(steps, -1, -1):
        f, j = ridge(y[0], QUERY)
        rate = both(k * h, y)
        found[k] = np.mean(np.sum(np.einsum("mde,me->md", j, rate[0]) * y[1] + f * rate[1], axis=1))
        y = rk4(both, y, k * h, -h)
    return np.array([found[round(t * steps)] for t in DEPTHS]), np.mean(np.sum(residual**2, axis=1)) / 2


def problem():
    return wgflow.Problem(X0, Y, block="ridge", activation="tanh")


def smooth(count):
    """The same measure, ``count`` depths at the midpoints."""
    t = (np.arange(count) + 0.5) / count
    theta = np.concatenate([at + t[:, None] * along for at, along in SHEETS])
    return wgflow.Particles(theta, np.tile(t, len(SHEETS)))


def errors(layers, per_layer=256):
    """|d_t dE/drho - G'| at DEPTHS and |E - E(continuum)| with L layers."""
    slope, end = continuum()
    energy, rho = wgflow.Energy(problem(), wgflow.Deposit(layers)), smooth(per_layer * layers)
    found = energy.first_variation_gradient(rho, np.tile(QUERY, (len(DEPTHS), 1)), DEPTHS)[2]
    return np.append(np.abs(found - slope), abs(energy(rho) - end))


def test_continuum_satisfies_its_own_derivative():
    """Half the steps give the same G': the reference is converged far below the errors measured against it."""
    np.testing.assert_allclose(continuum(200)[0], continuum(400)[0], rtol=0, atol=1e-9)


def test_slope_in_depth_converges_up_to_the_boundary():
    """Order 1 in L at tau = 0, 0.01, 0.5 and 1, from L = 8 to 128."""
    sizes = [8, 16, 32, 64, 128]
    table = np.array([errors(layers) for layers in sizes])
    order = -np.polyfit(np.log(sizes), np.log(table), 1)[0]
    assert (order > 0.85).all(), (table, order)
    assert (table[-1, :4] < 0.02 * np.abs(continuum()[0]).max()).all(), table


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("layers", [1, 2, 3, 4, 7])
def test_gradient_is_exact_at_and_beside_the_boundary(backend, layers, by_complex_step):
    """v_tau = -(1/mass) dE/dtau by complex steps of an independent definition, in every piece of the shape function.

    At tau = 0 and 1 the definition's outer pieces are polynomials that continue beyond [0, 1].
    """
    tau = np.concatenate([[0.0, 1e-9, 0.01, 0.99, 1.0], (np.arange(4 * layers) + 0.3) / (4 * layers)])
    draws = np.random.default_rng(8)
    mass = draws.uniform(0.1, 1, len(tau))
    rho = wgflow.Particles(draws.normal(size=(len(tau), 5)), tau, mass / mass.sum())
    energy, spec = wgflow.Energy(problem(), wgflow.Deposit(layers), backend), {"name": "deposit", "layers": layers}
    found = energy.velocity(rho)
    by_tau, by_theta = (by_complex_step(problem(), spec, rho, variable) for variable in ("tau", "theta"))
    np.testing.assert_allclose(found.tau, -by_tau / rho.mass, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.theta, -by_theta / rho.mass[:, None], rtol=1e-10, atol=1e-12)
    assert layers == 1 or (np.abs(found.tau[[0, 4]]) > 1e-4).all()  # where the clipped spline has exactly 0


RULES = {
    "constant": Constant(0.01),
    "descent": Descent(0.01),
    "adaptive": Adaptive(0.01),
}
STEPS = [("constant", "euler"), ("constant", "heun"), ("constant", "rk4"), ("descent", "euler"), ("adaptive", "heun")]


@pytest.mark.parametrize(("rule", "integrator"), STEPS)
@pytest.mark.parametrize("end", [0.0, 1.0])
def test_particles_leave_the_boundary_where_the_gradient_points_inwards(rule, integrator, end):
    """Of particles placed on it, those pushed inwards leave in the first step, those pushed outwards stay there."""
    draws = np.random.default_rng(3)
    tau = np.where(np.arange(24) < 12, end, draws.uniform(size=24))
    rho = wgflow.Particles(draws.normal(size=(24, 5)), tau)
    energy = wgflow.Energy(problem(), wgflow.Deposit(4))
    inwards = energy.velocity(rho).tau[:12] * (1 - 2 * end) > 0
    assert 0 < inwards.sum() < 12
    frames = list(wgflow.Flow(energy, integrator, RULES[rule]).run(rho, until=0.01, every=0.01))
    np.testing.assert_array_equal(frames[-1].particles.tau[:12] != end, inwards)
    assert frames[-1].energy < frames[0].energy
