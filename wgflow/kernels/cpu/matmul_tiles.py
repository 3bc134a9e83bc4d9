"""Small matrix products over a block of samples, in registers. The kernels spend most of their time here.

A compiler either vectorises the innermost loop of a product or keeps its sums in registers, but not both. The tile is
therefore written in LLVM's intermediate language: four rows of the result times a few vectors of samples stay in
registers while the inner index runs. Nothing is packed or copied, since all operands of a group fit in cache. Unlike
with BLAS, products with 16 rows are as fast as large ones, no library threads are woken, and the order of every sum
depends on the shapes alone.

Samples come in whole vectors. Rows of results may be any number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from wgflow.kernels.cpu.flags import LEAF
from wgflow.kernels.cpu.vectors import BYTES, CHECKED, WIDE, Emitter, flat, within

# int64 rather than Python literals, for each of which Numba would compile a function again
ROWS = np.int64(4)  # rows of a tile at most
ZERO, ONE = np.int64(0), np.int64(1)

# Vectors in a tile of `multiply`, right-hand rows in a tile of `correlate` at most: as many sums as there are
# registers, less those for operands.
_VECTORS, _PARTNERS = (4, 4) if WIDE else (2, 2)

_INDEX = ir.IntType(64)


def _multiply_tile(rows: int, vectors: int) -> Any:
    """Intrinsic of one tile of :func:`multiply`, ``rows`` rows times ``vectors`` vectors of samples."""

    @intrinsic
    def tile(typing, left, lo, step, inner, right, ro, r_row, base, bo, b_row, add, out, oo, o_row):
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lo, step, inner, ro, r_row, bo, b_row, add, oo, o_row = (args[i] for i in (1, 2, 3, 5, 6, 8, 9, 10, 12, 13))
            arrays = [0, 4, 7, 11]
            emit = Emitter(context, builder, [signature.args[i] for i in arrays], [args[i] for i in arrays])
            sums = emit.zeros(rows, vectors)
            cells = [(r, v) for r in range(rows) for v in range(vectors)]
            with builder.if_else(builder.icmp_signed("!=", add, ir.Constant(_INDEX, 0))) as (yes, no):
                with yes:
                    for r, v in cells:
                        builder.store(emit.load(emit.at(2, bo, (b_row, r), v * emit.lanes)), sums[r][v])
                with no:
                    for r, v in cells:
                        builder.store(ir.Constant(emit.vector, None), sums[r][v])
            with cgutils.for_range(builder, inner) as loop:
                k = loop.index
                x = [emit.load(emit.at(1, ro, (r_row, k), v * emit.lanes)) for v in range(vectors)]
                for r in range(rows):
                    factor = emit.splat(builder.load(emit.at(0, lo, (step, k), r)))
                    for v in range(vectors):
                        emit.add_product(factor, x[v], sums[r][v])
            for r, v in cells:
                emit.store(builder.load(sums[r][v]), emit.at(3, oo, (o_row, r), v * emit.lanes))
            return context.get_dummy_value()

        n = types.int64
        return types.void(left, n, n, n, right, n, n, base, n, n, n, out, n, n), generate

    return tile


def _correlate_tile(partners: int) -> Any:
    """Intrinsic of one tile of :func:`correlate`, ROWS rows times ``partners`` rows."""

    @intrinsic
    def tile(typing, left, lo, l_row, right, ro, r_row, vectors, add, out, oo):
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lo, l_row, ro, r_row, vectors, add, oo = (args[i] for i in (1, 2, 4, 5, 6, 7, 9))
            arrays = [0, 3, 8]
            emit = Emitter(context, builder, [signature.args[i] for i in arrays], [args[i] for i in arrays])
            sums = emit.zeros(partners, int(ROWS))
            for row in sums:
                for slot in row:
                    builder.store(ir.Constant(emit.vector, None), slot)
            with cgutils.for_range(builder, vectors) as loop:
                m = builder.mul(loop.index, ir.Constant(_INDEX, emit.lanes))
                h = [emit.load(emit.at(0, lo, (l_row, r), m)) for r in range(ROWS)]
                for c in range(partners):
                    p = emit.load(emit.at(1, ro, (r_row, c), m))
                    for r in range(ROWS):
                        emit.add_product(h[r], p, sums[c][r])
            adds, first = builder.icmp_signed("!=", add, ir.Constant(_INDEX, 0)), 0
            while first < partners:
                count = _batch(partners - first, emit.lanes)
                batch = [builder.load(slot) for row in sums[first : first + count] for slot in row]
                total = _totals(emit, batch)
                pointer = emit.at(2, oo, int(ROWS) * first)
                before = emit.load(pointer, total.type)
                emit.store(builder.select(adds, builder.fadd(before, total), total), pointer)
                first += count
            return context.get_dummy_value()

        n = types.int64
        return types.void(left, n, n, right, n, n, n, n, out, n), generate

    return tile


def _batch(partners: int, lanes: int) -> int:
    """Partners whose totals fill one vector, or as large a part of one as there are partners for."""
    count = lanes // int(ROWS)
    while count > partners:
        count //= 2
    return count


def _totals(emit: Emitter, vectors: list[Any]) -> Any:
    """Vector of the sums over the lanes of each vector.

    Lanes beyond the number of vectors are first added to those below. Then two vectors become one by adding neighbours,
    first within the 16-byte lanes of a register, then whole lanes: the shuffles a processor has instructions for.
    """
    lanes, count, inside = emit.lanes, len(vectors), 16 // emit.size
    while lanes > count:
        lanes //= 2
        low, high = list(range(lanes)), list(range(lanes, 2 * lanes))
        vectors = [emit.builder.fadd(emit.shuffle(v, v, low), emit.shuffle(v, v, high)) for v in vectors]
    steps = [1] * (inside.bit_length() - 1) + [inside] * ((lanes // inside).bit_length() - 1)
    for step in steps:
        even, odd = _neighbours(lanes, step, inside)
        vectors = [
            emit.builder.fadd(emit.shuffle(u, v, even), emit.shuffle(u, v, odd))
            for u, v in zip(vectors[::2], vectors[1::2], strict=True)
        ]
    return vectors[0]


def _neighbours(lanes: int, step: int, inside: int) -> tuple[list[int], list[int]]:
    """Places of the even and the odd elements (step 1, lane by lane) or 16-byte lanes of two vectors."""
    starts = range(0, lanes, inside) if step == 1 else [0]
    stop = inside if step == 1 else lanes
    even, odd = list[int](), list[int]()
    for start in starts:
        for vector in (0, lanes):
            for place in range(start, start + stop, 2 * step):
                even += range(vector + place, vector + place + step)
                odd += range(vector + place + step, vector + place + 2 * step)
    return even, odd


def _strip(rows: int) -> Any:
    """Function for some rows of :func:`multiply`."""
    wide_tile, narrow_tile = _multiply_tile(rows, _VECTORS), _multiply_tile(rows, 1)

    @njit(**LEAF)
    def strip(left, lo, step, inner, right, ro, columns, base, bo, add, out, oo):
        lanes = BYTES // right.itemsize
        wide, r_row, b_row, o_row, m = lanes * _VECTORS, right.shape[1], base.shape[1], out.shape[1], 0
        while m + wide <= columns:
            wide_tile(left, lo, step, inner, right, ro + m, r_row, base, bo + m, b_row, add, out, oo + m, o_row)
            m += wide
        while m < columns:
            narrow_tile(left, lo, step, inner, right, ro + m, r_row, base, bo + m, b_row, add, out, oo + m, o_row)
            m += lanes

    return strip


_strip_1, _strip_2, _strip_4 = map(_strip, (1, 2, 4))
_sums_1, _sums_2, _sums_3, _sums_4 = map(_correlate_tile, (1, 2, 3, 4))


@njit(**LEAF)
def multiply(left, place, step, rows, inner, right, r, columns, base, b, add, out, o):
    """out[o + i, m] = (base[b + i, m] if add else 0) + sum_(k < inner) L_ik right[r + k, m] for i < rows, m < columns.

    L_ik is the element place + i + k step of ``left``: the product reads up to four neighbours at a time. ``base`` may
    be ``out`` itself. columns is a multiple of a vector's lanes.
    """
    factors, r0, i = flat(left), r * right.shape[1], 0
    if CHECKED:
        within(left, place + rows - 1 + (inner - 1) * step)
        within(right, (r + inner - 1) * right.shape[1] + columns - 1)
        within(base, (b + rows - 1 if add else b) * base.shape[1] + columns - 1)
        within(out, (o + rows - 1) * out.shape[1] + columns - 1)
    while i < rows:
        height, lo, bo, oo = rows - i, place + i, (b + i) * base.shape[1], (o + i) * out.shape[1]
        if height >= 4:
            _strip_4(factors, lo, step, inner, right, r0, columns, base, bo, add, out, oo)
            i += 4
        elif height >= 2:
            _strip_2(factors, lo, step, inner, right, r0, columns, base, bo, add, out, oo)
            i += 2
        else:
            _strip_1(factors, lo, step, inner, right, r0, columns, base, bo, add, out, oo)
            i += 1


@njit(**LEAF)
def _partners(left):
    """Right-hand rows of the next tile, if so many are left: never one of several, whose sums would wait."""
    if left > _PARTNERS:
        return min(left - 2, _PARTNERS)
    return left


@njit(**LEAF)
def correlate(left, i, right, j, partners, columns, add, out, panel, column):
    """out[panel, column + b, a] = (itself if add else 0) + sum_(m < columns) left[i + a, m] right[j + b, m].

    For a < ROWS, b < partners; columns is a multiple of a vector's lanes.
    """
    vectors, l_row, r_row = columns // (BYTES // left.itemsize), left.shape[1], right.shape[1]
    lo, place, b = i * l_row, (panel * out.shape[1] + column) * ROWS, 0
    if CHECKED:
        within(left, (i + ROWS - 1) * l_row + columns - 1)
        within(right, (j + partners - 1) * r_row + columns - 1)
        within(out, place + partners * ROWS - 1)
    while b < partners:
        count, ro, oo = _partners(partners - b), (j + b) * r_row, place + b * ROWS
        if count == 4:
            _sums_4(left, lo, l_row, right, ro, r_row, vectors, add, out, oo)
        elif count == 3:
            _sums_3(left, lo, l_row, right, ro, r_row, vectors, add, out, oo)
        elif count == 2:
            _sums_2(left, lo, l_row, right, ro, r_row, vectors, add, out, oo)
        else:
            _sums_1(left, lo, l_row, right, ro, r_row, vectors, add, out, oo)
        b += count
