"""Divergence of a flow: where it was found, and the error that says so."""

from __future__ import annotations

from typing import NamedTuple

from wgflow.base.errors import DivergenceError
from wgflow.base.types import Frame


class Moment(NamedTuple):
    """Position of a flow: steps taken since the start, flow time, and the step length to try next."""

    step: int
    s: float
    h: float


def diverged(at: Moment, first: float, good: Frame | None) -> DivergenceError:
    """Error of an energy or a velocity that is not finite.

    Parameters
    ----------
    at : Moment
        Where it was found.
    first : float
        The rule's first step length.
    good : Frame or None
        The last state at which both were finite; None at the start.
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
