"""The functional-derivative theorem of Lu, Ma, Lu, Lu and Ying (2020) as a statement about the code.

E(rho + lambda (nu - rho)) = E(rho) + lambda <dE/drho, nu - rho> + o(lambda), for the joint measure on Theta x [0, 1]
under Deposit: rho and nu are masses on a union of atoms, so the segment between them is a segment of mass vectors.
"""

from typing import NamedTuple

import exact_problems
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import wgflow

EPS = np.finfo(float).eps
SMOOTH = ["tanh", "gelu", "sin", "squared_relu", "regularised_relu"]  # C^{1,1}


class Segment(NamedTuple):
    """Two measures on the same atoms."""

    problem: wgflow.Problem
    scheme: dict
    theta: np.ndarray
    tau: np.ndarray
    rho: np.ndarray
    nu: np.ndarray

    def measure(self, at=0.0):
        return wgflow.Particles(self.theta, self.tau, self.rho + at * (self.nu - self.rho))

    def energy(self, at=0.0, backend="cpu"):
        return wgflow.Energy(self.problem, self.scheme, backend)(self.measure(at))

    def first_variation(self, at=0.0, backend="cpu"):
        energy = wgflow.Energy(self.problem, self.scheme, backend)
        return energy.first_variation(self.measure(at), self.theta, self.tau)

    def pairing(self, at=0.0, backend="cpu"):
        """<dE/drho, nu - rho> at a point of the segment."""
        return self.first_variation(at, backend) @ (self.nu - self.rho)


def segment(seed, atoms=6, samples=9, width=3, layers=4, activation="tanh", block="ridge", loss="squared", spread=0.6):
    """rho lives on the first half of the atoms, nu on the second; they overlap in one atom."""
    rng = np.random.default_rng(seed)
    outputs = 3 if loss == "cross_entropy" else 2
    y = (
        np.eye(outputs)[rng.integers(0, outputs, samples)]
        if loss == "cross_entropy"
        else rng.normal(size=(samples, outputs))
    )
    problem = wgflow.Problem(
        rng.normal(size=(samples, width)), y, block, activation, readout=rng.normal(size=(outputs, width)), loss=loss
    )
    theta = spread * rng.normal(size=(atoms, problem.shape[3]))
    half = atoms // 2
    rho = np.where(np.arange(atoms) <= half, rng.uniform(0.1, 1, atoms), 0.0)
    nu = np.where(np.arange(atoms) >= half, rng.uniform(0.1, 1, atoms), 0.0)
    tau = rng.uniform(size=atoms)
    return Segment(problem, {"name": "deposit", "layers": layers}, theta, tau, rho / rho.sum(), nu / nu.sum())


segments = st.builds(
    segment,
    seed=st.integers(0, 2**32),
    atoms=st.integers(2, 9),
    samples=st.integers(1, 12),
    width=st.integers(1, 4),
    layers=st.integers(1, 6),
    activation=st.sampled_from(SMOOTH),
    block=st.sampled_from(["ridge", "matrix", "two_layer"]),
    loss=st.sampled_from(["squared", "cross_entropy"]),
)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@given(case=segments)
def test_derivative_in_the_masses_is_the_pairing(defined_energy, backend, case):
    """(a) Complex step in the masses, exact to rounding, against <dE/drho, nu - rho>."""
    direction = case.nu - case.rho
    moved = case.rho + 1e-30j * direction
    derivative = defined_energy(case.problem, case.scheme, case.theta, case.tau, moved).imag / 1e-30
    first = case.first_variation(backend=backend)
    assert abs(derivative - first @ direction) <= 1e-12 * (np.abs(first) @ np.abs(direction))


@given(case=segments)
def test_remainder_is_of_second_order(case):
    """(b) |R(lambda)| <= C lambda**2 + 64 eps (1 + |E|), C half the largest second derivative along the segment.

    E'' by central differences of the exact first derivative on a fine grid, with a margin of a quarter for what lies
    between its points (and, for the activations whose second derivative jumps, for the jump).
    """
    grid = np.linspace(0, 1 / 8, 33)
    slopes = np.array([case.pairing(at) for at in grid])
    curvature = np.abs(np.diff(slopes) / np.diff(grid)).max()
    energy, pairing = case.energy(), slopes[0]
    for power in range(3, 9):
        at = 2.0**-power
        remainder = abs(case.energy(at) - energy - at * pairing)
        assert remainder <= 0.5 * 1.25 * curvature * at**2 + 64 * EPS * (1 + abs(energy))


FIXED = [(4, "tanh", "ridge", "squared"), (2, "gelu", "two_layer", "squared"), (3, "sin", "matrix", "cross_entropy")]


@pytest.mark.parametrize(("seed", "activation", "block", "loss"), FIXED)
def test_slope_of_the_remainder_is_two(seed, activation, block, loss):
    """(c) On cases whose curvature is known not to vanish."""
    case = segment(seed, activation=activation, block=block, loss=loss)
    assert abs(case.pairing(1e-3) - case.pairing(0.0)) / 1e-3 > 0.05
    powers = np.arange(5, 13)
    remainders = [abs(case.energy(2.0**-k) - case.energy() - 2.0**-k * case.pairing()) for k in powers]
    slope = np.polyfit(-powers * np.log(2), np.log(remainders), 1)[0]
    assert slope == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize(("seed", "activation", "block", "loss"), FIXED)
