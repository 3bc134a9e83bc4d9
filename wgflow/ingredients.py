"""Ingredients of a flow: what happens to the particles between two steps besides descending.

An ingredient is called after every step with the measure and the :class:`Move` just made, and returns the measure to go
on from, with as many particles and their masses (``rho.moved(theta, tau)`` keeps them). Anything random in it has to be
a function of (seed, step, particle).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from wgflow import rng
from wgflow.errors import build
from wgflow.particles import Particles
from wgflow.types import Spec, real

if TYPE_CHECKING:
    from wgflow.energy import Energy


class Move(NamedTuple):
    """The step an ingredient is called after.

    Attributes
    ----------
    step : int
        Its number, from 0.
    s : float
        Flow time at its start.
    h : float
        Its length.
    energy : Energy
        What the flow descends.
    """

    step: int
    s: float
    h: float
    energy: Energy


Ingredient = Callable[[Particles, Move], Particles]


@dataclass(frozen=True)
class Langevin:
    """Noise and weight decay: the mean-field Langevin dynamics of E + temperature * entropy + decay/2 int |theta|**2.

    dtheta = -(d_theta dE/drho + decay theta) ds + sqrt(2 temperature) dW, and likewise in tau without decay.
    Nitanda, Wu and Suzuki (AISTATS 2022); Chizat (arXiv:2202.01009).

    Parameters
    ----------
    temperature : float
        lambda >= 0, of the noise in theta.
    decay : float, optional
        Weight decay, >= 0.
    tau_temperature : float, optional
        Temperature of noise in depth, >= 0; needs ``boundary="reflect"``, since a wall that holds particles would
        gather them.
    seed : int, optional
        0 <= seed < 2**64. The increments are a function of (seed, step, particle).
    """

    temperature: float
    decay: float = 0.0
    tau_temperature: float = 0.0
    seed: int = 0
    name: ClassVar[str] = "langevin"
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("temperature", "decay", "tau_temperature"):
            real(f"{name} of langevin", getattr(self, name), least=0.0)
        rng.uniform(self.seed, "langevin", (1, 1))  # checks the seed

    @property
    def reflects(self) -> bool:
        """Whether it moves particles in depth, which asks for reflecting ends."""
        return self.tau_temperature > 0

    def __call__(self, rho: Particles, move: Move) -> Particles:
        """Add one increment of the noise and the decay over the move's length."""
        count, parameters = rho.theta.shape
        noise = rng.normal(self.seed, "langevin", (count, parameters + 1), move.step)
        theta = (1.0 - move.h * self.decay) * rho.theta + np.sqrt(2 * self.temperature * move.h) * noise[:, :-1]
        tau = rho.tau + np.sqrt(2 * self.tau_temperature * move.h) * noise[:, -1]
        # The flow brings tau back into [0, 1], and finds what is no longer finite.
        return rho.moved(theta, tau, free=True, fresh=True)

    def spec(self) -> Spec:
        """Plain JSON from which :func:`ingredient` rebuilds it."""
        options = {name: getattr(self, name) for name in ("temperature", "decay", "tau_temperature", "seed")}
        return {"name": self.name} | options


INGREDIENTS: dict[str, type[Langevin]] = {"langevin": Langevin}


def ingredient(choice: Spec | Ingredient) -> Ingredient:
    """Build an ingredient from its spec; a callable is passed through.

    Raises
    ------
    InputError
        If the name or an option is unknown, or it is neither.
    """
    return choice if callable(choice) else build("ingredient", choice, INGREDIENTS)


def spec_of(each: Ingredient) -> Spec:
    """Plain JSON of an ingredient; of one of your own without a spec, its name."""
    made: Spec = each.spec() if hasattr(each, "spec") else {"name": getattr(each, "__name__", type(each).__name__)}
    return made
