"""Groups of entries: the plan of a network, its stacked parameters, and its gradients from partial sums.

A group is up to G consecutive entries: several whole layers, or a piece of one wide layer. With the stacks A and W,
weights c and layers k(i) of a group's entries, X_start its state before and p_end its adjoint after,

    z_i = w_i . X_start + b_i + sum_(k(l) < k(i)) c_l (w_i . a_l) h_l,     X_end = X_start + sum_i c_i a_i h_i,
    q_i = a_i . p_end + sum_(k(l) > k(i)) c_l (w_l . a_i) r_l,  r = q sigma'(z),    p_start = p_end + sum_i c_i w_i r_i:

exactly the sequence of layers, in the form of matrix products. The sums T_il = sum_m h_i r_l give the gradients

    d_a g_i = sum h_i p_end + sum_(k(l) > k(i)) T_il c_l w_l,   g_i = sum h_i q_i = a_i . d_a g_i,
    d_w g_i = sum r_i X_start + sum_(k(l) < k(i)) T_li c_l a_l, d_b g_i = sum r_i.

In all products b is an element of w, and 1 one of X.

The products c (w . a) are formed before anything meets a sample: parameters so large that they overflow (1e154 in
float64, 1e19 in float32) give NaN even where every h is 0.

Entries sit in slots, groups padded to multiples of ROWS with slots of zeros. The rows of r are stored in fours from
the last to the first, so that the finished ones of a group follow p without gaps; see ``_reversed_row``.
"""

from __future__ import annotations

from numba import njit

from wgflow.kernels.cpu.flags import LEAF, SUM_FLAGS
from wgflow.kernels.cpu.matmul_tiles import ROWS
from wgflow.kernels.cpu.vectors import flat

# Columns of the table of groups
ENTRY, COUNT, SLOT, SLOTS, STATE, VALUE, NEXT, FLAG = range(8)
TRIANGLE, OPENS, CLOSES = 1, 2, 4  # flags: several layers; first piece of its layer; last piece


