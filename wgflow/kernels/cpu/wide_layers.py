"""Compiled forward and backward pass of ridge units for layers that are wide compared with the number of samples.

The parameters are used where they lie, one row [a | w | b] a unit, and read once in each direction: nothing is stacked
or transposed. The values of a tile of units are (units, M) without padding, so that activations run over whole vectors
even of ten samples; products with the parameters run over samples or over coordinates, see
:mod:`wgflow.kernels.cpu.strided_tiles`. Threads share the pieces of a layer, see :mod:`wgflow.kernels.cpu.turns`;
their number depends on the sizes alone, and so does the order of every sum.

For an Euler step the parameters can be moved in the same pass, while they are in cache.
"""

from __future__ import annotations

from numba import njit

from wgflow.kernels.cpu.flags import LEAF
from wgflow.kernels.cpu.functions import apply, pull_back
from wgflow.kernels.cpu.input_output import clear, output_gradient, read
from wgflow.kernels.cpu.matmul_tiles import ONE, ZERO
from wgflow.kernels.cpu.strided_tiles import move, product
from wgflow.kernels.cpu.turns import close, draw, finish, wait
from wgflow.kernels.cpu.vectors import flat


@njit(**LEAF)
def _first_variation(value, q, samples, out_first):
    """g_e = sum over samples of h q, by unit."""
    for e in range(out_first.size):
        total = value[e * samples] * q[e * samples]
        for m in range(e * samples + 1, (e + 1) * samples):
            total += value[m] * q[m]
        out_first[e] = total


@njit(**LEAF)
def _weighted(weight, low, count, samples, rows, out_rows):
    """Rows of a tile, (count, samples), times the weights of their units; may be in place."""
    for e in range(count):
        for m in range(e * samples, (e + 1) * samples):
            out_rows[m] = rows[m] * weight[low + e]


@njit(**LEAF)
def _units(first, k, piece, pieces):
    """First and last + 1 of the units in a piece of layer k."""
    begin, count = first[k], first[k + 1] - first[k]
    return begin + count * piece // pieces, begin + count * (piece + 1) // pieces


@njit(**LEAF)
def _tile(net, shared, work, begin, count):
    """Values and slopes of a tile of units: their places on the tape, or working memory."""
    at, size = begin * net.samples, count * net.samples
    values = shared.tape[0, at : at + size] if net.keep > 0 else work.values[0, :size]
    slopes = shared.tape[1, at : at + size] if net.keep > 1 else work.values[1, :size]
    return values, slopes


@njit(**LEAF)
def _values(net, model, shared, begin, count, k, values, slopes):
    """H of a tile of units at the state of layer k, (count, M), and the slopes that are stored."""
    place, row = begin * net.parameters + net.width, shared.states.shape[1]
    state, inner = k * shared.height * row, net.parameters - net.width
    states, samples = flat(shared.states), net.samples
    product(
        net.units, place, net.parameters, ONE, count, inner, states, state, row, samples, ZERO, values, ZERO, samples
    )
    apply(model, values, slopes)


@njit(**LEAF)
def _add_to_part(net, rows, place, count, piece, sums):
    """Add to a piece's sums the rows of a tile, (count, M), times D parameters of each unit, the first at ``place``."""
    width, samples, parameters = net.width, net.samples, net.parameters
    out = piece * samples * width
    if net.by_sample:
        product(rows, ZERO, ONE, samples, samples, count, net.units, place, parameters, width, ONE, sums, out, width)
    else:
        product(net.units, place, ONE, parameters, width, count, rows, ZERO, samples, samples, ONE, sums, out, samples)


@njit(**LEAF)
def _forward_piece(net, model, shared, work, k, piece):
    """Sum of c h a over the units of a piece, (M, D); without c where all units of the layer share one."""
    low, high = _units(net.first, k, piece, net.pieces)
    even, samples, parameters = net.even[k], net.samples, net.parameters
    sums = flat(shared.parts)
    clear(shared.parts[piece])
    for begin in range(low, high, net.tile):
        count = min(net.tile, high - begin)
        values, slopes = _tile(net, shared, work, begin, count)
        _values(net, model, shared, begin, count, k, values, slopes)
        if not even:
            _weighted(net.weight, begin, count, samples, values, work.values[2])
            values = work.values[2, : count * samples]
        _add_to_part(net, values, begin * parameters, count, piece, sums)


@njit(**LEAF)
def _backward_piece(net, model, shared, work, k, piece, out_first, out_slope):
    """Sum of c r w over the units of a piece, (M, D), and the gradients of these units, or their move."""
    low, high = _units(net.first, k, piece, net.pieces)
    even, width, samples, parameters = net.even[k], net.width, net.samples, net.parameters
    adjoint, across, sums = flat(shared.adjoint), flat(shared.across), flat(shared.parts)
    row, height, inner = shared.adjoint.shape[1], shared.height, parameters - width
    clear(shared.parts[piece])
    for begin in range(low, high, net.tile):
        count = min(net.tile, high - begin)
        place, size, q = begin * parameters, count * parameters, work.values[2, : count * samples]
        values, slopes = _tile(net, shared, work, begin, count)
        if net.keep == 0:
            _values(net, model, shared, begin, count, k, values, slopes)
        product(net.units, place, parameters, ONE, count, width, adjoint, ZERO, row, samples, ZERO, q, ZERO, samples)
        gradient, at = (work.gradient, ZERO) if net.move else (out_slope, place)
        if not net.move:
            _first_variation(values, q, samples, out_first[begin : begin + count])
        pull_back(model.activation, values, slopes, q)
        product(values, ZERO, samples, ONE, count, samples, across, ZERO, height, width, ZERO, gradient, at, parameters)
        product(
            q,
            ZERO,
            samples,
            ONE,
            count,
            samples,
            across,
            samples * height,
            height,
            inner,
            ZERO,
            gradient,
            at + width,
            parameters,
        )
        if not even:
            _weighted(net.weight, begin, count, samples, q, q)
        _add_to_part(net, q, place + width, count, piece, sums)
        if net.move:
            move(work.gradient, size, shared.factor, net.units, place, shared.squares[piece])


