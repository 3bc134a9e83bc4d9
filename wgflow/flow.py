"""Flow: the loop that moves particles along the gradient flow.

A generator; files and stopping rules are the caller's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from wgflow import ingredients as recipes
from wgflow import integrators, rng, stepsize
from wgflow.clock import Clock, EventClock, StepClock
from wgflow.depth import switches
from wgflow.energy import Energy
from wgflow.errors import DivergenceError, InputError, describe, unknown
from wgflow.ingredients import Ingredient, Move
from wgflow.particles import BOUNDARIES, Particles, confine, project
from wgflow.schedule import Schedule, schedule
from wgflow.stepsize import StepRule, Trial
from wgflow.types import Array, Frame, Index, Spec, real


class Flow:
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
        Called after every step, in order; see :mod:`wgflow.ingredients`.
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
        self.energy = energy
        self.integrator = integrators.integrator(integrator)
        self.rule = stepsize.step_rule(step)
        self.boundary = boundary
        self.mobility = dict(mobility or {})
        self.ingredients = tuple(recipes.ingredient(each) for each in ingredients)
        self.batch, self.seed = batch, seed
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
            ``{"name": "log", "per_decade": 8}``, ``{"name": "at", "s": [1.0, 5.0]}``: see :mod:`wgflow.schedule`. By
            default one step, or with a rule that varies steps a hundredth of ``until``.
        on_step : callable, optional
            Called with step and s after every step. May raise, to stop.

        Yields
        ------
        Frame
            The start, one whenever ``every`` says, and the end. The next frame is computed when it is asked for.

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
            step, s, switched = start.step, start.s, start.switches
            h = start.h if self.rule.adaptive and start.h > 0 else self.rule.first
        else:
            rho = start if free or not start.free else Particles(start.theta, start.tau, start.mass)
            step, s, switched, h = 0, 0.0, 0, self.rule.first
        clock: Clock
        if self.rule.adaptive:
            clock = EventClock(step, s, until, planned)
        else:
            clock = StepClock(step, s, until, planned, h)
        return self._loop(rho, clock, h, switched, on_step)

    def spec(self) -> Spec:
        """Plain JSON of the options; the energy has a spec of its own. Ingredients of your own appear by name only."""
        return {
            "integrator": self.integrator.name,
            "step": self.rule.spec(),
            "boundary": self.boundary,
            "mobility": self.mobility,
            "ingredients": [_spec(each) for each in self.ingredients],
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
        on_step: Callable[[int, float], None] | None,
    ) -> Iterator[Frame]:
        good: Frame | None = None
        begin = True
        while True:
            record = begin or clock.due or clock.done
            whole = self._velocity(rho, clock.s, None) if record or self.batch is None else None
            # The last frame needs no step, so no batch either.
            used = whole if self.batch is None or clock.done else self._velocity(rho, clock.s, self._rows(clock.step))
            dissipation = self._dissipation(rho, *whole[1:]) if whole is not None else math.nan
            # A sum of squares is finite only if all of them are; if it is not, the parts are looked at.
            if whole is None or used is not whole or not math.isfinite(whole[0] + dissipation):
                self._check_finite(clock, good, *((whole or ()) + (used or ())))
            if whole is not None:
                energy = whole[0]
                good = Frame(clock.step, clock.s, rho.theta, rho.tau, rho.mass, energy, dissipation, switched, h)
                if record:
                    yield good
            if clock.done or used is None or good is None:
                return
            begin = False
            taken = self._advance(rho, clock, good, used, h)
            cut_short = taken.h < h and taken.h == clock.reach(h)  # by a frame in the way, not by the rule
            h = max(taken.then, h) if cut_short else taken.then
            rho, switched = taken.trial.rho, switched + taken.trial.switched
            clock.tick(taken.h)
            if on_step is not None:
                on_step(clock.step, clock.s)

    def _advance(
        self, rho: Particles, clock: Clock, frame: Frame, velocity: tuple[float, Array, Array], h: float
    ) -> stepsize.Taken:
        """One step as the rule decides, not beyond the clock's next event."""
        order = self.energy.depth.order(rho)

        def trial(h: float) -> Trial:
            state = (rho.theta, rho.tau, clock.s, velocity[1:], h)
            stages = integrators.stages(self.integrator, self._drift(rho, clock, frame), *state)
            end = integrators.combine(rho.theta, rho.tau, self.integrator.b, stages, h)
            arrived = moved = self._settle(rho, *end, clock, frame)
            for each in self.ingredients:
                made = _same_cloud(each(moved, Move(clock.step, clock.s, h, self.energy)), moved, each)
                moved = self._settle(made, made.theta, made.tau, clock, frame)
            after = self.energy.depth.order(moved)
            changed = switches(order, after) if order is not None and after is not None else 0

            def estimate() -> integrators.Estimate:
                low = integrators.combine(rho.theta, rho.tau, integrators.embedded(self.integrator), stages, h)
                settled = self._settle(rho, *low, clock, frame)
                return integrators.compare(rho, arrived, settled, self.integrator.order_low)

            return Trial(moved, changed, lambda: self.energy(moved, s=clock.s), estimate)

        with np.errstate(over="ignore", invalid="ignore"):  # a divergence is found and reported by the loop
            return self.rule.advance(trial, frame.energy, frame.dissipation, clock.reach(h))

    def _settle(self, rho: Particles, theta: Array, tau: Array, clock: Clock, frame: Frame) -> Particles:
        """Measure at new places, brought back into [0, 1]."""
        if not (np.isfinite(theta).all() and np.isfinite(tau).all()):
            raise DivergenceError(
                f"the flow diverged in step {clock.step} (s = {clock.s:g}): a particle left the finite numbers; "
                f"try a smaller step than {self.rule.first:g}",
                frame,
            )
        return rho.moved(theta, confine(tau, self.boundary), free=self.boundary == "free", fresh=True)

    def _check_finite(self, clock: Clock, good: Frame | None, *parts: Any) -> None:
        if all(np.isfinite(part).all() for part in parts):
            return
        if good is None:
            raise DivergenceError(
                f"the energy or a velocity is not finite at the start (step {clock.step}); check the initial measure, "
                "and a block of your own with wgflow.check_block"
            )
        raise DivergenceError(
            f"the flow diverged at step {clock.step} (s = {clock.s:g}): the energy or a velocity is not finite; "
            f"try a smaller step than {self.rule.first:g}",
            good,
        )

    def _velocity(self, rho: Particles, s: float, rows: Index | None) -> tuple[float, Array, Array]:
        """Energy, and the velocity with mobility and walls."""
        with np.errstate(over="ignore", invalid="ignore"):
            energy, v_theta, v_tau = self.energy.field(rho, rows, s)
            v_tau = project(rho.tau, v_tau, self.boundary)
            if self.mobility:
                v_theta, v_tau = self._mobility_theta * v_theta, self._mobility_tau * v_tau
            return energy, v_theta, v_tau

    def _drift(self, rho: Particles, clock: Clock, frame: Frame) -> integrators.Drift:
        rows = self._rows(clock.step) if self.batch is not None else None  # one batch for all stages of a step

        def drift(theta: Array, tau: Array, s: float) -> tuple[Array, Array]:
            return self._velocity(self._settle(rho, theta, tau, clock, frame), s, rows)[1:]

        return drift

    def _rows(self, step: int) -> Index:
        """Rows of the batch of a step, in increasing order; a function of (seed, step)."""
        samples = len(self.energy.problem.x)
        draws = rng.uniform(self.seed, "batch", (-(-samples // 4), 4), step).ravel()[:samples]
        return np.sort(np.argpartition(draws, (self.batch or samples) - 1)[: self.batch])

    def _dissipation(self, rho: Particles, v_theta: Array, v_tau: Array) -> float:
        """-dE/ds along the velocity with mobility: |v|**2 divided by the mobilities; what is pinned adds nothing."""
        with np.errstate(over="ignore", invalid="ignore"):
            if not self.mobility:
                return self.energy.dissipation(rho, v_theta, v_tau)
            root_theta = np.sqrt(np.where(self._mobility_theta > 0, self._mobility_theta, 1.0))
            root_tau = np.sqrt(self._mobility_tau) if self._mobility_tau > 0 else 1.0
            return self.energy.dissipation(rho, v_theta / root_theta, v_tau / root_tau)

    def _check(self) -> None:
        """Refuse options that are out of range or exclude each other."""
        depth, samples = self.energy.depth, len(self.energy.problem.x)
        if self.boundary not in BOUNDARIES:
            raise unknown("boundary", self.boundary, BOUNDARIES)
        if self.boundary not in depth.boundaries:
            raise InputError(
                f"boundary: expected one of {', '.join(depth.boundaries)} under {depth.name}, got {self.boundary!r}"
            )
        known = (*self.energy.problem.groups, "tau")
        for name, factor in self.mobility.items():
            if name not in known:
                raise unknown("mobility group", name, known)
            real(f"mobility of {name}", factor, least=0.0)
        if self.batch is not None:
            if isinstance(self.batch, bool) or not isinstance(self.batch, int) or not 1 <= self.batch <= samples:
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


def _same_cloud(made: object, rho: Particles, each: Ingredient) -> Particles:
    """Check what an ingredient returned: N is fixed for a run."""
    if not isinstance(made, Particles) or made.theta.shape != rho.theta.shape:
        got = f"Particles with theta of shape {made.theta.shape}" if isinstance(made, Particles) else describe(made)
        raise InputError(
            f"ingredient {_spec(each)['name']!r}: expected Particles with theta of shape {rho.theta.shape}, got {got}"
        )
    return made


def _spec(each: Ingredient) -> Spec:
    made: Spec = each.spec() if hasattr(each, "spec") else {"name": getattr(each, "__name__", type(each).__name__)}
    return made
