"""Stepper: what advances the particles of a flow, on the host or on a device, and the choice between the two.

The loop in :mod:`wgflow.flow.flow` counts steps and frames and keeps the step length. A stepper holds the particles, in
NumPy arrays or in the memory of the device on which the energy's kernel computes.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wgflow.base.energy_balance import ROUNDING, EnergyBalance
from wgflow.base.types import Array, Frame, Index
from wgflow.base.user_objects import is_builtin
from wgflow.energy import Energy
from wgflow.flow import integrators
from wgflow.flow.divergence import Moment, diverged, escaped
from wgflow.flow.integrators import Tableau
from wgflow.flow.operators import Move, Operator, apply, descends
from wgflow.flow.stepsize import Constant, StepRule, Taken, Trial, checked
from wgflow.model.depth import switches
from wgflow.model.particles import Particles, confine, project

if TYPE_CHECKING:
    from wgflow.flow.stepper_device import DeviceStepper
    from wgflow.flow.stepper_in_place import InPlaceStepper

logger = logging.getLogger("wgflow.flow.flow")


class Dynamics(NamedTuple):
    """What moves the particles of a flow.

    Attributes
    ----------
    energy : Energy
        What the flow descends.
    integrator : Tableau
        The explicit method.
    rule : StepRule
        Step-size rule.
    boundary : {"clip", "reflect", "free"}
        Boundary condition in depth.
    mobility : (ndarray (P,), float) or None
        Factors on the velocities in theta, by column, and in tau; None where all are 1.
    operators : tuple of callables
        Applied after every step.
    rows : callable or None
        Rows of the batch of a step; None for all samples.
    """

    energy: Energy
    integrator: Tableau
    rule: StepRule
    boundary: str
    mobility: tuple[Array, float] | None
    operators: tuple[Operator, ...]
    rows: Callable[[int], Index] | None

    @property
    def plain(self) -> bool:
        """Whether velocities are over all samples, and nothing but them moves the particles."""
        return self.rows is None and not self.operators

    @property
    def measured(self) -> bool:
        """Whether there is an energy balance: over all samples, and with no operator but those that descend."""
        return self.rows is None and all(descends(operator) for operator in self.operators)


class State(NamedTuple):
    """A state at which the energy and the velocity are finite: what a frame of it records.

    Attributes
    ----------
    at : Moment
        Where the flow is.
    rho : Particles
        The measure.
    energy, dissipation : float
        E(rho) and -dE/ds.
    switched : int
        Order switches (pairs of particles) so far.
    balance : EnergyBalance or None
        Balance of the steps so far.
    """

    at: Moment
    rho: Particles
    energy: float
    dissipation: float
    switched: int
    balance: EnergyBalance | None

    def frame(self) -> Frame:
        """Frame of the state."""
        (step, s, h), rho = self.at, self.rho
        numbers = self.energy, self.dissipation, self.switched, h
        return Frame(step, s, rho.theta, rho.tau, rho.mass, *numbers, balance=self.balance)


class HostStepper:
    """Particles in NumPy arrays, for every energy, operator and step rule.

    The loop calls evaluate, frame where one is due, and advance, in turn. Arguments are those of :func:`make_stepper`.
    """

    lookahead = 0  # events (steps or frames) for which the loop may go on before it yields a frame that was begun
    most_at_once = 0  # steps that `several` takes at most; with 0 it is never called
    onto_frames = False  # whether `several` may end at a frame, and evaluates the state it ends at

    def __init__(self, dynamics: Dynamics, rho: Particles, switched: int, balance: EnergyBalance) -> None:
        self._dynamics, self._rho, self._switched = dynamics, rho, switched
        self._energy, self._boundary = dynamics.energy, dynamics.boundary
        self._balance = balance if dynamics.measured else None
        self._rounding = ROUNDING[dynamics.energy.dtype]
        # Factors in the dissipation, which divides |v|**2 by the mobilities; pinned parameters add nothing.
        mobility = dynamics.mobility or (np.ones(rho.theta.shape[1]), 1.0)
        by_column, by_depth = (np.where(np.asarray(factor) > 0, factor, 1.0) for factor in mobility)
        self._roots = np.sqrt(by_column), np.sqrt(by_depth)
        self._by_column, self._by_depth = 1.0 / by_column, self._energy.depth.inverse_tau_mobility(rho) / by_depth
        self._mass, self._motion = rho.mass, dynamics.energy.motion
        # A tau that never moves stays the same array, so that the energy has the same network in every step.
        self._still = not self._energy.depth.moves or mobility[1] == 0
        self._own_rule = not is_builtin(dynamics.rule)
        self._monotone = getattr(dynamics.rule, "monotone", False)
        plain = len(dynamics.integrator.b) == 1 and type(dynamics.rule) is Constant and not dynamics.operators
        self._compiled = plain and self._motion is not None  # a step is one compiled pass, which gives no warnings
        self._good: State | None = None  # the last state evaluated over all samples
        self._taken: Taken | None = None  # the step that led here
        self._rate = 0.0  # dE/ds at the measure of the last state

    def evaluate(self, at: Moment, record: bool, last: bool) -> None:
        """Compute the velocity at the state, and its energy if a frame is due (``record``).

        Parameters
        ----------
        at : Moment
            Where the flow is.
        record, last : bool
            Whether a frame is due, and whether no step follows.

        Raises
        ------
        DivergenceError
            If the energy or a velocity is not finite, at this step or at one before.
        """
        rho, rows = self._rho, self._dynamics.rows
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is reported below
            dissipation, whole = self._measured(rho, at.s) if record or rows is None else (math.nan, None)
            # The last frame needs no step, so no batch either.
            used = whole if rows is None or last else self._velocity(rho, at.s, rows(at.step))
        # A sum of squares is finite only if all of them are; otherwise the parts are checked.
        if whole is None or used is not whole or not math.isfinite(whole[0] + dissipation):
            parts: tuple[Any, ...] = (whole or ()) + (used or ())
            if not all(np.isfinite(part).all() for part in parts):
                raise diverged(at, self._dynamics.rule.first, self._last_frame())
        if whole is not None:
            self._good = State(at, rho, whole[0], dissipation, self._switched, self._account(at, whole[0]))
        self._at, self._used = at, used

    def several(self, times: list[float], h: float) -> int:
        """Take steps of length h that end at these flow times; returns how many were taken."""
        return 0

    def frame(self) -> Callable[[], Frame]:
        """Begin a frame of the state evaluated last; the returned function waits for it, or raises DivergenceError."""
        return self._state.frame

    def advance(self, reach: float) -> Taken:
        """Take one step of at most this length, as the rule decides; raises DivergenceError if a particle diverges."""
        state, rule = self._state, self._dynamics.rule
        if self._compiled:
            taken = rule.advance(self._trial, state.energy, state.dissipation, reach)
        else:
            with np.errstate(over="ignore", invalid="ignore"):  # a divergence is reported by evaluate
                if self._own_rule:
                    taken = self._own(rule, state, reach)
                else:
                    taken = rule.advance(self._trial, state.energy, state.dissipation, reach)
        self._rho, self._switched = taken.trial.rho, self._switched + taken.trial.switched
        self._taken = taken
        return taken

    def _own(self, rule: StepRule, state: State, reach: float) -> Taken:
        """Step of a rule of the user's, which is checked."""
        lengths = dict[int, float]()

        def trial(h: float) -> Trial:
            result = self._trial(h)
            lengths[id(result)] = h
            return result

        return checked(rule, rule.advance(trial, state.energy, state.dissipation, reach), lengths, reach)

    def _account(self, at: Moment, energy: float) -> EnergyBalance | None:
        """Energy balance up to this state: that of the state before, with the step that led here."""
        if self._balance is None:
            return None
        rate = self._energy.rate_in_s(self._rho, at.s)
        if self._good is not None and self._taken is not None:
            (trial, h, _), before = self._taken, self._good.energy
            arrived, there = energy, rate
            if trial.arrived is not None:  # the dissipation speaks of the motion, without what operators did after it
                with np.errstate(over="ignore", invalid="ignore"):
                    arrived, there = self._energy(trial.arrived, s=at.s), self._energy.rate_in_s(trial.arrived, at.s)
            step = (0.5 * h * (self._rate + there), trial.dissipated, at.s, trial.switched > 0, self._rounding)
            self._balance = self._balance.after(before, arrived, *step, energy - arrived)
        self._rate = rate
        return self._balance

    @property
    def _state(self) -> State:
        assert self._good is not None
        return self._good

    def _last_frame(self) -> Frame | None:
        """Frame of the last state at which the energy and the velocity were finite."""
        return None if self._good is None else self._good.frame()

    def _trial(self, h: float) -> Trial:
        """State that a step of length h leads to."""
        rho, at, table = self._rho, self._at, self._dynamics.integrator
        assert self._used is not None
        stages = integrators.stages(table, self._drift, rho.theta, rho.tau, at.s, self._used[1:], h)
        arrived = moved = self._arrive(rho, table.b, stages, h)
        for operator in self._dynamics.operators:
            acted = apply(operator, moved, Move(at.step, at.s, h, self._energy))
            if acted is not moved:
                moved = self._confined(acted, acted.theta, acted.tau, moved.tau)
        before, after = self._energy.depth.order(rho), self._energy.depth.order(moved)
        changed = 0 if before is None or after is None else switches(before, after)

        def estimate() -> integrators.Estimate:
            low = self._arrive(rho, integrators.embedded(table), stages, h)
            return integrators.compare(rho, arrived, low, table.order_low)

        dissipated = h * self._mean_dissipation(stages) if self._balance is not None else math.nan

        def continued() -> float:
            assert before is not None  # asked for after an order switch
            return self._energy.continued(moved, before, at.s)

        energy = functools.partial(self._energy, moved, s=at.s)
        rounding = self._energy.rounding(self._state.energy) if self._monotone else 0.0
        apart = None if moved is arrived else arrived
        return Trial(moved, changed, energy, estimate, dissipated, continued, rounding, apart)

    def _arrive(
        self, rho: Particles, weights: tuple[float, ...], stages: list[tuple[Array, Array]], h: float
    ) -> Particles:
        """Measure at the end of a step along a weighted sum of velocities, with the boundary condition."""
        if len(stages) == 1 and self._motion is not None:
            return self._stepped(rho, *stages[0], weights[0] * h)
        theta, tau = integrators.combine(rho.theta, rho.tau, weights, stages, h)
        return self._confined(rho, theta, rho.tau if self._still else tau, rho.tau)

    def _stepped(self, rho: Particles, v_theta: Array, v_tau: Array, h: float) -> Particles:
        """Measure after an Euler step, in one compiled pass."""
        clip, order = self._boundary == "clip", self._energy.depth.order(rho)
        theta, tau, finite, same = self._motion.step(rho, v_theta, v_tau, h, clip, not self._still, order)
        if not finite:
            raise escaped(self._at, self._dynamics.rule.first, self._last_frame())
        if self._boundary == "reflect" and not self._still:
            tau, same = confine(tau, self._boundary), False
        return rho.moved(theta, tau, free=self._boundary == "free", fresh=True, order=order if same else None)

    def _mean_dissipation(self, stages: list[tuple[Array, Array]]) -> float:
        """Dissipation at the stages of a step, with their weights in it."""
        weights, total = self._dynamics.integrator.b, self._dynamics.integrator.b[0] * self._state.dissipation
        for weight, (v_theta, v_tau) in zip(weights[1:], stages[1:], strict=True):
            if weight:  # the sum of a frame's dissipation in fewer calls, without a library whose threads set its order
                scaled = v_theta if self._dynamics.mobility is None else v_theta * self._by_column
                squares = self._rho.mass * np.einsum("np,np->n", scaled, v_theta)
                total += weight * float(np.sum(squares + self._per_kappa(self._rho) * v_tau**2))
        return total

    def _drift(self, theta: Array, tau: Array, s: float) -> tuple[Array, Array]:
        rho, batch = self._rho, self._dynamics.rows  # one for all stages of a step
        rows = None if batch is None else batch(self._at.step)
        stage = self._confined(rho, theta, rho.tau if self._still else tau, rho.tau)
        order = self._energy.depth.order(rho) if self._monotone else None
        return self._velocity(stage, s, rows, order)[1:]

    def _confined(self, rho: Particles, theta: Array, tau: Array, before: Array) -> Particles:
        """Measure at new places, with depths brought back into [0, 1] unless they are those of ``before``."""
        moves = tau is not before
        if not (np.isfinite(theta).all() and (not moves or np.isfinite(tau).all())):
            raise escaped(self._at, self._dynamics.rule.first, self._last_frame())
        tau = confine(tau, self._boundary) if moves else tau
        return rho.moved(theta, tau, free=self._boundary == "free", fresh=True)

    def _velocity(
        self, rho: Particles, s: float, rows: Index | None, order: Index | None = None
    ) -> tuple[float, Array, Array]:
        """Energy, and the velocity with mobility and boundary conditions; in a given order in depth, if any."""
        kept = () if order is None else (order,)
        energy, v_theta, v_tau = self._energy.field(rho, rows, s, *kept)
        v_tau = project(rho.tau, v_tau, self._boundary)
        if self._dynamics.mobility is not None:
            by_column, by_depth = self._dynamics.mobility
            v_theta, v_tau = by_column * v_theta, by_depth * v_tau
        return energy, v_theta, v_tau

    def _measured(self, rho: Particles, s: float) -> tuple[float, tuple[float, Array, Array]]:
        """Dissipation, and energy and velocity as of :meth:`_velocity`."""
        if self._motion is None:
            whole = self._velocity(rho, s, None)
            return self._dissipation(*whole[1:]), whole
        energy, v_theta, v_tau = self._energy.field(rho, None, s)
        if self._dynamics.mobility is not None:
            by_column, by_depth = self._dynamics.mobility
            v_theta, v_tau = by_column * v_theta, by_depth * v_tau
        factors = self._per_kappa(rho), self._by_column, self._boundary == "clip"
        dissipation, v_tau = self._motion.dissipation(rho, *factors, v_theta, v_tau)
        return dissipation, (energy, v_theta, v_tau)

    def _per_kappa(self, rho: Particles) -> Array:
        """1/kappa over the mobility in depth, (N,)."""
        if rho.mass is self._mass:
            return self._by_depth
        inverse: Array = self._energy.depth.inverse_tau_mobility(rho)  # an operator has changed the masses
        return np.asarray(inverse / self._roots[1] ** 2)

    def _dissipation(self, v_theta: Array, v_tau: Array) -> float:
        """-dE/ds along the velocity with mobility."""
        if self._dynamics.mobility is not None:
            v_theta, v_tau = v_theta / self._roots[0], v_tau / self._roots[1]
        return self._energy.dissipation(self._rho, v_theta, v_tau)


