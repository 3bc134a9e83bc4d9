"""Numba's flags.

``contract`` allows fused multiply-add. ``reassoc`` is for sums only (:data:`SUM_FLAGS`); their order is then fixed in
the binary and the same for any number of threads. Full ``fastmath`` is never used, since it assumes that there is no
NaN. ``error_model="numpy"`` removes a branch per division that would prevent vectorisation.
"""

from __future__ import annotations

from typing import Any

FLAGS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
EXACT: dict[str, Any] = {"nogil": True, "error_model": "numpy"}  # the roundings of NumPy
LEAF = FLAGS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called only by kernels: faster to compile
SUM_FLAGS = LEAF | {"fastmath": {"contract", "reassoc"}}
