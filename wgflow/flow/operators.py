"""Ingredients of a flow: what happens to the particles between two steps besides descending.

An ingredient is called after every step with the measure and the :class:`Move` just made, and returns the measure to go
on from, with as many particles and their masses (``rho.moved(theta, tau)`` keeps them). Anything random in it has to be
a function of (seed, step, particle).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from wgflow.base import rng
from wgflow.base.errors import InputError, describe
from wgflow.base.registry import build
from wgflow.base.types import Spec
from wgflow.base.user_objects import Candidate, is_builtin, nearly_equal, require_methods, try_once
from wgflow.base.validate import real, use_python_numbers
from wgflow.model.particles import Particles

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
        use_python_numbers(self)
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
        If the name or an option is unknown, or it is no function of a measure and a move.
    """
    if isinstance(choice, Mapping | str):
        return build("ingredient", choice, INGREDIENTS)
    if not callable(choice):
        raise InputError(
            f"ingredient: expected a table with a name, or a function of a measure and a move, got {describe(choice)}"
        )
    require_methods("ingredient", choice, "wgflow.flow.operators", ())
    try:
        inspect.signature(choice).bind(None, None)
    except TypeError as bad:
        raise InputError(
            f"ingredient {spec_of(choice)['name']!r}: expected a function of a measure and a move, got one with "
            f"arguments {inspect.signature(choice)}"
        ) from bad
    except ValueError:  # written in C: nothing is known of its arguments
        pass
    return choice


def applied(each: Ingredient, rho: Particles, move: Move) -> Particles:
    """Measure after an ingredient; one of the user's is called twice the first time.

    Raises
    ------
    InputError
        If it returns anything but as many particles, or not the same ones for the same arguments.
    """
    made = _same_cloud(each(rho, move), rho, each)
    if not is_builtin(each):

        def trial() -> None:
            again = _same_cloud(each(rho, move), rho, each)
            if any(not nearly_equal(getattr(made, name), getattr(again, name)) for name in ("theta", "tau", "mass")):
                raise Candidate("ingredient", spec_of(each)["name"]).refuse(
                    "the same particles for the same measure and move",
                    "others the second time",
                    "anything random in it must be a function of (seed, move.step, particle), see wgflow.base.rng",
                )

        try_once(each, "ingredient", trial)
    return made


def _same_cloud(made: object, rho: Particles, each: Ingredient) -> Particles:
    """Check what an ingredient returned: N is fixed for a run."""
    if not isinstance(made, Particles) or made.theta.shape != rho.theta.shape:
        got = f"Particles with theta of shape {made.theta.shape}" if isinstance(made, Particles) else describe(made)
        raise InputError(
            f"ingredient {spec_of(each)['name']!r}: expected Particles with theta of shape {rho.theta.shape}, got {got}"
        )
    return made


def spec_of(each: Ingredient) -> Spec:
    """Plain JSON of an ingredient; of one of your own without a spec, its name."""
    made: Spec = each.spec() if hasattr(each, "spec") else {"name": getattr(each, "__name__", type(each).__name__)}
    return made
