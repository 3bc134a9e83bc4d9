"""The host device itself: it runs kernels right, and finds each kind of mistake that it is there to find."""

import subprocess
import sys

import numpy as np
import pytest
from hostcuda import HostDevice, HostError, compiler, replay, signatures, unavailable

from wgflow.kernels.gpu.cuda import source

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C++ compiler")

COMMON = '#line 1 "common.cu"\n' + source().split('#line 1 "common.cu"\n')[1].split("#line")[0]
KERNELS = (
    COMMON
    + """
#line 1 "test.cu"
KERNEL scale(const REAL* x, REAL* y, Int n, double a) { EACH(i, n) y[i] = REAL(a) * x[i]; }

// Sums of a[b] + ... over blocks of samples, in shared memory; `safe` leaves out no barrier.
DEVICE void tree(double* part, bool safe) {
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (THREAD < half) part[THREAD] += part[THREAD + half];
        if (safe) BARRIER();
    }
}
KERNEL total(const double* x, double* sums, Int n) {
    SHARED(double, part);
    double own = 0.0;
    EACH(i, n) own += x[i];
    part[THREAD] = own;
    BARRIER();
    tree(part, true);
    if (THREAD == 0) sums[BLOCK] = part[0];
}
KERNEL total_racing(const double* x, double* sums, Int n) {
    SHARED(double, part);
    double own = 0.0;
    EACH(i, n) own += x[i];
    part[THREAD] = own;
    BARRIER();
    tree(part, false);
    if (THREAD == 0) sums[BLOCK] = part[0];
}
KERNEL turn(const Int* x, Int* y) {  // every thread reads what its neighbour wrote
    SHARED(Int, held);
    held[THREAD] = x[THREAD];
    BARRIER();
    y[THREAD] = held[(THREAD + 1) % THREADS];
}
KERNEL turn_racing(const Int* x, Int* y) {
    SHARED(Int, held);
    held[THREAD] = x[THREAD];
    y[THREAD] = held[(THREAD + 1) % THREADS];
}
KERNEL blocks_racing(Int* y) { y[0] = BLOCK; }
KERNEL where(Int* y) { y[BLOCK * THREADS + THREAD] = BLOCKS * 1000000 + THREADS * 10000 + BLOCK * 100 + THREAD; }
KERNEL rounds(Int* y, Int n) {
    Int count = 0;
    for (Int k = 0; k < n; ++k) { count += k; BARRIER(); }
    y[THREAD] = count;
}
KERNEL some_return(Int* y) { if (THREAD == 3) return; BARRIER(); y[0] = 1; }
KERNEL two_barriers(Int* y) {
    if (THREAD < 2) BARRIER();
    else
        BARRIER();
    y[0] = 1;
}
KERNEL shared_as_found(double* y) { SHARED(double, found); y[BLOCK] = found[0]; found[0] = 1.0; }
KERNEL shared_before(double* y) { SHARED(double, held); held[-1] = y[0]; }
KERNEL shared_beyond(double* y, Int n) { SHARED(double, held); held[n] = y[0]; }
KERNEL divide(Int* y, Int n) { y[0] = 7 / n; }
DEVICE Int deep(Int n) { volatile Int much[512]; much[n % 512] = n; return n == 0 ? 0 : deep(n - 1) + much[n % 512]; }
KERNEL recurse(Int* y, Int n) { y[0] = deep(n); }
struct alignas(16) Pair { double x[2]; };
KERNEL vector(double* y, Int n) { *reinterpret_cast<Pair*>(y + n) = Pair{{1.0, 2.0}}; }
KERNEL local(double* y, Int n) { double own[4] = {1.0, 2.0, 3.0, 4.0}; y[0] = own[n]; }
KERNEL square(Int* y) { y[0] *= y[0]; }
KERNEL apart(const double* __restrict__ x, double* __restrict__ y) { y[0] = x[0]; }
KERNEL high(unsigned long long* y) { y[0] = __umul64hi(y[0], y[1]); }
KERNEL flags(int* y, const unsigned char* on) { EACH_HERE(i, 3) y[i] = on[i] ? min(3, y[i]) : max(-1, y[i]); }
"""
)


