"""Flows on a device against flows in NumPy: on the host through the shim, and on a device where there is one."""

import itertools
import logging
import math
import re
import shutil
from typing import NamedTuple

import numpy as np
import pytest
from hostcuda import HostDevice, compiler, replay
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

import wgflow
from wgflow.base.errors import DivergenceError
from wgflow.base.rng import key, uniform
from wgflow.flow import device_status
from wgflow.flow.device_depth import DepositLayers, GapLayers
from wgflow.flow.device_status import Launcher
from wgflow.flow.stepsize import Constant
from wgflow.kernels.gpu import device as devices
from wgflow.kernels.gpu.backend import Gpu
from wgflow.kernels.gpu.cuda import source
from wgflow.model.depth import Deposit, Gaps, Intervals, switches
from wgflow.model.regularisers import Quadratic
from wgflow.trajectory import TrajectoryWriter

HOST_LACKS = "" if compiler() else "no g++ to compile the CUDA sources with"

WAYS = [{}, {"reverse": True}, {"threads_limit": 24}]
on_both = pytest.mark.parametrize("current", [False, pytest.param(True, marks=pytest.mark.gpu)], ids=["host", "device"])


def a_device(current):
    return devices.current() if current else HostDevice()


class On(NamedTuple):
    """What a launcher asks of a kernel, without one."""

    device: object
    precision: str = "float64"


def twins(problem, depth="gaps", device=None, regulariser=None):
    """The same energy on a device and in compiled NumPy."""
    gpu, cpu = (wgflow.Energy(problem, depth, regulariser=regulariser) for _ in range(2))
    gpu.kernel = Gpu(problem, device=device or HostDevice())
    return gpu, cpu


def events_of(flow, start, until, every=None):
    """Steps and frames, in the order in which a caller sees them."""
    seen = []
    for frame in flow.run(start, until, every, on_step=lambda step, s: seen.append((step, s))):
        seen.append(frame)
    return seen


def frames_of(flow, start, until, every=None):
    return [each for each in events_of(flow, start, until, every) if not isinstance(each, tuple)]


def bits(frame):
    return (
        *(frame.step, frame.s, frame.h, frame.energy, frame.dissipation, frame.switches, frame.balance),
        *(getattr(frame, name).tobytes() for name in ("theta", "tau", "mass")),
    )


# Order and layers: integers, so equal to the last.

DEPTH = st.one_of(st.sampled_from([-0.0, 0.0, 0.125, 0.5, 1.0]), st.floats(-0.5, 1.5))


def check_order(device, before, after):
    """Order, gaps and switches against NumPy's sort, and the switches against all pairs."""
    count = len(before)
    launcher = Launcher(On(device))
    first, second = GapLayers(launcher, count, 1), GapLayers(launcher, count, 1)
    first.arrange(device.put(before))
    second.arrange(device.put(after), first)
    rho = [wgflow.Particles(np.zeros((count, 1)), tau, free=True) for tau in (before, after)]
    for sorted_, each in zip((first, second), rho, strict=True):
        np.testing.assert_array_equal(device.get(sorted_.particle), each.order)
        np.testing.assert_array_equal(device.get(sorted_.weight), Gaps().network(each).weight)
    second.continue_(device.put(after), first)
    kept = Gaps().network(rho[1], rho[0].order)
    np.testing.assert_array_equal(device.get(second.particle), kept.particle)
    np.testing.assert_array_equal(device.get(second.weight), kept.weight)
    second.arrange(device.put(after), first)
    found = int(device.get(second.inversions).sum())
    assert found == switches(rho[0].order, rho[1].order)
    pairs = itertools.combinations(range(count), 2) if count < 100 else ()  # i < j, so that a tie leaves i in front
    assert count >= 100 or found == sum((before[i] <= before[j]) != (after[i] <= after[j]) for i, j in pairs)


@pytest.mark.parametrize("way", WAYS, ids=str)
@settings(max_examples=30)
@given(depths=st.lists(st.tuples(DEPTH, DEPTH), min_size=1, max_size=40))
def test_order_gaps_and_switches_are_those_of_a_sort(way, depths):
    check_order(HostDevice(**way), *np.array(depths).T.copy())


