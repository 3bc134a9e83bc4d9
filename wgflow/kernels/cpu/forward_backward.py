"""Compiled forward and backward pass of ridge units f(x, theta) = a sigma(w . x + b), for any network of layers.

Samples are processed in blocks that stay in cache. Within a block the state is (D, samples), so that a vector register
holds one coordinate of several samples, and the groups of :mod:`wgflow.kernels.cpu.groups` are applied in sequence, as
matrix products. The tape stores, for each group, its state X_start (one for all pieces of a wide layer), a row of ones
where units have a bias, and its values h: nothing is computed twice, gradients are exact for the stored states, and
memory does not depend on M.
"""

from __future__ import annotations

from numba import njit

from wgflow.kernels.cpu.flags import LEAF, SUM_FLAGS
from wgflow.kernels.cpu.functions import apply, pull_back
from wgflow.kernels.cpu.groups import CLOSES, COUNT, ENTRY, FLAG, NEXT, OPENS, SLOT, SLOTS, STATE, TRIANGLE, VALUE
from wgflow.kernels.cpu.input_output import clear, load, output_gradient, read
from wgflow.kernels.cpu.matmul_tiles import ONE, ROWS, ZERO, correlate, multiply
from wgflow.kernels.cpu.vectors import flat


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


@njit(**SUM_FLAGS)
def _add_along(group, i, width, columns, h, r, slot, out_parts):
    """Sums of h q of four such units, which are g, to the derivatives in those elements of a that are 1."""
    for j in range(ROWS):
        total = h.dtype.type(0)
        for m in range(columns):
            total += h[group[VALUE] + i + j, m] * r[j, m]
        out_parts[(slot + i) // ROWS, (group[ENTRY] + i + j) % width, j] += total


@njit(**LEAF)
def _forward_group(group, stack, model, columns, scratch):
    """H of a group from its X_start, and X_end (the sum so far, for a piece of a wide layer)."""
    w, ca, tape = stack.w, stack.ca, scratch.tape
    width, inner, block = ca.shape[1], w.shape[1], tape.shape[1]
    height = width + inner - stack.a.shape[1]  # of [X; 1], or X if there is no bias
    slot, slots, state, value, into = group[SLOT], group[SLOTS], group[STATE], group[VALUE], group[NEXT]
    triangle = group[FLAG] & TRIANGLE
    if height > width:
        for m in range(columns):
            tape[state + width, m] = 1.0
    step = ONE if triangle or columns < block else ROWS  # rows that are activated together
    size = columns if step == 1 else ROWS * block
    values, slopes = flat(tape), flat(scratch.slope)
    for i in range(0, slots, ROWS):
        known = height + i if triangle else height  # rows of [X; 1; h] that these z depend on
        place = (slot + i) * inner
        multiply(w, place, ROWS, ROWS, known, tape, state, columns, tape, ZERO, ZERO, tape, value + i)
        for j in range(0, ROWS, step):
            z = value + i + j
            if triangle and j > 0:
                multiply(w, place + known * ROWS + j, ROWS, ONE, j, tape, z - j, columns, tape, z, ONE, tape, z)
            kept = (slot + i + j) * block if model.keep else 0
            apply(model, values[z * block : z * block + size], slopes[kept : kept + size])
    if model.coordinate > 0:
        _scatter_units(group, ca, model.coordinate, columns, tape)
        return
    base = state if group[FLAG] & OPENS else into
    multiply(ca, slot * width, width, width, slots, tape, value, columns, tape, base, ONE, tape, into)


@njit(**LEAF)
def _backward_group(group, stack, model, columns, scratch, adjoint, out_adjoint, add, out_parts):
    """From p_end, the first rows of ``adjoint``, to p_start in ``out_adjoint``, and the sums of the group.

    They are added to those of other samples in ``out_parts`` if ``add``.
    """
    a, cw, tape = stack.a, stack.cw, scratch.tape
    width, inner, block = cw.shape[1], a.shape[1], tape.shape[1]
    height = width + stack.w.shape[1] - inner
    slot, slots, state, first = group[SLOT], group[SLOTS], group[STATE], group[VALUE]
    triangle = group[FLAG] & TRIANGLE
    step = ONE if triangle or columns < block else ROWS
    size = columns if step == 1 else ROWS * block
    values, slopes, adjoints = flat(tape), flat(scratch.slope), flat(adjoint)
    for i in range(slots - ROWS, -1, -ROWS):
        r = width + slots - ROWS - i
        known = r if triangle else width
        place, panel = (slot + i) * inner, (slot + i) // ROWS
        if model.coordinate > 0:
            _gather_units(group, i, model.coordinate, columns, adjoint, r)
            _add_along(group, i, model.coordinate, columns, tape, adjoint[r:], slot, out_parts)
        else:
            multiply(a, place, ROWS, ROWS, known, adjoint, ZERO, columns, adjoint, ZERO, ZERO, adjoint, r)
            correlate(tape, first + i, adjoint, ZERO, width, columns, add, out_parts, panel, ZERO)
        for j in range(ROWS - step, -1, -step):
            q, h = r + j, first + i + j
            if triangle and j + 1 < ROWS:
                later = place + (q + 1) * ROWS + j
                multiply(a, later, ROWS, ONE, ROWS - 1 - j, adjoint, q + 1, columns, adjoint, q, ONE, adjoint, q)
            kept = (slot + i + j) * block if model.keep else 0
            value, slope = values[h * block : h * block + size], slopes[kept : kept + size]
            pull_back(model.activation, value, slope, adjoints[q * block : q * block + size])
        correlate(adjoint, r, tape, state, height, columns, add, out_parts, panel, width)
        if triangle:
            correlate(tape, first + i, adjoint, width, slots - i, columns, add, out_parts, panel, width + height)
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
    if model.loss >= 0 and model.coordinate > 0:
        clear(flat(out_parts))
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
            _backward_group(groups[g], stack, model, columns, scratch, near, far, begin - low, out_parts)
            if groups[g, FLAG] & OPENS:
                near, far = far, near