def device(**options):
    return HostDevice(text=KERNELS, **options)


@pytest.fixture
def host():
    return device()


def test_source_of_wgflow_compiles_in_both_precisions():
    for precision in ("float32", "float64"):
        with pytest.raises(HostError, match="no kernel 'nothing'"):
            HostDevice().launch(precision, "nothing", 1, 1, 0, [])


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["library", "ucontext"])
def test_arguments_arrive(precision, kind):
    host = device(kind=kind)
    x = np.linspace(-1, 1, 1000).astype(precision)
    y = host.empty((10, 100), precision)
    host.launch(precision, "scale", 3, 7, 0, [host.put(x), y, 1000, 1 / 3])
    np.testing.assert_array_equal(host.get(y).ravel(), x.dtype.type(1 / 3) * x)


@pytest.mark.parametrize("kind", ["library", "ucontext"])
@pytest.mark.parametrize("reverse", [False, True])
def test_every_thread_of_every_block_runs_once(kind, reverse):
    host = device(kind=kind, reverse=reverse)
    y = host.empty((5, 40), "int64")
    host.launch("float64", "where", 5, 40, 0, [y])
    block, thread = np.mgrid[:5, :40]
    np.testing.assert_array_equal(host.get(y), 5_000_000 + 400_000 + 100 * block + thread)


@pytest.mark.parametrize("kind", ["library", "ucontext"])
def test_threads_keep_their_locals_over_barriers(kind):
    host = device(kind=kind)
    y = host.empty(64, "int64")
    host.launch("float64", "rounds", 1, 64, 0, [y, 101])
    assert set(host.get(y)) == {5050}


def test_sums_are_right_in_both_orders_and_any_number_of_threads():
    x = np.random.default_rng(0).normal(size=1000)
    found = []
    for reverse in (False, True):
        host = device(reverse=reverse)
        sums = host.empty(3, "float64")
        host.launch("float64", "total", 3, 64, 64 * 8, [host.put(x), sums, 1000])
        found.append(host.get(sums))
    np.testing.assert_array_equal(*found)
    np.testing.assert_allclose(found[0].sum(), x.sum(), rtol=1e-12)
    host = device(threads_limit=16)
    y = host.empty(16, "int64")
    host.launch("float64", "where", 1, 128, 0, [y])
    assert host.get(y)[3] == 1_160_003


@pytest.mark.parametrize(("kernel", "same"), [("turn", True), ("turn_racing", False)])
def test_a_missing_barrier_shows_in_the_order_of_threads(kernel, same):
    found = []
    for reverse in (False, True):
        host = device(reverse=reverse)
        y = host.empty(32, "int64")
        host.launch("float64", kernel, 1, 32, 32 * 8, [host.put(np.arange(32)), y])
        found.append(host.get(y))
    assert np.array_equal(*found) == same
    assert np.array_equal(found[0], np.roll(np.arange(32), -1)) == same


def test_a_write_of_every_block_to_one_place_shows_in_the_order_of_blocks():
    found = []
    for reverse in (False, True):
        host = device(reverse=reverse)
        y = host.empty(1, "int64")
        host.launch("float64", "blocks_racing", 5, 1, 0, [y])
        found.append(int(host.get(y)[0]))
    assert found == [4, 0]


