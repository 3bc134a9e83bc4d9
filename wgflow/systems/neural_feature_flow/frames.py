"""Running a feature network step by step, as frames that a trajectory keeps and can be taken up from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np

from wgflow.base.energy_balance import EMPTY, ROUNDING, EnergyBalance
from wgflow.base.environment import one_thread
from wgflow.base.errors import DivergenceError
from wgflow.base.registry import check_name
from wgflow.base.types import Frame, Spec
from wgflow.base.validate import real
from wgflow.flow.clock import StepClock
from wgflow.flow.integrators import Tableau, integrator
from wgflow.flow.schedule import Schedule, schedule
from wgflow.systems.neural_feature_flow.flow import State, descent_step, flow_stages, flow_step, start
from wgflow.systems.neural_feature_flow.low_rank import LowRank
from wgflow.systems.neural_feature_flow.state import Drift
from wgflow.systems.neural_feature_flow.system import PackedNetwork, state_of


class Motion:
    """The neural feature flow of a network, or scaled gradient descent on its weights.

    Parameters
    ----------
    system : PackedNetwork
        The network.
    method : {"flow", "descent"}, optional
        ``flow`` moves weights and features as states of their own; ``descent`` moves the weights and computes the
        features anew, which under Euler's method is Algorithm 1 (Algorithm 3 for a DNN) of Fang, Lee, Yang and Zhang
        (COLT 2021) with learning rate h.
    method_in_s : str or Tableau, optional
        Runge-Kutta method in s.
    step : float, optional
        Step length h > 0.

    Raises
    ------
    InputError
        If a name is unknown or h out of range.
    """

    def __init__(
        self, system: PackedNetwork, method: str = "flow", method_in_s: str | Tableau = "euler", step: float = 0.1
    ) -> None:
        check_name("method", method, ("flow", "descent"))
        self.system, self.method = system, method
        self.integrator, self.h = integrator(method_in_s), real("step", step, above=0.0)

    def run(
        self,
        begin: State | Frame | Callable[[], State],
        until: float,
        every: float | Spec | Schedule | None = None,
        on_step: Callable[[int, float], None] | None = None,
    ) -> Iterator[Frame]:
        """Move from a state, or on from a frame, yielding frames; arguments and errors as :meth:`wgflow.Flow.run`.

        A frame's ``theta`` are the units as :class:`~wgflow.systems.neural_feature_flow.system.PackedNetwork` writes
        them, its ``energy`` the mean loss, its ``dissipation`` -dE/ds along the scaled gradient, at its features. Its
        energy ``balance`` includes the dissipation under ``flow``, where it comes with the drifts; under ``descent``,
        where it would cost more than a percent of a step, only the change of E. A start may also be a function that
        returns the state, called when the first frame is requested.
        """
        step, s = (begin.step, begin.s) if isinstance(begin, Frame) else (0, 0.0)
        clock = StepClock(step, s, real("until", until), None if every is None else schedule(every), self.h)
        return self._loop(begin, clock, on_step)

    def spec(self) -> Spec:
        """Plain JSON of the options."""
        return {"method": self.method, "integrator": self.integrator.name, "step": self.h}

    def _loop(
        self,
        start: State | Frame | Callable[[], State],
        clock: StepClock,
        on_step: Callable[[int, float], None] | None,
    ) -> Iterator[Frame]:
        if isinstance(start, Frame):
            state = state_of(self.system, start)
        else:
            # matrices become arrays, as files store them, so that a resumed run takes the same steps
            with one_thread():
                state = self.system.unpack(self.system.pack(start if isinstance(start, State) else start()))
        balance = (start.balance if isinstance(start, Frame) else None) or EMPTY
        good: Frame | None = None
        moved, first = False, self._look(state)
        while True:
            if not moved or clock.due or clock.done:
                good = self._frame(state, first, clock, balance, good)
                yield good
            if clock.done:
                return
            before = float(first.loss)
            state, dissipated = self._step(state, first, own=moved)  # from then on no caller holds it
            moved, first = True, self._look(state)
            clock.tick(self.h)
            balance = balance.after(before, float(first.loss), 0.0, dissipated, clock.s, False, ROUNDING["float64"])
            if on_step is not None:
                on_step(clock.step, clock.s)

    def _look(self, state: State) -> Drift:
        """First stage of the step from a state."""
        network = self.system.network
        with one_thread(), np.errstate(over="ignore", invalid="ignore"):  # a divergence is found at the next frame
            return network.drift(*state) if self.method == "flow" else network.gradient(state.weights)

    def _step(self, state: State, first: Drift, own: bool) -> tuple[State, float]:
        """State after a step and the integral of the dissipation over the step, if it is known."""
        network, table, h = self.system.network, self.integrator, self.h
        with one_thread(), np.errstate(over="ignore", invalid="ignore"):
            if self.method == "descent":
                return State(descent_step(network, state.weights, h, table, own, first), state.features), math.nan
            stages = flow_stages(network, state, h, table, first)
            dissipated = h * sum(weight * float(stage.rate) for weight, stage in zip(table.b, stages, strict=True))
            return flow_step(network, state, h, table, own, stages), dissipated

    def _frame(self, state: State, first: Drift, clock: StepClock, balance: EnergyBalance, good: Frame | None) -> Frame:
        network, count = self.system.network, self.system.units
        with one_thread(), np.errstate(over="ignore", invalid="ignore"):
            if self.method == "descent":
                state = start(network, state.weights)
                first = network.drift(*state)
            dissipation = rate(first, network.inputs, count)
        if not np.isfinite(first.loss) or not np.isfinite(dissipation):
            raise DivergenceError(
                f"the network diverged at step {clock.step} (s = {clock.s:g}): its loss is not finite; try a smaller "
                f"step than {self.h:g}",
                good,
            )
        particles = (self.system.pack(state), np.zeros(count), np.full(count, 1.0 / count))
        return Frame(clock.step, clock.s, *particles, first.loss, dissipation, 0, self.h, balance=balance)


def rate(drift: Drift, inputs: int, units: int) -> float:
    """-dE/ds = |Gv_1|^2/(d m) + sum_l |Gv_l|^2/m^2 + |Gv_(L+1)|^2/m along the scaled gradient, from its drifts."""
    inner, middle, outer = drift.weights
    total: Any = np.sum(inner**2) / (inputs * units) + np.sum(outer**2) / units
    for v in cast("tuple[LowRank, ...]", middle):  # |A B^T|^2 = tr (A^T A)(B^T B)
        total += np.sum((v.left.T @ v.left) * (v.right.T @ v.right)) / units**2
    return float(total)
