"""Stepper on the host: particles in NumPy arrays, for every energy, operator and step rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from wgflow.base.energy_balance import EnergyBalance, rounding
from wgflow.base.types import Array, Frame, Index
from wgflow.base.user_objects import is_builtin
from wgflow.flow import integrators
from wgflow.flow.operators import Move, apply
from wgflow.flow.stepper import Dynamics, Moment, diverged, escaped
from wgflow.flow.stepsize import Taken, Trial, checked
from wgflow.model.depth import switches
from wgflow.model.particles import Particles, confine, project


class HostStepper:
    """Particles in host memory; see :class:`wgflow.flow.stepper.Stepper` for the contract.

    Parameters
    ----------
    dynamics, rho, switched, balance : Dynamics, Particles, int, EnergyBalance
        As for :func:`wgflow.flow.stepper.make_stepper`.
    """

    lookahead = 0

    def __init__(self, dynamics: Dynamics, rho: Particles, switched: int, balance: EnergyBalance) -> None:
        self._dynamics, self._rho, self._switched = dynamics, rho, switched
        self._energy, self._boundary = dynamics.energy, dynamics.boundary
        self._balance = balance if dynamics.measured else None
        self._rounding = rounding(dynamics.energy.dtype)
        by_column, by_depth = dynamics.mobility or (np.ones(rho.theta.shape[1]), 1.0)
        self._by_column = 1.0 / np.where(by_column > 0, by_column, 1.0)  # factors of squares in the dissipation
        self._by_depth = self._energy.depth.inverse_tau_mobility(rho) / (by_depth if by_depth > 0 else 1.0)
        self._good: Frame | None = None
        self._taken: Taken | None = None  # the step that led here
        self._rate = 0.0  # dE/ds at the measure of the last frame

    def evaluate(self, at: Moment, record: bool, last: bool) -> None:
        """Compute the velocity at the state, and its energy if a frame is due."""
        rho, rows = self._rho, self._dynamics.rows
        whole = self._velocity(rho, at.s, None) if record or rows is None else None
        # The last frame needs no step, so no batch either.
        used = whole if rows is None or last else self._velocity(rho, at.s, rows(at.step))
        dissipation = self._dissipation(*whole[1:]) if whole is not None else math.nan
        # A sum of squares is finite only if all of them are; otherwise the parts are checked.
        if whole is None or used is not whole or not math.isfinite(whole[0] + dissipation):
            self._check_finite(at, *((whole or ()) + (used or ())))
        if whole is not None:
            state = (rho.theta, rho.tau, rho.mass)
            balance = self._account(at, whole[0])
            self._good = Frame(at.step, at.s, *state, whole[0], dissipation, self._switched, at.h, balance=balance)
        self._at, self._used = at, used

    def frame(self) -> Callable[[], Frame]:
        """Return the frame."""
        frame = self._frame
        return lambda: frame

    def advance(self, reach: float) -> Taken:
        """Take one step of at most this length."""
        order = self._energy.depth.order(self._rho)
        with np.errstate(over="ignore", invalid="ignore"):  # a divergence is reported by evaluate
            frame, rule, lengths = self._frame, self._dynamics.rule, dict[int, float]()

            def trial(h: float) -> Trial:
                state = self._trial(h, order)
                lengths[id(state)] = h
                return state

            taken = rule.advance(trial, frame.energy, frame.dissipation, reach)
            if not is_builtin(rule):
                taken = checked(rule, taken, lengths, reach)
        self._rho, self._switched = taken.trial.rho, self._switched + taken.trial.switched
        self._taken = taken
        return taken

    def _account(self, at: Moment, energy: float) -> EnergyBalance | None:
        """Energy balance up to this state: that of the state before, with the step that led here."""
        if self._balance is None:
            return None
        rate = self._energy.rate_in_s(self._rho, at.s)
        if self._good is not None and self._taken is not None:
            (trial, h, _), before = self._taken, self._good.energy
            step = (0.5 * h * (self._rate + rate), trial.dissipated, at.s, trial.switched > 0, self._rounding)
            self._balance = self._balance.after(before, energy, *step)
        self._rate = rate
        return self._balance

    @property
    def _frame(self) -> Frame:
        if self._good is None:
            raise RuntimeError("frame() needs evaluate() first")
        return self._good

    def _trial(self, h: float, order: Index | None) -> Trial:
        """State that a step of length h leads to."""
        rho, at, table = self._rho, self._at, self._dynamics.integrator
        assert self._used is not None
        stages = integrators.stages(table, self._drift, rho.theta, rho.tau, at.s, self._used[1:], h)
        arrived = moved = self._confined(rho, *integrators.combine(rho.theta, rho.tau, table.b, stages, h))
        for operator in self._dynamics.operators:
            moved = apply(operator, moved, Move(at.step, at.s, h, self._energy))
            moved = self._confined(moved, moved.theta, moved.tau)
        after = self._energy.depth.order(moved)
        changed = switches(order, after) if order is not None and after is not None else 0

        def estimate() -> integrators.Estimate:
            low = integrators.combine(rho.theta, rho.tau, integrators.embedded(table), stages, h)
            return integrators.compare(rho, arrived, self._confined(rho, *low), table.order_low)

        dissipated = h * self._mean_dissipation(stages) if self._balance is not None else math.nan
        return Trial(moved, changed, lambda: self._energy(moved, s=at.s), estimate, dissipated)

    def _mean_dissipation(self, stages: list[tuple[Array, Array]]) -> float:
        """Dissipation at the stages of a step, with their weights in it."""
        weights, total = self._dynamics.integrator.b, self._dynamics.integrator.b[0] * self._frame.dissipation
        for weight, (v_theta, v_tau) in zip(weights[1:], stages[1:], strict=True):
            if weight:  # the sum of a frame's dissipation in fewer calls, without a library whose threads set its order
                scaled = v_theta if self._dynamics.mobility is None else v_theta * self._by_column
                squares = self._rho.mass * np.einsum("np,np->n", scaled, v_theta)
                total += weight * float(np.sum(squares + self._by_depth * v_tau**2))
        return total

    def _drift(self, theta: Array, tau: Array, s: float) -> tuple[Array, Array]:
        batch = self._dynamics.rows  # one for all stages of a step
        rows = None if batch is None else batch(self._at.step)
        return self._velocity(self._confined(self._rho, theta, tau), s, rows)[1:]

    def _confined(self, rho: Particles, theta: Array, tau: Array) -> Particles:
        """Measure at new places, with depths brought back into [0, 1]."""
        if not (np.isfinite(theta).all() and np.isfinite(tau).all()):
            raise escaped(self._at, self._dynamics.rule.first, self._good)
        return rho.moved(theta, confine(tau, self._boundary), free=self._boundary == "free", fresh=True)

    def _velocity(self, rho: Particles, s: float, rows: Index | None) -> tuple[float, Array, Array]:
        """Energy, and the velocity with mobility and boundary conditions."""
        with np.errstate(over="ignore", invalid="ignore"):
            energy, v_theta, v_tau = self._energy.field(rho, rows, s)
            v_tau = project(rho.tau, v_tau, self._boundary)
            if self._dynamics.mobility is not None:
                by_column, by_depth = self._dynamics.mobility
                v_theta, v_tau = by_column * v_theta, by_depth * v_tau
            return energy, v_theta, v_tau

    def _dissipation(self, v_theta: Array, v_tau: Array) -> float:
        """-dE/ds along the velocity with mobility: |v|**2 divided by the mobilities; pinned parameters add nothing."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self._dynamics.mobility is None:
                return self._energy.dissipation(self._rho, v_theta, v_tau)
            by_column, by_depth = self._dynamics.mobility
            root_theta = np.sqrt(np.where(by_column > 0, by_column, 1.0))
            root_tau = np.sqrt(by_depth) if by_depth > 0 else 1.0
            return self._energy.dissipation(self._rho, v_theta / root_theta, v_tau / root_tau)

    def _check_finite(self, at: Moment, *parts: Any) -> None:
        if not all(np.isfinite(part).all() for part in parts):
            raise diverged(at, self._dynamics.rule.first, self._good)
