"""Compiled kernels of ridge units f(x, theta) = a sigma(w . x + b), for any network of layers.

Samples run in blocks that stay in cache; within a block the state is stored as (D, B) so that a vector register
holds one coordinate of several samples, and all particles pass over it in sequence. The tape is sigma and sigma' at
each entry, (E, B); the backward pass recovers X_k from X_(k+1) by subtracting the same increment, so no (M, N, D)
array exists and memory does not depend on M. The recovered state is off by about L eps max|X|.
"""

from __future__ import annotations

import math

import numpy as np
from numba import float64, int64, njit, types, void

from wgflow.kernels._functions import FLAGS, activate, dot, total

# Inputs are declared read-only, which writable arrays satisfy too: one machine code for both.
_MATRIX = types.Array(float64, 2, "C", readonly=True)
_VECTOR = types.Array(float64, 1, "C", readonly=True)
_INDEX = types.Array(int64, 1, "C", readonly=True)
_NETWORK = (_MATRIX, _MATRIX, _INDEX, _INDEX, _VECTOR, int64, float64, int64, int64, int64)  # readout ... block
_NETWORK_PASS = void(_MATRIX, _MATRIX, *_NETWORK, int64, float64[:, ::1], float64[::1], float64[:, ::1])


# Array expressions such as `state += step` would cost a second of compilation each; loops do not.
@njit(**FLAGS)
def _clear(out_rows):
    for d in range(out_rows.shape[0]):
        for m in range(out_rows.shape[1]):
            out_rows[d, m] = 0.0


@njit(**FLAGS)
def _add(rows, out_rows):
    for d in range(rows.shape[0]):
        for m in range(rows.shape[1]):
            out_rows[d, m] += rows[d, m]


@njit(**FLAGS)
def _preactivation(state, theta, out_z):
    """Z = w . x + b, one row. Four coordinates at a time: five loads and a store per four multiply-adds."""
    width = state.shape[0]
    bias = theta[2 * width] if theta.size > 2 * width else 0.0
    for m in range(out_z.size):
        out_z[m] = bias
    d = 0
    while d + 4 <= width:
        w0, w1, w2, w3 = theta[width + d], theta[width + d + 1], theta[width + d + 2], theta[width + d + 3]
        x0, x1, x2, x3 = state[d], state[d + 1], state[d + 2], state[d + 3]
        for m in range(out_z.size):
            out_z[m] += w0 * x0[m] + w1 * x1[m] + w2 * x2[m] + w3 * x3[m]
        d += 4
    while d < width:
        w0, x0 = theta[width + d], state[d]
        for m in range(out_z.size):
            out_z[m] += w0 * x0[m]
        d += 1


@njit(**FLAGS)
def _add_increment(scale, theta, value, out_state):
    """out_state += scale a sigma(z)."""
    for d in range(out_state.shape[0]):
        factor, row = scale * theta[d], out_state[d]
        for m in range(value.size):
            row[m] += factor * value[m]


@njit(**FLAGS)
def _forward(state, step, theta, first, particle, weight, code, eta, z, out_value, out_slope):
    """X_L from X_0 in place, keeping sigma and sigma' of every entry."""
    for k in range(first.size - 1):
        alone = first[k + 1] - first[k] == 1
        into = state if alone else step  # a single particle's z is complete before X moves
        if not alone:
            _clear(step)
        for e in range(first[k], first[k + 1]):
            _preactivation(state, theta[particle[e]], z)
            activate(code, eta, z, out_value[e], out_slope[e])
            if weight[e] != 0.0:  # a query point of the first variation adds nothing to the state
                _add_increment(weight[e], theta[particle[e]], out_value[e], into)
        if not alone:
            _add(step, state)


@njit(**FLAGS)
def _entry_gradient(state, adjoint, theta, value, slope, e, out_z, out_first, out_slope):
    """Add g_e = sum f . p and d_theta g_e of entry e to the outputs; leave its sigma' (a . p) in ``out_z``."""
    width = state.shape[0]
    for m in range(out_z.size):
        out_z[m] = 0.0
    for d in range(width):
        a, p = theta[d], adjoint[d]
        for m in range(out_z.size):
            out_z[m] += a * p[m]
        along = dot(value[e], p)
        out_slope[e, d] += along
        out_first[e] += a * along
    for m in range(out_z.size):
        out_z[m] *= slope[e, m]
    for d in range(width):
        out_slope[e, width + d] += dot(out_z, state[d])
    if theta.size > 2 * width:
        out_slope[e, 2 * width] += total(out_z)


