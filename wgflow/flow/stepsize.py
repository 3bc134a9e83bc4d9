"""Step-size rules."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, cast

from wgflow.base.errors import DescentError, DivergenceError, InputError, describe
from wgflow.base.registry import Options, build
from wgflow.base.types import Spec
from wgflow.base.user_objects import Candidate, is_builtin, require_methods
from wgflow.base.validate import real
from wgflow.flow.integrators import Estimate
from wgflow.model.particles import Particles

_LEAST_RTOL = 1e-13  # below it the difference of two solutions is rounding


class Trial:
    """Result of a trial step; values, or functions that compute them on demand."""

    def __init__(
        self,
        rho: Particles | Callable[[], Particles],
        switched: int | Callable[[], int],
        energy: Callable[[], float],
        estimate: Callable[[], Estimate],
        dissipated: float = math.nan,
        continued: Callable[[], float] | None = None,
        rounding: float = 0.0,
        arrived: Particles | None = None,
    ) -> None:
        self._rho, self._switched, self._energy, self._estimate = rho, switched, energy, estimate
        self._continued = continued
        if not callable(rho):
            self.rho = rho
        if not callable(switched):
            self.switched = switched
        self.dissipated = dissipated  # integral of the dissipation over the step; NaN if unknown
        self.rounding = rounding  # change of E that may be rounding
        self.arrived = arrived  # the state before operators acted; None if none did

    @functools.cached_property
    def rho(self) -> Particles:
        """The state at its end."""
        return self._rho() if callable(self._rho) else self._rho

    @functools.cached_property
    def switched(self) -> int:
        """Order switches (pairs of particles) in the step; Gaps only."""
        return self._switched() if callable(self._switched) else self._switched

    @functools.cached_property
    def energy(self) -> float:
        """E of the state at its end, at the s of its start."""
        return self._energy()

    @functools.cached_property
    def continued(self) -> float:
        """E of the state at its end with the particles in the order of its start, at the s of its start.

        Differs from :attr:`energy` only after an order switch under Gaps: E jumps there, this continues it smoothly.
        """
        return self._continued() if self._continued is not None and self.switched else self.energy

    @functools.cached_property
    def estimate(self) -> Estimate:
        """Error estimate of the step, before operators; InputError for methods without an embedded one."""
        return self._estimate()


class Taken(NamedTuple):
    """The step that a rule has taken.

    Attributes
    ----------
    trial : Trial
        Its result.
    h : float
        Its length in s.
    then : float
        Step length to try next.
    """

    trial: Trial
    h: float
    then: float


class StepRule(Protocol):
    """Interface of a step rule.

    A rule that uses :attr:`Trial.estimate` sets ``estimates = True``; a flow then refuses methods without an estimate.
    One in whose steps :attr:`Trial.continued` has to decrease sets ``monotone = True``; stages of a step then keep the
    order of its start in depth, and a flow refuses the reflecting boundary, at which E rises however short a step is.

    Attributes
    ----------
    adaptive : bool
        Whether step lengths vary.
    """

    adaptive: ClassVar[bool]

    @property
    def name(self) -> str:
        """Name in studies and files."""

    @property
    def first(self) -> float:
        """Length to try first."""

    def advance(self, trial: Callable[[float], Trial], energy: float, dissipation: float, h: float) -> Taken:
        """Take a step, not longer than h, from a state with this energy and dissipation."""

    def spec(self) -> Spec:
        """Plain JSON that describes it."""


class BuiltinRule(Options):
    """Base of the built-in rules."""

    length: float
    adaptive: ClassVar[bool] = True

    def _check_options(self) -> None:
        real("step", self.length, above=0.0)

    @property
    def first(self) -> float:
        """Length to try first."""
        return float(self.length)


@dataclass(frozen=True)
class Constant(BuiltinRule):
    """Steps of one length: gradient descent with a fixed learning rate.

    Parameters
    ----------
    length : float
        h > 0.
    """

    length: float = 0.1
    name: ClassVar[str] = "constant"
    adaptive: ClassVar[bool] = False

    def advance(self, trial: Callable[[float], Trial], energy: float, dissipation: float, h: float) -> Taken:
        """Take the step."""
        return Taken(trial(h), h, h)


@dataclass(frozen=True)
class Descent(BuiltinRule):
    """Backtracking until the energy decreases by a fraction of what the dissipation predicts (Armijo's rule).

    E(s + h) <= E(s) - fraction h dissipation up to rounding, h halved until it holds and increased by a quarter
    after every success. An energy that depends on s is taken at the s of the step's start on both sides, since its
    explicit decay is no descent.

    Under Gaps E jumps where particles change places, so that no step length makes it decrease across a switch. What
    decreases in every step is E with the particles in the order of the step's start (:attr:`Trial.continued`), smooth
    and with the velocity as its gradient. Therefore E(s_n) <= E(0) + the sum of its jumps, which may rise; the energy
    balance counts the steps with a switch and sums the rises in them. Without a switch, E itself decreases.

    Parameters
    ----------
    length : float
        First h to try, > 0.
    fraction : float, optional
        0 < fraction < 1.
    smallest : float, optional
        Length below which halving stops. The longest step tried without a rise is then taken; if there is none, which
        takes a kink of E (the hat function of Deposit) or an operator that raises E, the flow ends with a DescentError.
    """

    length: float = 0.1
    fraction: float = 0.1
    smallest: float = 1e-10
    name: ClassVar[str] = "descent"
    monotone: ClassVar[bool] = True

    def _check_options(self) -> None:
        super()._check_options()
        real("smallest", self.smallest, above=0.0)
        if not 0 < self.fraction < 1:
            raise InputError(f"fraction of the descent rule: expected 0 < fraction < 1, got {describe(self.fraction)}")

    def advance(self, trial: Callable[[float], Trial], energy: float, dissipation: float, h: float) -> Taken:
        """Halve h until the energy decreases enough."""
        level = 0.0  # the longest step that does not raise the energy: near a minimum no decrease is measurable
        while True:
            try:
                candidate = trial(h)
                rise = candidate.continued - energy - candidate.rounding
                if rise <= -self.fraction * h * dissipation:
                    return Taken(candidate, h, 1.25 * h)
                level = h if rise <= 0 and not level else level
            except DivergenceError:
                if h <= self.smallest and not level:
                    raise
            if h <= self.smallest:
                break
            h *= 0.5
        if not level:
            raise DescentError(
                f"the descent rule found no step down to h = {h:.1e} that does not raise E: E has a kink here, or an "
                "operator raises it; try constant steps, or a smooth activation and shape function"
            )
        return Taken(trial(level), level, level)


@dataclass(frozen=True)
class Adaptive(BuiltinRule):
    """Steps as long as the estimated error of each allows.

    err = rms(difference of the pair's two solutions) / (atol + rtol rms(state)), see
    :func:`wgflow.flow.integrators.rms`. A step with err <= 1 is accepted, with the solution of higher order; the next
    length, after rejection as after acceptance, is h clip(0.9 err**(-1/(q + 1)), 0.2, 5) with q the lower order: the
    standard controller of Hairer, Norsett and Wanner (Solving Ordinary Differential Equations I, section II.4). Its
    only state is h, which frames record.

    E is not used. Where particles change places under Gaps, velocities jump and err decreases only like h; a pair that
    switches again and again forces steps of about the tolerance over the jump, and ``smallest`` limits their cost. A
    particle pushed against a reflecting boundary oscillates there by O(h), which the estimate captures only in part.

    Parameters
    ----------
    length : float, optional
        First h to try, > 0.
    rtol, atol : float, optional
        Error allowed in one step, relative to the size of the state (1e-13 <= rtol < 1) and absolute (>= 0). If E is
        smooth enough the error at a given s is proportional to both: steps have length tolerance**(1/(q + 1)), and the
        solution taken has order q + 1 (derived).
    smallest : float, optional
        Length below which a step is not shortened, > 0; such a step is accepted.
    """

    length: float = 0.1
    rtol: float = 1e-4
    atol: float = 1e-6
    smallest: float = 1e-10
    name: ClassVar[str] = "adaptive"
    estimates: ClassVar[bool] = True

    def _check_options(self) -> None:
        super()._check_options()
        real("smallest", self.smallest, above=0.0)
        real("atol", self.atol, least=0.0)
        if not _LEAST_RTOL <= real("rtol", self.rtol) < 1:
            raise InputError(f"rtol: expected {_LEAST_RTOL:g} <= rtol < 1, got {describe(self.rtol)}")

    def advance(self, trial: Callable[[float], Trial], energy: float, dissipation: float, h: float) -> Taken:
        """Shorten h until the estimated error is within the tolerances."""
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

    def _error(self, estimate: Estimate) -> float:
        """Error relative to the tolerance."""
        allowed = self.atol + self.rtol * estimate.size
        if not math.isfinite(allowed):
            return math.inf
        if allowed == 0:  # all particles at the origin, and no absolute tolerance
            return math.inf if estimate.error else 0.0
        return estimate.error / allowed


def _factor(error: float, order: int) -> float:
    """Ratio of the next step length to the last, from the error relative to the tolerance."""
    if not math.isfinite(error):
        return 0.2
    return min(max(0.9 * error ** (-1 / (order + 1)), 0.2), 5.0) if error > 0 else 5.0


STEP_RULES: dict[str, type[Any]] = {"constant": Constant, "descent": Descent, "adaptive": Adaptive}


_REQUIRED = ("name", "first", "adaptive", "advance", "spec")


def step_rule(choice: float | Spec | StepRule) -> StepRule:
    """Build a rule from a number (constant steps) or a spec; a rule object is passed through.

    Raises
    ------
    InputError
        If the name or an option is unknown or out of range.
    """
    if isinstance(choice, Mapping):
        built: StepRule = build("step rule", choice, STEP_RULES)
        return built
    if not hasattr(choice, "advance"):
        return Constant(real("step", choice, above=0.0))
    require_methods("step rule", choice, "wgflow.flow.stepsize.StepRule", _REQUIRED)
    rule = cast(StepRule, choice)
    if not is_builtin(rule):
        trial = Candidate("step rule", rule.name)
        trial.plain(trial.call("spec", rule.spec))
        real(f"first of step rule {rule.name!r}", rule.first, above=0.0)
    return rule


def checked(rule: StepRule, taken: object, tried: Mapping[int, float], reach: float) -> Taken:
    """Check the step that a rule of the user's has taken: one of its trials (``tried``, lengths by id), within reach.

    Raises
    ------
    InputError
        If it is not one of the trials, or a length is out of range.
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