def test_a_wrong_adjoint_fails_the_theorem(monkeypatch, seed, activation, block, loss):
    """(d) Negative control: with an adjoint that forgets the blocks' Jacobians, |R|/lambda does not go to 0."""
    case = segment(seed, activation=activation, block=block, loss=loss)
    right = [abs(case.energy(at) - case.energy() - at * case.pairing()) / at for at in (1e-3, 1e-5)]
    kind = type(case.problem.block)
    backward = kind.backward
    monkeypatch.setattr(kind, "backward", lambda self, x, t, p, s: (0.0 * p, backward(self, x, t, p, s)[1]))
    pairing = case.pairing(backend="reference")
    wrong = [abs(case.energy(at) - case.energy() - at * pairing) / at for at in (1e-3, 1e-5)]
    assert right[1] < right[0] / 50
    assert wrong[1] > 0.5 * wrong[0] > 100 * right[1]


def order_of(errors, layers):
    return -np.polyfit(np.log(layers), np.log(errors), 1)[0]


LAYERS = np.array([64, 128, 256, 512, 1024])
POINTS = np.linspace(0.01, 0.99, 301)


@pytest.mark.parametrize("name", ["deposit", "layers"])
def test_first_variation_converges_to_the_closed_form_continuum(name):
    """(e) Linear blocks, where the continuum is a matrix exponential: order 1/L, at any t."""
    continuum = exact_problems.linear_continuum(seed=4)
    theta = np.tile(np.random.default_rng(0).normal(size=(1, continuum.theta.shape[1])), (len(POINTS), 1))
    inside = (POINTS > 0.1) & (POINTS < 0.9)  # dS/dt is 0 at the ends, by the scheme's definition
    expected = continuum.first_variation(theta, POINTS)
    errors, energies, slopes = [], [], []
    for layers in LAYERS:
        energy = wgflow.Energy(continuum.problem, {"name": name, "layers": int(layers)})
        rho = wgflow.Particles(*continuum.particles(int(layers)))
        value, _, by_t = energy.first_variation_gradient(rho, theta, POINTS)
        errors.append(np.abs(value - expected).max())
        energies.append(abs(energy(rho) - continuum.energy))
        slopes.append(np.abs(by_t - continuum.depth_derivative(theta, POINTS))[inside].max())
    assert order_of(errors, LAYERS) == pytest.approx(1.0, abs=0.1)
    assert order_of(energies, LAYERS) == pytest.approx(1.0, abs=0.1)
    assert errors[-1] < 0.02 * np.abs(expected).max()
    if name == "deposit":  # the velocity in depth converges too; under Layers there is none
        assert order_of(slopes, LAYERS) == pytest.approx(1.0, abs=0.15)


def continuous(problem, theta, mass, points, t):
    """dE/drho by solving the ODEs of state and adjoint for sum_i m_i delta_theta_i x Lebesgue."""
    x0, (samples, width) = problem.start(), problem.start().shape

    def field(x):
        return sum(m * problem.block.forward(x, row, problem.activation) for m, row in zip(mass, theta, strict=True))

    def pull(x, p):
        return sum(
            m * problem.block.backward(x, row, p, problem.activation)[0] for m, row in zip(mass, theta, strict=True)
        )

    shape, tight = (samples, width), {"rtol": 1e-11, "atol": 1e-12, "dense_output": True}
    forward = solve_ivp(lambda _, x: field(x.reshape(shape)).ravel(), (0, 1), x0.ravel(), **tight).sol
    end = problem.loss.gradient(forward(1.0).reshape(shape) @ problem.readout.T, problem.y) @ problem.readout
    back = solve_ivp(
        lambda at, p: -pull(forward(at).reshape(shape), p.reshape(shape)).ravel(), (1, 0), end.ravel(), **tight
    ).sol
    return np.array(
        [
            np.sum(problem.block.forward(forward(at).reshape(shape), row, problem.activation) * back(at).reshape(shape))
            / samples
            for row, at in zip(points, t, strict=True)
        ]
    )


def test_continuous_adjoint_agrees_with_the_closed_form():
    continuum = exact_problems.linear_continuum(seed=4)
    theta = np.random.default_rng(0).normal(size=(7, continuum.theta.shape[1]))
    found = continuous(continuum.problem, continuum.theta, continuum.mass, theta, POINTS[::43])
    np.testing.assert_allclose(found, continuum.first_variation(theta, POINTS[::43]), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["deposit", "layers"])
def test_first_variation_converges_to_the_continuous_adjoint(name, case):
    """(e) The same with tanh, the continuum by a continuous-adjoint solve."""
    problem, rho = case(particles=3, outputs=2)
    points, t = np.tile(np.random.default_rng(1).normal(size=(1, problem.shape[3])), (len(POINTS), 1)), POINTS
    expected = continuous(problem, rho.theta, np.full(3, 1 / 3), points, t)
    errors = []
    for layers in LAYERS:
        tau = np.repeat((np.arange(layers) + 0.5) / layers, 3)
        measure = wgflow.Particles(np.tile(rho.theta, (layers, 1)), tau)
        energy = wgflow.Energy(problem, {"name": name, "layers": int(layers)})
        errors.append(np.abs(energy.first_variation(measure, points, t) - expected).max())
    assert order_of(errors, LAYERS) == pytest.approx(1.0, abs=0.1)
