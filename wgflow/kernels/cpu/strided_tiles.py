"""Matrix products with operands in any layout, in registers: the parameters of particles are used where they lie.

As in :mod:`wgflow.kernels.cpu.matmul_tiles`, a few rows of the result times a few vectors of columns stay in registers
while the inner index runs. Here the left operand has a stride for its rows and one for the inner index, and the last
vector of a row is masked, so that rows of any length are read and written without padding.
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

# Rows of a tile of 1, 2 and 4 vectors: enough sums to hide the latency of a multiply-add, no more than there are
# registers.
_ROWS_1, _ROWS_2, _ROWS_4 = (np.int64(rows) for rows in ((8, 8, 4) if WIDE else (8, 4, 2)))
_INDEX = ir.IntType(64)


def _tile(rows: int, vectors: int) -> Any:
    """Intrinsic of one tile of :func:`product`, ``rows`` rows times ``vectors`` vectors of columns."""

    @intrinsic
    def tile(typing, left, lo, l_row, l_step, inner, right, ro, r_row, valid, add, out, oo, o_row):
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lo, l_row, l_step, inner, ro, r_row, valid, add, oo, o_row = (
                args[i] for i in (1, 2, 3, 4, 6, 7, 8, 9, 11, 12)
            )
            arrays = [0, 5, 10]
            emit = Emitter(context, builder, [signature.args[i] for i in arrays], [args[i] for i in arrays])
            mask, last = emit.mask(valid), vectors - 1
            sums = emit.zeros(rows, vectors)
            cells = [(r, v) for r in range(rows) for v in range(vectors)]
            for r, v in cells:
                builder.store(ir.Constant(emit.vector, None), sums[r][v])

            def load(pointer: Any, v: int) -> Any:
                return emit.load_masked(pointer, mask) if v == last else emit.load(pointer)

            with cgutils.for_range(builder, inner) as loop:
                k = loop.index
                x = [load(emit.at(1, ro, (r_row, k), v * emit.lanes), v) for v in range(vectors)]
                for r in range(rows):
                    factor = emit.splat(builder.load(emit.at(0, lo, (l_row, r), (l_step, k))))
                    for v in range(vectors):
                        emit.add_product(factor, x[v], sums[r][v])
            places = {(r, v): emit.at(2, oo, (o_row, r), v * emit.lanes) for r, v in cells}
            with builder.if_then(builder.icmp_signed("!=", add, ir.Constant(_INDEX, 0))):
                for r, v in cells:
                    builder.store(builder.fadd(load(places[r, v], v), builder.load(sums[r][v])), sums[r][v])
            for r, v in cells:
                value = builder.load(sums[r][v])
                if v == last:
                    emit.store_masked(value, places[r, v], mask)
                else:
                    emit.store(value, places[r, v])
            return context.get_dummy_value()

        n = types.int64
        return types.void(left, n, n, n, n, right, n, n, n, n, out, n, n), generate

    return tile


_tile_1, _tile_2, _tile_4 = _tile(int(_ROWS_1), 1), _tile(int(_ROWS_2), 2), _tile(int(_ROWS_4), 4)
_pair_1, _pair_2, _pair_4 = _tile(2, 1), _tile(2, 2), _tile(2, 4)
_line_1, _line_2, _line_4 = _tile(1, 1), _tile(1, 2), _tile(1, 4)


@njit(**LEAF)
def product(left, lo, l_row, l_step, rows, inner, right, ro, r_row, columns, add, out, oo, o_row):
    """out[i, c] = (out[i, c] if add else 0) + sum_(k < inner) left[i, k] right[k, c] for i < rows, c < columns.

    An operand begins at place ``lo``, ``ro`` or ``oo`` of its array. Element (i, k) of ``left`` follows at
    i l_row + k l_step, element (k, c) of ``right`` at k r_row + c, element (i, c) of ``out`` at i o_row + c.
    """
    lanes = BYTES // right.itemsize
    if CHECKED:
        within(left, lo + (rows - 1) * l_row + (inner - 1) * l_step)
        within(right, ro + (inner - 1) * r_row + columns - 1)
        within(out, oo + (rows - 1) * o_row + columns - 1)
    c = 0
    while c < columns:
        vectors = (columns - c + lanes - 1) // lanes
        vectors = 4 if vectors >= 4 else 2 if vectors >= 2 else 1
        step = int(_ROWS_4 if vectors == 4 else _ROWS_2 if vectors == 2 else _ROWS_1)
        valid = min(lanes, columns - c - (vectors - 1) * lanes)
        r, o, i = ro + c, oo + c, 0
        while i < rows:
            here, there = lo + i * l_row, o + i * o_row
            if i + step <= rows:
                if vectors == 4:
                    _tile_4(left, here, l_row, l_step, inner, right, r, r_row, valid, add, out, there, o_row)
                elif vectors == 2:
                    _tile_2(left, here, l_row, l_step, inner, right, r, r_row, valid, add, out, there, o_row)
                else:
                    _tile_1(left, here, l_row, l_step, inner, right, r, r_row, valid, add, out, there, o_row)
                i += step
            elif i + 2 <= rows:
                if vectors == 4:
                    _pair_4(left, here, l_row, l_step, inner, right, r, r_row, valid, add, out, there, o_row)
                elif vectors == 2:
                    _pair_2(left, here, l_row, l_step, inner, right, r, r_row, valid, add, out, there, o_row)
                else:
                    _pair_1(left, here, l_row, l_step, inner, right, r, r_row, valid, add, out, there, o_row)
                i += 2
            else:
                if vectors == 4:
                    _line_4(left, here, l_row, l_step, inner, right, r, r_row, valid, add, out, there, o_row)
                elif vectors == 2:
                    _line_2(left, here, l_row, l_step, inner, right, r, r_row, valid, add, out, there, o_row)
                else:
                    _line_1(left, here, l_row, l_step, inner, right, r, r_row, valid, add, out, there, o_row)
                i += 1
        c += vectors * lanes


def _move_tile(vectors: int) -> Any:
    """Intrinsic that moves ``vectors`` vectors of every block of units; see :func:`move`."""

    @intrinsic
    def tile(typing, gradient, place, period, blocks, factor, units, first, squares, valid):
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            place, period, blocks, first, valid = (args[i] for i in (1, 2, 3, 6, 8))
            arrays = [0, 4, 5, 7]
            emit = Emitter(context, builder, [signature.args[i] for i in arrays], [args[i] for i in arrays])
            masks = [None] * (vectors - 1) + [emit.mask(valid)]
            lanes = [v * emit.lanes for v in range(vectors)]

            def load(pointer: Any, mask: Any) -> Any:
                return emit.load(pointer) if mask is None else emit.load_masked(pointer, mask)

            def store(value: Any, pointer: Any, mask: Any) -> None:
                emit.store(value, pointer) if mask is None else emit.store_masked(value, pointer, mask)

            factors = [load(emit.at(1, place, v), mask) for v, mask in zip(lanes, masks, strict=True)]
            (sums,) = emit.zeros(1, vectors)
            for v, mask, total in zip(lanes, masks, sums, strict=True):
                builder.store(load(emit.at(3, place, v), mask), total)
            with cgutils.for_range(builder, blocks) as loop:
                for v, mask, factor_, total in zip(lanes, masks, factors, sums, strict=True):
                    slope = load(emit.at(0, place, (period, loop.index), v), mask)
                    unit = emit.at(2, first, place, (period, loop.index), v)
                    store(builder.call(emit.fma, [factor_, slope, load(unit, mask)]), unit, mask)
                    emit.add_product(slope, slope, total)
            for v, mask, total in zip(lanes, masks, sums, strict=True):
                store(builder.load(total), emit.at(3, place, v), mask)
            return context.get_dummy_value()

        n = types.int64
        return types.void(gradient, n, n, n, factor, units, n, squares, n), generate

    return tile


_move_1, _move_4 = _move_tile(1), _move_tile(4)


@njit(**LEAF)
def move(gradient, size, factor, units, first, squares):
    """units[first + i] += factor[j] gradient[i] and squares[j] += gradient[i]**2, j = i mod period, for i < size.

    The period is the length of ``factor`` and ``squares``.
    """
    lanes, period = BYTES // gradient.itemsize, factor.size
    if CHECKED:
        within(gradient, size - 1)
        within(units, first + size - 1)
        within(squares, period - 1)
    whole = size // period * period
    for low, blocks, high in ((0, size // period, period), (whole, 1, size - whole)):
        place = 0
        while place < high:
            if place + 4 * lanes <= high:
                _move_4(gradient[low:], place, period, blocks, factor, units, first + low, squares, lanes)
                place += 4 * lanes
            else:
                valid = min(lanes, high - place)
                _move_1(gradient[low:], place, period, blocks, factor, units, first + low, squares, valid)
                place += lanes
