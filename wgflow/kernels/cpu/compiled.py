"""Compile the CPU kernels, or load them from disk, at first use."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

from wgflow.kernels import cache
from wgflow.kernels.cpu import arguments


@functools.cache
def ridge_kernels(dtype: str) -> Any:
    """Functions ``plan_groups``, ``stack_parameters``, ``ridge_pass`` and ``finish_gradients`` for one precision."""
    with cache.exclusive():
        from numba import float64, int64, njit, types, void

        from wgflow.kernels.cpu import forward_backward, groups
        from wgflow.kernels.cpu.functions import FLAGS

        real: Any = getattr(types, dtype)

        def array(kind: Any, dimensions: int) -> Any:  # inputs are read-only, which writable arrays satisfy too
            return types.Array(kind, dimensions, "C", readonly=True)

        def group(kind: Any, *fields: Any) -> Any:
            build: Any = types.BaseTuple.from_types
            return build(fields, kind)

        row, matrix, cube, index = real[::1], real[:, ::1], real[:, :, ::1], array(int64, 1)
        samples = group(arguments.Samples, matrix, matrix)
        model = group(arguments.Model, matrix, matrix, int64, int64, real, int64, int64, int64)
        stack = group(arguments.Stack, int64[:, ::1], cube, cube, matrix, matrix, row)
        scratch = group(arguments.Scratch, matrix, matrix, cube)
        weight, units, first, slope = array(float64, 1), array(float64, 2), float64[::1], float64[:, ::1]
        signatures: dict[Any, Any] = {
            groups.plan_groups: void(index, int64, int64, int64, int64, int64[:, ::1], int64[::1]),
            groups.stack_parameters: void(index, index, weight, units, int64, int64, int64, stack),
            groups.finish_gradients: void(index, stack, int64, int64, int64, int64, cube, first, slope),
            forward_backward.ridge_pass: void(samples, model, stack, int64, int64, scratch, matrix, matrix),
        }
        compiled = {}
        for function, signature in signatures.items():
            compiled[function.__name__] = njit(signature, cache=True, **FLAGS)(function.py_func)
        return SimpleNamespace(**compiled)
