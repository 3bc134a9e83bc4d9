"""Blocks, activations and losses of one's own, without touching the package."""

import numpy as np
import pytest

import wgflow
from wgflow.base.errors import DivergenceError, InputError
from wgflow.model.activations import Activation
from wgflow.model.blocks import Ridge


class Scaled:
    """f(x, theta) = theta_1 sigma(theta_2 x), entry by entry: two parameters."""

    name = "scaled"

    def groups(self, width):
        return {"outer": slice(0, 1), "inner": slice(1, 2)}

    def forward(self, x, theta, activation):
        return theta[0] * activation.value(theta[1] * x)

    def backward(self, x, theta, p, activation):
        inner = p * theta[0] * activation.slope(theta[1] * x)
        return inner * theta[1], np.array([np.sum(p * activation.value(theta[1] * x)), np.sum(inner * x)])

    def degree(self, activation):
        return None

    def spec(self):
        return {"name": self.name}


class Huber:
    name = "pseudo_huber"

    def value(self, output, y):
        return np.sum(np.sqrt(1 + (output - y) ** 2) - 1, axis=1)

    def gradient(self, output, y):
        return (output - y) / np.sqrt(1 + (output - y) ** 2)

    def check(self, y):
        pass


SOFTPLUS = Activation("softplus", lambda z: np.log(1 + np.exp(z)), lambda z: 1 / (1 + np.exp(-z)))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize(
    "options",
    [{"block": Scaled()}, {"activation": SOFTPLUS}, {"loss": Huber()}],
    ids=["block", "activation", "loss"],
)
def test_gradients_of_own_objects(rng, scheme, backend, options, by_complex_step):
    parts = {"activation": "tanh"} | options
    problem = wgflow.Problem(rng.normal(size=(9, 3)), rng.normal(size=9), **parts)
    theta = rng.normal(size=(6, problem.shape[3]))
    rho = wgflow.Particles(theta, (rng.permutation(6) + 0.5) / 6)
    velocity = wgflow.Energy(problem, scheme, backend).velocity(rho)
    expected = -by_complex_step(problem, scheme, rho, "theta") / rho.mass[:, None]
    np.testing.assert_allclose(velocity.theta, expected, rtol=1e-10, atol=1e-12)


def test_samples_run_in_blocks_with_the_same_bits_for_any_threads(rng, monkeypatch):
    problem = wgflow.Problem(rng.normal(size=(700, 3)), rng.normal(size=700), Scaled())
    rho = wgflow.Particles(rng.normal(size=(5, 2)), rng.uniform(size=5))
    one, two, three = (wgflow.Energy(problem, threads=threads).velocity(rho) for threads in (1, 2, 3))
    for other in (two, three):
        assert other.energy == one.energy
        assert np.array_equal(other.theta, one.theta)
    reference = wgflow.Energy(problem, backend="reference")
    np.testing.assert_allclose(one.theta, reference.velocity(rho).theta, rtol=1e-11, atol=1e-13)
    x = rng.normal(size=(600, 3))
    np.testing.assert_allclose(wgflow.Energy(problem).predict(rho, x), reference.predict(rho, x), rtol=1e-12)
    batch = [3, 400, 7]
    np.testing.assert_allclose(
        wgflow.Energy(problem).velocity(rho, batch).tau, reference.velocity(rho, batch).tau, rtol=1e-11, atol=1e-14
    )


def test_an_own_name_does_not_hide_a_builtin(rng):
    """An activation called tanh that is not tanh must not run as tanh."""
    fake = Activation("tanh", np.sin, np.cos)
    problem = wgflow.Problem(rng.normal(size=(9, 3)), rng.normal(size=9), activation=fake)
    rho = wgflow.Particles.draw(problem, 4)
    assert wgflow.Energy(problem)(rho) == pytest.approx(wgflow.Energy(problem, backend="reference")(rho), rel=1e-13)


def test_a_run_with_own_objects_is_stored_and_rebuilt(rng, tmp_path):
    from wgflow.trajectory import TrajectoryWriter

    problem = wgflow.Problem(rng.normal(size=(9, 3)), rng.normal(size=9), Scaled())
    energy, path = wgflow.Energy(problem), tmp_path / "own.h5"
    rho = wgflow.Particles(rng.normal(size=(4, 2)), rng.uniform(size=4))
    with TrajectoryWriter.create(path, energy, 4) as writer:
        for frame in wgflow.Flow(energy).run(rho, until=0.5):
            writer.append(frame)
        writer.finish()
    with wgflow.Trajectory(path) as trajectory:
        with pytest.raises(InputError, match="unknown block 'scaled'"):
            trajectory.energy()
        again, last = trajectory.energy(own={"block": Scaled()}), trajectory[-1]
    assert again(wgflow.Particles(last.theta, last.tau)) == last.energy


class Forgetful(Scaled):
    def backward(self, x, theta, p, activation):
        dx, dtheta = super().backward(x, theta, p, activation)
        return dx, dtheta * np.array([1.0, 0.5])


class Blind(Scaled):
    def backward(self, x, theta, p, activation):
        return np.zeros_like(x), super().backward(x, theta, p, activation)[1]


class Broken(Scaled):
    def forward(self, x, theta, activation):
        return np.where(x > 0, np.nan, super().forward(x, theta, activation))


class Flat(Scaled):
    def forward(self, x, theta, activation):
        return super().forward(x, theta, activation)[:, 0]


class Gappy(Scaled):
    def groups(self, width):
        return {"outer": slice(0, 1), "inner": slice(2, 3)}


def test_check_block_passes_right_blocks(block):
    from wgflow.model import blocks

    for right in (Scaled(), Ridge(), blocks.block(block)):
        wgflow.check_block(right)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Forgetful(), r"backward does not belong to forward: the gradient in theta at \(1,\)"),
        (Blind(), "backward does not belong to forward: the gradient in x"),
        (Broken(), "expected forward to be finite, got nan"),
        (Flat(), r"expected forward to have shape \(6, 3\), got \(6,\)"),
        (Gappy(), "expected group 'inner' to start at column 1"),
    ],
)
def test_check_block_finds_wrong_ones(wrong, words):
    with pytest.raises(InputError, match=words):
        wgflow.check_block(wrong)
    with pytest.raises(InputError, match=words.replace("6", "16")):
        wgflow.Problem(np.arange(24.0).reshape(8, 3), np.zeros(8), wrong)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_nan_from_an_own_block_is_said(rng, backend):
    class Limited(Scaled):
        """Fine for parameters of order one, on which a problem tries it."""

        def forward(self, x, theta, activation):
            return super().forward(x, theta, activation) + (np.nan if theta[0] > 10 else 0.0)

    problem = wgflow.Problem(rng.normal(size=(9, 3)), rng.normal(size=9), Limited())
    flow = wgflow.Flow(wgflow.Energy(problem, backend=backend))
    rho = wgflow.Particles(np.full((4, 2), 11.0), rng.uniform(size=4))
    with pytest.raises(DivergenceError, match=r"not finite at the start .* wgflow\.check_block"):
        next(flow.run(rho, until=1.0))
