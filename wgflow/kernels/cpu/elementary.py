"""Elementary functions without branches, so that loops over them vectorise, unlike those over the C library's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from wgflow.kernels.cpu.flags import FLAGS, LEAF

_ROUND = 6755399441055744.0  # 1.5 * 2**52: adding it leaves the nearest integer in the low bits of the mantissa
_ROUND_BIASED = _ROUND + 1023.0  # the same for that integer plus an exponent's bias
_SIGN, _SIGN32 = np.int64(-(2**63)), np.int32(-(2**31))
_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10  # Cody and Waite's split of log 2


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
def tanh64(x):
    """tanh(x) = e / (e + 2) with e = expm1(2|x|); branch-free, so that loops over it vectorise.

    expm1 by Cody-Waite reduction, 2y = k log 2 + r, and its Taylor polynomial of degree 13 on |r| <= log(2)/2
    (truncation below 4e-18). No cancellation near 0, NaN in gives NaN out. Within 2 units in the last place.
    """
    y = 2.0 * abs(x)
    y = 44.0 if y > 44.0 else y  # tanh rounds to 1 beyond; written so that NaN passes
    shifted = y * _LOG2_E + _ROUND_BIASED
    k = shifted - _ROUND_BIASED
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
    two_k = _double_from_bits(_bits_of_double(shifted) << 52)
    e = two_k * q + (two_k - 1.0)
    t = e / (e + 2.0)
    return _double_from_bits(_bits_of_double(t) | (_bits_of_double(x) & _SIGN))


# The same in float32: constants of that type, or every operation would be done in double.
_HALF, _ONE, _TWO, _LIMIT = np.float32(0.5), np.float32(1.0), np.float32(2.0), np.float32(20.0)
_ROUND32, _LOG2_E32 = np.float32(12582912.0 + 127.0), np.float32(_LOG2_E)  # with the bias
_LN2_HIGH32, _LN2_LOW32 = np.float32(0.693359375), np.float32(-2.12194440e-4)
_C7, _C6, _C5, _C4, _C3 = (np.float32(1.0 / math.factorial(k)) for k in (7, 6, 5, 4, 3))
_EXPONENT = np.int32(23)


@njit(inline="always", **FLAGS)
def tanh32(x):
    """Tanh in float32, as :func:`tanh64` with a polynomial of degree 7 (truncation below 2e-8 relative)."""
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
    two_k = _single_from_bits(np.int32(_bits_of_single(shifted) << _EXPONENT))
    e = two_k * q + (two_k - _ONE)
    t = e / (e + _TWO)
    return _single_from_bits(np.int32(_bits_of_single(t) | (_bits_of_single(x) & _SIGN32)))


# Polynomials with the smallest error at Chebyshev's points. erf(x) / x in x^2 on |x| <= 1, within 2e-17 of its size;
# erfc(x) exp(x^2) in (x - 2) / (x + 3) on 1 <= x <= 6, such that erfc is within 1e-17.
_ERF_NEAR = (
    1.1283791670955126, -0.3761263890318375, 0.11283791670954879, -0.026866170645076792, 0.0052239776248180145,
    -0.000854832698083379, 0.0001205533111164271, -1.4925595266831182e-05, 1.6461000484121368e-06,
    -1.6350312701054695e-07, 1.4659775274047436e-08, -1.1372848856791674e-09, 5.957176147748911e-11,
)  # fmt: skip
_ERFC_FAR = (
    0.25539567631050575, -0.533982309267448, 0.5110865058207131, -0.37642439962744456, 0.20394656030835803,
    -0.07128989014261979, 0.007769788652548788, 0.0059556944006294455, -0.002378567381452614, -0.0004930041361981138,
    0.0004248061244644014, 6.654446155731668e-05, -7.676314605581333e-05, -1.670088037114217e-05,
    1.64365968992818e-05,
)  # fmt: skip
_HALF_PI_1, _HALF_PI_2, _HALF_PI_3 = 1.5707963267948966, 6.123233995736766e-17, -1.497384905065873e-33

_EXPM1 = (*(1.0 / math.factorial(k) for k in range(1, 14)),)  # (exp(r) - 1) / r
_SIN = (*((-1.0) ** k / math.factorial(2 * k + 1) for k in range(1, 9)),)  # (sin r - r) / r^3 in r^2
_COS = (*((-1.0) ** k / math.factorial(2 * k) for k in range(2, 9)),)  # (cos r - 1 + r^2/2) / r^4 in r^2
_LOG = (*(2.0 / (2 * k + 1) for k in range(1, 12)),)  # (log((1 + s) / (1 - s)) - 2 s) / s^3 in s^2


def _fma(builder: Any, left: Any, right: Any, added: Any) -> Any:
    kind = ir.FunctionType(ir.DoubleType(), [ir.DoubleType()] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.f64"), [left, right, added])


@intrinsic
def _multiply_add(typing, left, right, added):
    """Left right + added with one rounding."""

    def generate(context, builder, signature, arguments):
        return _fma(builder, *arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


def _polynomial(coefficients: tuple[float, ...]) -> Any:
    """Intrinsic that evaluates a polynomial, given from the constant term on, by Horner's rule."""

    @intrinsic
    def polynomial(typing, x):
        def generate(context, builder, signature, arguments):
            constants = [ir.Constant(ir.DoubleType(), c) for c in coefficients]
            value = constants.pop()
            while constants:
                value = _fma(builder, value, arguments[0], constants.pop())
            return value

        return types.float64(types.float64), generate

    return polynomial


