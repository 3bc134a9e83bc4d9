"""Loops of a network's passes, one pass over memory each: Python that :mod:`.elementwise` compiles.

Rows are units, columns training points. The activation's code is tested once a row; every other loop is plain
arithmetic, which vectorises. Outputs are named ``out_*``.
"""

from __future__ import annotations

from numba import njit

from wgflow.kernels.cpu.flags import LEAF
from wgflow.kernels.cpu.functions import activate as in_place


@njit(**LEAF)
def _value_and_slope(code, eta, out_h, out_slope):
    """Sigma(z) in place of z, one row, and sigma' for every activation."""
    in_place(code, eta, out_h, out_slope)
    if code == 0:
        for n in range(out_h.size):
            out_slope[n] = 1.0
    elif code == 1:
        for n in range(out_h.size):
            out_slope[n] = 1.0 - out_h[n] * out_h[n]
    elif code == 2:
        for n in range(out_h.size):
            out_slope[n] = 0.0 if out_h[n] <= 0.0 else 1.0


def activate(code, eta, beta, out_h, out_slope):
    """h1(beta) and h1'(beta)."""
    for i in range(beta.shape[0]):
        for n in range(beta.shape[1]):
            out_h[i, n] = beta[i, n]
        _value_and_slope(code, eta, out_h[i], out_slope[i])


def layer(code1, eta1, code2, eta2, skip, product, scale, beta, out_alpha, out_beta, out_h, out_slope, out_bend):
    """Alpha = scale product, the beta above, h1, h1' there and h2' at alpha."""
    for i in range(beta.shape[0]):
        for n in range(beta.shape[1]):
            out_alpha[i, n] = scale * product[i, n]
            out_beta[i, n] = out_alpha[i, n]
        _value_and_slope(code2, eta2, out_beta[i], out_bend[i])
        if skip:
            for n in range(beta.shape[1]):
                out_beta[i, n] += beta[i, n]
        for n in range(beta.shape[1]):
            out_h[i, n] = out_beta[i, n]
        _value_and_slope(code1, eta1, out_h[i], out_slope[i])


def pull(skip, product, scale, d_beta, slope, bend, out_beta, out_alpha):
    """Dbeta and Dalpha of the layer below."""
    keep = 1.0 if skip else 0.0
    for i in range(slope.shape[0]):
        for n in range(slope.shape[1]):
            out_beta[i, n] = keep * d_beta[i, n] + scale * product[i, n] * slope[i, n]
            out_alpha[i, n] = out_beta[i, n] * bend[i, n]


def push(skip, through, scale, own, weight, g_beta, bend, slope, out_alpha, out_beta, out_moved):
    """Galpha, Gbeta of the layer above and h1' o Gbeta."""
    keep = 1.0 if skip else 0.0
    for i in range(slope.shape[0]):
        for n in range(slope.shape[1]):
            out_alpha[i, n] = scale * through[i, n] + weight * own[i, n]
            out_beta[i, n] = keep * g_beta[i, n] + out_alpha[i, n] * bend[i, n]
            out_moved[i, n] = slope[i, n] * out_beta[i, n]