@pytest.mark.parametrize("kind", ["library", "ucontext"])
def test_barriers_that_some_threads_miss_are_errors(kind):
    host = device(kind=kind)
    y = host.put(np.zeros(64, int))
    message = "some_return, block 0, thread 3: .* thread 0 waits at test.cu:[0-9]+, thread 3 has returned"
    with pytest.raises(HostError, match=message):
        host.launch("float64", "some_return", 2, 8, 0, [y])
    with pytest.raises(HostError, match=r"thread 0 waits at test.cu:(\d+), thread 2 waits at test.cu:(?!\1)"):
        host.launch("float64", "two_barriers", 1, 8, 0, [y])
    host.launch("float64", "rounds", 1, 64, 0, [y, 101])  # and the next launch is a launch like any other
    assert set(host.get(y)) == {5050}


def test_shared_memory_is_fresh_and_fenced(host):
    y = host.empty(2, "float64")
    host.launch("float64", "shared_as_found", 2, 1, 8, [y])
    assert np.isnan(host.get(y)).all()
    host.launch("float64", "shared_beyond", 1, 1, 8 * 5, [y, 4])
    for count in (5, 6, 1000):
        with pytest.raises(HostError, match=r"shared_beyond.*(outside of the 40 bytes|beyond) .*shared"):
            host.launch("float64", "shared_beyond", 1, 1, 8 * 5, [y, count])
    with pytest.raises(HostError, match="outside of the 40 bytes"):
        host.launch("float64", "shared_before", 1, 1, 8 * 5, [y])


def test_accesses_outside_of_an_array_are_errors(host):
    for size, thread in ((4, 4), (5, 6)):  # ends at the fence, and 8 bytes before it
        x, y = host.put(np.ones(size)), host.empty(8, "float64")
        host.launch("float64", "scale", 1, 1, 0, [x, y, size, 1.0])
        with pytest.raises(HostError, match=f"thread {thread}: .*byte {8 * thread} of x, which has {8 * size}"):
            host.launch("float64", "scale", 1, 64, 0, [x, y, 8, 1.0])
    y = host.empty(5, "float64")
    with pytest.raises(HostError, match=r"write just outside of y \(HostArray\(shape=\(5,\), dtype=float64\)\)"):
        host.launch("float64", "scale", 1, 1, 0, [host.put(np.ones(6)), y, 6, 1.0])
    with pytest.raises(HostError, match=r"byte 0 of y, which has 0"):
        host.launch("float64", "divide", 1, 1, 0, [host.empty(0, "int64"), 7])


def test_other_faults_are_errors(host):
    y = host.empty(1, "int64")
    with pytest.raises(HostError, match="division of an integer by zero"):
        host.launch("float64", "divide", 1, 1, 0, [y, 0])
    with pytest.raises(HostError, match="stack"):
        host.launch("float64", "recurse", 1, 1, 0, [y, 100_000])
    host.launch("float64", "recurse", 1, 1, 0, [y, 10])
    assert host.get(y) == 55


@pytest.mark.parametrize(("kernel", "good", "bad"), [("vector", 2, 1), ("local", 3, 4)])
def test_misaligned_vectors_and_local_indices_are_errors(host, kernel, good, bad):
    y = host.empty(4, "float64")
    host.launch("float64", kernel, 1, 1, 0, [y, good])
    with pytest.raises(
        HostError, match=rf"kernel {kernel}, block 0, thread 0: undefined: a misaligned .*( at test\.cu:\d+)?$"
    ):
        host.launch("float64", kernel, 1, 1, 0, [y, bad])


def test_overflow_is_an_error(host):
    y = host.put(np.array([2**31]))
    host.launch("float64", "square", 1, 1, 0, [y])
    with pytest.raises(HostError, match="overflow"):
        host.launch("float64", "square", 1, 1, 0, [y])


def test_faults_of_python_itself_are_left_alone():
    """After a launch, the signals are whose they were: a crash elsewhere is not swallowed."""
    script = "import ctypes, faulthandler; faulthandler.enable(); import sys; sys.path.insert(0, sys.argv[1])\n"
    script += "from hostcuda import HostDevice\nhost = HostDevice(text=sys.stdin.read())\n"
    script += "host.launch('float64', 'divide', 1, 1, 0, [host.empty(1, 'int64'), 7])\nctypes.string_at(8)\n"
    path = next(path for path in sys.path if path.endswith("kernels"))
    done = subprocess.run([sys.executable, "-c", script, path], input=KERNELS, capture_output=True, text=True)
    assert done.returncode == -11, done
    assert "Segmentation fault" in done.stderr


