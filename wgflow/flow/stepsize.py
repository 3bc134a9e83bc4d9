"""Step-size rules: how far to go along the flow in one step."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, cast

from wgflow.base.errors import DivergenceError, InputError, describe
from wgflow.base.registry import build
from wgflow.base.types import Spec
from wgflow.base.user_objects import Candidate, is_builtin, require_methods
from wgflow.base.validate import real, use_python_numbers
from wgflow.flow.integrators import Estimate
from wgflow.model.particles import Particles

_EPS = 2.0**-52  # distance from 1 to the next float64
_LEAST_RTOL = 1e-13  # below it the difference of two solutions is rounding


class Trial:
    """State that a step of some length would lead to; made of values, or of functions that find them when asked."""

    def __init__(
        self,
        rho: Particles | Callable[[], Particles],
        switched: int | Callable[[], int],
        energy: Callable[[], float],
        estimate: Callable[[], Estimate],
        dissipated: float = math.nan,
    ) -> None:
        self._rho, self._switched, self._energy, self._estimate = rho, switched, energy, estimate
        self.dissipated = dissipated  # integral of the dissipation over the step; NaN where it is not followed

    @functools.cached_property
    def rho(self) -> Particles:
        """The state."""
        return self._rho() if callable(self._rho) else self._rho

    @functools.cached_property
    def switched(self) -> int:
        """Pairs of particles that change places on the way (Gaps only)."""
        return self._switched() if callable(self._switched) else self._switched

    @functools.cached_property
    def energy(self) -> float:
        """E at the state, at the s of the step's start; computed when asked for."""
        return self._energy()

    @functools.cached_property
    def estimate(self) -> Estimate:
        """Error estimate of the step, before operators; only for methods with an embedded one (InputError)."""
        return self._estimate()


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

    A rule that looks at :attr:`Trial.estimate` may say so by ``estimates = True``; a flow then refuses methods without.

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
        use_python_numbers(self)
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
        use_python_numbers(self)
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


@dataclass(frozen=True)
class Adaptive:
    """Steps as long as the estimated error of each allows.

    err = rms(difference of the pair's two solutions) / (atol + rtol rms(state)), see
    :func:`wgflow.flow.integrators.rms`. A
    step with err <= 1 is taken, of the solution of higher order; the next length, after a refusal as after a success,
    is h clip(0.9 err**(-1/(q + 1)), 0.2, 5) with q the lower order: the standard controller of Hairer, Norsett and
    Wanner (Solving Ordinary Differential Equations I, section II.4). It remembers nothing but h, which frames keep.

    E itself is never looked at. Where particles change places under Gaps velocities jump and err falls only like h; a
    pair pushed against each other does so over and over, at steps of about the tolerance over the jump, and
    ``smallest`` bounds what is spent on it. A particle pushed against a reflecting end bounces there by O(h), which the
    estimate sees in part only.

    Parameters
    ----------
    length : float, optional
        First h to try, > 0.
    rtol, atol : float, optional
        Error allowed in one step, relative to the size of the state (1e-13 <= rtol < 1) and absolute (>= 0). Where E is
        smooth enough the error at a given s falls in proportion to both: steps are as long as tolerance**(1/(q + 1)),
        and the solution taken is of order q + 1 (derived).
    smallest : float, optional
        Length below which no step is cut, > 0; such a step is taken as it is.
    """

    length: float = 0.1
    rtol: float = 1e-4
    atol: float = 1e-6
    smallest: float = 1e-10
    name: ClassVar[str] = "adaptive"
    adaptive: ClassVar[bool] = True
    estimates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        use_python_numbers(self)
        for name in ("length", "smallest"):
            real("step" if name == "length" else name, getattr(self, name), above=0.0)
        real("atol", self.atol, least=0.0)
        if not _LEAST_RTOL <= real("rtol", self.rtol) < 1:
            raise InputError(f"rtol: expected {_LEAST_RTOL:g} <= rtol < 1, got {describe(self.rtol)}")

    @property
    def first(self) -> float:
        """First length to try."""
        return float(self.length)

    def advance(self, trial: Callable[[float], Trial], energy: float, dissipation: float, h: float) -> Taken:
        """Shorten h until the estimated error is within the tolerances."""
        del energy, dissipation
        while True:
            try:
                candidate = trial(h)
                error = self._error(candidate.estimate)
            except DivergenceError:
                if h <= self.smallest:
                    raise
                h = max(0.5 * h, self.smallest)
                continue
            then = max(h * _factor(error, candidate.estimate.order), self.smallest)
            if error <= 1 or h <= self.smallest:
                return Taken(candidate, h, then)
            h = then

    def spec(self) -> Spec:
        """``{"name": "adaptive", "length": ..., "rtol": ..., "atol": ..., "smallest": ...}``."""
        names = ("name", "length", "rtol", "atol", "smallest")
        return {name: getattr(self, name) for name in names}

    def _error(self, estimate: Estimate) -> float:
        """Error in units of the one allowed."""
        allowed = self.atol + self.rtol * estimate.size
        if not math.isfinite(allowed):
            return math.inf
        if allowed == 0:  # all particles at the origin, and no absolute tolerance
            return math.inf if estimate.error else 0.0
        return estimate.error / allowed


def _factor(error: float, order: int) -> float:
    """What the next length is times the last, from an error in units of the one allowed."""
    if not math.isfinite(error):
        return 0.2
    return min(max(0.9 * error ** (-1 / (order + 1)), 0.2), 5.0) if error > 0 else 5.0


STEP_RULES: dict[str, type[Any]] = {"constant": Constant, "descent": Descent, "adaptive": Adaptive}


_NEEDED = ("name", "first", "adaptive", "advance", "spec")


def step_rule(choice: float | Spec | StepRule) -> StepRule:
    """Build a rule from a number (constant steps) or a spec; a rule object is passed through.

    Raises
    ------
    InputError
        If the name or an option is unknown or out of range.
    """
    if isinstance(choice, Mapping):
        made: StepRule = build("step rule", choice, STEP_RULES)
        return made
    if not hasattr(choice, "advance"):
        return Constant(real("step", choice, above=0.0))
    require_methods("step rule", choice, "wgflow.flow.stepsize.StepRule", _NEEDED)
    rule = cast(StepRule, choice)
    if not is_builtin(rule):
        trial = Candidate("step rule", rule.name)
        trial.plain(trial.call("spec", rule.spec))
        real(f"first of step rule {rule.name!r}", rule.first, above=0.0)
    return rule


def checked(rule: StepRule, taken: object, tried: Mapping[int, float], reach: float) -> Taken:
    """Check what a rule of the user's decided.

    Parameters
    ----------
    rule : StepRule
        The rule.
    taken : object
        What it returned.
    tried : mapping of int to float
        Length by id of each trial the rule made in this step.
    reach : float
        Longest step allowed.

    Raises
    ------
    InputError
        If it is no step of a length that was tried, or a length is out of its range.
    """
    trial = Candidate("step rule", rule.name)
    if not isinstance(taken, Taken):
        raise trial.refuse("advance to return a wgflow.flow.stepsize.Taken", describe(taken))
    length = tried.get(id(taken.trial))
    if length is None or length != taken.h:
        raise trial.refuse(
            f"h of the step taken to be the length of its trial, {length}",
            describe(taken.h),
            "return Taken(trial(h), h, ...)",
        )
    if not 0 < taken.h <= reach:
        raise trial.refuse(f"steps of a length 0 < h <= {reach:g}, what advance was given", describe(taken.h))
    real(f"length to try next of step rule {rule.name!r}", taken.then, above=0.0)
    return taken