@njit(**LEAF)
def plan_groups(first, size, piece, height, tape, out_groups, out_sizes):
    """Table of groups; numbers of groups, slots and tape rows into ``out_sizes``, (3,).

    A group is up to ``size`` entries of several whole layers, or up to ``piece`` >= size entries of one wide layer.

    Rows of the table, (groups, 8): first entry and number of entries, first slot and number of slots, rows of the tape
    at which X_start, h and X_end begin, flags. A state takes ``height`` rows. Without ``tape`` (outputs alone) two
    halves of a short tape alternate.
    """
    half = height + piece
    groups, slot, row, k, layers = 0, 0, 0, 0, first.size - 1
    while k < layers:
        entry, last, inner = first[k], first[k + 1], 0
        k += 1
        if last == entry:
            continue
        while k < layers and first[k + 1] - entry <= size:  # whole layers behind it that still fit
            inner += 1 if first[k + 1] > last else 0
            last = first[k + 1]
            k += 1
        begin, value, padded = entry, row + height, 0
        for low in range(entry, last, piece):
            padded += -(-min(piece, last - low) // ROWS) * ROWS
        following = row + height + padded if tape else half - row
        while entry < last:
            count = min(piece, last - entry)
            slots = -(-count // ROWS) * ROWS
            group = out_groups[groups]
            group[ENTRY], group[COUNT], group[SLOT], group[SLOTS] = entry, count, slot, slots
            group[STATE], group[VALUE], group[NEXT] = row, value, following
            group[FLAG] = (
                (TRIANGLE if inner else 0) + (OPENS if entry == begin else 0) + (CLOSES if entry + count == last else 0)
            )
            groups, slot, entry = groups + 1, slot + slots, entry + count
            value += slots if tape else 0
        row = following
    out_sizes[0], out_sizes[1], out_sizes[2] = groups, slot, row + height if tape else 2 * half


@njit(**LEAF)
def _reversed_row(i, slots):
    """Position of row i among the rows of r."""
    return slots - ROWS - i // ROWS * ROWS + i % ROWS


@njit(**LEAF)
def _layer(first, entry):
    """Layer of an entry, by bisection."""
    low, high = 0, first.size - 1
    while high - low > 1:
        middle = (low + high) // 2
        if first[middle] <= entry:
            low = middle
        else:
            high = middle
    return low


@njit(**SUM_FLAGS)
def _dot(left, right, shift, width):
    """Left[shift:] . right[:width]."""
    total = left[shift] * right[0]
    for d in range(1, width):
        total += left[shift + d] * right[d]
    return total


@njit(**LEAF)
def stack_parameters(first, particle, weight, units, width, begin, end, out_stack):
    """Parameters of groups begin..end-1 by slot: columns [w | b | c (w . a)], [a | c (w . a)]; rows c w, c a.

    ``units`` has the columns [a | w | b] or [a | w]; ``width`` is D. Columns, as :func:`multiply` reads them, lie four
    slots to a panel, (slots / 4, columns, 4); rows are (slots, D), those of c w reversed. Zeros in slots without entry.
    """
    groups, out_w, out_a, out_cw, out_ca = out_stack
    height = units.shape[1] - width
    for g in range(begin, end):
        entry, count, slot, slots = groups[g, ENTRY], groups[g, COUNT], groups[g, SLOT], groups[g, SLOTS]
        layer = _layer(first, entry)
        start = first[layer] - entry  # of the layer that holds i
        for i in range(slots):
            reversed_row = _reversed_row(i, slots)
            panel, place, row, cw_row = (slot + i) // ROWS, i % ROWS, out_ca[slot + i], out_cw[slot + reversed_row]
            e, there = entry + min(i, count - 1), i < count
            unit, c = units[particle[e]], weight[e]
            for d in range(width):
                out_a[panel, d, place] = unit[d] if there else 0.0
                row[d] = c * unit[d] if there else 0.0
                cw_row[d] = c * unit[width + d] if there else 0.0
            for d in range(height):
                out_w[panel, d, place] = unit[width + d] if there else 0.0
            for d in range(width, out_a.shape[1]):
                out_a[panel, d, place] = 0.0
                out_w[panel, d + height - width, place] = 0.0
            if groups[g, FLAG] & TRIANGLE == 0 or not there:
                continue
            while first[layer + 1] <= entry + i:
                layer += 1
                start = first[layer] - entry
            for j in range(start):
                product = _dot(unit, units[particle[entry + j]], width, width)
                out_w[panel, height + j, place] = weight[entry + j] * product
                out_a[(slot + j) // ROWS, width + reversed_row, j % ROWS] = c * product


@njit(**LEAF)
def _tree_sum(parts, panel, columns):
    """Sum the first columns of a panel over all chunks into the first chunk along a fixed binary tree."""
    stride, count = 1, parts.shape[0]
    while stride < count:
        for chunk in range(0, count - stride, 2 * stride):
            into, other = flat(parts[chunk, panel]), flat(parts[chunk + stride, panel])
            for x in range(columns * ROWS):
                into[x] += other[x]
        stride *= 2


@njit(**LEAF)
def finish_gradients(first, stacked, begin, end, width, samples, parts, out_first, out_slope):
    """Sum the chunks of groups begin..end-1, complete d_a and d_w by the triangle, write the means by entry.

    ``parts`` is (chunks, slots / 4, columns, 4) with columns [d_a | d_w | d_b | T]; g = a . d_a g goes into (E,) and
    d_theta g into (E, P), P = 2 D or 2 D + 1.
    """
    groups, a, cw, ca = stacked.groups, stacked.a, stacked.cw, stacked.ca
    total, column = parts[0], out_slope.shape[1]
    for g in range(begin, end):
        entry, count, slot, slots = groups[g, ENTRY], groups[g, COUNT], groups[g, SLOT], groups[g, SLOTS]
        triangle = groups[g, FLAG] & TRIANGLE
        for panel in range(slot // ROWS, (slot + slots) // ROWS):
            _tree_sum(parts, panel, column + slots if triangle else column)
        if triangle:
            layer = _layer(first, entry)
            start = first[layer] - entry
            for i in range(count):
                while first[layer + 1] <= entry + i:
                    layer += 1
                    start = first[layer] - entry
                reversed_row = _reversed_row(i, slots)
                mine, at, cw_row = total[(slot + i) // ROWS], i % ROWS, cw[slot + reversed_row]
                for j in range(start):
                    other, place, ca_row = total[(slot + j) // ROWS], j % ROWS, ca[slot + j]
                    t = other[column + reversed_row, place]
                    for d in range(width):
                        other[d, place] += t * cw_row[d]
                        mine[width + d, at] += t * ca_row[d]
        for i in range(count):
            panel, place, value = (slot + i) // ROWS, i % ROWS, 0.0
            for d in range(width):
                value += a[panel, d, place] * total[panel, d, place]
            out_first[entry + i] = value / samples
            for p in range(column):
                out_slope[entry + i, p] = total[panel, p, place] / samples