def test_fresh_memory_is_poisoned(host):
    assert np.isnan(host.get(host.empty((2, 3), "float32"))).all()
    assert (host.get(host.empty(4, "int64")) < -(2**61)).all()


def test_arrays_are_closed_to_numpy_and_copied(host):
    mine = np.ones((3, 2))[:, ::-1]
    array = host.put(mine)
    mine[...] = 2.0
    assert (array.shape, array.dtype, array.nbytes) == ((3, 2), np.dtype("float64"), 48)
    np.testing.assert_array_equal(host.get(array), np.ones((3, 2)))
    with pytest.raises(TypeError, match=r"device\.get"):
        np.asarray(array)
    with pytest.raises(TypeError):
        array + 1.0
    pending = host.fetch([array])
    host.launch("float64", "scale", 1, 1, 0, [array, array, 6, 3.0])
    np.testing.assert_array_equal(pending.wait()[0], np.ones((3, 2)))  # of before the launch
    np.testing.assert_array_equal(host.get(array), 3 * np.ones((3, 2)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: "float32"}, "x: expected float64, got float32"),
        ({0: np.zeros(4)}, "x: expected an array of the device, got ndarray"),
        ({2: 4.0}, "n: expected int, got 4.0"),
        ({2: np.int32(4)}, "n: expected int"),
        ({2: True}, "n: expected int"),
        ({3: 1}, "a: expected float, got 1"),
        ({3: np.float32(1)}, "a: expected float"),
    ],
)
def test_arguments_of_another_type_are_errors(host, change, message):
    arguments = [host.put(np.zeros(4)), host.empty(4, "float64"), 4, 1.0]
    host.launch("float64", "scale", 1, 1, 0, arguments)
    for place, value in change.items():
        arguments[place] = host.empty(4, value) if isinstance(value, str) else value
    with pytest.raises(HostError, match=message):
        host.launch("float64", "scale", 1, 1, 0, arguments)


def test_launches_that_cannot_be_are_errors(host):
    arguments = [host.put(np.zeros(4)), host.empty(4, "float64"), 4, 1.0]
    for blocks, threads, shared in ((0, 1, 0), (1, 0, 0), (1, 1025, 0), (1, 1, 227 * 1024 + 1)):
        with pytest.raises(HostError, match=f"{blocks} blocks of {threads} threads with {shared} bytes"):
            host.launch("float64", "scale", blocks, threads, shared, arguments)
    with pytest.raises(HostError, match="expected 4 arguments, got 3"):
        host.launch("float64", "scale", 1, 1, 0, arguments[:3])
    with pytest.raises(HostError, match="float16"):
        host.launch("float16", "scale", 1, 1, 0, arguments)
    with pytest.raises(HostError, match="__restrict__"):
        host.launch("float64", "apart", 1, 1, 0, [arguments[0], arguments[0]])


def test_signatures_and_their_rules():
    found = signatures(KERNELS)
    assert next(iter(found)) == "scale"
    assert [(p.name, p.kind, p.constant) for p in found["scale"]] == [
        ("x", "REAL", True), ("y", "REAL", False), ("n", "int", False), ("a", "float", False),
    ]  # fmt: skip
    assert signatures("// KERNEL gone(int n) {}\n#define KERNEL extern\nKERNEL none() {}") == {"none": []}
    for bad in ("float a", "int n", "double** x", "short* x"):
        with pytest.raises(ValueError, match="kernels take pointers, long long and double"):
            signatures(f"KERNEL k({bad}) {{}}")


