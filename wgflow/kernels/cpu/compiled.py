"""Compile the CPU kernels, or load them from disk, at first use."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

from wgflow.kernels import cache
from wgflow.kernels.cpu import arguments


@functools.cache
def ridge_kernels(dtype: str) -> Any:
    """Functions ``plan_groups`` and ``evaluate`` for one precision."""
    with cache.exclusive():
        from numba import float64, int64, void

        from wgflow.kernels.cpu import evaluate, groups

        types = _Types(dtype)
        row, matrix, cube = types.real[::1], types.real[:, ::1], types.real[:, :, ::1]
        index, weight, units = types.read_only(int64, 1), types.read_only(float64, 1), types.read_only(float64, 2)
        model = (matrix, matrix, int64, int64, types.real, *[int64] * 4)
        return _compile({
            groups.plan_groups: void(index, int64, int64, int64, int64, int64[:, ::1], int64[::1]),
            evaluate.evaluate: void(
                *[int64] * 6, index, index, weight, units, int64, matrix, matrix, *model,
                int64[:, ::1], cube, cube, matrix, matrix, row, matrix, matrix, cube,
                cube, matrix, float64[::1], float64[:, ::1],
            ),
        })  # fmt: skip


@functools.cache
def wide_kernels(dtype: str) -> Any:
    """Functions ``prepare`` and ``wide_pass`` of wide layers for one precision."""
    with cache.exclusive():
        from numba import int64, void

        from wgflow.kernels.cpu import wide_layers

        types = _Types(dtype)
        row, matrix, cube = types.real[::1], types.real[:, ::1], types.real[:, :, ::1]
        wide = types.group(arguments.Wide, int64[::1], int64[::1], row, row, *[int64] * 7)
        shared = types.group(arguments.Shared, int64, matrix, matrix, cube, matrix, matrix, matrix, row, matrix)
        work = types.group(arguments.Work, matrix, row)
        return _compile({
            wide_layers.prepare: void(wide, types.samples, shared, int64[::1]),
            wide_layers.wide_pass: void(
                wide, types.model, types.samples, shared, work, int64[::1], matrix, row, row
            ),
        })  # fmt: skip


@functools.cache
def motion_kernels() -> Any:
    """Functions ``gather``, ``dissipate`` and ``move`` of the particles, in float64."""
    with cache.exclusive():
        from numba import bool_, float64, int64, void

        from wgflow.kernels.cpu import motion_passes
        from wgflow.kernels.cpu.flags import EXACT

        types = _Types("float64")
        row, matrix, index = types.read_only(float64, 1), types.read_only(float64, 2), types.read_only(int64, 1)
        out_row, out_matrix = float64[::1], float64[:, ::1]
        return _compile({
            motion_passes.gather: void(index, row, row, bool_, row, matrix, out_matrix, out_row),
            motion_passes.dissipate: void(row, row, row, row, bool_, matrix, row, out_row, out_row),
            motion_passes.move: void(row, row, index, row, row, float64, bool_, out_row, out_row, bool_[::1]),
        }, EXACT)  # fmt: skip


class _Types:
    """Numba's types of the arguments that kernels share."""

    def __init__(self, dtype: str) -> None:
        from numba import int64, types

        self.real: Any = getattr(types, dtype)
        matrix = self.real[:, ::1]
        self.samples = self.group(arguments.Samples, matrix, matrix)
        self.model = self.group(arguments.Model, matrix, matrix, int64, int64, self.real, *[int64] * 4)

    def read_only(self, kind: Any, dimensions: int) -> Any:
        """Array that is not written to, which writable ones satisfy too."""
        from numba import types

        return types.Array(kind, dimensions, "C", readonly=True)

    def group(self, kind: Any, *fields: Any) -> Any:
        """A named tuple."""
        from numba import types

        build: Any = types.BaseTuple.from_types
        return build(fields, kind)


def _compile(signatures: dict[Any, Any], flags: dict[str, Any] | None = None) -> SimpleNamespace:
    """Functions compiled for one signature each, by name."""
    from numba import njit

    from wgflow.kernels.cpu.flags import FLAGS

    flags = FLAGS if flags is None else flags
    compiled = {}
    for function, signature in signatures.items():
        compiled[function.__name__] = njit(signature, cache=True, **flags)(function.py_func)
    return SimpleNamespace(**compiled)
