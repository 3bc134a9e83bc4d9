import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError
from wgflow.model import blocks
from wgflow.model.activations import ACTIVATIONS


@pytest.mark.parametrize("bias", [True, False])
def test_backward_is_the_transpose_of_the_derivative(rng, activation, bias):
    block, sigma = blocks.Ridge(bias), ACTIVATIONS[activation]
    x, theta = rng.normal(size=(6, 3)), rng.normal(size=blocks.width(block, 3))
    p, e = rng.normal(size=(6, 3)), 1e-30j
    dx, dtheta = block.backward(x, theta, p, sigma)
    for j in range(3):
        moved = block.forward(x + e * np.eye(3)[j], theta, sigma)
        np.testing.assert_allclose(dx[:, j], (moved * p).sum(axis=1).imag / 1e-30, rtol=1e-12, atol=1e-13)
    for j in range(theta.size):
        moved = block.forward(x, theta + e * np.eye(theta.size)[j], sigma)
        np.testing.assert_allclose(dtheta[j], (moved * p).sum().imag / 1e-30, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["linear", "relu", "squared_relu"])
def test_degree(rng, name):
    block, sigma = blocks.Ridge(), ACTIVATIONS[name]
    x, theta = rng.normal(size=(6, 3)), rng.normal(size=7)
    degree = block.degree(sigma)
    np.testing.assert_allclose(
        block.forward(x, 1.7 * theta, sigma), 1.7**degree * block.forward(x, theta, sigma), rtol=1e-13
    )


def test_groups_cover_the_columns():
    for block in (blocks.Ridge(True), blocks.Ridge(False)):
        stops = [group.stop for group in block.groups(4).values()]
        starts = [group.start for group in block.groups(4).values()]
        assert starts == [0, *stops[:-1]]
        assert blocks.width(block, 4) == stops[-1]


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("rigde", "did you mean 'ridge'"),
        ({"name": "ridge", "bais": True}, "did you mean 'bias'"),
        ({"name": "ridge", "bias": 1}, "expected true or false, got 1 [(]int[)]"),
    ],
)
def test_bad_choice(choice, words):
    with pytest.raises(InputError, match=words):
        blocks.block(choice)


OWN_DERIVATIVES = [
    {"name": "scaled_matrix"},
    {"name": "scaled_matrix", "bias": False},
    {"name": "saturated_matrix"},
    {"name": "saturated_matrix", "bound": 0.7, "bias": False},
    {"name": "gaussian_matrix", "radius": 2.0},
    {"name": "gaussian_matrix", "bias": False},
    {"name": "gaussian_matrix", "signed": False},
]


@pytest.mark.parametrize("spec", OWN_DERIVATIVES, ids=str)
def test_blocks_have_the_derivatives_of_a_complex_step(rng, spec, activation):
    block, sigma = blocks.block(spec), ACTIVATIONS[activation]
    x, theta = rng.normal(size=(6, 3)), rng.normal(size=blocks.width(block, 3))
    p, e = rng.normal(size=(6, 3)), 1e-30j
    dx, dtheta = block.backward(x, theta, p, sigma)
    for j in range(3):
        moved = block.forward(x + e * np.eye(3)[j], theta, sigma)
        np.testing.assert_allclose(dx[:, j], (moved * p).sum(axis=1).imag / 1e-30, rtol=1e-11, atol=1e-13)
    for j in range(theta.size):
        moved = block.forward(x, theta + e * np.eye(theta.size)[j], sigma)
        np.testing.assert_allclose(dtheta[j], (moved * p).sum().imag / 1e-30, rtol=1e-11, atol=1e-13)
    assert blocks.block(block.spec()) == block


def test_blocks_of_remarks_h1_and_h2_by_hand():
    x, sigma = np.array([[1.0, -2.0]]), ACTIVATIONS["squared_relu"]
    theta = np.array([1.0, 2.0, 3.0, -1.0, 4.0, 0.5, 0.0, 1.0, 1.0, 0.0, 3.0, 0.0])
    first = np.array([1.0 - 4.0 + 4.0, 3.0 + 2.0 + 0.5]) ** 2  # both positive
    second = np.array([-2.0 + 3.0, 1.0]) ** 2
    found = blocks.GaussianMatrix(radius=2.0).forward(x, theta, sigma)
    np.testing.assert_allclose(found, [(first - second) * np.exp(-5 / 4)], rtol=1e-14)
    as_printed = blocks.GaussianMatrix(signed=False).forward(x, theta[:6], sigma)
    np.testing.assert_allclose(as_printed, [first * np.exp(-5)], rtol=1e-14)
    theta = np.array([-2.0, 3.0, 0.0, 0.0, 0.0, 4.0, 0.0])
    found = blocks.SaturatedMatrix(bound=5.0).forward(x, theta, ACTIVATIONS["tanh"])
    np.testing.assert_allclose(found, [-2 * np.tanh([7 / np.sqrt(2), 0.0])], rtol=1e-14)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"name": "saturated_matrix", "bound": 0.0}, "bound of the saturated_matrix block: .*> 0"),
        ({"name": "gaussian_matrix", "radius": -1.0}, "radius of the gaussian_matrix block: .*> 0"),
        ({"name": "gaussian_matrix", "signed": 1}, "signed of the gaussian_matrix block: expected true or false"),
    ],
)
def test_bad_options_of_blocks_of_remarks_h1_and_h2(choice, words):
    with pytest.raises(InputError, match=words):
        blocks.block(choice)


def test_scaled_matrix_by_hand_and_as_a_limit_of_saturated_weights(rng):
    x, theta = np.array([[1.0, -2.0]]), np.array([-2.0, 1.0, 0.5, 0.0, 1.0, 3.0, 0.0])
    block, sigma = blocks.block("scaled_matrix"), ACTIVATIONS["tanh"]
    np.testing.assert_allclose(block.forward(x, theta, sigma), [-2 * np.tanh([3.0, -2.0])], rtol=1e-15)
    p = rng.normal(size=x.shape)
    saturated = blocks.SaturatedMatrix(bound=1e9)
    for found, limit in zip(block.backward(x, theta, p, sigma), saturated.backward(x, theta, p, sigma), strict=True):
        np.testing.assert_allclose(found, limit, rtol=1e-14)


@pytest.mark.parametrize("name", ["saturated_matrix", "gaussian_matrix", "scaled_matrix"])
def test_blocks_of_theorems_6_1_and_6_2_in_a_network(rng, name):
    """A flow of each goes down on the backend by default, and its gradient is that of finite differences."""
    x = rng.normal(size=(8, 2))
    problem = wgflow.Problem(x, x[:, :1], block=name, activation="tanh")
    energy, rho = wgflow.Energy(problem), wgflow.Particles.draw(problem, 6, seed=1)
    blocks.check_block(problem.block)
    gradient, move = energy.velocity(rho).theta, rng.normal(size=rho.theta.shape)
    h = 1e-6
    ends = [energy(rho.moved(rho.theta + sign * h * move, rho.tau)) for sign in (1, -1)]
    assert -(gradient * move).sum() / 6 == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6)
