"""Stepper that takes several steps in one compiled call where calls would take longer than the work.

States, energies and frames have the bits of single steps; only ``on_step`` is told of several steps together.
"""

from __future__ import annotations

from itertools import repeat
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
    from wgflow.kernels.cpu.several_steps import SeveralSteps

_FEWEST = 8  # steps between frames from which taking several at once is prepared


def suits(dynamics: Dynamics) -> bool:
    """Whether steps are Euler's, of constant length, over all samples, without operators or a regulariser."""
    energy = dynamics.energy
    constant = dynamics.integrator == EULER and type(dynamics.rule) is Constant
    plain = type(energy) is Energy and energy.regulariser is None and hasattr(energy.kernel, "several_steps")
    gaps = type(energy.depth) is Gaps and dynamics.boundary != "reflect"
    return constant and plain and dynamics.plain and (gaps or type(energy.depth) in (Layers, Shallow))


class SeveralStepper(HostStepper):
    """A HostStepper that can take several steps at once; arguments are the same."""

    most_at_once = 256
    onto_frames = True

    def __init__(self, dynamics: Dynamics, rho: Particles, switched: int, balance: EnergyBalance) -> None:
        super().__init__(dynamics, rho, switched, balance)
        self._several: SeveralSteps | None = None

    def evaluate(self, at: Moment, record: bool, last: bool) -> None:
        """Compute the velocity and the energy at the state, unless :meth:`several` has led there."""
        if self._good is None or self._good.at != at:
            super().evaluate(at, record, last)

    def several(self, times: list[float], h: float) -> int:
        """Take steps of length h that end at these flow times; returns how many were taken."""
        if len(times) < _FEWEST or self._used is None:
            return 0
        if self._several is None:
            self._several = self._prepared(h)
        self.most_at_once = 0 if self._several is None else self._several.most
        if self._several is None:
            return 0
        times = times[: self._several.most]
        with np.errstate(over="ignore", invalid="ignore"):
            taken = self._several(self._rho, *self._used[1:], len(times))
        if taken is None or not np.isfinite(taken.energies + taken.dissipations).all():
            self.most_at_once = 0  # single steps find where the flow diverges
            return 0
        energies, dissipations, counts = (array.tolist() for array in taken[3:])
        lost = [h * rate for rate in (self._state.dissipation, *dissipations[:-1])]
        balance = self._balance
        if balance is not None:
            steps = zip(energies, repeat(0.0), lost, times, (count > 0 for count in counts), strict=False)
            balance = balance.after_steps(self._state.energy, steps, self._rounding)
        before, rate = energies[-1], dissipations[-1]
        self._switched += sum(counts)
        self._at = at = Moment(self._at.step + len(times), times[-1], h)
        self._rho, self._balance, self._taken = taken.rho, balance, None
        self._good = State(at, taken.rho, before, rate, self._switched, balance)
        self._used = before, taken.v_theta, taken.v_tau
        return len(times)

    def _prepared(self, h: float) -> SeveralSteps | None:
        from wgflow.kernels.cpu.several_steps import Motion

        energy, moves = self._energy, not self._still
        gaps, clip = moves and type(energy.depth) is Gaps, self._boundary == "clip"
        motion = Motion(h, gaps, moves, clip, self._by_depth, self._by_column, self._dynamics.mobility)
        net = energy.network(self._rho)
        kernel: Any = energy.kernel
        several: SeveralSteps | None = kernel.several_steps(
            self._rho, net, energy.depth.transpose(self._rho, net), motion
        )
        return several
