"""Built-in activations with a slope, as a function that kernels call through a pointer."""

from __future__ import annotations

from numba import cfunc, types
from numba.np.numpy_support import carray

from wgflow.kernels.cpu.flags import COUNTED, FLAGS
from wgflow.kernels.cpu.functions import activate_with_slope


def row(z_data, slope_data, code, eta, count):
    """Activate one row of ``count`` numbers."""
    activate_with_slope(code, eta, carray(z_data, count), carray(slope_data, count))


def address(dtype: str) -> int:
    """Address of :func:`row`, compiled for one precision; valid while the process lives."""
    real = getattr(types, dtype)
    pointer = types.CPointer(real)
    code = cfunc(types.void(pointer, pointer, types.int64, real, types.int64), cache=True, **FLAGS | COUNTED)(row)
    _KEPT.append(code)
    return int(code.address or 0)


_KEPT: list[object] = []
