"""Velocities, dissipation and Euler's step by the compiled passes, for the built-in depth schemes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wgflow.base.types import Array, Index
from wgflow.kernels.cpu import compiled
from wgflow.model.depth import Network, Transpose
from wgflow.model.particles import Particles

_NO_DEPTHS, _NO_ORDER = np.empty(0), np.empty(0, np.int64)


class Moved(NamedTuple):
    """Result of a step.

    Attributes
    ----------
    theta, tau : ndarray (N, P), (N,)
        The places.
    finite : bool
        Whether all of them are finite.
    sorted : bool
        Whether the order of the depths is unchanged.
    """

    theta: Array
    tau: Array
    finite: bool
    sorted: bool


def velocity(net: Network, transpose: Transpose, value: Array, slope: Array, count: int) -> tuple[Array, Array]:
    """Velocities (N, P) and (N,) from the kernel's g_e, (E,), and d_theta g_e, (E, P); N is ``count``."""
    v_theta, v_tau = np.empty((count, slope.shape[1])), np.empty(count)
    compiled.motion_kernels().gather(net.particle, *transpose, value, np.ascontiguousarray(slope), v_theta, v_tau)
    return v_theta, v_tau


def dissipation(
    rho: Particles, per_kappa: Array, by_column: Array, clip: bool, v_theta: Array, v_tau: Array
) -> tuple[float, Array]:
    """Dissipation sum_i mass_i sum_p by_column_p v_ip**2 + per_kappa_i v_tau,i**2, and the projected v_tau, (N,)."""
    projected, total = np.empty(len(v_tau)), np.empty(1)
    compiled.motion_kernels().dissipate(
        rho.tau, rho.mass, per_kappa, by_column, clip, np.ascontiguousarray(v_theta), v_tau, projected, total
    )
    return float(total[0]), projected


def step(rho: Particles, v_theta: Array, v_tau: Array, h: float, clip: bool, moves: bool, order: Index | None) -> Moved:
    """Euler's step; without ``moves`` depths stay the same array. ``order`` is the present order of the depths."""
    theta, found = np.empty(rho.theta.shape), np.empty(2, np.bool_)
    before, after = (rho.tau, np.empty(len(rho))) if moves else (_NO_DEPTHS, _NO_DEPTHS)
    order = order if moves and order is not None else _NO_ORDER
    compiled.motion_kernels().move(
        rho.theta.reshape(-1), before, order, v_theta.reshape(-1), v_tau, h, clip, theta.reshape(-1), after, found
    )
    return Moved(theta, after if moves else rho.tau, not found[0], bool(found[1]))