@on_both
@pytest.mark.parametrize("count", [1, 255, 256, 257, 700])
def test_order_of_more_particles_than_a_block_reads_together(current, count, rng):
    before = np.round(rng.uniform(size=count), 2)  # ties too
    check_order(a_device(current), before, np.clip(before + rng.normal(size=count) * 0.1, 0, 1))


@settings(max_examples=30)
@given(
    tau=st.lists(st.one_of(st.floats(0, 1), st.integers(0, 24).map(lambda k: k / 24)), min_size=1, max_size=40),
    layers=st.integers(1, 12),
    shape=st.sampled_from(["spline", "clipped", "hat"]),
    way=st.sampled_from(WAYS),
)
def test_deposit_is_numpys_bit_for_bit(tau, layers, shape, way):
    check_deposit(HostDevice(**way), np.array(tau), Deposit(layers, shape))


def check_deposit(device, tau, scheme):
    rho = wgflow.Particles(np.zeros((len(tau), 1)), tau, np.linspace(0, 1, len(tau)))
    made = DepositLayers(Launcher(On(device)), len(tau), 1, scheme, device.put(rho.mass))
    made.arrange(device.put(tau))
    net = scheme.network(rho)
    np.testing.assert_array_equal(made.first, net.first)
    np.testing.assert_array_equal(device.get(made.particle), net.particle)
    np.testing.assert_array_equal(device.get(made.weight), net.weight)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("scheme", [Deposit(7), Deposit(7, "clipped"), Deposit(300, "hat"), Deposit(1)], ids=str)
def test_deposit_of_many_runs_of_entries(way, scheme, rng):
    check_deposit(HostDevice(**way), rng.uniform(size=400), scheme)


# Noise.

DRAW = """
KERNEL draw(Int rows, Int columns, Int seed, Int stream, Int step, Int normal, double* out) {
    const Int quads = (columns + 3) / 4;
    EACH(task, rows * columns) {
        Word c[4];
        words_of(c, seed, stream, step, task / columns, quads, task % columns / 4);
        const double u = uniform_of(c[task % columns % 4]);
        out[task] = normal ? normal_of(u) : u;
    }
}
KERNEL invert(Int count, const double* u, double* out) { EACH(i, count) out[i] = normal_of(u[i]); }
"""


@settings(max_examples=30)
@given(seed=st.integers(0, 2**64 - 1), step=st.integers(0, 2**53), rows=st.integers(1, 20), columns=st.integers(1, 11))
def test_uniform_numbers_are_those_of_rng_bit_for_bit(seed, step, rows, columns):
    device = HostDevice(text=source() + DRAW)
    out = device.empty((rows, columns), np.float64)
    seed_word, stream = (word - 2**64 if word >= 2**63 else word for word in key(seed, "langevin"))
    device.launch("float64", "draw", 2, 16, 0, (rows, columns, seed_word, stream, step, 0, out))
    np.testing.assert_array_equal(device.get(out), uniform(seed, "langevin", (rows, columns), step))


def test_normal_numbers_are_scipys_to_a_few_ulp(rng):
    """Over the whole range, its ends and the three pieces' borders. SciPy's own error is of this size."""
    ends = 2.0 ** -np.arange(1, 53)
    u = np.concatenate([rng.uniform(size=4000), ends, 1 - ends, [0.075, 0.925, math.exp(-25), 0.5 * 2.0**-52]])
    device = HostDevice(text=source() + DRAW)
    out = device.empty(len(u), np.float64)
    device.launch("float64", "invert", 4, 32, 0, (len(u), device.put(u), out))
    wanted = ndtri(u)
    assert (np.abs(device.get(out) - wanted) / np.spacing(np.maximum(np.abs(wanted), 1e-3))).max() <= 16


# Whole flows.

