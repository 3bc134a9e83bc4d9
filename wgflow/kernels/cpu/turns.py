"""Turns of threads inside one compiled pass: whoever is free takes the next piece of work, layer after layer.

A pass is a sequence of phases (a layer forward, a layer backward) of equally many pieces. A thread draws the next
ticket, waits until the phases before its own are complete, and computes. Since every ticket was drawn by a thread that
is running, nobody waits for work that nobody does: the pass ends with any number of threads, even one. Whoever
finishes the last piece of a phase closes it, which is where partial sums are added in their fixed order.
"""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from wgflow.kernels.cpu.flags import LEAF

# Places in the array of counters, a cache line apart.
_DRAWN, _FINISHED, _CLOSED = 0, 8, 16
COUNTERS = 24
_PATIENCE = 1000  # looks before a waiting thread offers its core to others


def _pointer(context: Any, builder: Any, kind: Any, array: Any, place: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [place])


@intrinsic
def _fetch_add(typing, array, place):
    """Number at a place, which is then one larger."""

    def generate(context, builder, signature, args):
        pointer = _pointer(context, builder, signature.args[0], *args)
        return builder.atomic_rmw("add", pointer, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(array, types.int64), generate


@intrinsic
def _read(typing, array, place):
    """Number at a place, with all that was written before it."""

    def generate(context, builder, signature, args):
        return builder.load_atomic(_pointer(context, builder, signature.args[0], *args), "acquire", 8)

    return types.int64(array, types.int64), generate


@intrinsic
def _publish(typing, array, place, number):
    """Write a number, after all that was written before."""

    def generate(context, builder, signature, args):
        builder.store_atomic(args[2], _pointer(context, builder, signature.args[0], *args[:2]), "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), generate


@intrinsic
def _offer_core(typing):
    """Let another thread run on this core, where the system has a call for it."""

    def generate(context, builder, signature, args):
        if sys.platform != "win32":
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate


@njit(**LEAF)
def draw(counters):
    """Next ticket."""
    return _fetch_add(counters, _DRAWN)


@njit(**LEAF)
def wait(counters, phase):
    """Wait until all phases before this one are closed."""
    looks = 0
    while _read(counters, _CLOSED) < phase:
        looks += 1
        if looks > _PATIENCE:
            _offer_core()


@njit(**LEAF)
def finish(counters, phase, pieces):
    """Report a piece; True for the last one of its phase, whose thread then closes it."""
    return _fetch_add(counters, _FINISHED) + 1 == (phase + 1) * pieces


@njit(**LEAF)
def close(counters, phase):
    """Let the next phase begin."""
    _publish(counters, _CLOSED, phase + 1)
