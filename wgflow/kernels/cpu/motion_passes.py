"""Compiled passes over the particles: velocities from gradients, the dissipation, and Euler's step.

The definitions are those of :mod:`wgflow.model.depth`, :mod:`wgflow.model.particles` and :mod:`wgflow.flow.integrators`
in NumPy, with the same roundings where nothing is summed.
"""

from __future__ import annotations

import math

from numba import njit

from wgflow.kernels.cpu.flags import EXACT, SUM_FLAGS


@njit(**EXACT)
def gather(particle, by_theta, by_tau, difference, value, slope, out_theta, out_tau):
    """Velocities (N, P) and (N,) from g_e and d_theta g_e; see :class:`wgflow.model.depth.Transpose`."""
    for i in range(out_tau.size):
        out_tau[i] = 0.0
        for p in range(out_theta.shape[1]):
            out_theta[i, p] = 0.0
    for e in range(particle.size):
        i, c = particle[e], by_theta[e]
        for p in range(out_theta.shape[1]):
            out_theta[i, p] -= c * slope[e, p]
    for e in range(by_tau.size):
        g = value[e]
        if difference and e + 1 < by_tau.size:
            g -= value[e + 1]
        out_tau[particle[e]] -= by_tau[e] * g


@njit(**SUM_FLAGS)
def _square(row, factor):
    """Sum of the squares of a row with these factors."""
    total = 0.0
    for p in range(row.size):
        total += factor[p] * (row[p] * row[p])
    return total


@njit(**EXACT)
def dissipate(tau, mass, per_kappa, by_column, clip, v_theta, v_tau, out_tau, out_sum):
    """Velocity in depth without its outward part at the boundary, (N,), and the dissipation, (1,)."""
    total, in_depth = 0.0, 0.0
    for i in range(tau.size):
        v = v_tau[i]
        if clip and ((tau[i] <= 0.0 and v < 0.0) or (tau[i] >= 1.0 and v > 0.0)):
            v = 0.0
        out_tau[i] = v
        total += mass[i] * _square(v_theta[i], by_column)
        in_depth += per_kappa[i] * (v * v)
    out_sum[0] = total + in_depth


@njit(**EXACT)
def move(theta, tau, order, v_theta, v_tau, h, clip, out_theta, out_tau, out_found):
    """Euler's step of length h, with depths clipped to [0, 1]: places (N P,) and (N,), or (0,) if tau does not move.

    Into ``out_found``, (2,): whether a place is not finite; whether ``order`` still sorts the depths, ties by index.
    """
    bad, turned = False, False
    for p in range(theta.size):
        out_theta[p] = theta[p] + h * v_theta[p]
        bad |= not abs(out_theta[p]) < math.inf
    for i in range(tau.size):
        out_tau[i] = tau[i] + h * v_tau[i]
        bad |= not abs(out_tau[i]) < math.inf
        if clip:
            out_tau[i] = min(max(out_tau[i], 0.0), 1.0)
    for k in range(1, order.size):
        before, after = out_tau[order[k - 1]], out_tau[order[k]]
        turned |= before > after or (before == after and order[k - 1] > order[k])
    out_found[0], out_found[1] = bad, not turned
