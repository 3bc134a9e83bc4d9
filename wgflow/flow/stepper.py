"""Stepper: what advances the particles of a flow, on the host or on a device, and the choice between the two.

The loop in :mod:`wgflow.flow.flow` counts steps and frames and keeps the step length. A :class:`Stepper` holds the
particles, in NumPy arrays or in the memory of the device on which the energy's kernel computes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from wgflow.base.energy_balance import EnergyBalance
from wgflow.base.errors import DivergenceError
from wgflow.base.types import Array, Frame, Index
from wgflow.energy import Energy
from wgflow.flow.integrators import Tableau
from wgflow.flow.operators import Operator
from wgflow.flow.stepsize import StepRule, Taken
from wgflow.model.particles import Particles

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
    def measured(self) -> bool:
        """Whether there is an energy balance: with minibatches or operators the dissipation does not explain E."""
        return self.rows is None and not self.operators


class Moment(NamedTuple):
    """Step, flow time and step length of a flow.

    Attributes
    ----------
    step : int
        Steps taken since the start.
    s : float
        Flow time.
    h : float
        Step length to try next.
    """

    step: int
    s: float
    h: float


class Stepper(Protocol):
    """Holds and advances the particles; the loop calls evaluate, frame where one is due, and advance, in turn.

    Attributes
    ----------
    lookahead : int
        Events (steps or frames) for which the loop may go on before it yields a frame that was begun.
    """

    lookahead: int

    def evaluate(self, at: Moment, record: bool, last: bool) -> None:
        """Compute the velocity at the state, and its energy if a frame is due.

        Parameters
        ----------
        at : Moment
            Where the flow is.
        record : bool
            Whether a frame is due.
        last : bool
            Whether no step follows.

        Raises
        ------
        DivergenceError
            If the energy or a velocity is not finite, at this step or at one before.
        """

    def frame(self) -> Callable[[], Frame]:
        """Begin a frame of the state evaluated last; the returned function waits for it, or raises DivergenceError."""

    def advance(self, reach: float) -> Taken:
        """Take one step of at most this length, as the rule decides; raises DivergenceError if a particle diverges."""


def make_stepper(dynamics: Dynamics, rho: Particles, switched: int, balance: EnergyBalance) -> Stepper:
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
    from wgflow.flow.stepper_device import DeviceStepper, unsupported
    from wgflow.flow.stepper_host import HostStepper

    gpu: Any = dynamics.energy.kernel
    if not hasattr(gpu, "launch"):  # that of wgflow.flow.device_status.DeviceKernel
        return HostStepper(dynamics, rho, switched, balance)
    reason = unsupported(dynamics)
    if reason is None:
        return DeviceStepper(dynamics, rho, switched, balance, gpu)
    logger.warning("particles are copied between host and device in every step: %s", reason)
    return HostStepper(dynamics, rho, switched, balance)


def diverged(at: Moment, first: float, good: Frame | None) -> DivergenceError:
    """Error of an energy or a velocity that is not finite, with the last state at which both were; None at the start.

    Parameters
    ----------
    at : Moment
        Where it was found.
    first : float
        The rule's first step length.
    good : Frame or None
        That state.
    """
    if good is None:
        return DivergenceError(
            f"the energy or a velocity is not finite at the start (step {at.step}); check the initial measure, "
            "and a block of your own with wgflow.check_block"
        )
    return DivergenceError(
        f"the flow diverged at step {at.step} (s = {at.s:g}): the energy or a velocity is not finite; "
        f"try a smaller step than {first:g}",
        good,
    )


def escaped(at: Moment, first: float, good: Frame | None) -> DivergenceError:
    """Error of a particle that diverged in the step that begins at a moment; arguments as for :func:`diverged`."""
    return DivergenceError(
        f"the flow diverged in step {at.step} (s = {at.s:g}): a particle is no longer finite; "
        f"try a smaller step than {first:g}",
        good,
    )
