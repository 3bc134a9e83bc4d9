"""The closed forms against the code, and against each other."""

import exact_problems
import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError


def test_whitened_has_exact_moments():
    x = exact_problems.whitened(3, 20, 4)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(x.T @ x / 20, np.eye(4), atol=1e-13)
    with pytest.raises(InputError, match="expected more than width = 4"):
        exact_problems.whitened(0, 4, 4)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_linear_chain(rng, backend):
    chain = exact_problems.linear_chain()
    theta, tau = rng.normal(size=(7, 2)), rng.uniform(size=7)
    velocity = wgflow.Energy(chain.problem, "gaps", backend).velocity(wgflow.Particles(theta, tau))
    by_theta, by_tau = chain.gradient(theta, tau)
    assert velocity.energy == pytest.approx(chain.energy(theta, tau), rel=1e-12)
    np.testing.assert_allclose(velocity.theta, -7 * by_theta, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(velocity.tau, -by_tau / 7, rtol=1e-11, atol=1e-13)


def test_linear_continuum_is_consistent_with_itself(rng):
    """dE/dm_i of the closed-form energy is the closed-form first variation, integrated over depth."""
    continuum = exact_problems.linear_continuum()
    t, weights = np.polynomial.legendre.leggauss(20)
    t, weights = (t + 1) / 2, weights / 2
    for i, row in enumerate(continuum.theta):
        shift = 1e-6 * np.eye(len(continuum.mass))[i]
        ends = [continuum._replace(mass=continuum.mass + sign * shift).energy for sign in (1, -1)]
        integral = weights @ continuum.first_variation(np.tile(row, (20, 1)), t)
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(integral, rel=1e-6, abs=1e-8)
    points = rng.normal(size=(5, 6))
    ends = [continuum.first_variation(points, np.full(5, 0.4 + h)) for h in (1e-6, -1e-6)]
    np.testing.assert_allclose(
        continuum.depth_derivative(points, np.full(5, 0.4)), (ends[0] - ends[1]) / 2e-6, rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2), ("ssp3", 3), ("rk4", 4), ("cash_karp", 5)])
def test_integrators_have_their_order_on_the_exact_flow(name, order):
    exact_flow = exact_problems.linear_flow()
    start = np.column_stack([[0.3, -0.2, 0.5], np.ones(3)])
    energy = wgflow.Energy(exact_flow.problem, "shallow")
    errors, steps = [], np.array([0.2, 0.1, 0.05, 0.025])
    for h in steps:
        flow = wgflow.Flow(energy, name, step=h, mobility={"w": 0.0})
        *_, last = flow.run(wgflow.Particles(start, [0.1, 0.5, 0.9]), until=1.0, every=1.0)
        errors.append(np.abs(last.theta - exact_flow.theta(start, 1.0)).max())
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(order, abs=0.1)
    assert last.energy == pytest.approx(exact_flow.energy(start, 1.0), rel=0.2 if order == 1 else 1e-2)


def test_teacher_is_realisable():
    """The teacher's own blocks under Layers answer y: E = 0."""
    from wgflow.base.rng import normal
    from wgflow.model.datasets import teacher

    x, y = teacher(samples=30, width=2, layers=3, units=2, seed=5)
    problem = wgflow.Problem.padded(x, y)
    theta = normal(5, "teacher blocks", (6, 7)) * np.array([2, 2, 2, *[3**-0.5] * 3, 1])
    rho = wgflow.Particles(theta, np.repeat((np.arange(3) + 0.5) / 3, 2))
    assert wgflow.Energy(problem, wgflow.Layers(3))(rho) < 1e-30
    assert np.mean(y**2) > 0.01
    with pytest.raises(InputError, match="layers: expected a whole number >= 1, got 0"):
        teacher(layers=0)
