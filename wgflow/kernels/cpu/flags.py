"""Numba's flags.

``contract`` allows fused multiply-add. ``reassoc`` is for sums only (:data:`SUM_FLAGS`); their order is then fixed in
the binary and the same for any number of threads. Full ``fastmath`` is never used, since it assumes that there is no
NaN. ``error_model="numpy"`` removes a branch per division that would prevent vectorisation. Without ``_nrt``, Numba's
runtime for memory, no array can be made, and slices of arrays are not counted: each count is an atomic operation, and
they took half of the time of small blocks.
"""

from __future__ import annotations

from typing import Any

EXACT: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}  # the roundings of NumPy
FLAGS: dict[str, Any] = EXACT | {"fastmath": {"contract"}}
COUNTED = {"_nrt": True}  # for code that makes arrays, as from a pointer, or that is the user's
LEAF = FLAGS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called only by kernels: faster to compile
SUM_FLAGS = LEAF | {"fastmath": {"contract", "reassoc"}}