SCHEMES = [
    {"name": "gaps"},
    {"name": "layers", "layers": 3},
    {"name": "deposit", "layers": 4},
    {"name": "deposit", "layers": 4, "shape": "clipped"},
    {"name": "deposit", "layers": 4, "shape": "hat"},
    {"name": "shallow"},
]
RULES = [
    0.1,
    {"name": "descent", "length": 0.4, "smallest": 1e-6},
    {"name": "adaptive", "length": 0.3, "rtol": 1e-3, "atol": 1e-4, "smallest": 0.02},  # jumps would ask for less
]
ADAPTIVE_METHODS = ["heun", "ssp3", "cash_karp"]
MOBILITIES = [None, {"tau": 20.0, "a": 0.5}, {"tau": 0.0, "w": 2.0}]
CASES = {
    "seed": st.integers(0, 2**32),
    "depth": st.sampled_from(SCHEMES),
    "integrator": st.sampled_from(["euler", "heun", "ssp3", "rk4", "cash_karp"]),
    "boundary": st.sampled_from(["clip", "reflect", "free"]),
    "rule": st.sampled_from(RULES),
    "mobility": st.sampled_from(MOBILITIES),
    "noise": st.booleans(),
    "batch": st.booleans(),
    "regulariser": st.sampled_from([None, {"name": "quadratic", "strength": 0.5, "decay": 0.7}]),
    "particles": st.integers(1, 5).map(lambda n: 6 * n),
}
SIMPLEST = {
    **{"seed": 0, "depth": SCHEMES[0], "integrator": "euler", "boundary": "clip", "rule": 0.1, "mobility": None},
    **{"noise": False, "batch": False, "regulariser": None, "particles": 12},
}


def flows_of(device, seed, depth, integrator, boundary, rule, mobility, noise, batch, regulariser, particles):
    """A flow on the device, its twin on the host, and where they start; options that exclude each other give way."""
    rng = np.random.default_rng(seed)
    problem = wgflow.Problem.padded(rng.normal(size=(9, 2)), rng.normal(size=9))
    still = depth["name"] in ("layers", "shallow")
    boundary = "clip" if still else "reflect" if depth["name"] == "deposit" and boundary == "free" else boundary
    adaptive = isinstance(rule, dict)
    if adaptive and rule["name"] == "descent" and boundary == "reflect":
        boundary = "clip"
    if adaptive and rule["name"] == "adaptive" and integrator not in ADAPTIVE_METHODS:
        integrator = ADAPTIVE_METHODS[seed % 3]
    langevin = {"name": "langevin", "temperature": 0.02, "decay": 0.1, "seed": 2**64 - 1 - seed}
    langevin["tau_temperature"] = 0.01 if boundary == "reflect" else 0.0
    options = {
        **{"integrator": integrator, "step": rule, "boundary": boundary, "mobility": mobility, "seed": seed},
        "ingredients": [langevin] if noise and not adaptive else [],
        "batch": 5 if batch and not adaptive else None,
    }
    tau = (rng.permutation(particles) + 0.5) / particles
    mass = None if depth["name"] == "layers" else rng.uniform(0.5, 1.5, particles) / particles
    rho = wgflow.Particles(0.7 * rng.normal(size=(particles, problem.shape[3])), tau, mass)
    return *(wgflow.Flow(energy, **options) for energy in twins(problem, depth, device, regulariser)), rho


def off(found, wanted):
    """Largest relative error of anything in two lists of frames; infinite if counts differ or something is infinite."""
    if [(a.step, a.switches) for a in found] != [(b.step, b.switches) for b in wanted]:
        return math.inf
    worst = 0.0
    for a, b in zip(found, wanted, strict=True):
        for name in ("s", "h", "energy", "dissipation", "theta", "tau", "mass"):
            x, y = getattr(a, name), getattr(b, name)
            if not (np.isfinite(x).all() and np.isfinite(y).all()):  # a dissipation overflows before its parts do
                return math.inf
            scale = max(np.abs(y).max(), 1e-3 if name == "dissipation" else 1.0)
            worst = max(worst, np.abs(np.asarray(x) - y).max() / scale)
        worst = max(worst, unbalanced(a.balance, b.balance))
    return worst


