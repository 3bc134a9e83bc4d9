"""Losses of one output with bounded, Lipschitz derivatives, for feature networks and residual ones."""

import numpy as np
import pytest
from scipy.special import expit, huber

import wgflow
from wgflow.base.errors import InputError
from wgflow.model.losses import LOSSES
from wgflow.systems.neural_feature_flow.initial import minimum_norm
from wgflow.systems.neural_feature_flow.network import Network

STEP = 1e-30
FAR = np.array([-800.0, -40.0, -2.0, -1.0, -0.5, 0.0, 0.3, 1.0, 1.7, 45.0, 800.0])[:, None]


def targets(loss, count):
    return np.sign(np.sin(1.0 + np.arange(count)))[:, None] if loss == "logistic" else np.zeros((count, 1))


@pytest.mark.parametrize("loss", ["huber", "logistic"])
def test_gradient_is_the_derivative_near_and_far(loss):
    y, chosen = targets(loss, len(FAR)), LOSSES[loss]
    by_step = chosen.value(FAR + STEP * 1j, y).imag / STEP
    found = chosen.gradient(FAR, y)
    assert np.allclose(found[:, 0], by_step, rtol=1e-13, atol=0)
    assert chosen.value(FAR, y).dtype == found.dtype == float


def test_values_are_scipy_s():
    y = targets("logistic", len(FAR))
    assert np.allclose(LOSSES["huber"].value(FAR, 0 * y), huber(1.0, FAR)[:, 0], rtol=1e-15)
    assert np.allclose(LOSSES["logistic"].value(FAR, y), np.logaddexp(0, -y * FAR)[:, 0], rtol=1e-14, atol=0)
    assert np.allclose(LOSSES["logistic"].gradient(FAR, y), -y * expit(-y * FAR), rtol=1e-14, atol=0)


def test_labels_are_plus_or_minus_one():
    with pytest.raises(InputError, match=r"y: expected -1 or 1 for the logistic loss, got 1 others such as 0\.5"):
        Network([[1.0], [2.0]], [1.0, 0.5], loss="logistic")


@pytest.mark.parametrize("loss", ["huber", "logistic"])
def test_feature_networks_descend(loss, rng):
    x = rng.normal(size=(5, 3))
    y = targets(loss, 5)[:, 0] if loss == "logistic" else 3 * rng.normal(size=5)
    network = Network(x, y, 3, loss=loss, backend="reference")
    weights = minimum_norm(network, 6, seed=1).weights
    drift = network.gradient(weights).weights
    moved = weights._replace(outer=weights.outer + STEP * 1j * drift.outer)
    by_step = network.value(moved).imag / STEP
    assert by_step == pytest.approx(np.sum(drift.outer**2) / 6, rel=1e-12)  # G is m times the gradient


@pytest.mark.parametrize("loss", ["huber", "logistic"])
def test_residual_networks_compute_in_numpy(loss, rng):
    y = targets(loss, 7) if loss == "logistic" else 3 * rng.normal(size=(7, 1))
    problem = wgflow.Problem(rng.normal(size=(7, 3)), y, readout=rng.normal(size=(1, 3)), loss=loss)
    rho = wgflow.Particles(rng.normal(size=(5, problem.shape[3])), (np.arange(5) + 0.5) / 5)
    fast, slow = (wgflow.Energy(problem, "gaps", backend) for backend in ("cpu", "reference"))
    a, b = fast.velocity(rho), slow.velocity(rho)
    assert a.energy == pytest.approx(b.energy, rel=1e-13)
    assert np.allclose(a.theta, b.theta, atol=1e-13)
    output = fast.predict(rho, problem.x)
    value = huber(1.0, output - y) if loss == "huber" else np.logaddexp(0, -y * output)
    assert a.energy == pytest.approx(value.mean(), rel=1e-12)
