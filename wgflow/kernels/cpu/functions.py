"""Scalar and row functions compiled into the CPU kernels: activations, their derivatives, and Numba's flags.

Flags: ``contract`` allows fused multiply-add. ``reassoc`` is for sums only (:data:`SUM_FLAGS`); their order is then
fixed in the binary and the same for any number of threads. Full ``fastmath`` is never used, since it assumes that there
is no NaN. ``error_model="numpy"`` removes a branch per division that would prevent vectorisation.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

FLAGS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
EXACT: dict[str, Any] = {"nogil": True, "error_model": "numpy"}  # the roundings of NumPy
LEAF = FLAGS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called only by kernels: faster to compile
SUM_FLAGS = LEAF | {"fastmath": {"contract", "reassoc"}}

_ROUND = 6755399441055744.0  # 1.5 * 2**52: adding it leaves the nearest integer in the low bits of the mantissa
_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10  # Cody and Waite's split of log 2
_INV_SQRT2 = 0.7071067811865476
_INV_SQRT_2PI = 0.3989422804014327


def _reinterpret(source: Any, target: Any, kind: Any) -> Any:
    """Intrinsic that reads the bits of a number as another type of the same size."""

    @intrinsic
    def reinterpret(context, number):
        def generate(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], kind)

        return target(source), generate

    return reinterpret


_double_from_bits = _reinterpret(types.int64, types.float64, ir.DoubleType())
_bits_of_double = _reinterpret(types.float64, types.int64, ir.IntType(64))
_single_from_bits = _reinterpret(types.int32, types.float32, ir.FloatType())
_bits_of_single = _reinterpret(types.float32, types.int32, ir.IntType(32))


@njit(inline="always", **FLAGS)
def tanh(x):
    """tanh(x) = e / (e + 2) with e = expm1(2|x|); branch-free, so that loops over it vectorise.

    expm1 by Cody-Waite reduction, 2y = k log 2 + r, and its Taylor polynomial of degree 13 on |r| <= log(2)/2
    (truncation below 4e-18). No cancellation near 0, NaN in gives NaN out. Within 2 units in the last place.
    """
    y = 2.0 * abs(x)
    y = 44.0 if y > 44.0 else y  # tanh rounds to 1 beyond; written so that NaN passes
    shifted = y * _LOG2_E + _ROUND
    k = shifted - _ROUND
    r = (y - k * _LN2_HIGH) - k * _LN2_LOW
    q = 1.0 / 6227020800.0
    q = q * r + 1.0 / 479001600.0
    q = q * r + 1.0 / 39916800.0
    q = q * r + 1.0 / 3628800.0
    q = q * r + 1.0 / 362880.0
    q = q * r + 1.0 / 40320.0
    q = q * r + 1.0 / 5040.0
    q = q * r + 1.0 / 720.0
    q = q * r + 1.0 / 120.0
    q = q * r + 1.0 / 24.0
    q = q * r + 1.0 / 6.0
    q = q * r + 0.5
    q = q * r * r + r  # expm1(r)
    two_k = _double_from_bits((_bits_of_double(shifted) << 52) + (1023 << 52))
    e = two_k * q + (two_k - 1.0)
    t = e / (e + 2.0)
    return t if x > 0.0 else -t


# The same in float32: constants of that type, or every operation would be done in double.
_HALF, _ONE, _TWO, _LIMIT = np.float32(0.5), np.float32(1.0), np.float32(2.0), np.float32(20.0)
_ROUND32, _LOG2_E32 = np.float32(12582912.0), np.float32(_LOG2_E)
_LN2_HIGH32, _LN2_LOW32 = np.float32(0.693359375), np.float32(-2.12194440e-4)
_C7, _C6, _C5, _C4, _C3 = (np.float32(1.0 / math.factorial(k)) for k in (7, 6, 5, 4, 3))
_EXPONENT, _BIAS = np.int32(23), np.int32(127 << 23)


@njit(inline="always", **FLAGS)
def tanh32(x):
    """Tanh in float32, as :func:`tanh` with a polynomial of degree 7 (truncation below 2e-8 relative)."""
    y = _TWO * abs(x)
    y = _LIMIT if y > _LIMIT else y
    shifted = y * _LOG2_E32 + _ROUND32
    k = shifted - _ROUND32
    r = (y - k * _LN2_HIGH32) - k * _LN2_LOW32
    q = _C7 * r + _C6
    q = q * r + _C5
    q = q * r + _C4
    q = q * r + _C3
    q = q * r + _HALF
    q = q * r * r + r
    two_k = _single_from_bits(np.int32((_bits_of_single(shifted) << _EXPONENT) + _BIAS))
    e = two_k * q + (two_k - _ONE)
    t = e / (e + _TWO)
    return t if x > np.float32(0.0) else -t


def _tanh(x):
    """:func:`tanh` or :func:`tanh32`, by the type of x."""
    raise NotImplementedError


@overload(_tanh, inline="always")
def _tanh_by_type(x):
    return (lambda x: tanh32(x)) if x == types.float32 else (lambda x: tanh(x))


@njit(**LEAF)
def activate(code, eta, bias, z, out_slope):
    """Sigma(z + bias) in place of z, one row, and sigma' where it is stored (``STORED_SLOPES``)."""
    if code == 0:
        for m in range(z.size):
            z[m] += bias
    elif code == 1:
        for m in range(z.size):
            z[m] = _tanh(z[m] + bias)
    elif code == 2:
        for m in range(z.size):
            t = z[m] + bias
            z[m] = 0.0 if t <= 0.0 else t
    elif code == 3:
        for m in range(z.size):
            t = z[m] + bias
            t = 0.0 if t <= 0.0 else t
            z[m] = t * t
            out_slope[m] = t + t
    elif code == 4:
        for m in range(z.size):
            u = z[m] + bias
            t = u + eta
            t = 0.0 if t <= 0.0 else t
            z[m] = t * t / (4.0 * eta) if u <= eta else u
            out_slope[m] = t / (2.0 * eta) if u <= eta else 1.0
    elif code == 5:
        for m in range(z.size):
            u = z[m] + bias
            t = 0.5 * (1.0 + math.erf(u * _INV_SQRT2))
            z[m] = u * t
            out_slope[m] = t + u * _INV_SQRT_2PI * math.exp(-0.5 * u * u)
    else:
        for m in range(z.size):
            u = z[m] + bias
            z[m] = math.sin(u)
            out_slope[m] = math.cos(u)


@njit(**SUM_FLAGS)
def pull_back(code, value, slope, q):
    """R = q sigma' in place of q, one row, with sigma' from the value where that is enough; sums of h q and of r."""
    along = total = q.dtype.type(0)
    if code == 1:
        for m in range(q.size):
            product = value[m] * q[m]
            along += product
            q[m] -= product * value[m]
            total += q[m]
    elif code == 2:
        for m in range(q.size):
            along += value[m] * q[m]
            q[m] = 0.0 if value[m] <= 0.0 else q[m]
            total += q[m]
    elif code == 0:
        for m in range(q.size):
            along += value[m] * q[m]
            total += q[m]
    else:
        for m in range(q.size):
            along += value[m] * q[m]
            q[m] *= slope[m]
            total += q[m]
    return along, total