def unbalanced(found, wanted):
    """Largest difference of two balances, relative to 1; infinite if one is none or they count other steps."""
    if found is None or wanted is None:
        return 0.0 if found is wanted else math.inf
    if (found.steps, found.switched) != (wanted.steps, wanted.switched):
        return math.inf
    return float(np.abs(np.subtract(found, wanted)).max() / max(1.0, wanted.dissipated))


def sensible(flow, rho, wanted):
    """Whether the host's own flow does not magnify a difference of 1e-13 beyond 1e-10, or by a change of order."""
    signs = np.random.default_rng(0).choice([-1, 1], rho.theta.shape)
    near = wgflow.Particles(rho.theta * (1 + 1e-13 * signs), rho.tau, rho.mass)
    return off(frames_of(flow, near, 0.8, 0.2), wanted) < 1e-10


def check_flow(device, **case):
    """Eight steps of 0.1 or as many as the rule takes: the same frames up to rounding."""
    gpu, cpu, rho = flows_of(device, **case)
    try:
        wanted = frames_of(cpu, rho, 0.8, 0.2)
        assume(sensible(cpu, rho, wanted))
    except DivergenceError:
        assume(False)
    assert off(frames_of(gpu, rho, 0.8, 0.2), wanted) < 1e-10


@settings(max_examples=80)
@given(**CASES)
@example(**SIMPLEST)
@example(**SIMPLEST | {"mobility": MOBILITIES[1], "particles": 30, "integrator": "rk4", "noise": True, "batch": True})
@example(**SIMPLEST | {"depth": SCHEMES[2], "boundary": "reflect", "noise": True, "regulariser": "quadratic"})
@example(**SIMPLEST | {"rule": RULES[1], "mobility": MOBILITIES[1]})
@example(**SIMPLEST | {"rule": RULES[2], "integrator": "cash_karp", "boundary": "free"})
def test_flow_is_the_hosts(**case):
    check_flow(HostDevice(), **case)


@pytest.mark.gpu
@settings(max_examples=500)
@given(**CASES)
def test_flow_on_a_device_is_the_hosts(**case):
    check_flow(devices.current(), **case)


@on_both
@pytest.mark.parametrize("depth", SCHEMES, ids=lambda spec: spec.get("shape", spec["name"]))
def test_flow_in_single_precision_moves_particles_in_double(current, depth):
    """Only states, adjoints and sums over samples are rounded: to 1e-4 after four steps, and not to nothing."""
    gpu, cpu, rho = flows_of(a_device(current), **SIMPLEST | {"depth": depth, "integrator": "heun"})
    gpu.energy.kernel = Gpu(gpu.energy.problem, "float32", gpu.energy.kernel.device)
    found, wanted = (frames_of(flow, rho, 0.4, 0.2) for flow in (gpu, cpu))
    assert 1e-12 < off(found, wanted) < 1e-4
    assert found[0].theta.tobytes() == rho.theta.tobytes()


@settings(max_examples=15)
@given(**CASES, way=st.sampled_from(WAYS))
def test_order_and_number_of_threads_change_no_bit(way, **case):
    found = []
    for device in (HostDevice(), HostDevice(**way)):
        gpu, _, rho = flows_of(device, **case)
        try:
            found.append([bits(frame) for frame in frames_of(gpu, rho, 0.4, 0.1)])
        except DivergenceError as error:
            found.append([bits(error.frame)])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("(front && (place == 0 || there >= last))", "(front)"),
        ("before[j] < was", "before[j] <= was"),
        ("c[0] = (Word)(row * quads + quad) + 1;", "c[0] = (Word)(row * quads + quad);"),
        ("if (folded < 0.0) folded += 2.0;", ""),
        ("value[place + 1] : 0.0", "value[place + 1] : 1e-6"),
    ],
)
def test_a_wrong_kernel_is_found(right, wrong):
    """Negative control of the comparison above."""
    text = source()
    assert text.count(right) == 1
    device = HostDevice(text=text.replace(right, wrong))
    case = SIMPLEST | {"boundary": "reflect", "mobility": MOBILITIES[1], "noise": True, "particles": 30}
    gpu, cpu, rho = flows_of(device, **case)
    assert not off(frames_of(gpu, rho, 0.8, 0.2), frames_of(cpu, rho, 0.8, 0.2)) < 1e-10


