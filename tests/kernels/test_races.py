"""The CUDA kernels on the host: the same bits in any order of threads, no races, and a check that would find them."""

import re
from importlib import resources

import numpy as np
import pytest
from hostcuda import HostDevice, compiler, replay, signatures, unavailable

import wgflow
from wgflow.kernels.gpu import cuda
from wgflow.kernels.gpu.backend import Gpu
from wgflow.kernels.gpu.cuda import source
from wgflow.kernels.reference import Reference
from wgflow.model.depth import Network

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C++ compiler")


def cases():
    """Small networks that between them reach every branch: gaps, wide layers in pieces, several tiles of a block."""
    rng = np.random.default_rng(10)
    for name, layers, samples, activation, loss, rows, layered in (
        ("gaps", [1] * 40, 150, "tanh", "squared", None, False),
        ("wide", [70, 3], 9, "gelu", "cross_entropy", None, False),
        ("batch", [2, 0, 5, 1], 30, "relu", "squared", 17, False),
        ("layered", [13, 20], 40, "gelu", "squared", 33, True),
    ):
        width, outputs, count = 5, 2, sum(layers)
        targets = rng.dirichlet(np.ones(outputs), samples)
        readout = rng.normal(size=(outputs, width))
        problem = wgflow.Problem(
            rng.normal(size=(samples, width)), targets, activation=activation, readout=readout, loss=loss
        )
        first = np.concatenate([[0], np.cumsum(layers)])
        net = Network(first, rng.permutation(count), rng.uniform(0.5, 1.5, size=count) / count)
        theta = rng.normal(size=(count, 2 * width + 1))
        yield name, problem, net, theta, None if rows is None else rng.choice(samples, rows), layered


def run(precision, case, **options):
    """A gradient on a device so small that its two blocks of threads take several tiles in turn."""
    _, problem, net, theta, rows, layered = case
    device = HostDevice(processors=2, shared=40 * 1024, **options)
    return Gpu(problem, precision, device, layered).gradient(net, theta, rows)


CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_any_order_and_number_of_threads_gives_the_same_bits(case, precision):
    found = run(precision, case)
    _, problem, net, theta, rows, _ = case
    tolerance = 1e-12 if precision == "float64" else 1e-5
    for mine, wanted in zip(found, Reference(problem).gradient(net, theta, rows), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=0, atol=tolerance * max(1.0, np.abs(wanted).max()))
    for options in ({"reverse": True}, {"threads_limit": 1}, {"threads_limit": 37, "reverse": True}):
        for mine, other in zip(found, run(precision, case, **options), strict=True):
            np.testing.assert_array_equal(mine, other, err_msg=str(options))


FILES = ("network.cu", "sums.cu", "layered.cu")  # of the kernels that a gradient starts


def started():
    folder = resources.files(cuda)
    return {name for file in FILES for name in signatures((folder / file).read_text())}


def recorded(folder, text, precision="float64"):
    """All cases on a few threads a block, which is enough for a race and quick, written to a folder; their results."""
    return [run(precision, case, threads_limit=12, text=text, record=folder) for case in CASES]


@pytest.fixture(scope="module")
def sanitizer():
    if unavailable():
        pytest.skip(f"no ThreadSanitizer: {unavailable()}")


def same(some, others):
    return all(
        np.array_equal(a, b) for one, other in zip(some, others, strict=True) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.usefixtures("sanitizer")
@pytest.mark.parametrize("precision", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_no_races(tmp_path, precision):
    recorded(tmp_path, source(), precision)
    found = replay(tmp_path)
    assert found.said == ""
    assert found.other == set()
    assert found.repeated >= started()


@pytest.mark.slow
def test_no_bad_accesses(tmp_path):
    if unavailable("address"):
        pytest.skip(f"no AddressSanitizer: {unavailable('address')}")
    recorded(tmp_path, source())
    found = replay(tmp_path, "address")
    assert (found.said, found.other) == ("", set())


BARRIERS = [match.start() for match in re.finditer(r"\bBARRIER\(\);", source())]


def place(at):
    """File and line of a place in the source."""
    before = source()[:at].split('#line 1 "')[-1]
    return f"{before.partition(chr(34))[0]}:{before.count(chr(10))}"


def without(at):
    return source()[:at] + "          " + source()[at + 10 :]


@pytest.mark.usefixtures("sanitizer")
def test_a_missing_barrier_is_found(tmp_path):
    """Where the outputs are made of the last state: few threads have work, and the next barrier is near."""
    (at,) = (at for at in BARRIERS if source()[at:].split("\n")[1].strip().startswith("if (gradient) {"))
    forwards = recorded(tmp_path, without(at))
    found = replay(tmp_path)
    assert "ThreadSanitizer: data race" in found.said
    assert re.search(r"network\.cu:\d+", found.said)
    assert not same(forwards, [run("float64", case, text=without(at), reverse=True) for case in CASES])


WAITS = [match.start() for match in re.finditer(r"\bLANDED\(\d\);", source())]


@pytest.mark.parametrize("at", [WAITS[0], *(pytest.param(at, marks=pytest.mark.slow) for at in WAITS[1:])], ids=place)
def test_every_wait_for_copies_is_needed_and_missed(at):
    """Backwards the host copies as late as it may, forwards at once."""
    text = source()[:at] + "          " + source()[at + 10 :]
    assert not same(*([run("float64", case, text=text, reverse=each) for case in CASES] for each in (False, True)))


@pytest.mark.slow
@pytest.mark.usefixtures("sanitizer")
@pytest.mark.parametrize("at", BARRIERS, ids=place)
def test_every_barrier_is_needed_and_missed(at, tmp_path):
    if not place(at).startswith(("tile.cu", *FILES)):
        pytest.skip("of kernels that a gradient does not start")
    recorded(tmp_path, without(at))
    assert "data race" in replay(tmp_path).said
