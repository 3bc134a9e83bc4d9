"""The pass for wide layers and few samples against the NumPy definition, and its choice."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import wgflow
from wgflow.kernels.cpu import wide
from wgflow.kernels.reference import Reference
from wgflow.model.activations import ACTIVATIONS
from wgflow.model.depth import Network

BLOCKS = ["ridge", {"name": "ridge", "bias": False}, {"name": "two_layer", "hidden": 3}]


def draw(seed, layers, samples, width, outputs, activation="tanh", block="ridge", loss="squared"):
    """A random problem, a network with layers of these sizes, some units twice and some not at all, and parameters."""
    rng = np.random.default_rng(seed)
    y = (
        rng.dirichlet(np.ones(max(outputs, 2)), samples)
        if loss == "cross_entropy"
        else rng.normal(size=(samples, outputs))
    )
    readout = rng.normal(size=(y.shape[1], width))
    problem = wgflow.Problem(rng.normal(size=(samples, width)), y, block, activation, readout=readout, loss=loss)
    first = np.concatenate([[0], np.cumsum(layers)])
    theta = 0.4 * rng.normal(size=(first[-1], problem.shape[3]))
    particle = rng.integers(0, len(theta), len(theta)) if seed % 2 else np.arange(len(theta))
    weight = rng.uniform(0.1, 2.0, len(theta)) if seed % 3 else np.ones(len(theta))
    return problem, Network(first, particle, weight / max(first[-1], 1)), theta


def close(a, b, tolerance):
    scale = np.abs(b).max(initial=0.0) or 1.0
    np.testing.assert_allclose(np.asarray(a) / scale, np.asarray(b) / scale, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("block", BLOCKS, ids=str)
@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    layers=st.lists(st.integers(0, 150), min_size=1, max_size=4).filter(any),
    samples=st.integers(1, 90),
    width=st.integers(1, 20),
    outputs=st.integers(1, 9),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    loss=st.sampled_from(["squared", "cross_entropy"]),
)
@example(seed=0, layers=[130, 130], samples=10, width=10, outputs=10, activation="tanh", loss="squared")
@example(seed=1, layers=[300], samples=1, width=1, outputs=1, activation="gelu", loss="squared")
@example(seed=0, layers=[64], samples=70, width=33, outputs=2, activation="relu", loss="cross_entropy")
def test_equals_the_definition(block, dtype, seed, layers, samples, width, outputs, activation, loss):
    problem, net, theta = draw(seed, layers, samples, width, outputs, activation, block, loss)
    kernel = wgflow.Energy(problem, dtype=dtype).kernel
    kernel._is_wide = lambda net, samples: True
    energy, first, slope = kernel.gradient(net, theta)
    exact = Reference(problem, 1)
    exact_energy, exact_first, exact_slope = exact.gradient(net, theta)
    tolerance = 1e-12 if dtype == "float64" else 2e-4
    close(energy, exact_energy, tolerance)
    close(kernel.energy(net, theta), exact_energy, tolerance)
    close(kernel.outputs(net, theta, problem.start()), exact.outputs(net, theta, problem.start()), tolerance)
    if activation not in ("relu", "squared_relu") or dtype == "float64":  # a kink may lie within rounding
        close(first, exact_first, tolerance)
        close(slope, exact_slope, tolerance)


def test_equal_bits_for_any_number_of_threads_and_with_or_without_a_tape(monkeypatch):
    problem, net, theta = draw(0, [4000, 3000], 40, 5, 2)
    one = wgflow.Energy(problem, threads=1).kernel.gradient(net, theta)
    for threads in (2, 3, 5, 16):
        for _ in range(3):
            other = wgflow.Energy(problem, threads=threads).kernel.gradient(net, theta)
            assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    monkeypatch.setattr(wide, "_TAPE", 2**60)
    kept = wgflow.Energy(problem).kernel.gradient(net, theta)
    assert all(np.array_equal(a, b) for a, b in zip(one, kept, strict=True))


def test_several_evaluations_at_once():
    """Threads of two evaluations, which share the helper threads, do not wait for one another."""
    from concurrent.futures import ThreadPoolExecutor

    problem, net, theta = draw(0, [2000] * 5, 20, 5, 2)
    kernel = wgflow.Energy(problem, threads=4).kernel
    alone = kernel.gradient(net, theta)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: kernel.gradient(net, theta), range(40)):
            assert all(np.array_equal(a, b) for a, b in zip(alone, result, strict=True))


def test_a_move_is_the_gradient_times_a_factor():
    problem, net, theta = draw(0, [100, 80], 10, 4, 2)
    kernel = wgflow.Energy(problem).kernel
    energy, _, slope = kernel.gradient(net, theta)
    factor, moved = np.linspace(-1.0, 1.0, theta.shape[1]), theta.copy()
    (before,), (squares,) = kernel.mover(net, moved, factor)()
    assert before == energy
    close(moved, theta + factor * slope, 1e-15)
    close(squares, (slope**2).sum(axis=0), 1e-14)


def test_several_moves_in_one_call_are_those_of_single_ones():
    problem, net, theta = draw(0, [30, 20], 10, 4, 2)
    kernel, factor = wgflow.Energy(problem, threads=1).kernel, np.linspace(-0.1, 0.1, theta.shape[1])
    together, one_by_one = theta.copy(), theta.copy()
    energies, squares = kernel.mover(net, together, factor)(5)
    single = kernel.mover(net, one_by_one, factor)
    for k in range(5):
        (energy,), (row,) = single()
        assert energy == energies[k]
        np.testing.assert_array_equal(row, squares[k])
    np.testing.assert_array_equal(together, one_by_one)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"samples": 3000}, "many samples"),
        ({"layers": [1] * 50}, "narrow layers"),
        ({"block": "two_layer"}, "units that are not plain parameters"),
        ({"seed": 1}, "units in another order"),
    ],
)
def test_no_move_where_no_pass_does_it_at_once(change, why):
    options = {"seed": 0, "layers": [100, 80], "samples": 10, "width": 4, "outputs": 2} | change
    problem, net, theta = draw(**options)
    assert wgflow.Energy(problem).kernel.mover(net, theta.copy(), np.ones(theta.shape[1])) is None, why
