"""Activations and their derivatives over many numbers, compiled into the CPU kernels."""

from __future__ import annotations

import math

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from wgflow.kernels.cpu.elementary import cos, erf_and_gauss, sin, tanh
from wgflow.kernels.cpu.flags import LEAF
from wgflow.kernels.cpu.vectors import whole_vectors

_FARTHEST = 1e13  # where sin and cos of wgflow.kernels.cpu.elementary end
_INV_SQRT2 = 0.7071067811865476
_INV_SQRT_2PI = 0.3989422804014327


@njit(**LEAF)
def _regularised_relu(eta, z, out_slope):  # apart from the others: divisions of long vectors gain nothing
    for m in range(z.size):
        u = z[m]
        t = u + eta
        t = 0.0 if t <= 0.0 else t
        z[m] = t * t / (4.0 * eta) if u <= eta else u
        out_slope[m] = t / (2.0 * eta) if u <= eta else 1.0


@njit(**LEAF)
def _activate_alone(code, z):
    """Activate numbers in place, sigma(z), for activations whose slope follows from the value."""
    whole_vectors()
    if code == 1:
        for m in range(z.size):
            z[m] = tanh(z[m])
    elif code == 2:
        for m in range(z.size):
            z[m] = 0.0 if z[m] <= 0.0 else z[m]


@njit(**LEAF)
def activate_with_slope(code, eta, z, out_slope):
    """Activate numbers in place, sigma(z), and write the slopes, for activations in ``STORED_SLOPES``."""
    whole_vectors()
    if code == 3:
        for m in range(z.size):
            t = 0.0 if z[m] <= 0.0 else z[m]
            z[m] = t * t
            out_slope[m] = t + t
    elif code == 4:
        _regularised_relu(eta, z, out_slope)
    elif code == 5:
        for m in range(z.size):
            u = z[m]
            value, gauss = erf_and_gauss(u * _INV_SQRT2)
            t = 0.5 * (1.0 + value)
            z[m] = u * t
            out_slope[m] = t + u * _INV_SQRT_2PI * gauss
    else:
        far = 0  # beyond the reach of the functions that vectorise
        for m in range(z.size):
            far += not abs(z[m]) < _FARTHEST
        if far > 0:
            for m in range(z.size):
                u = z[m]
                z[m] = math.sin(u)
                out_slope[m] = math.cos(u)
        else:
            for m in range(z.size):
                u = z[m]
                z[m] = sin(u)
                out_slope[m] = cos(u)


@njit(**LEAF)
def activate(code, eta, z, out_slope):
    """Sigma(z) in place of z, and sigma' where it is stored (``STORED_SLOPES``)."""
    if code <= 2:
        _activate_alone(code, z)
    else:
        activate_with_slope(code, eta, z, out_slope)


@intrinsic
def call_at(typing, address, code, eta, z, out_slope):
    """:func:`activate_with_slope` by the function at an address, which may ignore the code and eta."""

    def generate(context, builder, signature, arguments):
        kinds = signature.args
        rows = [context.make_array(kinds[i])(context, builder, arguments[i]) for i in (3, 4)]
        count = builder.extract_value(rows[0].shape, 0)
        given = [rows[0].data, rows[1].data, *arguments[1:3], count]
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in given])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), given)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, eta, z, out_slope), generate


@njit(**LEAF)
def apply(model, z, out_slope):
    """:func:`activate` with the activation of a model, which may be one of the user's.

    Those with a slope are called through a pointer: a network of another activation need not wait until they compile.
    """
    if model.own != 0:
        call_at(model.own, model.activation, model.eta, z, out_slope)
    else:
        _activate_alone(model.activation, z)


@njit(**LEAF)
def pull_back(code, value, slope, q):
    """R = q sigma' in place of q, with sigma' from the value where that is enough."""
    whole_vectors()
    if code == 1:
        for m in range(q.size):
            q[m] -= value[m] * value[m] * q[m]
    elif code == 2:
        for m in range(q.size):
            q[m] = 0.0 if value[m] <= 0.0 else q[m]
    elif code != 0:
        for m in range(q.size):
            q[m] *= slope[m]
