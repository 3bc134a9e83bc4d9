"""Flow: the loop that moves particles along the gradient flow and yields frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from wgflow.base import rng
from wgflow.base.copies import Copyable
from wgflow.base.energy_balance import EMPTY, EnergyBalance
from wgflow.base.errors import DescentError, DivergenceError, InputError, describe
from wgflow.base.registry import check_name
from wgflow.base.types import Frame, Index, Spec
from wgflow.base.validate import check_instance, real, scalar, whole
from wgflow.energy import Energy
from wgflow.flow import integrators, operators, stepsize
from wgflow.flow.clock import Clock, EventClock, StepClock
from wgflow.flow.divergence import Moment
from wgflow.flow.operators import Operator, operator_spec
from wgflow.flow.schedule import Schedule, schedule
from wgflow.flow.stepper import Dynamics, HostStepper, make_stepper
from wgflow.flow.stepsize import StepRule
from wgflow.model.particles import BOUNDARIES, Particles

if TYPE_CHECKING:
    from wgflow.flow.stepper_device import DeviceStepper
    from wgflow.flow.stepper_in_place import InPlaceStepper

_Event: TypeAlias = tuple[int, float] | Callable[[], Frame]  # a step taken, or a frame begun


class Flow(Copyable):
    """Gradient flow of an energy, discretised in s.

    Parameters
    ----------
    energy : Energy
        What the flow descends. E of the continuous flow decreases, except where E jumps (order switches under Gaps).
    integrator : {"euler", "heun", "ssp3", "rk4", "cash_karp"} or Tableau, optional
        ``"euler"`` is gradient descent.
    step : float, dict or StepRule, optional
        Step length h > 0 in s, or a rule such as ``{"name": "descent", "length": 0.1}`` or, with an integrator that has
        an error estimate (``heun``, ``ssp3``, ``cash_karp``), ``{"name": "adaptive", "rtol": 1e-4}``.
    boundary : {"clip", "reflect", "free"}, optional
        Boundary condition in depth: ``clip`` stops particles at 0 and 1 (the projected gradient flow), ``reflect``
        reflects them, ``free`` (Gaps only) lets tau leave [0, 1]. In a frame's dissipation a particle stopped at the
        boundary has velocity 0, one that is reflected again and again its full velocity.
    mobility : mapping of str to float, optional
        Factors >= 0 on the velocity by parameter group and for ``"tau"``; 1 by default, 0 keeps a group fixed.
        Operators act regardless.
    ingredients : sequence of callables or dicts, optional
        Operators applied after every step, in order; see :mod:`wgflow.flow.operators`.
    batch : int, optional
        Samples of each step's velocity, drawn afresh without replacement; all by default. Frames always have the energy
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
        ingredients: Sequence[Operator | Spec] = (),
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
                f"ingredients: expected a list of operators, got {describe(ingredients)}; put it into a list, [...]"
            )
        self.ingredients = tuple(map(operators.operator, ingredients))
        self.batch, self.seed = scalar(batch), scalar(seed)
        self._check()
        self._mobility_theta = energy.problem.by_column(self.mobility)
        self._mobility_tau = float(self.mobility.get("tau", 1.0))

    def __repr__(self) -> str:
        return f"Flow({self.energy!r}, integrator={self.integrator.name}, step={self.rule!r}, boundary={self.boundary})"

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
            :mod:`wgflow.flow.schedule`. By default one step, or with varying steps a hundredth of ``until``.
        on_step : callable, optional
            Called with step and s after every step, of small problems for some steps together. May raise, to stop.

        Yields
        ------
        Frame
            The start, the times of ``every``, and the end. The next frame is computed when it is asked for. On a
            device, steps beyond it have been started by then, and a divergence may be noticed some steps late, which
            changes only how often ``on_step`` has been called.

        Raises
        ------
        InputError
            If the start does not fit, or a time is not a whole number of steps.
        DivergenceError
            If the energy or a velocity is not finite; the error carries the last state at which both were. A
            DescentError, with the present state, if the descent rule finds no step in which E decreases.
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
        fixed = not self.rule.adaptive
        clock = StepClock(step, s, until, planned, h) if fixed else EventClock(step, s, until, planned)
        return self._loop(rho, clock, h, switched, balance, on_step)

    def spec(self) -> Spec:
        """Plain JSON of the options; the energy has its own spec. Operators of your own appear by name only."""
        return {
            "integrator": self.integrator.name,
            "step": self.rule.spec(),
            "boundary": self.boundary,
            "mobility": self.mobility,
            "ingredients": list(map(operator_spec, self.ingredients)),
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
        """Frames, with on_step called in between, in the order of the events.

        A frame is yielded after the stepper's ``lookahead`` further events, while its copy from a device can arrive.
        """
        mobility = (self._mobility_theta, self._mobility_tau) if self.mobility else None
        rows = None if self.batch is None else self._rows
        dynamics = Dynamics(self.energy, self.integrator, self.rule, self.boundary, mobility, self.ingredients, rows)
        stepper = make_stepper(dynamics, rho, switched, balance)
        events, waiting = self._events(stepper, clock, h), deque[_Event]()
        end: StopIteration | DivergenceError | None = None
        while end is None:
            try:
                waiting.append(next(events))
            except (StopIteration, DivergenceError) as error:
                end = error  # raised after the events before it
            most = stepper.lookahead if end is None else 0
            while waiting and (isinstance(waiting[0], tuple) or len(waiting) > most):
                event = waiting.popleft()
                if not isinstance(event, tuple):
                    yield event()
                elif on_step is not None:
                    on_step(*event)
        if isinstance(end, DivergenceError):
            raise end

    def _events(
        self, stepper: HostStepper | InPlaceStepper | DeviceStepper, clock: Clock, h: float
    ) -> Iterator[_Event]:
        """Steps taken and frames begun, in the order of flow time."""
        begin = True
        while True:
            record = begin or clock.due or clock.done
            stepper.evaluate(Moment(clock.step, clock.s, h), record, clock.done)
            if record:
                yield stepper.frame()
            if clock.done:
                return
            begin = False
            if stepper.most_at_once and (coming := clock.coming(stepper.most_at_once, stepper.onto_frames)):
                together = stepper.several(coming, h)
                for _ in range(together):
                    clock.tick(h)
                    yield clock.step, clock.s
                if together and stepper.onto_frames:
                    continue
            try:
                taken = stepper.advance(clock.reach(h))
            except DescentError as error:  # of a rule, which knows neither
                raise DescentError(f"step {clock.step} (s = {clock.s:g}): {error}", stepper.frame()()) from error
            cut_short = taken.h < h and taken.h == clock.reach(h)  # by the next frame, not by the rule
            h = max(taken.then, h) if cut_short else taken.then
            clock.tick(taken.h)
            yield clock.step, clock.s

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
        if any(getattr(operator, "reflects", False) for operator in self.ingredients) and self.boundary != "reflect":
            raise InputError(f"boundary: expected 'reflect' where noise acts on tau, got {self.boundary!r}")
        if self.boundary == "reflect" and getattr(self.rule, "monotone", False) and self.mobility.get("tau", 1.0) > 0:
            raise InputError(
                f"boundary: expected 'clip' with step rule {self.rule.name!r}, got 'reflect': a particle pushed "
                "against it comes back as far as it overshot, which raises E in a step of any length"
            )
        stochastic = self.batch is not None or any(getattr(operator, "random", False) for operator in self.ingredients)
        if self.rule.adaptive and stochastic:
            raise InputError(
                f"step rule {self.rule.name!r}: expected neither batches nor noise, since it compares energies or "
                "solutions; use constant steps"
            )
        if getattr(self.rule, "estimates", False):
            integrators.embedded(self.integrator)  # raises an error if there is no embedded method
