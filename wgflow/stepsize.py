"""Step-size rules: how far to go along the flow in one step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, cast

from wgflow.errors import DivergenceError, InputError, build, describe
from wgflow.particles import Particles
from wgflow.types import Spec, real

_EPS = 2.0**-52  # distance from 1 to the next float64


class Trial:
    """State that a step of some length would lead to.

    Attributes
    ----------
    rho : Particles
        The state.
    switched : int
        Pairs of particles that change places on the way (Gaps only).
    """

    def __init__(self, rho: Particles, switched: int, energy: Callable[[], float]) -> None:
        self.rho, self.switched, self._energy = rho, switched, energy

    @functools.cached_property
    def energy(self) -> float:
        """E at the state, at the s of the step's start; computed when asked for."""
        return self._energy()


class Taken(NamedTuple):
    """The step a rule decided on.

    Attributes
    ----------
    trial : Trial
        Where it leads.
    h : float
        Its length in s.
    then : float
        Length to try next.
    """

    trial: Trial
    h: float
    then: float


class StepRule(Protocol):
    """What a rule has to offer.

    Attributes
    ----------
    adaptive : bool
        Whether step lengths vary.
    """

    adaptive: ClassVar[bool]

    @property
    def name(self) -> str:
        """Its name in studies and files."""

    @property
    def first(self) -> float:
        """Length to try first."""

    def advance(self, trial: Callable[[float], Trial], energy: float, dissipation: float, h: float) -> Taken:
        """Decide on a step from a state with this energy and dissipation, not longer than h."""

    def spec(self) -> Spec:
        """Plain JSON that describes it."""


@dataclass(frozen=True)
class Constant:
    """Steps of one length: gradient descent with a fixed learning rate.

    Parameters
    ----------
    length : float
        h > 0.
    """

    length: float = 0.1
    name: ClassVar[str] = "constant"
    adaptive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        real("step", self.length, above=0.0)

    @property
    def first(self) -> float:
        """The length."""
        return float(self.length)

    def advance(self, trial: Callable[[float], Trial], energy: float, dissipation: float, h: float) -> Taken:
        """Take the step."""
        del energy, dissipation
        return Taken(trial(h), h, h)

    def spec(self) -> Spec:
        """``{"name": "constant", "length": ...}``."""
        return {"name": self.name, "length": self.length}


@dataclass(frozen=True)
class Descent:
    """Backtracking until the energy falls by a fraction of what the dissipation promises (Armijo's rule).

    E(s + h) <= E(s) - fraction h dissipation up to rounding, h halved until it holds and raised by a quarter after
    every success. An energy that depends on s is taken at the step's start on both sides, since its own fading is no
    descent. E jumps where particles change places under Gaps, so energies are never compared across a switch of order:
    such a step is taken as it is.

    Parameters
    ----------
    length : float
        First h to try, > 0.
    fraction : float, optional
        0 < fraction < 1.
    smallest : float, optional
        Length below which halving stops and the step is taken: at a stationary point rounding decides.
    """

    length: float = 0.1
    fraction: float = 0.1
    smallest: float = 1e-10
    name: ClassVar[str] = "descent"
    adaptive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("length", "smallest"):
            real("step" if name == "length" else name, getattr(self, name), above=0.0)
        if not 0 < self.fraction < 1:
            raise InputError(f"fraction of the descent rule: expected 0 < fraction < 1, got {describe(self.fraction)}")

    @property
    def first(self) -> float:
        """First length to try."""
        return float(self.length)

    def advance(self, trial: Callable[[float], Trial], energy: float, dissipation: float, h: float) -> Taken:
        """Halve h until the energy falls enough."""
        rounding = 8 * _EPS * (1 + abs(energy))  # at a minimum no fall is left to see
        while True:
            try:
                candidate = trial(h)
                if candidate.switched:
                    return Taken(candidate, h, h)
                enough = candidate.energy <= energy - self.fraction * h * dissipation + rounding
            except DivergenceError:
                if h <= self.smallest:
                    raise
                enough = False
            if enough or h <= self.smallest:
                return Taken(candidate, h, 1.25 * h)
            h *= 0.5

    def spec(self) -> Spec:
        """``{"name": "descent", "length": ..., "fraction": ..., "smallest": ...}``."""
        return {"name": self.name, "length": self.length, "fraction": self.fraction, "smallest": self.smallest}


STEP_RULES: dict[str, type[Any]] = {"constant": Constant, "descent": Descent}


def step_rule(choice: float | Spec | StepRule) -> StepRule:
    """Build a rule from a number (constant steps) or a spec; a rule object is passed through.

    Raises
    ------
    InputError
        If the name or an option is unknown or out of range.
    """
    if hasattr(choice, "advance"):
        return cast(StepRule, choice)
    if not isinstance(choice, dict):
        return Constant(real("step", choice, above=0.0))
    made: StepRule = build("step rule", choice, STEP_RULES)
    return made
