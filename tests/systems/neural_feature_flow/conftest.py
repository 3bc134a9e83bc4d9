"""Networks for the tests of features, and the paper's formulas once more, written as sums over units."""

from types import SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from wgflow.systems.neural_feature_flow.network import Network
from wgflow.systems.neural_feature_flow.state import Weights

STEP = 1e-30  # imaginary part of a complex step; its square is nothing


def make_network(rng, points=4, inputs=2, layers=3, **options):
    """A network on random data."""
    options = {"backend": "reference"} | options
    return Network(rng.normal(size=(points, inputs)), rng.normal(size=points), layers, **options)


def make_weights(rng, network, units=5, scale=1.0):
    """Random dense weights."""
    middle = tuple(scale * rng.normal(size=(units, units)) for _ in range(network.layers - 1))
    return Weights(rng.normal(size=(network.inputs, units)), middle, rng.normal(size=units))


def sums(network, weights):
    """Equations (2) to (4), unit by unit: alpha (layers, units, N), beta one layer longer, output (N,)."""
    m, d = len(weights.outer), network.inputs
    beta = [[sum(weights.inner[i, j] * network.x[:, i] for i in range(d)) / d for j in range(m)]]
    alpha = []
    for v in weights.middle:
        h = [network.h1.value(each) for each in beta[-1]]
        alpha.append([sum(v[i, j] * h[i] for i in range(m)) / m for j in range(m)])
        skip = network.kind == "resnet"
        beta.append([network.h2.value(a) + b if skip else a for a, b in zip(alpha[-1], beta[-1], strict=True)])
    output = sum(weights.outer[i] * network.h1.value(beta[-1][i]) for i in range(m)) / m
    return np.array(alpha), np.array(beta), output


def leaves(weights):
    """The arrays of dense weights, v_1 first."""
    return [weights.inner, *weights.middle, weights.outer]


def rebuilt(arrays):
    """Weights from such a list."""
    return Weights(arrays[0], tuple(arrays[1:-1]), arrays[-1])


def scaled_gradient(network, weights):
    """m_(l-1) m_l dL/dv_l for every weight, by complex steps of the sums over units."""
    m = len(weights.outer)
    out = []
    for k, leaf in enumerate(leaves(weights)):
        gradient = np.empty(leaf.shape)
        for where in np.ndindex(leaf.shape):
            moved = [each.astype(complex) for each in leaves(weights)]
            moved[k][where] += STEP * 1j
            output = sums(network, rebuilt(moved))[2]
            gradient[where] = network.loss.value(output[:, None], network.y[:, None]).mean().imag / STEP
        out.append(gradient * (network.inputs * m if k == 0 else m * m if leaf.ndim == 2 else m))
    return out


def along(network, weights, direction):
    """Directional derivative of alpha and beta along a change of the weights, by a complex step of the sums."""
    moved = [a + STEP * 1j * b for a, b in zip(leaves(weights), direction, strict=True)]
    alpha, beta, _ = sums(network, rebuilt(moved))
    return alpha.imag / STEP, beta.imag / STEP


@pytest.fixture(scope="package", autouse=True)
def one_blas_thread():
    """Products here are small: a second thread of BLAS only waits, on a busy machine for seconds."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def twin():
    """Everything above."""
    names = (make_network, make_weights, sums, leaves, rebuilt, scaled_gradient, along)
    return SimpleNamespace(**{each.__name__: each for each in names})


@pytest.fixture(params=["resnet", "dnn"])
def kind(request):
    return request.param