def make_stepper(
    dynamics: Dynamics, rho: Particles, switched: int, balance: EnergyBalance
) -> HostStepper | InPlaceStepper | DeviceStepper:
    """Stepper for a measure: on the energy's device if that has all that is needed, otherwise on the host.

    Parameters
    ----------
    dynamics : Dynamics
        What moves the particles.
    rho : Particles
        The measure.
    switched : int
        Order switches (pairs of particles) so far.
    balance : EnergyBalance
        Balance of the steps so far, which is continued if the flow has one.
    """
    from wgflow.flow import stepper_in_place, stepper_several
    from wgflow.flow.stepper_device import DeviceStepper, unsupported

    gpu: Any = dynamics.energy.kernel
    if hasattr(gpu, "launch"):  # that of wgflow.flow.device_status.DeviceKernel
        reason = unsupported(dynamics)
        if reason is None:
            return DeviceStepper(dynamics, rho, switched, balance, gpu)
        logger.warning("particles are copied between host and device in every step: %s", reason)
    if stepper_in_place.suits(dynamics, rho):
        with contextlib.suppress(LookupError):
            return stepper_in_place.InPlaceStepper(dynamics, rho, switched, balance)
    if stepper_several.suits(dynamics):
        return stepper_several.SeveralStepper(dynamics, rho, switched, balance)
    return HostStepper(dynamics, rho, switched, balance)
