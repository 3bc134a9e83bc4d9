"""The compiled passes over particles against their definitions in NumPy."""

import numpy as np
import pytest

import wgflow
from wgflow.flow.integrators import EULER, combine
from wgflow.kernels.cpu import motion
from wgflow.model.particles import confine, project

SCHEMES = [
    wgflow.Gaps(), wgflow.Layers(4), wgflow.Shallow(), wgflow.Deposit(5), wgflow.Deposit(3, shape="hat"),
    wgflow.Intervals(9),
]  # fmt: skip


def setting(scheme, count=12, parameters=7, seed=0):
    g = np.random.default_rng(seed)
    tau = (np.arange(count) + 0.5) / count if scheme.name == "layers" else g.random(count).round(1)
    mass = None if scheme.name in ("layers", "shallow") else g.uniform(0.5, 2.0, count) / count
    rho = wgflow.Particles(g.standard_normal((count, parameters)), g.permutation(tau), mass)
    net = scheme.network(rho)
    return rho, net, g.standard_normal(len(net.particle)), g.standard_normal((len(net.particle), parameters))


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: f"{scheme.name} {getattr(scheme, 'shape', '')}")
def test_velocities_are_those_of_the_scheme(scheme):
    rho, net, value, slope = setting(scheme)
    expected = scheme.velocity(rho, net, value, slope)
    found = motion.velocity(net, scheme.transpose(rho, net), value, slope, len(rho))
    for left, right in zip(found, expected, strict=True):
        if len(net.particle) == len(rho):  # nothing is summed
            assert np.array_equal(left, right)
        else:
            np.testing.assert_allclose(left, right, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("boundary", ["clip", "reflect"])
def test_dissipation_and_projection(boundary):
    energy = wgflow.Energy(wgflow.Problem.padded([[-1.0], [1.0]], [1.0, 0.0]), backend="reference")
    rho, _, v_tau, v_theta = setting(wgflow.Gaps())
    assert ((rho.tau == 0) | (rho.tau == 1)).any()
    by_tau = energy.depth.inverse_tau_mobility(rho)
    total, found = motion.dissipation(rho, by_tau, np.ones(7), boundary == "clip", v_theta, v_tau)
    expected = project(rho.tau, v_tau, boundary)
    assert np.array_equal(found, expected)
    assert total == pytest.approx(energy.dissipation(rho, v_theta, expected), rel=1e-14)


@pytest.mark.parametrize("moves", [True, False])
def test_euler_step(moves):
    rho, _, v_tau, v_theta = setting(wgflow.Gaps())
    theta, tau = combine(rho.theta, rho.tau, EULER.b, [(v_theta, v_tau)], 0.25)
    found = motion.step(rho, v_theta, v_tau, 0.25, True, moves, rho.order)
    assert found.finite
    assert np.array_equal(found.theta, theta)
    if moves:
        assert np.array_equal(found.tau, confine(tau, "clip"))
    else:
        assert found.tau is rho.tau


@pytest.mark.parametrize("tau", [[0.1, 0.2, 0.2], [0.2, 0.1, 0.3], [0.3, 0.2, 0.2], [0.2, 0.2, 0.1]])
def test_an_order_that_still_holds(tau):
    rho = wgflow.Particles(np.zeros((3, 3)), np.zeros(3))
    found = motion.step(rho, np.zeros((3, 3)), np.array(tau), 1.0, True, True, rho.order)
    assert found.sorted == np.array_equal(rho.order, np.argsort(tau, kind="stable"))


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_places_that_are_not_finite(bad):
    rho, _, v_tau, v_theta = setting(wgflow.Gaps())
    for array in (v_theta[3], v_tau):
        kept, array[5] = array[5], bad
        assert not motion.step(rho, v_theta, v_tau, 0.5, True, True, rho.order).finite
        array[5] = kept
