"""Small matrix products over a block of samples, in registers. The kernels spend most of their time here.

A compiler either vectorises the innermost loop of a product or keeps its sums in registers, but not both. The tile is
therefore written in LLVM's intermediate language: four rows of the result times a few vectors of samples stay in
registers while the inner index runs. Nothing is packed or copied, since all operands of a group fit in cache. Unlike
with BLAS, products with 16 rows are as fast as large ones, no library threads are woken, and the order of every sum
depends on the shapes alone.

Rows of results come in fours and samples in whole vectors; callers pad with zeros.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from wgflow.kernels.cpu.flags import LEAF
from wgflow.kernels.cpu.vectors import BYTES, CHECKED, WIDE, Emitter, within

# int64 rather than Python literals, for each of which Numba would compile a function again
ROWS = np.int64(4)  # rows of a tile; row counts are padded to multiples of it
ZERO, ONE = np.int64(0), np.int64(1)

# Vectors in a tile of `multiply`, right-hand rows in a tile of `correlate`: as many sums as there are registers, less
# those for operands.
_VECTORS, _PARTNERS = (4, 4) if WIDE else (2, 2)

_INDEX = ir.IntType(64)


def _multiply_tile(vectors: int) -> Any:
    """Intrinsic of one tile of :func:`multiply`, ROWS rows times ``vectors`` vectors of samples."""

    @intrinsic
    def tile(typing, left, lo, step, inner, right, ro, r_row, base, bo, b_row, add, out, oo, o_row):
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lo, step, inner, ro, r_row, bo, b_row, add, oo, o_row = (args[i] for i in (1, 2, 3, 5, 6, 8, 9, 10, 12, 13))
            arrays = [0, 4, 7, 11]
            emit = Emitter(context, builder, [signature.args[i] for i in arrays], [args[i] for i in arrays])
            sums = emit.zeros(int(ROWS), vectors)
            cells = [(r, v) for r in range(ROWS) for v in range(vectors)]
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
                for r in range(ROWS):
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
    def tile(typing, left, lo, l_row, right, ro, r_row, vectors, out, oo, o_row):
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lo, l_row, ro, r_row, vectors, oo, o_row = (args[i] for i in (1, 2, 4, 5, 6, 8, 9))
            arrays = [0, 3, 7]
            emit = Emitter(context, builder, [signature.args[i] for i in arrays], [args[i] for i in arrays])
            sums = emit.zeros(int(ROWS), partners)
            for row in sums:
                for slot in row:
                    builder.store(ir.Constant(emit.vector, None), slot)
            with cgutils.for_range(builder, vectors) as loop:
                m = builder.mul(loop.index, ir.Constant(_INDEX, emit.lanes))
                h = [emit.load(emit.at(0, lo, (l_row, r), m)) for r in range(ROWS)]
                for c in range(partners):
                    p = emit.load(emit.at(1, ro, (r_row, c), m))
                    for r in range(ROWS):
                        emit.add_product(h[r], p, sums[r][c])
            totals = _totals(emit, [builder.load(slot) for row in sums for slot in row])
            rows = emit.lanes // partners  # of the tile in one vector of totals
            for r in range(ROWS):
                first = r % rows * partners
                row = emit.shuffle(totals[r // rows], totals[r // rows], list(range(first, first + partners)))
                pointer = emit.at(2, oo, (o_row, r))
                emit.store(builder.fadd(emit.load(pointer, row.type), row), pointer)
            return context.get_dummy_value()

        n = types.int64
        return types.void(left, n, n, right, n, n, n, out, n, n), generate

    return tile


def _totals(emit: Emitter, vectors: list[Any]) -> list[Any]:
    """Sums over the lanes of each vector, in order, packed into vectors.

    Two vectors become one by adding neighbours, first within the 16-byte lanes of a register, then whole lanes: the
    shuffles a processor has instructions for.
    """
    inside = 16 // emit.size
    steps = [1] * (inside.bit_length() - 1) + [inside] * ((emit.lanes // inside).bit_length() - 1)
    for step in steps:
        even, odd = _neighbours(emit.lanes, step, inside)
        vectors = [
            emit.builder.fadd(emit.shuffle(u, v, even), emit.shuffle(u, v, odd))
            for u, v in zip(vectors[::2], vectors[1::2], strict=True)
        ]
    return vectors


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


_wide_tile, _narrow_tile, _sums_tile = _multiply_tile(_VECTORS), _multiply_tile(1), _correlate_tile(_PARTNERS)


@njit(**LEAF)
def multiply(left, place, step, rows, inner, right, r, columns, base, b, add, out, o):
    """out[o + i, m] = (base[b + i, m] if add else 0) + sum_(k < inner) L_ik right[r + k, m] for i < rows, m < columns.

    L_ik is the element place + i + k step of ``left``: the product reads four neighbours at a time. ``base`` may be
    ``out`` itself. rows is a multiple of ROWS, columns of a vector's lanes.
    """
    lanes = BYTES // right.itemsize
    wide = lanes * _VECTORS
    r_row, b_row, o_row = right.shape[1], base.shape[1], out.shape[1]
    if CHECKED:
        within(left, place + rows - 1 + (inner - 1) * step)
        within(right, (r + inner - 1) * r_row + columns - 1)
        within(base, (b + rows - 1 if add else b) * b_row + columns - 1)
        within(out, (o + rows - 1) * o_row + columns - 1)
    for i in range(0, rows, ROWS):
        l0, r0, b0, o0 = place + i, r * r_row, (b + i) * b_row, (o + i) * o_row
        m = 0
        while m + wide <= columns:
            _wide_tile(left, l0, step, inner, right, r0 + m, r_row, base, b0 + m, b_row, add, out, o0 + m, o_row)
            m += wide
        while m < columns:
            _narrow_tile(left, l0, step, inner, right, r0 + m, r_row, base, b0 + m, b_row, add, out, o0 + m, o_row)
            m += lanes


@njit(**LEAF)
def correlate(left, i, rows, right, j, partners, columns, out, o, column):
    """out[o + a, column + b] += sum_(m < columns) left[i + a, m] right[j + b, m] for a < rows, b < partners.

    rows and partners are multiples of ROWS, columns of a vector's lanes.
    """
    vectors = columns // (BYTES // left.itemsize)
    l_row, r_row, o_row = left.shape[1], right.shape[1], out.shape[1]
    if CHECKED:
        within(left, (i + rows - 1) * l_row + columns - 1)
        within(right, (j + partners - 1) * r_row + columns - 1)
        within(out, (o + rows - 1) * o_row + column + partners - 1)
    for b in range(0, partners, _PARTNERS):
        for a in range(0, rows, ROWS):
            place = (o + a) * o_row + column + b
            _sums_tile(left, (i + a) * l_row, l_row, right, (j + b) * r_row, r_row, vectors, out, place, o_row)
