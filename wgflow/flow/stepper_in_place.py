"""Stepper that moves the particles while the velocity is computed, where particles stay in their layers.

For gradient descent in wide layers with few samples, reading and writing the parameters is most of the work. Here they
are read once in each direction and written once a step, by the kernel; nothing of size N x P is copied but frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from wgflow.base.energy_balance import EMPTY, ROUNDING, EnergyBalance
from wgflow.base.errors import DivergenceError
from wgflow.base.types import Frame
from wgflow.energy import Energy
from wgflow.flow.divergence import Moment, diverged
from wgflow.flow.integrators import EULER, Estimate
from wgflow.flow.stepper import Dynamics
from wgflow.flow.stepsize import Constant, Taken, Trial
from wgflow.model.depth import Layers, Shallow
from wgflow.model.particles import Particles

if TYPE_CHECKING:
    from wgflow.kernels.cpu.several_steps import Moves


def suits(dynamics: Dynamics, rho: Particles) -> bool:
    """Whether a step is theta <- theta - h d_theta g over all samples, with particles that stay in their layers."""
    energy = dynamics.energy
    fixed = type(energy.depth) in (Layers, Shallow) and rho.mass.min() == rho.mass.max()
    constant = dynamics.integrator == EULER and type(dynamics.rule) is Constant
    plain = type(energy) is Energy and energy.regulariser is None and hasattr(energy.kernel, "mover")
    return fixed and constant and plain and dynamics.plain


class InPlaceStepper:
    """Particles in one array, moved in place; methods and arguments are those of HostStepper.

    Raises
    ------
    LookupError
        If the kernel has no pass that moves particles of such a network.
    """

    lookahead = 0
    onto_frames = False

    def __init__(self, dynamics: Dynamics, rho: Particles, switched: int, balance: EnergyBalance) -> None:
        self._dynamics, self._start, self._balance, self._switched = dynamics, rho, balance, switched
        self._theta = np.array(rho.theta)
        self._length = dynamics.rule.first
        self._mobility = np.ones(rho.theta.shape[1]) if dynamics.mobility is None else dynamics.mobility[0]
        net = dynamics.energy.network(rho)
        kernel: Any = dynamics.energy.kernel
        move = kernel.mover(net, self._theta, -self._length * self._mobility)
        if move is None:
            raise LookupError
        self._move: Moves = move
        self.most_at_once = move.most if move.most > 1 else 0
        self._rounding = ROUNDING[dynamics.energy.dtype]
        self._before: tuple[float, float] | None = None  # energy and dissipation at the start of the last step
        self._good: Frame | None = None
        self._times = list[float]()  # flow times since that frame

    def evaluate(self, at: Moment, record: bool, last: bool) -> None:
        """Compute the energy and the velocity at the state, of which a copy is kept if a frame is due, and move on."""
        theta = self._theta.copy() if record else None
        ((energy, dissipation),) = self._moved(1)
        # The sum of squares overflows before the velocity does, and the parameters have moved by then.
        if not (math.isfinite(energy) and (math.isfinite(dissipation) or np.isfinite(self._theta).all())):
            raise self._diverged(at)
        self._account([(energy, dissipation)], [at.s])
        if theta is not None:
            theta.setflags(write=False)
            state = (theta, self._start.tau, self._start.mass)
            self._good = Frame(at.step, at.s, *state, energy, dissipation, self._switched, at.h, balance=self._balance)
            self._times = [at.s]

    def several(self, times: list[float], h: float) -> int:
        """Take the steps that end at these flow times; returns how many were taken."""
        before = self._theta.copy()
        states = self._moved(len(times))
        if not np.isfinite(states).all():  # single steps find where the flow diverges
            self._theta[:], self.most_at_once = before, 0
            return 0
        self._account(states, times)
        return len(times)

    def _moved(self, steps: int) -> list[tuple[float, float]]:
        """Move the particles; energy and dissipation before each step."""
        with np.errstate(over="ignore", invalid="ignore"):
            energies, squares = self._move(steps)
            dissipations = [float(self._start.mass[0] * (self._mobility @ row)) for row in squares]
        return list(zip(energies.tolist(), dissipations, strict=True))

    def _account(self, states: list[tuple[float, float]], times: list[float]) -> None:
        """Energy balance up to the last of these states, energy and dissipation, at these flow times."""
        before, *after = states if self._before is None else [self._before, *states]
        if after:
            lost = (self._length * dissipation for _, dissipation in (before, *after))
            ends = (energy for energy, _ in after)
            steps = zip(ends, repeat(0.0), lost, times[-len(after) :], repeat(False), strict=False)
            self._balance = self._balance.after_steps(before[0], steps, self._rounding)
        self._before = states[-1]
        self._times += times

    def frame(self) -> Callable[[], Frame]:
        """Begin a frame of the state evaluated last."""
        frame = self._good
        assert frame is not None
        return lambda: frame

    def advance(self, reach: float) -> Taken:
        """Return the step that :meth:`evaluate` took; its length is constant, so ``reach`` is never less."""
        trial = Trial(
            lambda: self._start.moved(self._theta, self._start.tau),
            0,
            lambda: math.nan,
            lambda: Estimate(math.nan, math.nan, 0),
        )
        return Taken(trial, self._length, self._length)

    def _diverged(self, at: Moment) -> DivergenceError:
        """Error with the last good state, recomputed from the last frame because the arrays have been overwritten."""
        good, times = self._good, self._times
        if good is not None and len(times) > 1:
            start, balance = self._start.moved(good.theta, good.tau), good.balance or EMPTY
            again = InPlaceStepper(self._dynamics, start, good.switches, balance)
            for step, s in enumerate(times):
                again.evaluate(Moment(good.step + step, s, at.h), step == 0 or step == len(times) - 1, False)
            good = again._good
        return diverged(at, self._dynamics.rule.first, good)
