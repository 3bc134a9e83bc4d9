"""Minima of the first variation over a ball of parameters, from many starts at once.

Projected gradient descent with a step length per start: that of Barzilai and Borwein, halved until the value decreases
enough. One iteration is one sweep of the compiled kernels for all starts that have not converged.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wgflow.base.scaling import norms
from wgflow.base.types import Array, Index
from wgflow.energy import Energy
from wgflow.model.particles import Particles

_DECREASE = 1e-4  # fraction of the predicted decrease that a step has to reach (Armijo)
_CONVERGED = 1e-5  # a start has converged once its slope across the ball is this fraction of its group's lowest value


class Minima(NamedTuple):
    """Lowest point of each group of starts.

    Attributes
    ----------
    theta, t : ndarray (B, P), (B,)
        The points.
    value : ndarray (B,)
        dE/drho at these.
    converged : ndarray (B,), bool
        Whether the start that led there converged; otherwise it ran out of steps.
    """

    theta: Array
    t: Array
    value: Array
    converged: NDArray[np.bool_]


class _Ball:
    """Unit ball times [0, 1] in the variables z = (theta / R, t), or theta / R alone, and dE/drho on it."""

    def __init__(self, energy: Energy, rho: Particles, radius: float, s: float, move_t: bool) -> None:
        self.energy, self.rho, self.radius, self.s, self.move_t = energy, rho, radius, s, move_t

    def evaluate(self, z: Array) -> tuple[Array, Array]:
        """dE/drho, (Q,), and its gradient in z, (Q, P + 1)."""
        theta, t = self.radius * z[:, :-1], z[:, -1]
        value, by_theta, by_t = self.energy.first_variation_gradient(self.rho, theta, t, self.s)
        return value, np.column_stack([self.radius * by_theta, by_t if self.move_t else np.zeros(len(z))])

    def project(self, z: Array) -> Array:
        """Nearest point of the ball and [0, 1]."""
        out = z.copy()
        out[:, :-1] /= np.maximum(1.0, norms(z[:, :-1])[:, None])
        out[:, -1] = np.clip(z[:, -1], 0.0, 1.0)
        return out


def minimise_first_variation(
    energy: Energy,
    rho: Particles,
    theta: Array,
    t: Array,
    group: Index,
    radius: float,
    steps: int,
    s: float,
    move_t: bool,
) -> Minima:
    """Minimise dE/drho over |theta| <= R, and over t in [0, 1] if it may move, from several groups of starts.

    Parameters
    ----------
    energy, rho : Energy, Particles
        dE/drho and the measure at which it is taken.
    theta, t : ndarray (Q, P), (Q,)
        Starts, projected onto the ball.
    group : ndarray (Q,), int64
        Group 0..B-1 of each start, none empty; the lowest point of each group is returned.
    radius, steps, s : float, int, float
        R > 0, largest number of iterations, and flow time for a regulariser.
    move_t : bool
        Whether t is a variable too.

    Returns
    -------
    Minima
        No value ever rises, so the lowest start is an upper bound.
    """
    ball = _Ball(energy, rho, radius, s, move_t)
    z = ball.project(np.column_stack([theta / radius, t]))
    value, slope = ball.evaluate(z)
    length = 0.1 / np.maximum(np.linalg.norm(slope, axis=1), 1e-300)
    converged = np.zeros(len(z), bool)
    for _ in range(steps):
        converged |= _converged(ball, z, value, slope, length, group)
        active = np.flatnonzero(~converged)
        if not len(active):
            break
        trial = ball.project(z[active] - length[active, None] * slope[active])
        new_value, new_slope = ball.evaluate(trial)
        move = trial - z[active]
        improved = new_value < value[active] - _DECREASE * np.einsum("qp,qp->q", move, move) / length[active]
        following = _next_length(move, new_slope - slope[active], length[active])
        length[active] = np.where(improved, following, 0.5 * length[active])
        moved = active[improved]
        z[moved], value[moved], slope[moved] = trial[improved], new_value[improved], new_slope[improved]
    converged |= _converged(ball, z, value, slope, length, group)
    place = np.lexsort((value, group))
    lowest = place[np.unique(group[place], return_index=True)[1]]
    return Minima(radius * z[lowest, :-1], z[lowest, -1], value[lowest], converged[lowest])


def _converged(ball: _Ball, z: Array, value: Array, slope: Array, length: Array, group: Index) -> NDArray[np.bool_]:
    """Starts whose projected gradient vanishes, or whose steps are too short to move them."""
    displacement = np.linalg.norm(z - ball.project(z - length[:, None] * slope), axis=1)  # length * projected gradient
    least = np.full(group.max() + 1, np.inf)
    np.minimum.at(least, group, value)
    vanishing = 2 * displacement <= length * (_CONVERGED * np.abs(least[group]) + 1e-15)
    return np.asarray(vanishing | (displacement < 1e-13))


def _next_length(move: Array, change: Array, length: Array) -> Array:
    """Barzilai and Borwein's |dz|**2 / dz . dg, or twice the last length where the function is not convex."""
    squared, along = np.einsum("qp,qp->q", move, move), np.einsum("qp,qp->q", move, change)
    convex = along > 1e-12 * squared / length
    return np.where(convex, squared / np.where(convex, along, 1.0), 2.0 * length)
