"""What a warp's reads of shared memory cost, counted on the host: addresses follow from the source, not from a device.

A multiprocessor returns 128 bytes of shared memory a cycle, and 16 bytes a thread take 4 cycles: one for every eight
threads. If either neighbours (0 and 1, 2 and 3, ...) or threads two apart (0 and 2, 1 and 3, ...) read the same in the
whole warp, sixteen threads share a cycle, and it takes 2. Different 16 bytes in the same banks take a cycle each.
"""

import numpy as np
import pytest
from hostcuda import HostDevice, compiler

from wgflow.kernels.gpu.cuda import source

pytestmark = pytest.mark.skipif(compiler() is None, reason="no g++ to compile the CUDA sources with")

MOST = 4096  # reads of a thread
FOUR = "DEVICE Four four(const REAL* place) { return *reinterpret_cast<const Four*>(place); }"
TRACED = f"""static Int* trace;
inline Four four(const REAL* place)
{{
    Int* mine = trace + THREAD * {MOST};
    const Int at = reinterpret_cast<const char*>(place) - reinterpret_cast<const char*>(hostcuda::place.shared);
    if (trace) mine[1 + mine[0]++] = at;
    return *reinterpret_cast<const Four*>(place);
}}
"""
KERNELS = """
KERNEL traced_product(Int rows, Int columns, Int inner, Int* log, REAL* out)
{
    SHARED(REAL, memory);
    trace = log;
    const int bits = columns < 16 ? 3 : columns < 32 ? 4 : columns < 64 ? 5 : 6;
    product<false>(memory, int(rows), memory + rows * inner, int(columns) + 4, int(rows), bits, int(inner), nullptr, 0,
                   out, int(columns));
    trace = nullptr;
}
KERNEL traced_correlate(Int rows, Int columns, Int width, Int triangle, Int* log, REAL* out)
{
    SHARED(REAL, memory);
    const int stride = int(columns) + 4;
    REAL *r = memory + rows * stride, *x = r + rows * stride, *p = x + width * stride;
    trace = log;
    correlate(memory, r, x, p, stride, int(rows), int(width), int(rows), int(columns), triangle != 0, false, out,
              int(2 * width + rows + 4));
    trace = nullptr;
}
"""


def cycles(addresses):
    """Cycles of one read by a warp: 32 addresses in bytes, or -1 for a thread that does not take part."""
    lanes = np.arange(32)
    idle = addresses < 0
    together = [(idle | idle[lanes ^ bit] | (addresses == addresses[lanes ^ bit])).all() for bit in (1, 2)]
    wide = 16 if any(together) else 8
    total = 0
    for some in addresses.reshape(-1, wide):
        places = np.unique(some[some >= 0]) // 16
        total += np.bincount(places % 8, minlength=8).max()
    return total


def read(kernel, rows, columns, last, *more, threads=128, text=None):
    """Cycles of every read by every warp, in their order."""
    text = (source() if text is None else text).replace(FOUR, TRACED) + KERNELS
    device = HostDevice(text=text)
    log = device.put(np.zeros((threads, MOST), np.int64))
    out = device.empty(rows * max(columns, 2 * last + rows + 4), np.float32)
    device.launch("float32", kernel, 1, threads, 200_000, (rows, columns, last, *more, log, out))
    found = device.get(log)
    taken = []
    for warp in found.reshape(-1, 32, MOST):
        for k in range(warp[:, 0].max()):
            taken.append(cycles(np.where(warp[:, 0] > k, warp[:, 1 + k], -1)))
    return np.array(taken)


@pytest.mark.parametrize("columns", [8, 16, 32, 64])
@pytest.mark.parametrize("rows", [8, 16, 32, 64])
def test_products_read_at_the_least_cost(rows, columns):
    assert FOUR in source()
    assert read("traced_product", rows, columns, 16).max() <= 2


@pytest.mark.parametrize("columns", [32, 64])
@pytest.mark.parametrize("width", [4, 8, 16, 60, 64])
@pytest.mark.parametrize("triangle", [0, 1])
def test_sums_over_samples_read_at_the_least_cost(width, columns, triangle):
    found = read("traced_correlate", 32, columns, width, triangle)
    sums = columns // 4  # reads of 32 rows of r by one warp, which nothing can share
    assert (found.sum() - 4 * sums) / (len(found) - sums) <= (2 if width % 8 == 0 else 3)


def test_cost_is_counted():
    """Of known patterns, and of the plain order of threads."""
    lanes = np.arange(32)
    assert cycles(np.zeros(32, int)) == 2
    assert cycles(16 * lanes) == 4
    assert cycles(128 * lanes) == 32
    assert cycles(16 * (lanes // 2)) == 2
    assert cycles(16 * (lanes % 8)) == 4
    plain = "return {thread % (1 << bits), thread >> bits};"
    start = source().index("const int rest = thread >> (pairs")
    end = source().index("\n}", start)
    text = source()[:start] + plain + source()[end:]
    assert set(read("traced_product", 32, 64, 16, text=text)) == {2, 4}
