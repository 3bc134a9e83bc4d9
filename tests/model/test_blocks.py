import numpy as np
import pytest

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
