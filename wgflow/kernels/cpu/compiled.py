"""Compile kernels, or load them from disk, when a kind of network first asks for them."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

from wgflow.kernels import cache


@functools.cache
def ridge(dtype: str) -> Any:
    """Functions ``plan``, ``stack``, ``ridge_pass`` and ``finish`` for one precision."""
    with cache.exclusive():
        from numba import float64, int64, njit, types, void

        from wgflow.kernels.cpu import forward_backward as _ridge
        from wgflow.kernels.cpu import groups as _stack
        from wgflow.kernels.cpu.functions import FLAGS

        real: Any = getattr(types, dtype)

        def array(kind: Any, dimensions: int) -> Any:  # inputs are read-only, which writable arrays satisfy too
            return types.Array(kind, dimensions, "C", readonly=True)

        index, table, stacked, panels = array(int64, 1), array(int64, 2), array(real, 2), array(real, 3)
        stacks = (panels, panels, stacked, stacked, array(real, 1))
        out, cube, flag = real[:, ::1], real[:, :, ::1], int64
        signatures: dict[Any, Any] = {
            _stack.plan: void(index, flag, flag, flag, flag, int64[:, ::1], int64[::1]),
            _stack.stack: void(
                *(index, index, array(float64, 1), array(float64, 2), flag, table, flag, flag),
                *(cube, cube, out, out, real[::1]),
            ),
            _stack.finish: void(
                *(index, table, flag, flag, flag, flag, stacked, stacked, cube),
                *(float64[::1], float64[:, ::1]),
            ),
            _ridge.ridge_pass: void(
                *(4 * (stacked,)), table, *stacks, flag, real, *(7 * (flag,)), out, out, cube, out, out
            ),
        }
        made = {}
        for function, signature in signatures.items():
            made[function.__name__] = njit(signature, cache=True, **FLAGS)(function.py_func)
        return SimpleNamespace(**made)
