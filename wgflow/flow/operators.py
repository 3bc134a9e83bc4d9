"""Operators split off from the gradient flow: maps of the measure that are applied after every step, such as noise.

An operator is called with the measure and the :class:`Move` just made, and returns the measure to go on from, with as
many particles and their masses (``rho.moved(theta, tau)`` keeps them). Anything random in it has to be a function of
(seed, step, particle). Studies and :class:`wgflow.Flow` list operators as ``ingredients``.

An operator that lowers E, at least over steps that are short enough, has an attribute ``descends = True``. A run with
no other operators has an energy balance, of steps before operators act; E rising by an operator counts as a rise.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from wgflow.base import rng
from wgflow.base.errors import InputError, describe
from wgflow.base.registry import Options, build
from wgflow.base.types import Spec
from wgflow.base.user_objects import Candidate, is_builtin, nearly_equal, require_methods, try_once
from wgflow.base.validate import real
from wgflow.model.particles import Particles

if TYPE_CHECKING:
    from wgflow.energy import Energy


class Move(NamedTuple):
    """The step after which an operator is applied.

    Attributes
    ----------
    step : int
        Number of the step, from 0.
    s : float
        Flow time at its start.
    h : float
        Length of the step.
    energy : Energy
        What the flow descends.
    """

    step: int
    s: float
    h: float
    energy: Energy


Operator = Callable[[Particles, Move], Particles]


@dataclass(frozen=True)
class Langevin(Options):
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
        Temperature of noise in depth, >= 0; needs ``boundary="reflect"``, since particles would
        gather at an absorbing boundary.
    seed : int, optional
        0 <= seed < 2**64. The increments are a function of (seed, step, particle).
    """

    temperature: float
    decay: float = 0.0
    tau_temperature: float = 0.0
    seed: int = 0
    name: ClassVar[str] = "langevin"
    random: ClassVar[bool] = True

    def _check_options(self) -> None:
        for name in ("temperature", "decay", "tau_temperature"):
            real(f"{name} of langevin", getattr(self, name), least=0.0)
        rng.uniform(self.seed, "langevin", (1, 1))  # checks the seed

    @property
    def reflects(self) -> bool:
        """Whether noise moves particles in depth, which requires a reflecting boundary."""
        return self.tau_temperature > 0

    def __call__(self, rho: Particles, move: Move) -> Particles:
        """Add one increment of the noise and the decay over the move's length."""
        count, parameters = rho.theta.shape
        noise = rng.normal(self.seed, "langevin", (count, parameters + 1), move.step)
        theta = (1.0 - move.h * self.decay) * rho.theta + np.sqrt(2 * self.temperature * move.h) * noise[:, :-1]
        tau = rho.tau + np.sqrt(2 * self.tau_temperature * move.h) * noise[:, -1]
        # The stepper brings tau back into [0, 1], and checks that all numbers are finite.
        return rho.moved(theta, tau, free=True, fresh=True)


OPERATORS: dict[str, type[Langevin]] = {"langevin": Langevin}


def operator(choice: Spec | Operator) -> Operator:
    """Build an operator from its spec; a callable is passed through.

    Raises
    ------
    InputError
        If the name or an option is unknown, or it is no function of a measure and a move.
    """
    if isinstance(choice, Mapping | str):
        return build("operator", choice, OPERATORS)
    if not callable(choice):
        raise InputError(
            f"operator: expected a table with a name, or a function of a measure and a move, got {describe(choice)}"
        )
    require_methods("operator", choice, "wgflow.flow.operators", ())
    try:
        inspect.signature(choice).bind(None, None)
    except TypeError as bad:
        raise InputError(
            f"operator {operator_spec(choice)['name']!r}: expected a function of a measure and a move, got one with "
            f"arguments {inspect.signature(choice)}"
        ) from bad
    except ValueError:  # written in C: nothing is known of its arguments
        pass
    return choice


def apply(operator: Operator, rho: Particles, move: Move) -> Particles:
    """Measure after an operator; one of the user's is called twice the first time.

    Raises
    ------
    InputError
        If it does not return as many particles, and the same ones for the same arguments.
    """
    result = _checked(operator(rho, move), rho, operator)
    if not is_builtin(operator):

        def trial() -> None:
            again = _checked(operator(rho, move), rho, operator)
            if any(not nearly_equal(getattr(result, name), getattr(again, name)) for name in ("theta", "tau", "mass")):
                raise Candidate("operator", operator_spec(operator)["name"]).refuse(
                    "the same particles for the same measure and move",
                    "others the second time",
                    "anything random in it must be a function of (seed, move.step, particle), see wgflow.base.rng",
                )

        try_once(operator, "operator", trial)
    return result


def _checked(result: object, rho: Particles, operator: Operator) -> Particles:
    """Check what an operator returned: N is fixed during a run."""
    if isinstance(result, Particles) and result.theta.shape == rho.theta.shape:
        return result
    got = f"Particles with theta of shape {result.theta.shape}" if isinstance(result, Particles) else describe(result)
    raise InputError(
        f"operator {operator_spec(operator)['name']!r}: expected Particles with theta of shape {rho.theta.shape}, "
        f"got {got}"
    )


def descends(operator: Operator) -> bool:
    """Whether an operator says that it lowers E in short enough steps."""
    return bool(getattr(operator, "descends", False))


def operator_spec(operator: Operator) -> Spec:
    """Plain JSON of an operator; the name alone for one of your own without a ``spec`` method."""
    if hasattr(operator, "spec"):
        spec: Spec = operator.spec()
        return spec
    return {"name": getattr(operator, "__name__", type(operator).__name__)}