@njit(**FLAGS)
def _add_adjoint(scale, theta, z, out_adjoint):
    """out_adjoint += scale (a . p) sigma' w, the particle's share of p . d_x f."""
    width = out_adjoint.shape[0]
    for d in range(width):
        factor, row = scale * theta[width + d], out_adjoint[d]
        for m in range(z.size):
            row[m] += factor * z[m]


@njit(**FLAGS)
def _backward(state, adjoint, step, theta, first, particle, weight, value, slope, z, out_first, out_slope):
    """From X_L and p_L back to X_0, adding g_e and d_theta g_e of every entry to the outputs."""
    for k in range(first.size - 2, -1, -1):
        alone = first[k + 1] - first[k] == 1
        into = state if alone else step
        if not alone:
            _clear(step)
        for e in range(first[k], first[k + 1]):
            if weight[e] != 0.0:
                _add_increment(-weight[e], theta[particle[e]], value[e], into)
        if not alone:
            _add(step, state)
            _clear(step)
        into = adjoint if alone else step
        for e in range(first[k], first[k + 1]):
            _entry_gradient(state, adjoint, theta[particle[e]], value, slope, e, z, out_first, out_slope)
            if weight[e] != 0.0:
                _add_adjoint(weight[e], theta[particle[e]], z, into)
        if not alone:
            _add(step, adjoint)


@njit(**FLAGS)
def _load(start, low, high, out_state):
    """Copy samples low..high-1 into a block; unused lanes repeat the last one, so that they are as finite as it."""
    for d in range(out_state.shape[0]):
        for m in range(out_state.shape[1]):
            out_state[d, m] = start[d, min(low + m, high - 1)]


@njit(**FLAGS)
def _read(state, readout, low, high, out_output):
    """Outputs W1 X of samples low..high-1, into rows of (M, K)."""
    for m in range(high - low):
        for k in range(readout.shape[0]):
            sum_ = 0.0
            for d in range(readout.shape[1]):
                sum_ += readout[k, d] * state[d, m]
            out_output[low + m, k] = sum_


@njit(**FLAGS)
def _loss_gradient(loss, output, target, out_residual):
    """Gradient of one sample's loss in its K outputs."""
    if loss == 0:
        for k in range(output.size):
            out_residual[k] = output[k] - target[k]
        return
    top, mass, weights = output[0], 0.0, 0.0
    for k in range(output.size):
        top = output[k] if output[k] > top else top
    for k in range(output.size):
        out_residual[k] = math.exp(output[k] - top)
        mass += out_residual[k]
        weights += target[k]
    for k in range(output.size):
        out_residual[k] = out_residual[k] * weights / mass - target[k]


@njit(_NETWORK_PASS, cache=True, **FLAGS)
def network_pass(
    start,
    target,
    readout,
    theta,
    first,
    particle,
    weight,
    code,
    eta,
    low,
    high,
    block,
    loss,
    out_output,
    out_first,
    out_slope,
):
    """Outputs and sums over samples low..high-1 of g_e, (E,), and d_theta g_e, (E, P).

    With loss < 0 the outputs alone: one kernel for both, since a second one would cost another second to compile.
    """
    width = start.shape[0]
    state, adjoint = np.empty((width, block), start.dtype), np.empty((width, block), start.dtype)
    step, z = np.empty((width, block), start.dtype), np.empty(block, start.dtype)
    value, slope = np.empty((particle.size, block), start.dtype), np.empty((particle.size, block), start.dtype)
    residual = np.empty(readout.shape[0], start.dtype)
    for begin in range(low, high, block):
        end = min(begin + block, high)
        _load(start, begin, end, state)
        _forward(state, step, theta, first, particle, weight, code, eta, z, value, slope)
        _read(state, readout, begin, end, out_output)
        if loss < 0:
            continue
        _clear(adjoint)  # p(1) = W1' dloss; unused lanes stay 0 and add nothing
        for m in range(end - begin):
            _loss_gradient(loss, out_output[begin + m], target[begin + m], residual)
            for k in range(readout.shape[0]):
                for d in range(width):
                    adjoint[d, m] += readout[k, d] * residual[k]
        _backward(state, adjoint, step, theta, first, particle, weight, value, slope, z, out_first, out_slope)