# Of few particles every loop goes round too, if what a block reads together is less.
SMALL = "#define SPAN 256", "#define SPAN 8"
OWN = set(re.findall(r"KERNEL (\w+)", source().split('#line 1 "order.cu"')[1]))
BARRIERS = [at.start() for at in re.finditer(r"\bBARRIER\(\);", source()) if at.start() > source().find(SMALL[0])]


class Recorded(HostDevice):
    """Records the kernels of a flow alone, on a few threads of one block, which then has several tiles in turn."""

    def launch(self, precision, kernel, blocks, *rest):
        recorder = self._recorder
        self._recorder = recorder if kernel in OWN else None
        super().launch(precision, kernel, 1 if kernel in OWN else blocks, *rest)
        self._recorder = recorder


@pytest.fixture(scope="module")
def launches(tmp_path_factory):
    """Folder with the launches of flows that between them start every kernel of a flow."""
    folder = tmp_path_factory.mktemp("launches")
    rng = np.random.default_rng(0)
    problem = wgflow.Problem.padded(rng.normal(size=(5, 1)), rng.normal(size=5))
    rho = wgflow.Particles(rng.normal(size=(20, problem.shape[3])), rng.uniform(size=20))
    device = Recorded(record=folder, text=source().replace(*SMALL), threads_limit=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_status, "_SPAN", 8)
        gaps, deposit = (twins(problem, depth, device, "quadratic")[0] for depth in SCHEMES[0:3:2])
        frames_of(wgflow.Flow(gaps, ingredients=[{"name": "langevin", "temperature": 0.1}]), rho, 0.1)
        frames_of(wgflow.Flow(deposit, "heun", {"name": "adaptive", "rtol": 0.1}), rho, 0.1, 0.1)
        frames_of(wgflow.Flow(deposit, step={"name": "descent"}), rho, 0.1, 0.1)
        frames_of(wgflow.Flow(gaps, "heun", {"name": "descent"}), rho, 0.1, 0.1)
    return folder


def test_no_races_in_a_flow(launches):
    """Every kernel of a flow on real threads under ThreadSanitizer."""
    found = replay(launches)
    assert found.said == ""
    assert not found.other
    assert found.repeated == OWN


def where(at):
    """File and line of a place in the source."""
    name, _, before = source()[:at].split('#line 1 "')[-1].partition('"')
    return f"{name}:{before.count(chr(10))}"


@pytest.mark.slow
@pytest.mark.parametrize("at", BARRIERS, ids=where)
def test_every_barrier_of_a_flow_is_needed_and_missed(at, launches, tmp_path):
    """The same launches, repeated by kernels without it."""
    folder = shutil.copytree(launches, tmp_path / "launches")
    text = source()[:at] + "          " + source()[at + 10 :]
    (folder / "source.cu").write_text(text.replace(*SMALL))
    assert "data race" in replay(folder).said


@on_both
@pytest.mark.parametrize("depth", [SCHEMES[0], SCHEMES[2]], ids=["gaps", "deposit"])
@pytest.mark.parametrize("rule", RULES, ids=["constant", "descent", "adaptive"])
def test_2n_steps_are_n_and_n_more_through_a_trajectory(current, depth, rule, tmp_path):
    case = SIMPLEST | {"depth": depth, "rule": rule, "integrator": "heun", "boundary": "reflect", "noise": True}
    gpu, _, rho = flows_of(a_device(current), **case | {"batch": True, "mobility": MOBILITIES[1]})
    whole = frames_of(gpu, rho, 2.0, 0.5)
    path = tmp_path / "run.h5"
    with TrajectoryWriter.create(path, gpu.energy, len(rho), flow=gpu.spec()) as writer:
        for frame in gpu.run(rho, 1.0, 0.5):
            writer.append(frame)
    with wgflow.Trajectory(path) as trajectory:
        rest = frames_of(gpu, trajectory[-1], 2.0, 0.5)
    assert [bits(frame) for frame in rest] == [bits(frame) for frame in whole[2:]]


