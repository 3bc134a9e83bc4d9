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
        matrix, cube, parts = types.real[:, ::1], types.real[:, :, ::1], types.real[:, :, :, ::1]
        index, weight, units = types.read_only(int64, 1), types.read_only(float64, 1), types.read_only(float64, 2)
        model = (matrix, matrix, int64, int64, types.real, *[int64] * 4)
        return _compile({
            groups.plan_groups: void(index, int64, int64, int64, int64, int64[:, ::1], int64[::1]),
            evaluate.evaluate: void(
                *[int64] * 6, index, index, weight, units, int64, matrix, matrix, *model,
                int64[:, ::1], cube, cube, matrix, matrix, matrix, matrix, cube,
                parts, matrix, float64[::1], float64[:, ::1],
            ),
        })  # fmt: skip


@functools.cache
def activation_address(dtype: str) -> int:
    """Address of :func:`wgflow.kernels.cpu.functions.activate_with_slope` for one precision."""
    with cache.exclusive():
        from wgflow.kernels.cpu import activation_row

        return activation_row.address(dtype)


@functools.cache
def wide_kernels(dtype: str) -> Any:
    """Functions ``prepare`` and ``wide_pass`` of wide layers for one precision."""
    with cache.exclusive():
        from numba import int64, void

        from wgflow.kernels.cpu import wide_layers

        types = _Types(dtype)
        row, matrix = types.real[::1], types.real[:, ::1]
        wide, shared, work = types.wide()
        return _compile({
            wide_layers.prepare: void(wide, types.samples, shared, int64[::1]),
            wide_layers.wide_pass: void(
                wide, types.model, types.samples, shared, work, int64[::1], matrix, row, row
            ),
        })  # fmt: skip


@functools.cache
def wide_step_kernels(dtype: str) -> Any:
    """Function ``wide_steps`` for one precision, and the ``addresses`` that it calls."""
    wide_pass = wide_kernels(dtype)
    with cache.exclusive():
        from numba import int64, void

        from wgflow.kernels.cpu import wide_steps
        from wgflow.kernels.cpu.flags import EXACT

        types = _Types(dtype)
        wide, shared, work = types.wide()
        row, matrix, cube = types.real[::1], types.real[:, ::1], types.real[:, :, ::1]
        signature = void(
            int64, int64, wide, types.model, types.samples, shared, work, int64[::1], row, matrix, cube, cube
        )
        kernels = _compile({wide_steps.wide_steps: signature}, EXACT)
    addresses = _address(wide_pass.prepare), _address(wide_pass.wide_pass)
    return SimpleNamespace(wide_steps=kernels.wide_steps, addresses=addresses)


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


@functools.cache
def step_kernels(dtype: str) -> Any:
    """Function ``euler_steps`` for one precision, and the ``addresses`` that it calls."""
    evaluation, motion = ridge_kernels(dtype), motion_kernels()
    with cache.exclusive():
        from numba import bool_, float64, int64, types, void

        from wgflow.kernels.cpu import euler_steps
        from wgflow.kernels.cpu.flags import EXACT

        real = _Types(dtype).real
        matrix, cube, parts = real[:, ::1], real[:, :, ::1], real[:, :, :, ::1]
        numbers, index, place = float64[::1], int64[::1], float64[:, ::1]
        start = int64, matrix, matrix, matrix, matrix, int64, int64, real, *[int64] * 4
        model = (
            *start, int64[:, ::1], cube, cube, matrix, matrix, matrix, matrix, cube, parts, matrix, numbers, place
        )  # fmt: skip
        kinds: list[Any] = [
            [int64] * 4, int64, bool_, bool_, bool_, float64, [index, index, numbers], model, [numbers, numbers, bool_],
            [numbers] * 5, [place, numbers, place, numbers], [*[numbers] * 7, index, bool_[::1]],
            [cube, numbers, index, index],
        ]  # fmt: skip
        group: Any = types.Tuple
        signature = void(*(group(kind) if isinstance(kind, list | tuple) else kind for kind in kinds))
        kernels = _compile({euler_steps.euler_steps: signature}, EXACT)
    called = evaluation.evaluate, motion.gather, motion.dissipate, motion.move
    return SimpleNamespace(euler_steps=kernels.euler_steps, addresses=tuple(map(_address, called)))


def _address(function: Any) -> int:
    """Address of a function that was compiled for one signature, for as long as the process lives."""
    (code,) = function.overloads.values()
    address: int = code.library.get_pointer_to_function(code.fndesc.llvm_func_name)
    return address


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

    def wide(self) -> tuple[Any, Any, Any]:
        """A network of wide layers, and memory that its threads share or own."""
        from numba import int64

        row, matrix, cube = self.real[::1], self.real[:, ::1], self.real[:, :, ::1]
        return (
            self.group(arguments.Wide, int64[::1], int64[::1], row, row, *[int64] * 8),
            self.group(arguments.Shared, int64, matrix, matrix, cube, matrix, matrix, matrix, row, matrix),
            self.group(arguments.Work, matrix, row),
        )

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
