"""One compiled function for all stages of an evaluation, so that a small one takes a single call from Python.

Its arguments are plain arrays and numbers: Numba takes microseconds to recognise a named tuple.
"""

from __future__ import annotations

from numba import njit

from wgflow.kernels.cpu import forward_backward, groups
from wgflow.kernels.cpu.arguments import Model, Samples, Scratch, Stack
from wgflow.kernels.cpu.flags import LEAF

STACK, PASS, FINISH = 1, 2, 4  # stages

# As parts of one function they compile faster than as functions that it calls.
_INLINE = LEAF | {"inline": "always"}
_stack_parameters = njit(**_INLINE)(groups.stack_parameters.py_func)
_ridge_pass = njit(**_INLINE)(forward_backward.ridge_pass.py_func)
_finish_gradients = njit(**_INLINE)(groups.finish_gradients.py_func)


@njit(**LEAF)
def evaluate(
    stages, begin, end, low, high, chunk,
    first, particle, weight, units, width,
    start, target, readout, transposed, activation, loss, eta, own, keep, coordinate, lanes,
    table, w, a, cw, ca, tape, slope, adjoints,
    parts, out_output, out_first, out_slope,
):  # fmt: skip
    """Stack groups begin..end-1; pass samples low..high-1, of one chunk; finish the gradients of these groups.

    Those of the three that are among the ``stages``. Arguments are the fields of
    :class:`wgflow.model.depth.Network` and of :mod:`wgflow.kernels.cpu.arguments`, the partial sums of all chunks,
    and outputs, (M, K), g_e, (E,), and d_theta g_e, (E, P).
    """
    stack = Stack(table, w, a, cw, ca)
    if stages & STACK:
        _stack_parameters(first, particle, weight, units, width, begin, end, stack)
    if stages & PASS:
        samples = Samples(start, target)
        model = Model(readout, transposed, activation, loss, eta, own, keep, coordinate, lanes)
        _ridge_pass(samples, model, stack, low, high, Scratch(tape, slope, adjoints), out_output, parts[chunk])
    if stages & FINISH:
        _finish_gradients(first, stack, begin, end, width, start.shape[1], parts, out_first, out_slope)
