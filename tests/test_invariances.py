"""What must not change the energy or the flow: how mass is cut up, and which axes the state is written in."""

import numpy as np
import pytest

import wgflow

MASSIVE = [{"name": "deposit", "layers": 4}, {"name": "deposit", "layers": 4, "shape": "hat"}, {"name": "shallow"}]


def assert_same(a, b, rows):
    """Two velocities agree, particle ``rows[i]`` of the first being particle i of the second."""
    assert b.energy == pytest.approx(a.energy, rel=1e-13)
    assert b.dissipation == pytest.approx(a.dissipation, rel=1e-12)
    np.testing.assert_allclose(b.theta, a.theta[rows], rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(b.tau, a.tau[rows], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("spec", MASSIVE, ids=str)
def test_splitting_a_particle_changes_nothing(case, spec, backend, rng):
    problem, rho = case(outputs=2)
    energy = wgflow.Energy(problem, spec, backend)
    rows = np.concatenate([np.arange(6), np.arange(6)])
    share = rng.uniform(size=6)
    split = wgflow.Particles(rho.theta[rows], rho.tau[rows], np.concatenate([share * rho.mass, (1 - share) * rho.mass]))
    assert_same(energy.velocity(rho), energy.velocity(split), rows)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("spec", [*MASSIVE, {"name": "layers", "layers": 3}], ids=str)
def test_duplicating_all_particles_changes_nothing(case, spec, backend):
    problem, rho = case(scheme=spec)
    energy = wgflow.Energy(problem, spec, backend)
    rows = np.tile(np.arange(6), 3)
    triple = wgflow.Particles(rho.theta[rows], rho.tau[rows], rho.mass[rows] / 3)
    assert_same(energy.velocity(rho), energy.velocity(triple), rows)


def rotate(theta, block, turn):
    """Parameters of a block in axes turned by an orthogonal matrix."""
    out, width = theta.copy(), len(turn)
    if block == "ridge":
        out[:, :width], out[:, width : 2 * width] = theta[:, :width] @ turn.T, theta[:, width : 2 * width] @ turn.T
        return out
    hidden = 3
    size, count = width * hidden, len(theta)
    out[:, :size] = (turn @ theta[:, :size].reshape(count, width, hidden)).reshape(count, size)
    out[:, size : 2 * size] = (theta[:, size : 2 * size].reshape(count, hidden, width) @ turn.T).reshape(count, size)
    return out


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("block", ["ridge", "two_layer"])
def test_turning_the_axes_turns_the_velocity(case, scheme, block, backend, rng):
    spec = block if block == "ridge" else {"name": block, "hidden": 3}
    problem, rho = case(block=spec, scheme=scheme, outputs=2)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turned = wgflow.Problem(problem.x @ turn.T, problem.y, spec, "tanh", readout=problem.readout @ turn.T)
    a = wgflow.Energy(problem, scheme, backend).velocity(rho)
    b = wgflow.Energy(turned, scheme, backend).velocity(
        wgflow.Particles(rotate(rho.theta, block, turn), rho.tau, rho.mass)
    )
    assert b.energy == pytest.approx(a.energy, rel=1e-13)
    np.testing.assert_allclose(b.theta, rotate(a.theta, block, turn), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(b.tau, a.tau, rtol=1e-10, atol=1e-12)


def test_splitting_matters_to_gaps(case):
    """Negative control: under Gaps the measure is not the empirical one, and two halves are not one particle."""
    problem, rho = case()
    rows = np.tile(np.arange(6), 2)
    split = wgflow.Particles(rho.theta[rows], np.append(rho.tau, rho.tau * 0.999), rho.mass[rows] / 2)
    energy = wgflow.Energy(problem, "gaps")
    assert np.abs(energy.velocity(split).tau - energy.velocity(rho).tau[rows]).max() > 1e-3
