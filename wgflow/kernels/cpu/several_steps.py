"""Several steps of a small problem in one call: arrays and arguments of :mod:`wgflow.kernels.cpu.euler_steps`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from wgflow.base.types import Array, Index
from wgflow.kernels.cpu import compiled
from wgflow.kernels.cpu.wide import Mover
from wgflow.model.depth import Network, Transpose
from wgflow.model.particles import Particles

_MOST = 256  # steps of one call at most
_WORK = 2**22  # units times samples times D of one call at most
_OUTPUTS = 2**20


def most_steps(entries: int, width: int, samples: int, outputs: int) -> int:
    """Steps of one call at most, so that it takes about 10 ms and 8 MB of outputs; 1 where it would not pay."""
    return max(1, min(_MOST, _WORK // (entries * samples * width), _OUTPUTS // (samples * outputs)))


class Moves(NamedTuple):
    """Euler steps of wide layers, whose parameters are moved in place.

    Attributes
    ----------
    mover : Mover
        What moves them.
    most : int
        Steps of one call at most.
    mean_losses : callable
        Energies, (steps,), from outputs, (steps, M, K).
    """

    mover: Mover
    most: int
    mean_losses: Callable[[Array], Array]

    def __call__(self, steps: int = 1) -> tuple[Array, Array]:
        """Take steps; returns E and the sums over the particles of (d_theta g_e)**2 before each, (steps,), (steps, P).

        The bits do not depend on how many are taken together.
        """
        if steps > 1:
            outputs, squares = self.mover.several(steps)
        else:
            outputs, squares = (array[None] for array in self.mover.move())
        return self.mean_losses(outputs), squares


class Motion(NamedTuple):
    """How particles move in a step, apart from the layers.

    Attributes
    ----------
    h : float
        Step length.
    gaps, moves, clip : bool
        Whether layers follow the order of the depths, whether depths move, and whether they stop at 0 and 1.
    per_kappa, by_column : ndarray (N,), (P,)
        Factors in the dissipation.
    mobility : (ndarray (P,), float) or None
        Factors on the velocities.
    """

    h: float
    gaps: bool
    moves: bool
    clip: bool
    per_kappa: Array
    by_column: Array
    mobility: tuple[Array, float] | None


class StepsTaken(NamedTuple):
    """State after some steps, and what was met on the way.

    Attributes
    ----------
    rho : Particles
        The measure.
    v_theta, v_tau : ndarray (N, P), (N,)
        The velocity there.
    energies, dissipations : ndarray (steps,)
        E and -dE/ds after each step.
    switched : ndarray (steps,)
        Pairs of particles that changed places in each step.
    """

    rho: Particles
    v_theta: Array
    v_tau: Array
    energies: Array
    dissipations: Array
    switched: Index


class SeveralSteps:
    """Several Euler steps of a flow in one call.

    Parameters
    ----------
    rho : Particles
        A measure of the flow.
    net, transpose : Network, Transpose
        Its layers.
    motion : Motion
        How it moves.
    chunk : int
        Samples of a chunk.
    arguments : tuple
        Those of :func:`wgflow.kernels.cpu.evaluate.evaluate` from ``width`` on, in arrays of its own.
    most : int
        Steps of one call at most.
    mean_losses : callable
        Energies, (steps,), from outputs, (steps, M, K).
    """

    def __init__(
        self,
        rho: Particles,
        net: Network,
        transpose: Transpose,
        motion: Motion,
        chunk: int,
        arguments: tuple[Any, ...],
        most: int,
        mean_losses: Callable[[Array], Array],
    ) -> None:
        self.most, count, output = most, rho.theta.size, arguments[-3]
        self._motion, self._mean_losses, self._output = motion, mean_losses, output
        self._kernels = compiled.step_kernels(output.dtype.name)
        self._theta, self._tau, self._v_theta, self._v_tau = places = (
            np.empty(rho.theta.shape), np.empty(len(rho)), np.empty(rho.theta.shape), np.empty(len(rho))
        )  # fmt: skip
        mobility, in_depth = (np.empty(0), np.empty(0)) if motion.mobility is None else motion.mobility
        factors = rho.mass, motion.per_kappa, motion.by_column, mobility, np.atleast_1d(in_depth)
        self._order = np.array(net.particle)
        self._fixed = (
            self._kernels.addresses, chunk, motion.gaps, motion.moves, motion.clip, motion.h,
            (np.array(net.first), self._order, np.array(net.weight)), arguments,
            (np.array(transpose.by_theta), np.array(transpose.by_tau), transpose.difference),
            tuple(np.array(factor, np.float64) for factor in factors), places,
            (
                self._theta.reshape(-1), self._v_theta.reshape(-1), np.empty(count), np.empty(len(rho)),
                np.empty(len(rho)), np.empty(1), np.empty(0), np.empty(0, np.int64), np.empty(2, np.bool_),
            ),
        )  # fmt: skip

    def __call__(self, rho: Particles, v_theta: Array, v_tau: Array, steps: int) -> StepsTaken | None:
        """Take Euler steps from a measure with a given velocity; None if a parameter or a depth overflows."""
        for array, value in zip(
            (self._theta, self._tau, self._v_theta, self._v_tau), (rho.theta, rho.tau, v_theta, v_tau), strict=True
        ):
            array[:] = value
        if self._motion.gaps:
            self._order[:] = rho.order
        outputs = np.empty((steps, *self._output.shape), self._output.dtype)
        dissipations, switched, taken = np.empty(steps), np.zeros(steps, np.int64), np.empty(1, np.int64)
        self._kernels.euler_steps(*self._fixed, (outputs, dissipations, switched, taken))
        if taken[0] < steps:
            return None
        tau, order = (self._tau.copy(), self._order.copy()) if self._motion.moves else (rho.tau, None)
        if order is not None:
            order.setflags(write=False)
        arrived = rho.moved(self._theta.copy(), tau, free=rho.free, fresh=True, order=order)
        energies = self._mean_losses(outputs.astype(np.float64, copy=False))
        return StepsTaken(arrived, self._v_theta.copy(), self._v_tau.copy(), energies, dissipations, switched)
