"""Stepper on a device: particles are copied there once, and only frames come back.

A step reads one of two states and writes the other. The host reads the status (:class:`DeviceStatus`) only where it has
to: for step rules that compare, with frames, and now and then to see whether the flow has diverged. Once it has, the
kernels leave both states alone, so that the last finite one is still there when the host notices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from wgflow.base.energy_balance import ROUNDING, EnergyBalance
from wgflow.base.rng import key
from wgflow.base.types import Frame, Index
from wgflow.flow.device_depth import DeviceLayers, device_layers
from wgflow.flow.device_frames import DeviceFrames
from wgflow.flow.device_status import DeviceKernel, DeviceStatus, Launcher, tiles
from wgflow.flow.divergence import Moment
from wgflow.flow.integrators import Estimate, embedded
from wgflow.flow.operators import Langevin, operator_spec
from wgflow.flow.stepper import Dynamics
from wgflow.flow.stepsize import Adaptive, Constant, Descent, Taken, Trial
from wgflow.model.depth import Deposit, Gaps, Layers, Shallow
from wgflow.model.particles import BOUNDARIES, Particles
from wgflow.model.regularisers import Quadratic

# Classes that the device supports; a subclass of one of them may do anything.
_SUPPORTED = (Gaps, Layers, Deposit, Shallow, Constant, Descent, Adaptive, Quadratic, Langevin)


class _State(NamedTuple):
    """Particles on the device, and their layers."""

    theta: Any
    tau: Any
    layers: DeviceLayers


class DeviceStepper:
    """Particles in the memory of a device, where the energy's kernel computes and :func:`unsupported` found nothing.

    Methods and arguments are those of :class:`wgflow.flow.stepper.HostStepper`.
    """

    lookahead = 8  # steps that are started while a frame is copied and used
    most_at_once = 0
    onto_frames = False

    def __init__(
        self, dynamics: Dynamics, rho: Particles, switched: int, balance: EnergyBalance, gpu: DeviceKernel
    ) -> None:
        self._dynamics, self._gpu, self._rho, self._launcher = dynamics, gpu, rho, Launcher(gpu)
        self._count, self._parameters = shape = rho.theta.shape
        net, depth, table = dynamics.energy.network(rho), dynamics.energy.depth, dynamics.integrator
        put, empty = gpu.device.put, gpu.device.empty
        mass = put(rho.mass)
        mobility = np.ones(self._parameters + 1) if dynamics.mobility is None else np.append(*dynamics.mobility)
        self._metric = (mass, put(depth.inverse_tau_mobility(rho)), put(mobility))
        # Two states of the flow, and one for stages. All begin with the particles, which a failure at the start keeps.
        *self._states, self._stage_state = (
            _State(put(rho.theta), put(rho.tau), device_layers(depth, self._launcher, net, shape, mass))
            for _ in range(3)
        )
        self._current = 0
        self._stages = empty((len(table.b), *shape), np.float64), empty((len(table.b), self._count), np.float64)
        rows = (*table.a, table.b, *(() if table.b_low is None else (table.b_low,)))
        self._weights = [put(np.array(row, np.float64)) for row in rows]
        self._sums = empty((3, tiles(self._count)), np.float64)
        self._dissipated = empty((len(table.b), 2, tiles(self._count)), np.float64)  # by stage
        self._nonfinite = empty(tiles(self._count), np.float64)
        self._penalty = empty(tiles(int(net.first[-1])), np.float64)
        self._status = put(DeviceStatus.initial(switched, balance))
        self._rounding = ROUNDING[dynamics.energy.dtype]
        self._monotone, self._allowed = getattr(dynamics.rule, "monotone", False), 0.0
        places = [(state.theta, state.tau) for state in self._states]
        self._frames = DeviceFrames(gpu.device, dynamics, self._status, places, rho.mass)
        self._states[0].layers.arrange(self._states[0].tau)

    def evaluate(self, at: Moment, record: bool, last: bool) -> None:
        """Start the velocity at the state; raises DivergenceError if an earlier step is known to have failed."""
        self._at, rows = at, self._dynamics.rows
        if record or rows is None:
            self._evaluate(None, keep=1)
        self._rows = None if rows is None or last else rows(at.step)
        if self._rows is not None:
            self._evaluate(self._rows, keep=0)
        self._frames.visit(at, self._current)

    def several(self, times: list[float], h: float) -> int:
        """Take no steps: they are queued one by one."""
        return 0

    def frame(self) -> Callable[[], Frame]:
        """Begin to copy the state out."""
        return self._frames.frame(self._at, self._current)

    def advance(self, reach: float) -> Taken:
        """Start a step; waits for the device only if the rule compares."""
        rule, energy, dissipation = self._dynamics.rule, math.nan, math.nan
        if not isinstance(rule, Constant):
            energy, dissipation, _ = self._frames.read_status().states[self._current]
            self._allowed = self._dynamics.energy.rounding(energy) if self._monotone else 0.0
        taken = rule.advance(self._trial, energy, dissipation, reach)
        self._current = 1 - self._current
        return taken

    def _evaluate(self, rows: Index | None, keep: int) -> None:
        """Velocity at the current state over all samples, which enter the status, or over some."""
        energy, penalties = self._velocity(self._states[self._current], self._at.s, rows, 0)
        term = self._dynamics.energy.regulariser
        decay = -term.decay if isinstance(term, Quadratic) else 0.0  # dE/ds over the penalty
        place = (self._at.step, self._at.s, self._current, keep, energy, penalties, self._penalty, float(decay))
        sums = (self._rounding, tiles(self._count), self._dissipated, self._status)
        self._launcher.single_block("judge_velocity", *place, *sums)

    def _velocity(self, state: _State, s: float, rows: Index | None, stage: int) -> tuple[Any, int]:
        """Velocity at a state, as a stage of a step; the energy (1,) and the number of partial sums of the penalty."""
        result = self._gpu.launch(state.layers.first, state.layers.particle, state.layers.weight, state.theta, rows)
        penalties = self._regularise(state, s, result.value, result.slope)
        clip = int(self._dynamics.boundary == "clip")
        outputs = (stage, *self._stages, self._dissipated)
        state.layers.velocity(result.value, result.slope, state.tau, *self._metric, clip, *outputs)
        return result.energy, penalties

    def _regularise(self, state: _State, s: float, value: Any, slope: Any) -> int:
        """Add the regulariser to g_e and its gradient, if given; the number of partial sums of the penalty."""
        term = self._dynamics.energy.regulariser
        if not isinstance(term, Quadratic):
            return 0
        entries, given = int(state.layers.first[-1]), value is not None
        net = (entries, self._parameters, state.layers.particle, state.layers.weight, state.theta)
        into = (value, slope) if given else (self._penalty, self._penalty)
        self._launcher.tiles("regularise", entries, 1, *net, float(term.factor(s)), int(given), *into, self._penalty)
        return tiles(entries)

    def _trial(self, h: float) -> Trial:
        """Start a step of length h from the current state to the other."""
        here, there, table = self._states[self._current], self._states[1 - self._current], self._dynamics.integrator
        for stage, row in enumerate(table.a):
            self._move(self._stage_state, stage, stage + 1, h, fresh=stage == 0)
            if self._monotone:
                self._stage_state.layers.continue_(self._stage_state.tau, here.layers)
            else:
                self._stage_state.layers.arrange(self._stage_state.tau)
            self._velocity(self._stage_state, self._at.s + h * sum(row), self._rows, stage + 1)
        self._move(there, len(table.a), len(table.b), h, fresh=not table.a)
        for noise in self._dynamics.operators:
            self._noise(there, noise, h)
        there.layers.arrange(there.tau, here.layers)
        inversions = there.layers.inversions
        pairs = (0, there.layers.particle) if inversions is None else (self._count, inversions)
        measured = float(h) if self._dynamics.measured else 0.0
        dissipation = (measured, len(table.b), self._weights[len(table.a)], self._dissipated)
        turn = (self._current, 1 - self._current, self._status)
        self._launcher.single_block("judge_step", tiles(self._count), self._nonfinite, *pairs, *dissipation, *turn)

        def continued() -> float:
            self._stage_state.layers.continue_(there.tau, here.layers)  # stages are over
            return self._energy(there, self._stage_state.layers)

        return Trial(
            lambda: self._download(there),
            lambda: self._trial_status().switches,
            lambda: self._energy(there, there.layers),
            lambda: self._estimate(there, h),
            continued=continued,
            rounding=self._allowed,
        )

    def _move(self, to: _State, row: int, stages: int, h: float, fresh: bool) -> None:
        """Move the current state along the stages so far, weighted by a row of the method's table, into another."""
        here, free = self._states[self._current], BOUNDARIES.index(self._dynamics.boundary)
        sizes = (self._count, self._parameters, stages, self._weights[row], float(h))
        ends = (free, int(fresh), self._status, to.theta, to.tau, self._nonfinite)
        self._launcher.tiles("move_particles", self._count, 1, *sizes, here.theta, here.tau, *self._stages, *ends)

    def _noise(self, state: _State, noise: Any, h: float) -> None:
        """One increment of :class:`wgflow.flow.operators.Langevin`."""
        seed, stream = (word - 2**64 if word >= 2**63 else word for word in key(noise.seed, "langevin"))
        spreads = (math.sqrt(2 * noise.temperature * h), math.sqrt(2 * noise.tau_temperature * h))
        sizes = (self._count, self._parameters, seed, stream, self._at.step, 1.0 - h * noise.decay, *spreads)
        ends = (BOUNDARIES.index(self._dynamics.boundary), self._status, state.theta, state.tau, self._nonfinite)
        self._launcher.tiles("langevin", self._count, 1, *sizes, *ends)

    def _trial_status(self) -> DeviceStatus:
        """Wait for the status after a trial; raises DivergenceError if a particle is no longer finite."""
        status = self._frames.read_status()
        if status.escaped:
            raise self._frames.escape(self._at)
        return status

    def _energy(self, state: _State, layers: DeviceLayers) -> float:
        """E at the end of a trial step, in its own layers or others."""
        net = (layers.first, layers.particle, layers.weight)
        energy = self._gpu.launch(*net, state.theta, None, False).energy
        penalties = self._regularise(state._replace(layers=layers), self._at.s, None, None)
        self._launcher.single_block("judge_energy", energy, penalties, self._penalty, self._status)
        return self._trial_status().values[0]

    def _estimate(self, end: _State, h: float) -> Estimate:
        """Error estimate of a trial step; see :func:`wgflow.flow.integrators.compare`."""
        here, low, table = self._states[self._current], self._stage_state, self._dynamics.integrator
        self._move(low, len(table.a) + 1, len(embedded(table)), h, fresh=True)
        places = (here.theta, here.tau, end.theta, end.tau, low.theta, low.tau)
        sizes, count = (self._count, self._parameters), tiles(self._count)
        self._launcher.tiles("compare_states", self._count, 3, *sizes, self._metric[0], *places, self._sums)
        self._launcher.single_block("judge_error", count, self._sums, self._nonfinite, self._status)
        error, before, after, escapes = self._trial_status().values
        if escapes > 0:
            raise self._frames.escape(self._at)
        total = float(self._rho.mass.sum()) or 1.0
        return Estimate(math.sqrt(error / total), math.sqrt(max(before, after) / total), table.order_low)

    def _download(self, state: _State) -> Particles:
        get, free = self._gpu.device.get, self._dynamics.boundary == "free"
        return self._rho.moved(get(state.theta), get(state.tau), free=free, fresh=True)


def unsupported(dynamics: Dynamics) -> str | None:
    """What keeps a flow from running on the device, None if nothing does: objects of the user's need NumPy."""
    depth, rule, term = dynamics.energy.depth, dynamics.rule, dynamics.energy.regulariser
    parts: list[tuple[str, object, str]] = [("depth scheme", depth, depth.name), ("step rule", rule, rule.name)]
    if term is not None:
        parts.append(("regulariser", term, term.name))
    parts += [("operator", operator, str(operator_spec(operator)["name"])) for operator in dynamics.operators]
    return next((f"{kind} {name!r} runs in NumPy" for kind, part, name in parts if type(part) not in _SUPPORTED), None)
