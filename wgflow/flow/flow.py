"""Flow: the loop that moves particles along the gradient flow.

A generator; files and stopping rules are the caller's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from wgflow.base import rng
from wgflow.base.copies import Copyable
from wgflow.base.energy_balance import EMPTY, EnergyBalance
from wgflow.base.errors import DivergenceError, InputError, describe
from wgflow.base.registry import check_name
from wgflow.base.types import Frame, Index, Spec
from wgflow.base.validate import check_instance, real, scalar, whole
from wgflow.energy import Energy
from wgflow.flow import integrators, stepsize
from wgflow.flow import operators as recipes
from wgflow.flow import stepper as clouds
from wgflow.flow.clock import Clock, EventClock, StepClock
from wgflow.flow.operators import Ingredient, spec_of
from wgflow.flow.schedule import Schedule, schedule
from wgflow.flow.stepper import Cloud, Dynamics, Moment
from wgflow.flow.stepsize import StepRule
from wgflow.model.particles import BOUNDARIES, Particles


class Flow(Copyable):
    """Gradient flow of an energy, discretised in s.

    Parameters
    ----------
    energy : Energy
        What to descend.
    integrator : {"euler", "heun", "ssp3", "rk4", "cash_karp"} or Tableau, optional
        ``"euler"`` is gradient descent.
    step : float, dict or StepRule, optional
        Step length h > 0 in s, or a rule such as ``{"name": "descent", "length": 0.1}`` or, with an integrator that has
        an error estimate (``heun``, ``ssp3``, ``cash_karp``), ``{"name": "adaptive", "rtol": 1e-4}``.
    boundary : {"clip", "reflect", "free"}, optional
        What happens at the ends of [0, 1]: ``clip`` stops particles there (the projected gradient flow), ``reflect``
        sends them back, ``free`` (Gaps only) lets tau leave. A frame's dissipation counts a particle that rests at a
        clipped end as at rest; one that a reflecting end keeps sending back counts with its full velocity.
    mobility : mapping of str to float, optional
        Factors >= 0 on the velocity by parameter group and for ``"tau"``; 1 where not given, 0 pins. Ingredients act
        regardless.
    ingredients : sequence of callables or dicts, optional
        Called after every step, in order; see :mod:`wgflow.flow.operators`.
    batch : int, optional
        Samples of each step's velocity, drawn afresh without replacement; all by default. Frames always tell the energy
        and the dissipation over all samples.
    seed : int, optional
        Seed of the batches, 0 <= seed < 2**64.

    Raises
    ------
    InputError
        If an option is unknown or out of range, or options exclude each other.

    Examples
    --------
    >>> import wgflow
    >>> problem = wgflow.Problem.padded([[-1.0], [0.0], [1.0]], [1.0, 0.0, 1.0])
    >>> flow = wgflow.Flow(wgflow.Energy(problem, backend="reference"), step=0.1)
    >>> frames = list(flow.run(wgflow.Particles.draw(problem, 8), until=2.0, every=1.0))
    >>> [frame.s for frame in frames]
    [0.0, 1.0, 2.0]
    >>> frames[-1].energy < frames[0].energy
    True
    """

    def __init__(
        self,
        energy: Energy,
        integrator: str | integrators.Tableau = "euler",
        step: float | Spec | StepRule = 0.1,
        boundary: str = "clip",
        mobility: Mapping[str, float] | None = None,
        ingredients: Sequence[Ingredient | Spec] = (),
        batch: int | None = None,
        seed: int = 0,
    ) -> None:
        check_instance("energy", energy, Energy)
        self.energy = energy
        self.integrator = integrators.integrator(integrator)
        self.rule = stepsize.step_rule(step)
        self.boundary = boundary
        if mobility is not None:
            check_instance("mobility", mobility, Mapping, "such as {'tau': 0.5}")
        self.mobility = {name: scalar(factor) for name, factor in (mobility or {}).items()}
        if callable(ingredients) or isinstance(ingredients, Mapping | str) or not isinstance(ingredients, Iterable):
            raise InputError(
                f"ingredients: expected a list of them, got {describe(ingredients)}; put it into one, [...]"
            )
        self.ingredients = tuple(recipes.ingredient(each) for each in ingredients)
        self.batch, self.seed = scalar(batch), scalar(seed)
        self._check()
        self._mobility_theta = np.ones(energy.problem.shape[3])
        for name, columns in energy.problem.groups.items():
            self._mobility_theta[columns] = self.mobility.get(name, 1.0)
        self._mobility_tau = float(self.mobility.get("tau", 1.0))

    def run(
        self,
        start: Particles | Frame,
        until: float,
        every: float | Spec | Schedule | None = None,
        on_step: Callable[[int, float], None] | None = None,
    ) -> Iterator[Frame]:
        """Flow from a measure, or on from a frame, yielding frames.

        Parameters
        ----------
        start : Particles or Frame
            A measure (then s = 0), or a frame, whose step, s and step length are taken over.
        until : float
            Flow time s at which to stop; with constant steps a whole number of them away.
        every : float, dict or Schedule, optional
            Flow time between frames; with constant steps a whole number of them. Or ``{"name": "steps", "n": 10}``,
            ``{"name": "log", "per_decade": 8}``, ``{"name": "at", "s": [1.0, 5.0]}``: see
            :mod:`wgflow.flow.schedule`. By
            default one step, or with a rule that varies steps a hundredth of ``until``.
        on_step : callable, optional
            Called with step and s after every step. May raise, to stop.

        Yields
        ------
        Frame
            The start, one whenever ``every`` says, and the end. The next frame is computed when it is asked for; on a
            device steps beyond it have been started by then, and a divergence may be found some steps late, which
            changes nothing but how often ``on_step`` has been called.

        Raises
        ------
        InputError
            If the start does not fit, or a time is not a whole number of steps.
        DivergenceError
            If the energy or a velocity stops being finite; it carries the last state at which both were.
        """
        until, planned = real("until", until), None if every is None else schedule(every)
        free = self.boundary == "free"
        if isinstance(start, Frame):
            rho = Particles(start.theta, start.tau, start.mass, free=free)
            step, s, switched, balance = start.step, start.s, start.switches, start.balance or EMPTY
            h = start.h if self.rule.adaptive and start.h > 0 else self.rule.first
        else:
            check_instance("start", start, Particles, "a Frame would do as well")
            rho = start if free or not start.free else Particles(start.theta, start.tau, start.mass)
            step, s, switched, balance, h = 0, 0.0, 0, EMPTY, self.rule.first
        clock: Clock
        if self.rule.adaptive:
            clock = EventClock(step, s, until, planned)
        else:
            clock = StepClock(step, s, until, planned, h)
        return self._loop(rho, clock, h, switched, balance, on_step)

    def spec(self) -> Spec:
        """Plain JSON of the options; the energy has a spec of its own. Ingredients of your own appear by name only."""
        return {
            "integrator": self.integrator.name,
            "step": self.rule.spec(),
            "boundary": self.boundary,
            "mobility": self.mobility,
            "ingredients": [spec_of(each) for each in self.ingredients],
            "batch": self.batch,
            "seed": self.seed,
        }

    @classmethod
    def from_spec(cls, spec: Spec, energy: Energy) -> Flow:
        """Rebuild a flow from :meth:`spec` and an energy."""
        return cls(energy, **spec)

    def _loop(
        self,
        rho: Particles,
        clock: Clock,
        h: float,
        switched: int,
        balance: EnergyBalance,
        on_step: Callable[[int, float], None] | None,
    ) -> Iterator[Frame]:
        cloud = clouds.place(self._dynamics(), rho, switched, balance)
        yield from _delivered(self._events(cloud, clock, h), on_step, cloud.ahead)

    def _events(self, cloud: Cloud, clock: Clock, h: float) -> Iterator[_Event]:
        """Steps made and frames begun, in the order of flow time."""
        begin = True
        while True:
            record = begin or clock.due or clock.done
            cloud.look(Moment(clock.step, clock.s, h), record, clock.done)
            if record:
                yield cloud.frame()
            if clock.done:
                return
            begin = False
            taken = cloud.advance(clock.reach(h))
            cut_short = taken.h < h and taken.h == clock.reach(h)  # by a frame in the way, not by the rule
            h = max(taken.then, h) if cut_short else taken.then
            clock.tick(taken.h)
            yield _Stepped(clock.step, clock.s)

    def _dynamics(self) -> Dynamics:
        mobility = (self._mobility_theta, self._mobility_tau) if self.mobility else None
        rows = None if self.batch is None else self._rows
        return Dynamics(self.energy, self.integrator, self.rule, self.boundary, mobility, self.ingredients, rows)

    def _rows(self, step: int) -> Index:
        """Rows of the batch of a step, in increasing order; a function of (seed, step)."""
        samples = len(self.energy.problem.x)
        draws = rng.uniform(self.seed, "batch", (-(-samples // 4), 4), step).ravel()[:samples]
        return np.sort(np.argpartition(draws, (self.batch or samples) - 1)[: self.batch])

    def _check(self) -> None:
        """Refuse options that are out of range or exclude each other."""
        depth, samples = self.energy.depth, len(self.energy.problem.x)
        check_name("boundary", self.boundary, BOUNDARIES)
        if self.boundary not in depth.boundaries:
            raise InputError(
                f"boundary: expected one of {', '.join(depth.boundaries)} under {depth.name}, got {self.boundary!r}"
            )
        known = (*self.energy.problem.groups, "tau")
        for name, factor in self.mobility.items():
            check_name("mobility group", name, known)
            real(f"mobility of {name}", factor, least=0.0)
        if self.batch is not None:
            if whole("batch", self.batch) > samples:
                raise InputError(f"batch: expected 1 to {samples} samples, got {describe(self.batch)}")
            rng.uniform(self.seed, "batch", (1, 1))  # checks the seed
        if any(getattr(each, "reflects", False) for each in self.ingredients) and self.boundary != "reflect":
            raise InputError(f"boundary: expected 'reflect' where noise acts on tau, got {self.boundary!r}")
        chancy = self.batch is not None or any(getattr(each, "random", False) for each in self.ingredients)
        if self.rule.adaptive and chancy:
            raise InputError(
                f"step rule {self.rule.name!r}: expected neither batches nor noise, since it compares energies or "
                "solutions; use constant steps"
            )
        if getattr(self.rule, "estimates", False):
            integrators.embedded(self.integrator)  # refuses a method without


class _Stepped(NamedTuple):
    """A step that was made."""

    step: int
    s: float


_Event: TypeAlias = _Stepped | Callable[[], Frame]


def _delivered(events: Iterator[_Event], on_step: Callable[[int, float], None] | None, ahead: int) -> Iterator[Frame]:
    """Frames, with on_step called in between, in the order of the events.

    A frame is handed over when ``ahead`` events have followed it, so that its copy from a device has as long to arrive.
    """
    waiting: deque[_Event] = deque()
    end: StopIteration | DivergenceError | None = None
    while end is None:
        try:
            waiting.append(next(events))
        except (StopIteration, DivergenceError) as error:
            end = error  # what happened before it is handed over first
        while waiting and (isinstance(waiting[0], _Stepped) or len(waiting) > (ahead if end is None else 0)):
            event = waiting.popleft()
            if not isinstance(event, _Stepped):
                yield event()
            elif on_step is not None:
                on_step(*event)
    if isinstance(end, DivergenceError):
        raise end
