"""Compiled forward and backward pass of ridge units f(x, theta) = a sigma(w . x + b), for any network of layers.

Samples are processed in blocks that stay in cache. Within a block the state is (D, samples), so that a vector register
holds one coordinate of several samples, and the groups of :mod:`wgflow.kernels.cpu.groups` are applied in sequence, as
matrix products. The tape stores, for each group, its state X_start (one for all pieces of a wide layer) followed by
its values h: nothing is computed twice, gradients are exact for the stored states, and memory does not depend on M.
"""

from __future__ import annotations

from numba import njit

from wgflow.kernels.cpu.flags import LEAF
from wgflow.kernels.cpu.functions import apply, pull_back
from wgflow.kernels.cpu.groups import CLOSES, COUNT, ENTRY, FLAG, NEXT, OPENS, SLOT, SLOTS, STATE, TRIANGLE, VALUE
from wgflow.kernels.cpu.input_output import clear, load, output_gradient, read
from wgflow.kernels.cpu.matmul_tiles import ONE, ROWS, ZERO, correlate, multiply


@njit(**LEAF)
def _add_scaled(factor, row, out_row):
    for m in range(out_row.size):
        out_row[m] += factor * row[m]


@njit(**LEAF)
def _scatter_units(group, ca, width, columns, tape):
    """X_end if unit e of the network moves coordinate e mod D alone."""
    slot, entry, into = group[SLOT], group[ENTRY], group[NEXT]
    if group[FLAG] & OPENS:
        for d in range(ca.shape[1]):
            for m in range(columns):
                tape[into + d, m] = tape[group[STATE] + d, m]
    for i in range(group[COUNT]):
        d = (entry + i) % width
        _add_scaled(ca[slot + i, d], tape[group[VALUE] + i], tape[into + d, :columns])


@njit(**LEAF)
def _gather_units(group, i, width, columns, out_adjoint, r):
    """Q of four such units from p_end: the adjoint of their coordinates, 0 in padding."""
    for j in range(ROWS):
        d, there = (group[ENTRY] + i + j) % width, i + j < group[COUNT]
        for m in range(columns):
            out_adjoint[r + j, m] = out_adjoint[d, m] if there else 0.0


@njit(**LEAF)
def _forward_group(group, stack, model, columns, scratch):
    """H of a group from its X_start, and X_end (the sum so far, for a piece of a wide layer)."""
    w, ca, tape = stack.w, stack.ca, scratch.tape
    width, inner = ca.shape[1], w.shape[1]
    slot, slots, state, value, into = group[SLOT], group[SLOTS], group[STATE], group[VALUE], group[NEXT]
    triangle = group[FLAG] & TRIANGLE
    for i in range(0, slots, ROWS):
        known = width + i if triangle else width  # rows of [X; h] that these z depend on
        place = (slot + i) * inner
        multiply(w, place, ROWS, ROWS, known, tape, state, columns, tape, ZERO, ZERO, tape, value + i)
        for j in range(i, i + ROWS):
            z = tape[value + j, :columns]
            if triangle:
                for k in range(i, j):
                    _add_scaled(w[(slot + i) // ROWS, width + k, j - i], tape[value + k], z)
            kept = slot + j if model.keep else 0
            apply(model, stack.bias[slot + j], z, scratch.slope[kept])
    if model.coordinate > 0:
        _scatter_units(group, ca, model.coordinate, columns, tape)
        return
    base = state if group[FLAG] & OPENS else into
    multiply(ca, slot * width, width, width, slots, tape, value, columns, tape, base, ONE, tape, into)


@njit(**LEAF)
def _backward_group(group, stack, model, columns, scratch, adjoint, out_adjoint, out_parts):
    """From p_end, the first rows of ``adjoint``, to p_start in ``out_adjoint``, adding to the sums of the group."""
    a, cw, tape = stack.a, stack.cw, scratch.tape
    width, inner, column = cw.shape[1], a.shape[1], out_parts.shape[1] - 2
    slot, slots, state, value = group[SLOT], group[SLOTS], group[STATE], group[VALUE]
    triangle = group[FLAG] & TRIANGLE
    for i in range(slots - ROWS, -1, -ROWS):
        r = width + slots - ROWS - i
        known = r if triangle else width
        place = (slot + i) * inner
        if model.coordinate > 0:
            _gather_units(group, i, model.coordinate, columns, adjoint, r)
        else:
            multiply(a, place, ROWS, ROWS, known, adjoint, ZERO, columns, adjoint, ZERO, ZERO, adjoint, r)
        for j in range(ROWS - 1, -1, -1):
            q, h, row = adjoint[r + j, :columns], tape[value + i + j, :columns], slot + i + j
            if triangle:
                for k in range(j + 1, ROWS):
                    _add_scaled(a[(slot + i) // ROWS, r + k, j], adjoint[r + k], q)
            along, sum_ = pull_back(model.activation, h, scratch.slope[row if model.keep else 0], q)
            out_parts[row, column] += along
            out_parts[row, column + 1] += sum_
        correlate(adjoint, r, ROWS, tape, state, width, columns, out_parts, slot + i, width)
        if triangle:
            correlate(tape, value + i, ROWS, adjoint, width, slots - i, columns, out_parts, slot + i, 2 * width)
    if model.coordinate == 0:
        correlate(tape, value, slots, adjoint, ZERO, width, columns, out_parts, slot, ZERO)
    if group[STATE] > 0:  # the adjoint before the first layer is not needed
        base = adjoint if group[FLAG] & CLOSES else out_adjoint
        multiply(cw, slot * width, width, width, slots, adjoint, width, columns, base, ZERO, ONE, out_adjoint, ZERO)


@njit(**LEAF)
def ridge_pass(samples, model, stack, low, high, scratch, out_output, out_parts):
    """Outputs, (M, K), and sums over samples low..high-1 for :func:`wgflow.kernels.cpu.groups.finish_gradients`.

    With ``model.loss`` < 0 the outputs alone: one kernel for both, since a second one would take another second to
    compile. The arguments are those of :mod:`wgflow.kernels.cpu.arguments`.
    """
    groups, tape, adjoints = stack.groups, scratch.tape, scratch.adjoints
    block, lanes = tape.shape[1], model.lanes
    if model.loss >= 0:
        clear(out_parts)
    for begin in range(low, high, block):
        end = min(begin + block, high)
        columns = (end - begin + lanes - 1) // lanes * lanes
        load(samples.start, begin, end, columns, tape)
        state = ZERO
        for g in range(groups.shape[0]):
            _forward_group(groups[g], stack, model, columns, scratch)
            state = groups[g, NEXT]
        read(tape, state, model.transposed, begin, end, columns, adjoints[1], out_output)
        if model.loss < 0:
            continue
        output_gradient(model, samples.target, begin, end, columns, out_output, adjoints[1], adjoints[0])
        near, far = adjoints[0], adjoints[1]
        for g in range(groups.shape[0] - 1, -1, -1):
            _backward_group(groups[g], stack, model, columns, scratch, near, far, out_parts)
            if groups[g, FLAG] & OPENS:
                near, far = far, near
