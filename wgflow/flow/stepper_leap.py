"""Stepper that takes several steps in one compiled call where calls would take longer than the work.

States, energies and frames have the bits of single steps; only ``on_step`` is told of the steps of a leap together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wgflow.base.energy_balance import EnergyBalance
from wgflow.energy import Energy
from wgflow.flow.divergence import Moment
from wgflow.flow.integrators import EULER
from wgflow.flow.stepper import Dynamics, HostStepper, State
from wgflow.flow.stepsize import Constant
from wgflow.model.depth import Gaps, Layers, Shallow
from wgflow.model.particles import Particles

if TYPE_CHECKING:
    from wgflow.kernels.cpu.leap import Leap

_FEWEST = 8  # steps between frames for which a leap is prepared


def suits(dynamics: Dynamics) -> bool:
    """Whether steps are Euler's, of constant length, over all samples, without operators or a regulariser."""
    energy = dynamics.energy
    constant = dynamics.integrator == EULER and type(dynamics.rule) is Constant
    plain = type(energy) is Energy and energy.regulariser is None and hasattr(energy.kernel, "leap")
    gaps = type(energy.depth) is Gaps and dynamics.boundary != "reflect"
    return constant and plain and dynamics.measured and (gaps or type(energy.depth) in (Layers, Shallow))


class LeapingStepper(HostStepper):
    """A HostStepper that can leap; arguments are the same."""

    farthest = 256

    def __init__(self, dynamics: Dynamics, rho: Particles, switched: int, balance: EnergyBalance) -> None:
        super().__init__(dynamics, rho, switched, balance)
        self._leap: Leap | None = None

    def leap(self, times: list[float], h: float) -> int:
        """Take steps of length h that end at these flow times; returns how many were taken."""
        if len(times) < _FEWEST or self._used is None:
            return 0
        if self._leap is None:
            self._leap = self._prepared(h)
        self.farthest = 0 if self._leap is None else self._leap.most
        if self._leap is None:
            return 0
        times = times[: self._leap.most]
        with np.errstate(over="ignore", invalid="ignore"):
            landing = self._leap(self._rho, *self._used[1:], len(times))
        if landing is None or not np.isfinite(landing.energies + landing.dissipations).all():
            self.farthest = 0  # single steps find where the flow diverges
            return 0
        energies, dissipations, counts = (array.tolist() for array in landing[3:])
        before, rate, balance = self._state.energy, self._state.dissipation, self._balance
        for energy, dissipation, s, switched in zip(energies, dissipations, times, counts, strict=True):
            if balance is not None:
                balance = balance.after(before, energy, 0.0, h * rate, s, switched > 0, self._rounding)
            before, rate = energy, dissipation
        self._switched += sum(counts)
        self._at = at = Moment(self._at.step + len(times), times[-1], h)
        self._rho, self._balance, self._taken = landing.rho, balance, None
        self._good = State(at, landing.rho, before, rate, self._switched, balance)
        self._used = before, landing.v_theta, landing.v_tau
        return len(times)

    def _prepared(self, h: float) -> Leap | None:
        from wgflow.kernels.cpu.leap import Motion

        energy, moves, kernel = self._energy, not self._still, self._energy.kernel
        gaps, clip = moves and type(energy.depth) is Gaps, self._boundary == "clip"
        motion = Motion(h, gaps, moves, clip, self._by_depth, self._by_column, self._dynamics.mobility)
        net = energy.network(self._rho)
        leaper: Any = kernel
        leap: Leap | None = leaper.leap(self._rho, net, energy.depth.transpose(self._rho, net), motion)
        return leap