_expm1_over, _sin_over, _cos_over, _log_over = map(_polynomial, (_EXPM1, _SIN, _COS, _LOG))
_erf_near, _erfc_far = _polynomial(_ERF_NEAR), _polynomial(_ERFC_FAR)


@njit(forceinline=True, **LEAF)
def _power_of_two(shifted):
    """2^k for a number to which ``_ROUND`` was added, |k| < 1023."""
    return _double_from_bits((_bits_of_double(shifted) << 52) + (1023 << 52))


@njit(forceinline=True, **LEAF)
def _exp(x):
    """Exponential as 2^k exp(r), as in :func:`tanh64`; 2^k in two factors, since k may be -1075 or 1024."""
    y = 710.0 if x > 710.0 else x
    y = -746.0 if y < -746.0 else y
    k = (y * _LOG2_E + _ROUND) - _ROUND
    r = _multiply_add(-k, _LN2_LOW, _multiply_add(-k, _LN2_HIGH, y))
    half = 0.5 * k + _ROUND
    rest = (k - (half - _ROUND)) + _ROUND
    return _multiply_add(r, _expm1_over(r), 1.0) * _power_of_two(half) * _power_of_two(rest)


@njit(forceinline=True, **LEAF)
def _expm1(x):
    """exp(x) - 1 as in :func:`tanh64`; infinite from 709.4 on."""
    y = 710.0 if x > 710.0 else x
    y = -60.0 if y < -60.0 else y
    shifted = y * _LOG2_E + _ROUND
    k = shifted - _ROUND
    r = _multiply_add(-k, _LN2_LOW, _multiply_add(-k, _LN2_HIGH, y))
    two_k = _power_of_two(shifted)
    value = _multiply_add(two_k, r * _expm1_over(r), two_k - 1.0)
    return math.inf if x > 709.4 else value  # 2^k would be infinite, and the product NaN


@njit(forceinline=True, **LEAF)
def _sin_shifted(x, quarters):
    """sin(x + quarters pi/2): pi/2 taken off in three parts, which is exact to rounding for |x| < 1e13; NaN beyond."""
    y = x if abs(x) < 1e13 else math.nan
    shifted = y * (2.0 / math.pi) + _ROUND
    k = shifted - _ROUND
    r = _multiply_add(-k, _HALF_PI_1, y)
    r = _multiply_add(-k, _HALF_PI_3, _multiply_add(-k, _HALF_PI_2, r))
    turn = _bits_of_double(shifted) + quarters
    s = r * r
    sine = _multiply_add(r * s, _sin_over(s), r)
    cosine = 1.0 - (0.5 * s - s * s * _cos_over(s))
    value = cosine if turn & 1 else sine
    return -value if turn & 2 else value


@njit(forceinline=True, **LEAF)
def _sin(x):
    return _sin_shifted(x, 0)


@njit(forceinline=True, **LEAF)
def _cos(x):
    return _sin_shifted(x, 1)