def test_what_cuda_has_built_in(host):
    y = host.put(np.array([2**63 + 5, 2**62 + 3], np.uint64))
    host.launch("float64", "high", 1, 1, 0, [y])
    assert int(host.get(y)[0]) == ((2**63 + 5) * (2**62 + 3)) >> 64
    y = host.put(np.array([7, -5, 2], np.int32))
    host.launch("float64", "flags", 1, 2, 0, [y, host.put(np.array([1, 0, 1], np.uint8))])
    np.testing.assert_array_equal(host.get(y), [3, -1, 2])


def test_memory_and_crossings_are_counted():
    host = device(memory=4096)
    x = host.put(np.zeros(256))
    y = host.empty(128, "float32")
    assert (host.held, host.sent) == (2560, 2048)
    del x
    host.get(y)
    assert (host.held, host.peak, host.received) == (512, 2560, 512)
    with pytest.raises(MemoryError, match="does not fit"):
        host.empty(3585, "uint8")
    host.launch("float64", "where", 1, 1, 0, [host.empty(1, "int64")])
    assert host.launched == {"where": 1}


def test_a_source_that_does_not_compile_says_where():
    host = HostDevice(text=COMMON + '#line 1 "mine.cu"\nKERNEL bad(Int* y) {\n\ny[0] = nothing; }\n')
    with pytest.raises(RuntimeError, match=r"mine\.cu:3:.*error"):
        host.launch("float64", "bad", 1, 1, 0, [host.empty(1, "int64")])


@pytest.mark.parametrize(
    ("kernel", "racing"),
    [("total", False), ("total_racing", True), ("turn", False), ("turn_racing", True), ("blocks_racing", True)],
)
def test_real_threads_show_races_and_nothing_else(tmp_path, kernel, racing):
    if unavailable():
        pytest.skip(f"no ThreadSanitizer: {unavailable()}")
    host = device(record=tmp_path)
    x, y = host.put(np.arange(16)), host.empty(16, "int64")
    real, sums = host.put(np.linspace(0, 1, 16)), host.empty(3, "float64")
    if kernel.startswith("total"):
        host.launch("float64", kernel, 3, 16, 16 * 8, [real, sums, 16])
    elif kernel.startswith("turn"):
        host.launch("float64", kernel, 1, 16, 16 * 8, [x, y])
    else:
        host.launch("float64", kernel, 5, 1, 0, [y])
    found = replay(tmp_path)
    assert found.repeated == {kernel}
    assert ("data race" in found.said) == racing
    if not racing:
        assert (found.said, found.other) == ("", set())


def test_a_repetition_compares_bits(tmp_path):
    if unavailable():
        pytest.skip(f"no ThreadSanitizer: {unavailable()}")
    host = device(record=tmp_path)
    host.launch("float64", "scale", 1, 4, 0, [host.put(np.ones(4)), host.empty(4, "float64"), 4, 2.0])
    (path,) = tmp_path.glob("*.float64")
    assert replay(tmp_path).other == set()
    words = np.fromfile(path, np.int64)
    words[-1] = np.array(3.0).view(np.int64)  # the last argument: other results than those recorded
    words.tofile(path)
    assert replay(tmp_path).other == {"scale"}


@pytest.mark.slow
def test_address_sanitizer_finds_bad_accesses(tmp_path):
    if unavailable("address"):
        pytest.skip(f"no AddressSanitizer: {unavailable('address')}")
    host = device(record=tmp_path)
    host.launch("float64", "scale", 1, 4, 0, [host.put(np.ones(4)), host.empty(4, "float64"), 4, 2.0])
    (path,) = tmp_path.glob("*.float64")
    assert replay(tmp_path, "address") == (set(), {"scale"}, "")
    words = np.fromfile(path, np.int64)
    assert words[-3] == 4
    words[-3] = 5
    words.tofile(path)
    assert "heap-buffer-overflow" in replay(tmp_path, "address").said
