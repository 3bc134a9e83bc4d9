"""Groups of entries: the plan of a network, its stacked parameters, and its gradients from partial sums.

A group is up to G consecutive entries: several whole layers, or a piece of one wide layer. With the stacks A and W,
weights c and layers k(i) of a group's entries, X_start its state before and p_end its adjoint after,

    z_i = w_i . X_start + b_i + sum_(k(l) < k(i)) c_l (w_i . a_l) h_l,     X_end = X_start + sum_i c_i a_i h_i,
    q_i = a_i . p_end + sum_(k(l) > k(i)) c_l (w_l . a_i) r_l,  r = q sigma'(z),    p_start = p_end + sum_i c_i w_i r_i:

exactly the sequence of layers, in the form of matrix products. The sums T_il = sum_m h_i r_l give the gradients

    g_i = sum h_i q_i,   d_a g_i = sum h_i p_end + sum_(k(l) > k(i)) T_il c_l w_l,
    d_b g_i = sum r_i,   d_w g_i = sum r_i X_start + sum_(k(l) < k(i)) T_li c_l a_l.

The products c (w . a) are formed before anything meets a sample: parameters so large that they overflow (1e154 in
float64, 1e19 in float32) give NaN even where every h is 0.

Entries sit in slots, groups padded to multiples of ROWS with slots of zeros. The rows of r are stored in fours from
the last to the first, so that the finished ones of a group follow p without gaps; see ``_reversed_row``.
"""

from __future__ import annotations

from numba import njit

from wgflow.kernels.cpu.flags import LEAF, SUM_FLAGS
from wgflow.kernels.cpu.matmul_tiles import ROWS

# Columns of the table of groups
ENTRY, COUNT, SLOT, SLOTS, STATE, VALUE, NEXT, FLAG = range(8)
TRIANGLE, OPENS, CLOSES = 1, 2, 4  # flags: several layers; first piece of its layer; last piece


@njit(**LEAF)
def plan_groups(first, size, piece, width, tape, out_groups, out_sizes):
    """Table of groups; numbers of groups, slots and tape rows into ``out_sizes``, (3,).

    A group is up to ``size`` entries of several whole layers, or up to ``piece`` >= size entries of one wide layer.

    Rows of the table, (groups, 8): first entry and number of entries, first slot and number of slots, rows of the tape
    at which X_start, h and X_end begin, flags. Without ``tape`` (outputs alone) two halves of a short tape alternate.
    """
    half = width + piece
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
        begin, value, padded = entry, row + width, 0
        for low in range(entry, last, piece):
            padded += -(-min(piece, last - low) // ROWS) * ROWS
        following = row + width + padded if tape else half - row
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
    out_sizes[0], out_sizes[1], out_sizes[2] = groups, slot, row + width if tape else 2 * half


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
    """Parameters of groups begin..end-1 by slot: columns [w | c (w . a)], [a | c (w . a)]; rows c w (reversed), c a; b.

    ``units`` has the columns [a | w | b] or [a | w]; ``width`` is D. Columns, as :func:`multiply` reads them, lie four
    slots to a panel, (slots / 4, D' + G, 4), with the products of the triangle from D' on; rows are (slots, D'); D' is
    the padded width. Zeros in padding.
    """
    groups, out_w, out_a, out_cw, out_ca, out_bias = out_stack
    padded, inner = out_ca.shape[1], out_w.shape[1]
    for g in range(begin, end):
        entry, count, slot, slots = groups[g, ENTRY], groups[g, COUNT], groups[g, SLOT], groups[g, SLOTS]
        layer = _layer(first, entry)
        start = first[layer] - entry  # of the layer that holds i
        for i in range(slots):
            reversed_row = _reversed_row(i, slots)
            panel, place, row, cw_row = (slot + i) // ROWS, i % ROWS, out_ca[slot + i], out_cw[slot + reversed_row]
            for d in range(inner):
                out_w[panel, d, place] = 0.0
                out_a[panel, d, place] = 0.0
            for d in range(padded):
                row[d] = 0.0
                cw_row[d] = 0.0
            out_bias[slot + i] = 0.0
            if i >= count:
                continue
            unit, c = units[particle[entry + i]], weight[entry + i]
            for d in range(width):
                out_a[panel, d, place] = unit[d]
                out_w[panel, d, place] = unit[width + d]
                row[d] = c * unit[d]
                cw_row[d] = c * unit[width + d]
            if unit.size > 2 * width:
                out_bias[slot + i] = unit[2 * width]
            if groups[g, FLAG] & TRIANGLE == 0:
                continue
            while first[layer + 1] <= entry + i:
                layer += 1
                start = first[layer] - entry
            for j in range(start):
                product = _dot(unit, units[particle[entry + j]], width, width)
                out_w[panel, padded + j, place] = weight[entry + j] * product
                out_a[(slot + j) // ROWS, padded + reversed_row, j % ROWS] = c * product


@njit(**LEAF)
def _tree_sum(parts, low, high):
    """Sum rows low..high-1 of all chunks into the first along a fixed binary tree."""
    stride, count = 1, parts.shape[0]
    while stride < count:
        for chunk in range(0, count - stride, 2 * stride):
            for row in range(low, high):
                into, other = parts[chunk, row], parts[chunk + stride, row]
                for d in range(into.size):
                    into[d] += other[d]
        stride *= 2


@njit(**LEAF)
def finish_gradients(first, stacked, begin, end, width, samples, parts, out_first, out_slope):
    """Sum the chunks of groups begin..end-1, complete d_a and d_w by the triangle, write the means by entry.

    ``parts`` is (chunks, slots, 2 D' + G + 2) with columns [d_a | d_w | T | g | d_b], D' the padded width; g goes into
    (E,) and d_theta g into (E, P), P = 2 D or 2 D + 1.
    """
    groups, cw, ca = stacked.groups, stacked.cw, stacked.ca
    padded, total = ca.shape[1], parts[0]
    column = parts.shape[2] - 2
    for g in range(begin, end):
        entry, count, slot, slots = groups[g, ENTRY], groups[g, COUNT], groups[g, SLOT], groups[g, SLOTS]
        _tree_sum(parts, slot, slot + slots)
        if groups[g, FLAG] & TRIANGLE:
            layer = _layer(first, entry)
            start = first[layer] - entry
            for i in range(count):
                while first[layer + 1] <= entry + i:
                    layer += 1
                    start = first[layer] - entry
                reversed_row = _reversed_row(i, slots)
                row, cw_row = total[slot + i], cw[slot + reversed_row]
                for j in range(start):
                    other, ca_row = total[slot + j], ca[slot + j]
                    t = other[2 * padded + reversed_row]
                    for d in range(width):
                        other[d] += t * cw_row[d]
                        row[padded + d] += t * ca_row[d]
        for i in range(count):
            row = total[slot + i]
            out_first[entry + i] = row[column] / samples
            for d in range(width):
                out_slope[entry + i, d] = row[d] / samples
                out_slope[entry + i, width + d] = row[padded + d] / samples
            if out_slope.shape[1] > 2 * width:
                out_slope[entry + i, 2 * width] = row[column + 1] / samples