@on_both
@pytest.mark.parametrize("integrator", ["euler", "rk4"])
def test_descent_across_order_switches_is_that_of_the_host(current, integrator):
    """Armijo's inequality in the order before each step: with E itself, or unchecked, other lengths are taken."""
    case = SIMPLEST | {"rule": {"name": "descent", "length": 50.0}, "integrator": integrator, "seed": 3}
    gpu, cpu, rho = flows_of(a_device(current), **case | {"particles": 24, "mobility": {"tau": 5.0}})
    found, wanted = ([*itertools.islice(flow.run(rho, 1e6, {"name": "steps", "n": 1}), 12)] for flow in (gpu, cpu))
    assert off(found, wanted) < 1e-9
    assert wanted[-1].switches > 5
    for a, b in itertools.pairwise(found):
        assert cpu.energy.continued(b.particles, a.particles.order) < a.energy


# What crosses, and when.


class Counting(HostDevice):
    """Counts the times the host waits, and what crosses meanwhile."""

    waits = fetches = 0

    def get(self, array):
        self.waits += 1
        return super().get(array)

    def fetch(self, arrays):
        before = self.waits
        copies = super().fetch(arrays)
        self.waits, self.fetches = before, self.fetches + 1
        return copies


def crossed(depth, steps, **options):
    """Waits, fetches, bytes there and back of one run with two frames, less those of a run of one step."""
    found = []
    for until in (1, 1 + steps):
        device = Counting()
        gpu, _, rho = flows_of(device, **SIMPLEST | {"depth": depth} | options)
        device.sent = device.received = 0
        frames_of(gpu, rho, 0.1 * until, 0.1 * until)
        found.append(np.array([device.waits, device.fetches, device.sent, device.received]))
    return (found[1] - found[0]).tolist()


@pytest.mark.parametrize("depth", [SCHEMES[0], SCHEMES[1], SCHEMES[-1]], ids=lambda spec: spec["name"])
def test_between_frames_nothing_crosses(depth):
    assert crossed(depth, 60, integrator="heun") == [0, 0, 0, 0]
    assert crossed(depth, 140) == [0, 2, 0, 2 * device_status.LENGTH * 8]  # the status, every 64 steps


def test_batches_and_bounds_of_layers_are_all_that_crosses_otherwise():
    assert crossed(SCHEMES[0], 20, batch=True) == [0, 0, 20 * 5 * 8, 0]
    waits, fetches, _, received = crossed(SCHEMES[2], 20)
    assert (waits, fetches, received) == (20, 0, 20 * 5 * 8)


def test_frames_wait_while_the_device_goes_on():
    device = HostDevice()
    gpu, _, rho = flows_of(device, **SIMPLEST)
    run = gpu.run(rho, 3.0, 1.0)
    steps = []
    for _ in run:
        steps.append(device.launched["move_particles"])
    assert steps == [8, 18, 28, 30]  # frames of steps 0, 10, 20, 30


@pytest.mark.parametrize("every", [0.1, 0.2, 0.5])
def test_events_come_in_the_hosts_order_and_frames_never_change(every):
    gpu, cpu, rho = flows_of(None, **SIMPLEST)
    found, wanted = (events_of(flow, rho, 2.0, every) for flow in (gpu, cpu))
    frames = [each for each in found if not isinstance(each, tuple)]
    kept = [bits(frame) for frame in frames]

    def place(each):
        return each if isinstance(each, tuple) else each.step

    assert list(map(place, found)) == list(map(place, wanted))
    frames_of(gpu, rho, 2.0, every)
    assert [bits(frame) for frame in frames] == kept
    assert not any(frame.theta.flags.writeable or frame.tau.flags.writeable for frame in frames)


def test_on_step_may_stop_a_flow_and_no_later_frame_comes():
    gpu, _, rho = flows_of(None, **SIMPLEST)

    def stop(step, s):
        if step == 5:
            raise KeyboardInterrupt

    seen = []
    with pytest.raises(KeyboardInterrupt):
        seen.extend(gpu.run(rho, 2.0, 0.2, on_step=stop))
    assert [frame.step for frame in seen] == [0, 2, 4]


