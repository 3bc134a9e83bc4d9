"""The cloud on the device that the energy's kernel computes on: particles go there once, and frames come back.

Two states take turns: a step reads one and writes the other. The host reads a few numbers (:class:`Board`), and only
where it has to: for step rules that compare, with frames, and now and then to see whether the flow has left the finite
numbers. Once it has, the kernels leave both states alone, so that the last good one is still there when the host comes
to know.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from wgflow.base.energy_balance import EnergyBalance, rounding
from wgflow.base.rng import key
from wgflow.base.types import Array, Frame, Index
from wgflow.flow.device_depth import Layers, layers
from wgflow.flow.device_frames import Returns
from wgflow.flow.device_status import Board, DeviceKernel, Launcher, tiles
from wgflow.flow.integrators import Estimate, embedded
from wgflow.flow.operators import Langevin, spec_of
from wgflow.flow.stepper import Dynamics, Moment
from wgflow.flow.stepsize import Adaptive, Constant, Descent, Taken, Trial
from wgflow.model import depth as depths
from wgflow.model.particles import BOUNDARIES, Particles
from wgflow.model.regularisers import Quadratic

# What there are kernels for, and what leaves the particles alone; a class that inherits from these may do anything.
_BUILT_IN = (
    depths.Gaps,
    depths.Layers,
    depths.Deposit,
    depths.Shallow,
    Constant,
    Descent,
    Adaptive,
    Quadratic,
    Langevin,
)


class _State(NamedTuple):
    """Places of the particles on the device, and their layers."""

    theta: Any
    tau: Any
    layers: Layers


class ResidentCloud:
    """Particles in the memory of a device; see :class:`wgflow.flow.stepper.Cloud` for the contract.

    Parameters
    ----------
    dynamics, rho, switched, balance : Dynamics, Particles, int, EnergyBalance
        As for :func:`wgflow.flow.stepper.place`, with nothing in it that :func:`refusal` names.
    gpu : DeviceKernel
        The energy's kernel.
    """

    ahead = 8  # the copy of a frame, and what is done with it, may take as long as so many steps

    def __init__(
        self, dynamics: Dynamics, rho: Particles, switched: int, balance: EnergyBalance, gpu: DeviceKernel
    ) -> None:
        self._of, self._gpu, self._rho, self._start = dynamics, gpu, rho, Launcher(gpu)
        self._count, self._parameters = shape = rho.theta.shape
        net, depth, table = dynamics.energy.network(rho), dynamics.energy.depth, dynamics.integrator
        put, empty = gpu.device.put, gpu.device.empty
        mass = put(rho.mass)
        self._weighing = (mass, put(depth.resistance(rho)), put(_mobility(dynamics, self._parameters)))
        # Two states take turns, one is for stages. All begin with particles: trouble at the start leaves them as is.
        *self._states, self._between = (
            _State(put(rho.theta), put(rho.tau), layers(depth, self._start, net, shape, mass)) for _ in range(3)
        )
        self._now = 0
        self._stages = empty((len(table.b), *shape), np.float64), empty((len(table.b), self._count), np.float64)
        rows = (*table.a, table.b, *(() if table.b_low is None else (table.b_low,)))
        self._weights = [put(np.array(row, np.float64)) for row in rows]
        self._sums = empty((3, tiles(self._count)), np.float64)
        self._spent = empty((len(table.b), 2, tiles(self._count)), np.float64)  # of each stage
        self._strange = empty(tiles(self._count), np.float64)
        self._penalty = empty(tiles(int(net.first[-1])), np.float64)
        self._board = put(Board.empty(switched, balance))
        self._rounding = rounding(dynamics.energy.dtype)
        places = [(state.theta, state.tau) for state in self._states]
        self._returns = Returns(gpu.device, dynamics, self._board, places, rho.mass)
        self._states[0].layers.arrange(self._states[0].tau)

    def look(self, at: Moment, record: bool, last: bool) -> None:
        """Start the velocity at the state; raises DivergenceError if an earlier step is known to have gone wrong."""
        self._at, rows = at, self._of.rows
        if record or rows is None:
            self._look(None, keep=1)
        self._rows = None if rows is None or last else rows(at.step)
        if self._rows is not None:
            self._look(self._rows, keep=0)
        self._returns.visit(at, self._now)

    def frame(self) -> Callable[[], Frame]:
        """Begin to copy the state out."""
        return self._returns.frame(self._at, self._now)

    def advance(self, reach: float) -> Taken:
        """Start a step; waits for the device only if the rule compares."""
        rule, energy, dissipation = self._of.rule, math.nan, math.nan
        if not isinstance(rule, Constant):
            energy, dissipation, _ = self._returns.read().states[self._now]
        taken = rule.advance(self._trial, energy, dissipation, reach)
        self._now = 1 - self._now
        return taken

    def _look(self, rows: Index | None, keep: int) -> None:
        """Velocity at the state of now over all samples or some; numbers for the board over all."""
        energy, penalties = self._velocity(self._states[self._now], self._at.s, rows, 0)
        term = self._of.energy.regulariser
        fading = -term.decay if isinstance(term, Quadratic) else 0.0  # dE/ds over the penalty
        looked = (self._at.step, self._at.s, self._now, keep, energy, penalties, self._penalty, float(fading))
        sums = (self._rounding, tiles(self._count), self._spent, self._board)
        self._start.judge("judge_velocity", *looked, *sums)

    def _velocity(self, state: _State, s: float, rows: Index | None, stage: int) -> tuple[Any, int]:
        """Velocity at a state as a stage of a step; the energy (1,) and how many parts its regulariser has."""
        made = self._gpu.launch(state.layers.first, state.layers.particle, state.layers.weight, state.theta, rows)
        penalties = self._regularise(state, s, made.value, made.slope)
        clip = int(self._of.boundary == "clip")
        results = (stage, *self._stages, self._spent)
        state.layers.velocity(made.value, made.slope, state.tau, *self._weighing, clip, *results)
        return made.energy, penalties

    def _regularise(self, state: _State, s: float, value: Any, slope: Any) -> int:
        """Add the regulariser to g_e and its gradient, if they are wanted; the number of parts of the penalty."""
        term = self._of.energy.regulariser
        if not isinstance(term, Quadratic):
            return 0
        entries, wanted = int(state.layers.first[-1]), value is not None
        net = (entries, self._parameters, state.layers.particle, state.layers.weight, state.theta)
        into = (value, slope) if wanted else (self._penalty, self._penalty)
        self._start.tiles("regularise", entries, 1, *net, float(term.factor(s)), int(wanted), *into, self._penalty)
        return tiles(entries)

    def _trial(self, h: float) -> Trial:
        """Start a step of length h from the state of now to the other."""
        here, there, table = self._states[self._now], self._states[1 - self._now], self._of.integrator
        for stage, row in enumerate(table.a):
            self._move(self._between, stage, stage + 1, h, fresh=stage == 0)
            self._between.layers.arrange(self._between.tau)
            self._velocity(self._between, self._at.s + h * sum(row), self._rows, stage + 1)
        self._move(there, len(table.a), len(table.b), h, fresh=not table.a)
        for each in self._of.ingredients:
            self._noise(there, each, h)
        there.layers.arrange(there.tau, here.layers)
        changed = there.layers.inverted
        pairs = (0, there.layers.particle) if changed is None else (self._count, changed)
        measured = float(h) if self._of.measured else 0.0
        made = (measured, len(table.b), self._weights[len(table.a)], self._spent)
        turn = (self._now, 1 - self._now, self._board)
        self._start.judge("judge_step", tiles(self._count), self._strange, *pairs, *made, *turn)
        return Trial(
            lambda: self._download(there),
            lambda: self._tried().changed,
            lambda: self._energy(there),
            lambda: self._estimate(there, h),
        )

    def _move(self, to: _State, row: int, stages: int, h: float, fresh: bool) -> None:
        """Move the state of now along the stages so far, weighted by a row of the method's table, into another."""
        here, free = self._states[self._now], BOUNDARIES.index(self._of.boundary)
        sizes = (self._count, self._parameters, stages, self._weights[row], float(h))
        ends = (free, int(fresh), self._board, to.theta, to.tau, self._strange)
        self._start.tiles("move_particles", self._count, 1, *sizes, here.theta, here.tau, *self._stages, *ends)

    def _noise(self, state: _State, each: Any, h: float) -> None:
        """One increment of :class:`wgflow.flow.operators.Langevin`."""
        seed, stream = (word - 2**64 if word >= 2**63 else word for word in key(each.seed, "langevin"))
        spreads = (math.sqrt(2 * each.temperature * h), math.sqrt(2 * each.tau_temperature * h))
        sizes = (self._count, self._parameters, seed, stream, self._at.step, 1.0 - h * each.decay, *spreads)
        ends = (BOUNDARIES.index(self._of.boundary), self._board, state.theta, state.tau, self._strange)
        self._start.tiles("langevin", self._count, 1, *sizes, *ends)

    def _tried(self) -> Board:
        """Wait for what became of the trial; raises DivergenceError if a particle left the finite numbers."""
        board = self._returns.read()
        if board.escaped:
            raise self._returns.escape(self._at)
        return board

    def _energy(self, state: _State) -> float:
        """E at a trial's end."""
        net = (state.layers.first, state.layers.particle, state.layers.weight)
        energy = self._gpu.launch(*net, state.theta, None, False).energy
        penalties = self._regularise(state, self._at.s, None, None)
        self._start.judge("judge_energy", energy, penalties, self._penalty, self._board)
        return self._tried().asked[0]

    def _estimate(self, end: _State, h: float) -> Estimate:
        """Error estimate of a trial; see :func:`wgflow.flow.integrators.compare`."""
        here, low, table = self._states[self._now], self._between, self._of.integrator
        self._move(low, len(table.a) + 1, len(embedded(table)), h, fresh=True)
        places = (here.theta, here.tau, end.theta, end.tau, low.theta, low.tau)
        sizes, count = (self._count, self._parameters), tiles(self._count)
        self._start.tiles("compare_states", self._count, 3, *sizes, self._weighing[0], *places, self._sums)
        self._start.judge("judge_error", count, self._sums, self._strange, self._board)
        error, before, after, escapes = self._tried().asked
        if escapes > 0:
            raise self._returns.escape(self._at)
        whole = float(self._rho.mass.sum()) or 1.0
        return Estimate(math.sqrt(error / whole), math.sqrt(max(before, after) / whole), table.order_low)

    def _download(self, state: _State) -> Particles:
        get, free = self._gpu.device.get, self._of.boundary == "free"
        return self._rho.moved(get(state.theta), get(state.tau), free=free, fresh=True)


def refusal(dynamics: Dynamics) -> str | None:
    """Say what keeps a flow from running on the device, None if nothing does: what is not built in needs NumPy."""
    depth, rule, term = dynamics.energy.depth, dynamics.rule, dynamics.energy.regulariser
    parts: list[tuple[str, object, str]] = [("depth scheme", depth, depth.name), ("step rule", rule, rule.name)]
    if term is not None:
        parts.append(("regulariser", term, term.name))
    parts += [("ingredient", each, str(spec_of(each)["name"])) for each in dynamics.ingredients]
    return next((f"{kind} {name!r} runs in NumPy" for kind, each, name in parts if type(each) not in _BUILT_IN), None)


def _mobility(dynamics: Dynamics, parameters: int) -> Array:
    """Factors by column, tau's last, (P + 1,)."""
    if dynamics.mobility is None:
        return np.ones(parameters + 1)
    return np.append(*dynamics.mobility)