@njit(forceinline=True, **LEAF)
def _log(x):
    """Logarithm: k log 2 + log((1 + s) / (1 - s)) with x = 2^k m, sqrt(1/2) <= m < sqrt 2, s = (m - 1) / (m + 1)."""
    small = x < 2.2250738585072014e-308
    bits = _bits_of_double(x * 18014398509481984.0 if small else x)  # 2^54
    above = bits - 0x3FE6A09E667F3BCD  # of sqrt(1/2)
    m = _double_from_bits((above & 0xFFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD)
    # k in the low bits of a double, which is how vectors turn it into one
    k = _double_from_bits(((above >> 52) & 0xFFF) + 0x4330000000000000) - 4503599627370496.0
    k = k - 4096.0 if k > 2047.0 else k
    k = k - 54.0 if small else k
    s = (m - 1.0) / (m + 1.0)
    t = s * s
    low = _multiply_add(k, _LN2_LOW, s * t * _log_over(t)) + 2.0 * s
    value = _multiply_add(k, _LN2_HIGH, low)
    value = x if x == math.inf else value
    value = -math.inf if x == 0.0 else value
    return value if x >= 0.0 else math.nan


@njit(forceinline=True, **LEAF)
def _log1p(x):
    """log(1 + x), with the rounding of 1 + x made good."""
    u = 1.0 + x
    lost = x - (u - 1.0)
    value = _log(u) + (lost / u if u > 0.0 else 0.0)
    return x if x == math.inf else value


@njit(forceinline=True, **LEAF)
def erf_and_gauss(x):
    """Erf(x), x p(x^2) near 0 and 1 - exp(-x^2) q beyond 1, and exp(-x^2)."""
    y = abs(x)
    y = 28.0 if y > 28.0 else y  # exp(-28^2) is 0
    s = y * y
    lost = _multiply_add(y, y, -s)  # of the square, by its rounding
    near = y * _erf_near(s)
    gauss = _exp(-s) * (1.0 - lost)
    value = near if y < 1.0 else 1.0 - gauss * _erfc_far((y - 2.0) / (y + 3.0))
    return (value if x > 0.0 else -value), gauss


@njit(forceinline=True, **LEAF)
def _erf(x):
    return erf_and_gauss(x)[0]


_INLINE: Any = FLAGS | {"forceinline": True}


def _by_type(double: Any, single: Any, dual: Any) -> Any:
    """Elementary function for float64, float32, and complex numbers with a tiny imaginary part (complex steps).

    The latter, (f, f' dx) at x + i dx, serves derivatives by complex steps.
    """

    def function(x):
        raise NotImplementedError

    @overload(function, jit_options=_INLINE)
    def choose(x):
        return dual if isinstance(x, types.Complex) else single if x == types.float32 else double

    return function


def _rounded(function: Any) -> Any:
    """The function in single precision, computed in double."""
    return lambda x: np.float32(function(np.float64(x)))


@njit(forceinline=True, **LEAF)
def _gauss(x):
    """Derivative of erf."""
    return 1.1283791670955126 * _exp(-x * x)


tanh = _by_type(
    lambda x: tanh64(x), lambda x: tanh32(x), lambda x: complex(tanh64(x.real), (1.0 - tanh64(x.real) ** 2) * x.imag)
)
exp = _by_type(lambda x: _exp(x), _rounded(_exp), lambda x: complex(_exp(x.real), _exp(x.real) * x.imag))
expm1 = _by_type(lambda x: _expm1(x), _rounded(_expm1), lambda x: complex(_expm1(x.real), _exp(x.real) * x.imag))
log = _by_type(lambda x: _log(x), _rounded(_log), lambda x: complex(_log(x.real), x.imag / x.real))
log1p = _by_type(lambda x: _log1p(x), _rounded(_log1p), lambda x: complex(_log1p(x.real), x.imag / (1.0 + x.real)))
erf = _by_type(lambda x: _erf(x), _rounded(_erf), lambda x: complex(_erf(x.real), _gauss(x.real) * x.imag))
sin = _by_type(lambda x: _sin(x), _rounded(_sin), lambda x: complex(_sin(x.real), _cos(x.real) * x.imag))
cos = _by_type(lambda x: _cos(x), _rounded(_cos), lambda x: complex(_cos(x.real), -_sin(x.real) * x.imag))
