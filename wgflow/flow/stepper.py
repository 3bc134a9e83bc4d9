"""A measure on its way along a flow: what the loop asks of it, and the choice of where it lives.

The loop in :mod:`wgflow.flow.flow` knows steps, frames and step lengths; what happens to the particles is a
:class:`Cloud`'s. One keeps them in NumPy arrays, one on the device that the energy's kernel computes on.
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
from wgflow.flow.operators import Ingredient
from wgflow.flow.stepsize import StepRule, Taken
from wgflow.model.particles import Particles

logger = logging.getLogger("wgflow.flow.flow")


class Dynamics(NamedTuple):
    """What moves the particles of a flow.

    Attributes
    ----------
    energy : Energy
        What descends.
    integrator : Tableau
        The explicit method.
    rule : StepRule
        How long steps are.
    boundary : {"clip", "reflect", "free"}
        What happens at the ends of depth.
    mobility : (ndarray (P,), float) or None
        Factors on the velocities in theta, by column, and in tau; None where all are 1.
    ingredients : tuple of callables
        What happens after every step.
    rows : callable or None
        Rows of the batch of a step; None for all samples.
    """

    energy: Energy
    integrator: Tableau
    rule: StepRule
    boundary: str
    mobility: tuple[Array, float] | None
    ingredients: tuple[Ingredient, ...]
    rows: Callable[[int], Index] | None

    @property
    def measured(self) -> bool:
        """Whether the dissipation is to account for E: with minibatches, noise or other ingredients it does not."""
        return self.rows is None and not self.ingredients


class Moment(NamedTuple):
    """Where a flow is.

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


class Cloud(Protocol):
    """What the loop asks of the particles, in turns: look, perhaps frame, advance.

    Attributes
    ----------
    ahead : int
        Events, steps or frames, that the loop may go on for before it hands over a frame it began.
    """

    ahead: int

    def look(self, at: Moment, record: bool, last: bool) -> None:
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
        """Begin a frame of the state last looked at; the call waits for it and may raise DivergenceError."""

    def advance(self, reach: float) -> Taken:
        """Take one step of at most this length, as the rule decides; DivergenceError if particles leave the numbers."""


def place(dynamics: Dynamics, rho: Particles, switched: int, balance: EnergyBalance) -> Cloud:
    """Put a measure where the flow will move it: on the energy's device if it has one, else in NumPy arrays.

    Parameters
    ----------
    dynamics : Dynamics
        What will move it.
    rho : Particles
        The measure.
    switched : int
        Pairs of particles that have changed places before.
    balance : EnergyBalance
        Of the steps before; it is continued where the dissipation accounts for E.
    """
    from wgflow.flow.stepper_device import ResidentCloud, refusal
    from wgflow.flow.stepper_host import HostCloud

    gpu: Any = dynamics.energy.kernel
    if not hasattr(gpu, "launch"):  # the contract of :class:`wgflow.flow.device_status.DeviceKernel`
        return HostCloud(dynamics, rho, switched, balance)
    reason = refusal(dynamics)
    if reason is None:
        return ResidentCloud(dynamics, rho, switched, balance, gpu)
    logger.warning("particles cross between host and device in every step: %s", reason)
    return HostCloud(dynamics, rho, switched, balance)


def diverged(at: Moment, first: float, good: Frame | None) -> DivergenceError:
    """Error of an energy or a velocity that is not finite, with the last state at which both were; None at the start.

    Parameters
    ----------
    at : Moment
        Where it was found.
    first : float
        Step length that the rule began with.
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
    """Error of a particle that left the finite numbers in the step begun at a moment; arguments as :func:`diverged`."""
    return DivergenceError(
        f"the flow diverged in step {at.step} (s = {at.s:g}): a particle left the finite numbers; "
        f"try a smaller step than {first:g}",
        good,
    )
