"""Scalar and row functions compiled into the CPU kernels. Undecorated Python turned into machine code by Numba.

Flags: ``contract`` allows fused multiply-add, and ``reassoc`` is granted to the sums of :func:`dot` and
:func:`total` alone, whose order is then the vector unit's: fixed in the binary, the same for any number of threads.
Full ``fastmath`` is never used, since it assumes there is no NaN. ``error_model="numpy"`` drops a branch per
division that would keep loops from vectorising.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

FLAGS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
SUM_FLAGS = FLAGS | {"fastmath": {"contract", "reassoc"}}

# Codes that select the loss inside a kernel, once a sample, and the activation, once a row.
LOSS_CODES = {"squared": 0, "cross_entropy": 1}
CODES = {"linear": 0, "tanh": 1, "relu": 2, "squared_relu": 3, "regularised_relu": 4, "gelu": 5, "sin": 6}

_ROUND = 6755399441055744.0  # 1.5 * 2**52: adding it leaves the nearest integer in the low bits of the mantissa
_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10  # Cody and Waite's split of log 2
_INV_SQRT2 = 0.7071067811865476
_INV_SQRT_2PI = 0.3989422804014327


@intrinsic
def _double_from_bits(context, bits):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


@intrinsic
def _bits_of_double(context, number):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), generate


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


@njit(**FLAGS)
def activate(code, eta, z, out_value, out_slope):
    """Sigma and sigma' of one row; the branch on the activation is outside the loops."""
    if code == 0:
        for m in range(z.size):
            out_value[m] = z[m]
            out_slope[m] = 1.0
    elif code == 1:
        for m in range(z.size):
            t = tanh(z[m])
            out_value[m] = t
            out_slope[m] = 1.0 - t * t
    elif code == 2:
        for m in range(z.size):
            out_value[m] = 0.0 if z[m] <= 0.0 else z[m]
            out_slope[m] = 0.0 if z[m] <= 0.0 else 1.0
    elif code == 3:
        for m in range(z.size):
            t = 0.0 if z[m] <= 0.0 else z[m]
            out_value[m] = t * t
            out_slope[m] = 2.0 * t
    elif code == 4:
        for m in range(z.size):
            t = z[m] + eta
            t = 0.0 if t <= 0.0 else t
            out_value[m] = t * t / (4.0 * eta) if z[m] <= eta else z[m]
            out_slope[m] = t / (2.0 * eta) if z[m] <= eta else 1.0
    elif code == 5:
        for m in range(z.size):
            t = 0.5 * (1.0 + math.erf(z[m] * _INV_SQRT2))
            out_value[m] = z[m] * t
            out_slope[m] = t + z[m] * _INV_SQRT_2PI * math.exp(-0.5 * z[m] * z[m])
    else:
        for m in range(z.size):
            out_value[m] = math.sin(z[m])
            out_slope[m] = math.cos(z[m])


@njit(**SUM_FLAGS)
def dot(u, v):
    """Sum of products of two rows."""
    result = 0.0
    for m in range(u.size):
        result += u[m] * v[m]
    return result


@njit(**SUM_FLAGS)
def total(u):
    """Sum of one row."""
    result = 0.0
    for m in range(u.size):
        result += u[m]
    return result