# What cannot go on.


def outcome(flow, rho, until, every):
    """Frames' steps, and what the error says and carries."""
    steps = []
    with pytest.raises(DivergenceError) as caught:
        steps.extend(frame.step for frame in flow.run(rho, until, every))
    return steps, str(caught.value), caught.value.frame


@on_both
@pytest.mark.parametrize("every", [50.0, 250.0, 50_000.0])
@pytest.mark.parametrize(
    ("depth", "integrator", "batch"),
    [("gaps", "euler", None), ({"name": "deposit", "layers": 3}, "rk4", None), ("gaps", "heun", 4)],
    ids=["velocity", "stage", "batch"],
)
def test_divergence_is_the_hosts(current, every, depth, integrator, batch, case):
    problem, rho = case(particles=6, activation="linear")
    energies = twins(problem, depth, a_device(current))
    found, wanted = (
        outcome(wgflow.Flow(energy, integrator, 50.0, batch=batch), rho, 50_000.0, every) for energy in energies
    )
    assert found[:2] == wanted[:2]
    a, b = found[2], wanted[2]
    assert (a.step, a.s, a.h, a.switches) == (b.step, b.s, b.h, b.switches)
    np.testing.assert_allclose(a.theta, b.theta, rtol=1e-6)
    np.testing.assert_allclose([a.energy, a.dissipation], [b.energy, b.dissipation], rtol=1e-5)
    again = outcome(wgflow.Flow(energies[0], integrator, 50.0, batch=batch), a, a.s + 50_000.0, every)
    assert again[2].step == a.step


@pytest.mark.parametrize("rule", ["descent", "adaptive"])
def test_a_step_that_leaves_the_numbers_is_halved(rule):
    case = SIMPLEST | {"rule": {"name": rule, "length": 1e200}, "integrator": "heun", "depth": SCHEMES[2]}
    gpu, cpu, rho = flows_of(None, **case)
    found, wanted = (frames_of(flow, rho, 1.0, 0.5) for flow in (gpu, cpu))
    assert [frame.step for frame in found] == [frame.step for frame in wanted]
    assert off(found, wanted) < 1e-9


def test_a_start_that_is_not_finite_is_said(case):
    problem, rho = case(particles=6, activation="linear")
    far = wgflow.Particles(1e200 * rho.theta, rho.tau)
    for energy in twins(problem):
        steps, said, frame = outcome(wgflow.Flow(energy), far, 1.0, 0.5)
        assert (steps, frame) == ([], None)
        assert "at the start" in said


class OwnDeposit(Deposit):
    """One of your own, by inheritance."""


class OwnRule(Constant):
    """One of your own."""


class OwnTerm(Quadratic):
    """One of your own."""


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"depth": OwnDeposit(4)}, "depth scheme 'deposit'"),
        ({"depth": Intervals(4)}, "depth scheme 'intervals'"),
        ({"step": OwnRule(0.1)}, "step rule 'constant'"),
        ({"regulariser": OwnTerm()}, "regulariser 'quadratic'"),
        ({"ingredients": [lambda rho, move: rho]}, "operator '<lambda>'"),
    ],
    ids=["depth", "intervals", "rule", "regulariser", "operator"],
)
def test_what_is_not_built_in_runs_on_the_host_and_is_said_once(options, named, case, caplog):
    problem, rho = case(particles=6)
    of_energy = {name: options[name] for name in ("depth", "regulariser") if name in options}
    of_flow = {name: options[name] for name in ("step", "ingredients") if name in options}
    gpu, cpu = twins(problem, **of_energy)
    with caplog.at_level(logging.WARNING, "wgflow.flow.flow"):
        found = frames_of(wgflow.Flow(gpu, **of_flow), rho, 0.5)
    assert [named in record.getMessage() for record in caplog.records] == [True]
    assert off(found, frames_of(wgflow.Flow(cpu, **of_flow), rho, 0.5)) < 1e-10
    assert gpu.kernel.device.launched["move_particles"] == 0 < gpu.kernel.device.launched["network_pass"]