@njit(**LEAF)
def _sum_pieces(net, shared, k):
    """Sum of the pieces of layer k into the first along a fixed binary tree; the weight that is still missing."""
    parts, stride = shared.parts, 1
    while stride < net.pieces:
        for piece in range(0, net.pieces - stride, 2 * stride):
            for i in range(parts.shape[1]):
                parts[piece, i] += parts[piece + stride, i]
        stride *= 2
    return net.weight[net.first[k]] if net.first[k + 1] > net.first[k] and net.even[k] else 1.0


@njit(**LEAF)
def _load(net, samples, shared):
    """State at depth 0. Unused columns repeat the last sample, so that they are finite if it is."""
    states, count = shared.states, net.samples
    for d in range(shared.height):
        if d < net.width:
            for m in range(count):
                states[d, m] = samples.start[d, m]
            for m in range(count, states.shape[1]):
                states[d, m] = samples.start[d, count - 1]
        else:
            value = 1.0 if d == net.width else 0.0
            for m in range(states.shape[1]):
                states[d, m] = value


@njit(**LEAF)
def _next_state(net, shared, k):
    """State after layer k from the sums of its pieces."""
    states, row, count = shared.states, k * shared.height, net.samples
    weight, sums = _sum_pieces(net, shared, k), shared.parts[0]
    by_coordinate, by_sample = _strides(net)
    for d in range(shared.height):
        after, last = row + shared.height + d, states[row + d, count - 1]
        if d < net.width:
            for m in range(count):
                states[after, m] = states[row + d, m] + weight * sums[d * by_coordinate + m * by_sample]
            last = states[after, count - 1]
        else:
            for m in range(count):
                states[after, m] = last
        for m in range(count, states.shape[1]):
            states[after, m] = last


@njit(**LEAF)
def _next_adjoint(net, shared, k):
    """Adjoint before layer k from the sums of its pieces."""
    adjoint, sums = shared.adjoint, shared.parts[0]
    weight = _sum_pieces(net, shared, k)
    by_coordinate, by_sample = _strides(net)
    for d in range(net.width):
        for m in range(net.samples):
            adjoint[d, m] += weight * sums[d * by_coordinate + m * by_sample]


@njit(**LEAF)
def _strides(net):
    """Steps from one coordinate and from one sample to the next in the sums of a piece."""
    return (1, net.width) if net.by_sample else (net.samples, 1)


@njit(**LEAF)
def _turn(net, shared, k):
    """Adjoint after layer k and state before it, with the row of ones, by sample."""
    states, row = shared.states, k * shared.height
    for m in range(net.samples):
        for d in range(net.width):
            shared.across[0, m, d] = shared.adjoint[d, m]
        for d in range(net.width + 1):
            shared.across[1, m, d] = states[row + d, m]


@njit(**LEAF)
def _output(net, model, samples, shared, out_output):
    """Outputs, and the adjoint p(1) of the mean loss if a gradient is wanted."""
    layers, count, row = net.first.size - 1, net.samples, shared.states.shape[1]
    read(shared.states, layers * shared.height, model.transposed, ZERO, count, row, shared.outputs, out_output)
    if model.loss < 0:
        return
    output_gradient(model, samples.target, ZERO, count, row, out_output, shared.outputs, shared.adjoint)
    for d in range(net.width):
        for m in range(row):
            shared.adjoint[d, m] /= count
    _turn(net, shared, layers - 1)


@njit(**LEAF)
def wide_pass(net, model, samples, shared, work, counters, out_output, out_first, out_slope):
    """Outputs, (M, K), and g_e, (E,), with d_theta g_e, (E P,), of units in wide layers; the means over samples.

    Threads call it with the same arguments, apart from their own ``work``, after :func:`prepare`. With
    ``model.loss`` < 0 the outputs alone; with ``net.move`` the units are moved by ``factor`` times their gradients in
    place, whose squares are added up in ``shared.squares``, and g is left out. The arguments are those of
    :mod:`wgflow.kernels.cpu.arguments`.
    """
    layers, pieces = net.first.size - 1, net.pieces
    phases = layers if model.loss < 0 else 2 * layers
    while True:
        ticket = draw(counters)
        phase, piece = ticket // pieces, ticket % pieces
        if phase >= phases:
            return
        wait(counters, phase)
        k = phase if phase < layers else phases - 1 - phase
        if phase < layers:
            _forward_piece(net, model, shared, work, k, piece)
        else:
            _backward_piece(net, model, shared, work, k, piece, out_first, out_slope)
        if finish(counters, phase, pieces):
            if phase < layers:
                _next_state(net, shared, k)
                if phase == layers - 1:
                    _output(net, model, samples, shared, out_output)
            elif k > 0:
                _next_adjoint(net, shared, k)
                _turn(net, shared, k - 1)
            close(counters, phase)


@njit(**LEAF)
def prepare(net, samples, shared, counters):
    """Begin a pass: the state at depth 0, no ticket drawn, sums of squares 0."""
    _load(net, samples, shared)
    for i in range(counters.size):
        counters[i] = 0
    for piece in range(shared.squares.shape[0]):
        clear(shared.squares[piece])
