"""Input and output of the network: load samples, apply the readout, differentiate the loss."""

from __future__ import annotations

import math

from numba import njit

from wgflow.kernels.cpu.flags import LEAF
from wgflow.kernels.cpu.matmul_tiles import ZERO, multiply


# Array expressions such as `out_rows[:] = 0` would cost a second of compilation each; loops do not.
@njit(**LEAF)
def clear(out_row):
    """Set all elements to 0."""
    for m in range(out_row.size):
        out_row[m] = 0.0


@njit(**LEAF)
def load(start, low, high, columns, out_state):
    """Copy samples low..high-1 into the first rows of a block.

    Unused lanes repeat the last sample, so that they are finite if it is.
    """
    for d in range(start.shape[0]):
        for m in range(columns):
            out_state[d, m] = start[d, min(low + m, high - 1)]


@njit(**LEAF)
def read(tape, state, transposed, low, high, columns, scratch, out_output):
    """Outputs W1 X of samples low..high-1, into rows of (M, K); ``scratch`` has at least K rows."""
    width, outputs = transposed.shape
    multiply(transposed, ZERO, outputs, outputs, width, tape, state, columns, tape, ZERO, ZERO, scratch, ZERO)
    for m in range(high - low):
        for k in range(out_output.shape[1]):
            out_output[low + m, k] = scratch[k, m]


@njit(**LEAF)
def _cross_entropy(output, target, m, out_residual, column):
    """Gradient of one sample's cross-entropy in its K outputs, into a column."""
    outputs = output.shape[1]
    top, mass, weights = output[m, 0], 0.0, 0.0
    for k in range(outputs):
        top = output[m, k] if output[m, k] > top else top
    for k in range(outputs):
        out_residual[k, column] = math.exp(output[m, k] - top)
        mass += out_residual[k, column]
        weights += target[m, k]
    for k in range(outputs):
        out_residual[k, column] = out_residual[k, column] * weights / mass - target[m, k]


@njit(**LEAF)
def output_gradient(model, target, low, high, columns, output, scratch, out_adjoint):
    """p(1) = W1' dloss in the first rows of ``out_adjoint``; unused lanes are 0 and contribute nothing."""
    outputs, width = model.readout.shape
    for k in range(outputs):
        for m in range(columns):
            scratch[k, m] = 0.0
    if model.loss == 0:
        for k in range(output.shape[1]):
            for m in range(high - low):
                scratch[k, m] = output[low + m, k] - target[low + m, k]
    else:
        for m in range(high - low):
            _cross_entropy(output, target, low + m, scratch, m)
    multiply(model.readout, ZERO, width, width, outputs, scratch, ZERO, columns, scratch, ZERO, ZERO, out_adjoint, ZERO)
