"""The CUDA kernels against the NumPy definition: on the host through the shim, and on a device where there is one."""

import importlib

import numpy as np
import pytest
from hostcuda import HostDevice, compiler, signatures
from hypothesis import example, given, settings
from hypothesis import strategies as st

import wgflow
from wgflow.base.errors import BackendError, InputError
from wgflow.kernels.codes import ACTIVATION_CODES, LOSS_CODES
from wgflow.kernels.gpu import device as devices
from wgflow.kernels.gpu.backend import Gpu
from wgflow.kernels.gpu.cuda import source
from wgflow.kernels.gpu.grouping import CLOSES, OPENS, TRIANGLE, group
from wgflow.kernels.gpu.unit_table import ONE, ZERO, unit_table
from wgflow.kernels.reference import Reference
from wgflow.model.activations import ACTIVATIONS
from wgflow.model.losses import LOSSES

pytestmark = pytest.mark.skipif(compiler() is None, reason="no g++ to compile the CUDA sources with")

TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
BLOCKS = ["ridge", "matrix", "two_layer", {"name": "ridge", "bias": False}, {"name": "two_layer", "hidden": 1}]
DEPTHS = ["gaps", "layers", "deposit", "hat", "shallow"]


def drawn(seed, depth, block, particles, samples, width, outputs=1, activation="tanh", loss="squared", layers=3):
    """A random problem, its network under a scheme and theta; some weights are 0, as queries have it."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(samples, outputs))
    if loss == "cross_entropy":
        y = rng.dirichlet(np.ones(max(outputs, 2)), samples)
    readout = rng.normal(size=(y.shape[1], width))
    problem = wgflow.Problem(rng.normal(size=(samples, width)), y, block, activation, readout=readout, loss=loss)
    theta = 0.4 * rng.normal(size=(particles, problem.shape[3]))
    if depth == "layers":
        layers = next(k for k in range(min(layers, particles), 0, -1) if particles % k == 0)
        rho = wgflow.Particles(theta, (rng.permutation(particles) + 0.5) / particles)
    else:
        rho = wgflow.Particles(theta, rng.uniform(size=particles), rng.uniform(0.1, 2.0, particles) / particles)
    spec = {"name": "deposit" if depth == "hat" else depth}
    if depth in ("layers", "deposit", "hat"):
        spec["layers"] = layers
    if depth == "hat":
        spec["shape"] = "hat"
    net = wgflow.Energy(problem, spec, "reference").depth.network(rho)
    weight = np.where(rng.uniform(size=len(net.weight)) < 0.05, 0.0, net.weight)
    return problem, net._replace(weight=weight), theta


def evaluations(kernel, problem, net, theta, rows=None):
    """Everything a kernel computes; the gradient is one thing, as a value alone is a sum that may cancel by chance."""
    energy, value, slope = kernel.gradient(net, theta, rows)
    gradient, outputs = np.append(value, slope), kernel.outputs(net, theta, problem.start())
    return energy, gradient, kernel.energy(net, theta, rows), outputs


def off(found, wanted):
    """Largest error of any of the results, relative to the largest number in it."""
    return max(np.abs(a - b).max() / (np.abs(b).max() or 1.0) for a, b in zip(found, wanted, strict=True))


def close(found, wanted, dtype, problem, net, theta, rows):
    """Whether results are within the tolerance, or what the problem does to rounding lets none be.

    Outputs are sums W1 X(1), the gradient starts from outputs less targets, and it is a mean over samples: where these
    cancel by chance, the tolerance is of what was added up. Beyond that, a network may magnify rounding; then what is
    exact in float64 of inputs as far off as float32's rounding has the same right to be the result.
    """
    if off(found, wanted) < TOLERANCE[dtype]:
        return True
    last = Reference(carried(problem, problem.x, np.eye(problem.shape[1]))).outputs(net, theta, problem.start())
    summed = (np.abs(last) @ np.abs(problem.readout).T)[slice(None) if rows is None else rows].max()
    y, o = (each if rows is None else each[rows] for each in (problem.y, wanted[-1]))
    condition = (summed + np.abs(y).max()) / np.abs(problem.loss.gradient(o, y)).max()
    tolerance = TOLERANCE[dtype] * max(1.0, condition, summed / np.abs(o).max())
    if off(found, wanted) < tolerance:
        return True
    each_row = np.arange(len(problem.x)) if rows is None else rows
    alone = [evaluations(Reference(problem), problem, net, theta, np.array([row])) for row in each_row]
    for place, result in enumerate(wanted):
        size = np.mean([np.abs(one[place]).max() for one in alone])
        tolerance = max(tolerance, TOLERANCE[dtype] * size / max(np.abs(result).max(), 1e-300))
    if off(found, wanted) < tolerance:
        return True
    rng = np.random.default_rng(0)
    unit = 2.0**-24 if dtype == "float32" else 2.0**-53

    def nearby(a):
        return a * (1.0 + unit * rng.uniform(-1, 1, a.shape))

    others = []
    for _ in range(4):
        other = carried(problem, nearby(problem.x), nearby(problem.readout))
        near = net._replace(weight=nearby(net.weight))
        others.append(off(evaluations(Reference(other), other, near, nearby(theta), rows), wanted))
    return off(found, wanted) < 5 * max(others)


def carried(problem, x, readout):
    """The problem with other inputs and readout; only its outputs matter if there is another number of them."""
    same = len(readout) == problem.y.shape[1]
    y, loss = (problem.y, problem.loss) if same else (np.zeros((len(x), len(readout))), "squared")
    return wgflow.Problem(x, y, problem.block, problem.activation, readout=readout, loss=loss)


CASES = {
    "seed": st.integers(0, 2**32),
    "depth": st.sampled_from(DEPTHS),
    "block": st.sampled_from(BLOCKS),
    "particles": st.integers(1, 70),
    "samples": st.integers(1, 150),
    "width": st.integers(1, 12),
    "outputs": st.integers(1, 5),
    "activation": st.sampled_from(sorted(ACTIVATIONS)),
    "loss": st.sampled_from(sorted(LOSS_CODES)),
    "layers": st.integers(1, 7),
}


SMALLEST = {
    **{"seed": 0, "depth": "gaps", "block": "ridge", "particles": 1, "samples": 1, "width": 1, "outputs": 1},
    **{"activation": "tanh", "loss": "squared", "layers": 1, "processors": 1, "layered": False, "batch": False},
}


@settings(max_examples=500)
@given(**CASES, processors=st.integers(1, 8), layered=st.booleans(), batch=st.booleans())
@example(**SMALLEST)
@example(**SMALLEST | {"particles": 70, "samples": 150, "width": 12, "processors": 2, "activation": "sin"})
@example(**SMALLEST | {"particles": 70, "samples": 150, "width": 12, "block": "two_layer", "depth": "deposit"})
@example(
    **SMALLEST | {"seed": 168989093, "samples": 54, "activation": "regularised_relu", "loss": "cross_entropy"}
)  # a gradient of 1e-6, the mean of numbers of order 0.1
def test_gpu_equals_the_definition(processors, layered, batch, **case):
    problem, net, theta = drawn(**case)
    rows = np.random.default_rng(case["seed"]).integers(0, case["samples"], 7) if batch else None
    wanted = evaluations(Reference(problem), problem, net, theta, rows)
    for dtype in TOLERANCE:
        gpu = Gpu(problem, dtype, HostDevice(processors=processors), layered)
        found = evaluations(gpu, problem, net, theta, rows)
        assert close(found, wanted, dtype, problem, net, theta, rows)


@settings(max_examples=40)
@given(**CASES, layered=st.booleans(), dtype=st.sampled_from(sorted(TOLERANCE)))
def test_order_and_number_of_threads_change_no_bit(layered, dtype, **case):
    problem, net, theta = drawn(**case)
    devices_ = HostDevice(), HostDevice(), HostDevice(reverse=True), HostDevice(threads_limit=32)
    first, *others = (evaluations(Gpu(problem, dtype, each, layered), problem, net, theta) for each in devices_)
    for other in others:
        assert all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("dtype", sorted(TOLERANCE))
@pytest.mark.parametrize("width", [3, 16, 64, 300])
def test_several_tiles_of_a_block_with_all_its_threads(width, dtype):
    """One multiprocessor, so that each block takes several tiles, in the sizes that large problems get."""
    problem, net, theta = drawn(0, "gaps", "ridge", 41, 300, width, 2)
    wanted = evaluations(Reference(problem), problem, net, theta)
    found = []
    for reverse in (False, True):
        gpu = Gpu(problem, dtype, HostDevice(processors=1, reverse=reverse))
        plan = gpu._persistent.plan(300, group(net.first, 1, 32))
        assert plan.blocks * plan.tile < 300
        assert plan.threads == (256 if plan.tile * width >= 4096 else 128)
        found.append(evaluations(gpu, problem, net, theta))
        assert off(found[-1], wanted) < TOLERANCE[dtype]
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("value[k] += triangle[(low + i) * group + low + k] * h;", "value[k] += REAL(0);"),
        ("send_rows(tape_state + (group.state * D << bits), x", "send_rows(tape_state, x"),
        ("const bool triangle = group[FLAG] & TRIANGLE;\n", "const bool triangle = false;\n"),
        ("double(samples);\n    }\n}\n\n// Sum over", "double(samples + 1);\n    }\n}\n\n// Sum over"),
    ],
)
def test_a_wrong_kernel_is_found(right, wrong):
    text = source()
    assert right in text
    problem, net, theta = drawn(0, "gaps", "ridge", 40, 60, 5)
    gpu = Gpu(problem, device=HostDevice(text=text.replace(right, wrong)))
    assert not off(gpu.gradient(net, theta), Reference(problem).gradient(net, theta)) < 1e-6


def test_launches_do_not_grow_with_depth():
    counts = []
    for particles in (8, 200):
        problem, net, theta = drawn(0, "gaps", "ridge", particles, 20, 3)
        device = HostDevice()
        Gpu(problem, device=device).gradient(net, theta)
        counts.append(sum(device.launched.values()))
    assert counts == [6, 6]


def test_memory_does_not_grow_with_samples():
    peaks = []
    for samples in (512, 2048):
        problem, net, theta = drawn(0, "gaps", "ridge", 300, samples, 3)
        device = HostDevice(processors=2)
        gpu = Gpu(problem, device=device)
        gpu.gradient(net, theta)
        peaks.append(device.peak - samples * 8 * (3 + 1 + 1 + 1))  # states, targets, outputs and losses of all samples
    assert peaks[1] <= peaks[0]


@pytest.mark.parametrize("dtype", sorted(TOLERANCE))
def test_layers_run_in_parts_where_memory_is_short(dtype):
    problem, net, theta = drawn(0, "layers", "two_layer", 60, 150, 6, 2, "gelu", layers=4)
    device = HostDevice(memory=400_000)
    gpu = Gpu(problem, dtype, device, layered=True)
    assert off(gpu.gradient(net, theta), Reference(problem).gradient(net, theta)) < TOLERANCE[dtype]
    assert device.launched["layer_start"] > 1


def test_states_too_wide_for_shared_memory_go_layer_by_layer():
    problem, net, theta = drawn(0, "gaps", "ridge", 5, 20, 40)
    device = HostDevice(shared=16 * 1024)
    gpu = Gpu(problem, device=device)
    assert off(gpu.gradient(net, theta), Reference(problem).gradient(net, theta)) < 1e-12
    assert device.launched["network_pass"] == 0 < device.launched["layer_pull_back"]


def test_wide_layers_go_one_by_one_by_themselves():
    problem, net, _ = drawn(0, "shallow", "ridge", 200, 4, 64)
    gpu = Gpu(problem, device=HostDevice())
    assert gpu.layered(net.first)
    assert not gpu.layered(np.arange(201))


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("layered", [False, True])
def test_nan_is_not_smoothed_over(name, layered):
    problem, net, theta = drawn(0, "gaps", "ridge", 3, 20, 2, 1, name)
    theta[1, 4] = np.nan  # a bias
    energy, value, _ = Gpu(problem, device=HostDevice(), layered=layered).gradient(net, theta)
    assert np.isnan(energy)
    assert np.isnan(value).any()


def test_first_variation_and_predictions_through_an_energy(monkeypatch):
    monkeypatch.setattr(devices, "current", HostDevice)
    problem, _, theta = drawn(3, "gaps", "ridge", 30, 40, 4)
    rng = np.random.default_rng(0)
    rho = wgflow.Particles(theta, rng.uniform(size=30))
    points, t = rng.normal(size=(9, theta.shape[1])), rng.uniform(size=9)
    fast, slow = (wgflow.Energy(problem, backend=name) for name in ("gpu", "reference"))
    assert fast.backend == "gpu"
    for a, b in zip(
        fast.first_variation_gradient(rho, points, t), slow.first_variation_gradient(rho, points, t), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)
    x = rng.normal(size=(5, 4))
    np.testing.assert_allclose(fast.predict(rho, x), slow.predict(rho, x), rtol=0, atol=1e-13)


@given(
    st.lists(st.integers(0, 45), min_size=1, max_size=12).filter(any), st.integers(1, 4), st.sampled_from([8, 16, 32])
)
def test_groups_cover_a_network_in_order(counts, units, size):
    first = np.concatenate([[0], np.cumsum(counts)])
    made = group(first, units, size)
    entry, count, slot, slots, state, flag = made.table.T
    np.testing.assert_array_equal(entry, np.concatenate([[0], np.cumsum(count)[:-1]]))
    assert count.sum() == first[-1] * units
    assert (count <= size).all()
    assert (slots >= count).all()
    assert (slots % 8 == 0).all()
    np.testing.assert_array_equal(slot, np.concatenate([[0], np.cumsum(slots)[:-1]]))
    for k in range(len(count)):
        layers = np.unique(np.repeat(made.layer, units)[entry[k] : entry[k] + count[k]])
        assert bool(flag[k] & TRIANGLE) == (len(layers) > 1)
        assert bool(flag[k] & OPENS) == (k == 0 or state[k] > state[k - 1])
        assert bool(flag[k] & CLOSES) == (k == len(count) - 1 or state[k] < state[k + 1])
        if flag[k] & TRIANGLE:
            assert flag[k] & OPENS
            assert flag[k] & CLOSES
    np.testing.assert_array_equal(made.of_unit, np.repeat(np.arange(len(count)), count))
    assert made.states == state[-1] + 1


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_table_follows_unfold_and_fold(block):
    block = wgflow.model.blocks.block(block)
    width, parameters = 3, wgflow.model.blocks.width(block, 3)
    table = unit_table(block, width, parameters)
    theta = np.random.default_rng(0).normal(size=(1, parameters))
    constants = {ZERO: 0.0, ONE: 1.0}
    rows = [[constants[p] if p < 0 else theta[0, p] for p in row] for row in table.source]
    np.testing.assert_array_equal(rows, block.unfold(theta, width))
    slope = np.random.default_rng(1).normal(size=(table.units, 2 * width + 1))
    np.testing.assert_array_equal(slope.ravel()[table.target], block.fold(slope, width)[0])


def test_a_block_that_computes_its_units_is_refused():
    class Doubled(wgflow.model.blocks.Ridge):
        def unfold(self, theta, width):
            return 2 * super().unfold(theta, width)

    with pytest.raises(BackendError, match="does not take each parameter once and as it is"):
        unit_table(Doubled(), 3, 7)


def test_codes_cover_the_registries():
    assert set(ACTIVATION_CODES) == set(ACTIVATIONS)
    assert set(LOSS_CODES) | {"huber", "logistic"} == set(LOSSES)  # those two compute in NumPy


def test_bad_networks_and_problems(case):
    problem, rho = case()
    net = wgflow.Gaps().network(rho)
    gpu = Gpu(problem, device=HostDevice())
    with pytest.raises(InputError, match=r"expected 6 entries of particles 0\.\.4"):
        gpu.gradient(net, rho.theta[:5])
    with pytest.raises(InputError, match=r"expected 6 entries .* of particles -1\.\.5"):
        gpu.gradient(net._replace(particle=np.where(net.particle == 0, -1, net.particle)), rho.theta)
    with pytest.raises(InputError, match=r"theta: expected shape \(N, 7\), got \(6, 6\)"):
        gpu.gradient(net, rho.theta[:, :6])
    for rows in ([-1], [7], []):
        with pytest.raises(InputError, match=r"batch: expected one row or more in 0\.\.6"):
            gpu.gradient(net, rho.theta, np.array(rows, int))
    with pytest.raises(InputError, match=r"start: expected states of shape \(M, 3\), got \(4, 5\)"):
        gpu.outputs(net, rho.theta, np.zeros((4, 5)))
    own = wgflow.Problem.padded(
        [[0.0], [1.0]], [0.0, 1.0], activation=wgflow.model.activations.Activation("mine", np.sin, np.cos)
    )
    with pytest.raises(BackendError, match=r"of your own, .* computes in NumPy; use --backend cpu"):
        Gpu(own, device=HostDevice())


def test_the_sanitizers_program_starts_every_kernel(monkeypatch):
    host = HostDevice()
    monkeypatch.setattr(devices, "current", lambda: host)
    monkeypatch.syspath_prepend("benchmarks")
    program = importlib.import_module("gpu").SMALL
    exec(compile(program, "SMALL", "exec"), {"print": lambda *_: None})
    assert set(host.launched) == set(signatures(source()))
