"""Several moves of wide layers in one compiled call, through the addresses of the functions that make one."""

from __future__ import annotations

from numba import njit

from wgflow.kernels.cpu.euler_steps import call
from wgflow.kernels.cpu.flags import EXACT


@njit(**EXACT)
def wide_steps(prepare, wide_pass, wide, model, samples, shared, work, counters, unused, output, outputs, squares):
    """Move the units as often as there are rows of ``outputs``, (steps, M, K).

    The first two arguments are addresses, the others those of :func:`wgflow.kernels.cpu.wide_layers.wide_pass`; into
    ``squares``, (steps, pieces, 8 P), go the sums of squares in each step.
    """
    for k in range(outputs.shape[0]):
        call(prepare, (wide, samples, shared, counters))
        call(wide_pass, (wide, model, samples, shared, work, counters, output, unused, unused))
        for m in range(output.shape[0]):
            for j in range(output.shape[1]):
                outputs[k, m, j] = output[m, j]
        for m in range(squares.shape[1]):
            for p in range(squares.shape[2]):
                squares[k, m, p] = shared.squares[m, p]
