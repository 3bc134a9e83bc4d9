"""The compiled kernels against the NumPy definition, over shapes, activations and schemes."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import wgflow
from wgflow.base.errors import BackendError, InputError
from wgflow.kernels.codes import ACTIVATION_CODES
from wgflow.kernels.select import select
from wgflow.model.activations import ACTIVATIONS


def draw(seed, particles, samples, width, outputs=1, activation="tanh", block="ridge", loss="squared", depth="gaps"):
    """A random problem, measure and generator; under Layers evenly spread in depth."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(samples, outputs))
    if loss == "cross_entropy":
        y = rng.dirichlet(np.ones(max(outputs, 2)), samples)
    readout = rng.normal(size=(y.shape[1], width))
    problem = wgflow.Problem(rng.normal(size=(samples, width)), y, block, activation, readout=readout, loss=loss)
    # Small enough for states of order one.
    theta = 0.4 * rng.normal(size=(particles, problem.shape[3]))
    if depth == "layers":
        return problem, wgflow.Particles(theta, (np.arange(particles) + 0.5) / particles), rng
    mass = rng.uniform(0.1, 2.0, particles) / particles
    return problem, wgflow.Particles(theta, rng.uniform(size=particles), mass), rng


SHAPES = {
    "seed": st.integers(0, 2**32),
    "particles": st.integers(1, 40),
    "samples": st.integers(1, 300),
    "width": st.integers(1, 9),
    "outputs": st.integers(1, 3),
    "activation": st.sampled_from(sorted(ACTIVATIONS)),
}
BLOCKS = [
    "ridge", "matrix", "two_layer", "scaled_matrix", {"name": "ridge", "bias": False},
    {"name": "two_layer", "hidden": 1}, {"name": "scaled_matrix", "bias": False},
]  # fmt: skip


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
@pytest.mark.parametrize("block", BLOCKS, ids=str)
@pytest.mark.parametrize("depth", ["gaps", "layers", "deposit", "deposit hat", "shallow"])
@settings(max_examples=12)
@given(**SHAPES, layers=st.integers(1, 7))
@example(seed=0, particles=1, samples=1, width=1, outputs=1, activation="tanh", layers=1)
@example(seed=0, particles=40, samples=257, width=5, outputs=2, activation="sin", layers=3)
def test_reference_equals_cpu(depth, block, loss, layers, **shapes):
    problem, rho, rng = draw(**shapes, block=block, loss=loss, depth=depth)
    samples, width = problem.shape[:2]
    if depth == "layers":  # equally many in each: the largest divisor of N up to the number drawn
        layers = next(k for k in range(min(layers, len(rho)), 0, -1) if len(rho) % k == 0)
    spec = {"name": depth.split()[0], "layers": layers} if depth not in ("gaps", "shallow") else depth
    if depth == "deposit hat":
        spec["shape"] = "hat"
    slow, fast = (wgflow.Energy(problem, spec, backend) for backend in ("reference", "cpu"))
    a, b = slow.velocity(rho), fast.velocity(rho)
    points, t = 0.4 * rng.normal(size=(11, rho.theta.shape[1])), rng.uniform(size=11)
    x, batch = rng.normal(size=(5, width)), rng.integers(0, samples, 4)
    for left, right in (
        (a.theta, b.theta),
        (a.tau, b.tau),
        (a.energy, b.energy),
        (a.energy, fast(rho)),
        (slow.first_variation(rho, points, t), fast.first_variation(rho, points, t)),
        (slow.predict(rho, x), fast.predict(rho, x)),
        (slow.velocity(rho, batch).theta, fast.velocity(rho, batch).theta),
    ):
        np.testing.assert_allclose(right, left, rtol=0, atol=1e-12 * (1 + np.abs(left).max()))


@given(st.floats(-50, 50) | st.floats(-1e-3, 1e-3) | st.floats(allow_nan=True, allow_infinity=True))
@example(0.0)
@example(5e-324)
@example(float("inf"))
def test_tanh_is_within_two_units_in_the_last_place(x):
    from wgflow.kernels.cpu.elementary import tanh64

    ours, theirs = tanh64(x), np.tanh(x)
    assert (np.isnan(ours) and np.isnan(theirs)) or abs(ours - theirs) <= 2 * np.spacing(abs(theirs))


def test_every_activation_has_a_code():
    assert set(ACTIVATION_CODES) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_nan_is_not_smoothed_over(name):
    problem, rho, _ = draw(0, 3, 20, 2, 1, name)
    theta = rho.theta.copy()
    theta[1, 4] = np.nan  # a bias
    for backend in ("reference", "cpu"):
        energy, first, _ = select(backend, problem).gradient(wgflow.Gaps().network(rho), theta)
        assert np.isnan(energy)
        assert np.isnan(first).any()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"backend": "cuda"}, InputError, "unknown backend 'cuda'"),
        ({"threads": 0}, InputError, "threads: expected a whole number >= 1, got 0"),
        ({"dtype": "float16"}, InputError, "unknown dtype 'float16'"),
        ({"dtype": "float32", "backend": "reference"}, BackendError, "computes in NumPy, in float64 alone"),
    ],
)
def test_bad_backends(case, options, error, words):
    problem, _ = case()
    with pytest.raises(error, match=words):
        wgflow.Energy(problem, **options)
