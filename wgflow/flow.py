"""Flow: the loop that moves particles along the gradient flow.

A generator; files and stopping rules are the caller's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

import numpy as np

from wgflow import integrators
from wgflow.depth import switches
from wgflow.energy import Energy
from wgflow.errors import DivergenceError, InputError, describe, unknown
from wgflow.particles import BOUNDARIES, Particles, confine, project
from wgflow.types import Array, Frame, Spec

logger = logging.getLogger(__name__)

_RATIO_TOLERANCE = 1e-9  # how far a ratio of two times may be from a whole number


class Flow:
    """Gradient flow of an energy, discretised in s.

    Parameters
    ----------
    energy : Energy
        What to descend.
    integrator : str or Tableau, optional
        ``"euler"`` (gradient descent) by default.
    step : float, optional
        Step length h > 0 in s.
    boundary : {"clip", "reflect", "free"}, optional
        What happens at the ends of [0, 1]: ``clip`` stops particles there (the projected gradient flow), ``reflect``
        sends them back, ``free`` (Gaps only) lets tau leave.
    mobility : mapping of str to float, optional
        Factors >= 0 on the velocity by parameter group and for ``"tau"``; 1 where not given, 0 pins.

    Raises
    ------
    InputError
        If an option is unknown or out of range.

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
        step: float = 0.1,
        boundary: str = "clip",
        mobility: Mapping[str, float] | None = None,
    ) -> None:
        self.energy = energy
        self.integrator = integrators.integrator(integrator)
        self.step = _positive("step", step)
        if boundary not in BOUNDARIES:
            raise unknown("boundary", boundary, BOUNDARIES)
        if boundary not in energy.depth.boundaries:
            raise InputError(
                f"boundary: expected one of {', '.join(energy.depth.boundaries)} under {energy.depth.name}, "
                f"got {boundary!r}"
            )
        self.boundary = boundary
        self.mobility = dict(mobility or {})
        known = (*energy.problem.groups, "tau")
        for name, factor in self.mobility.items():
            if name not in known:
                raise unknown("mobility group", name, known)
            if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 <= factor < np.inf:
                raise InputError(f"mobility of {name}: expected a number >= 0, got {describe(factor)}")
        self._mobility_theta = np.ones(energy.problem.shape[3])
        for name, columns in energy.problem.groups.items():
            self._mobility_theta[columns] = self.mobility.get(name, 1.0)
        self._mobility_tau = float(self.mobility.get("tau", 1.0))

    def run(self, start: Particles | Frame, until: float, every: float | None = None) -> Iterator[Frame]:
        """Flow from a measure, or on from a frame, yielding frames.

        Parameters
        ----------
        start : Particles or Frame
            A measure (then s = 0), or a frame, whose step and s are counted on.
        until : float
            Flow time s at which to stop; a whole number of steps away.
        every : float, optional
            Flow time between frames, a whole number of steps; one step by default.

        Yields
        ------
        Frame
            The start, one at every multiple of ``every``, and the end. The next frame is computed when it is asked for.

        Raises
        ------
        InputError
            If the start does not fit, or a time is not a whole number of steps.
        DivergenceError
            If the energy or a velocity stops being finite; it carries the last state at which both were.
        """
        free = self.boundary == "free"
        if isinstance(start, Frame):
            rho = Particles(start.theta, start.tau, start.mass, free=free)
            step, s, switched = start.step, start.s, start.switches
        else:
            rho = start if free or not start.free else Particles(start.theta, start.tau, start.mass)
            step, s, switched = 0, 0.0, 0
        # s = origin + step h, so that s carries no rounding from one step to the next and a run that is taken up
        # again counts on exactly as if it had never stopped.
        origin = 0.0 if s == step * self.step else s - step * self.step
        last = round(self._steps("until", until - s, f"from s = {s:g}")) + step
        stride = round(self._steps("every", self.step if every is None else every))
        return self._loop(rho, step, last, max(stride, 1), origin, switched)

    def _loop(self, rho: Particles, step: int, last: int, stride: int, origin: float, switched: int) -> Iterator[Frame]:
        free, good = self.boundary == "free", None
        order = self.energy.depth.order(rho.tau)
        begin = step
        while True:
            energy, v_theta, v_tau = self._velocity(rho)
            finite = np.isfinite(energy) and np.isfinite(v_theta).all() and np.isfinite(v_tau).all()
            if not finite:
                raise DivergenceError(
                    f"the flow diverged at step {step} (s = {origin + step * self.step:g}): energy {energy:g}; "
                    f"try a smaller step than {self.step:g}",
                    good,
                )
            frame = Frame(
                step,
                origin + step * self.step,
                rho.theta,
                rho.tau,
                rho.mass,
                energy,
                self._dissipation(rho, v_theta, v_tau),
                switched,
            )
            good = frame
            if step == begin or step == last or step % stride == 0:
                yield frame
            if step >= last:
                return
            theta, tau = integrators.step(
                self.integrator, self._drift(rho), rho.theta, rho.tau, (v_theta, v_tau), self.step
            )
            if not (np.isfinite(theta).all() and np.isfinite(tau).all()):
                raise DivergenceError(
                    f"the flow diverged in step {step} (s = {frame.s:g}): a particle left the finite numbers; "
                    f"try a smaller step than {self.step:g}",
                    good,
                )
            rho = rho.moved(theta, confine(tau, self.boundary), free=free)
            step += 1
            if order is not None:
                before, order = order, self.energy.depth.order(rho.tau)
                switched += switches(before, order) if order is not None else 0

    def spec(self) -> Spec:
        """Plain JSON of the options; the energy has a spec of its own."""
        return {
            "integrator": self.integrator.name,
            "step": self.step,
            "boundary": self.boundary,
            "mobility": self.mobility,
        }

    @classmethod
    def from_spec(cls, spec: Spec, energy: Energy) -> Flow:
        """Rebuild a flow from :meth:`spec` and an energy."""
        return cls(energy, **spec)

    def _velocity(self, rho: Particles) -> tuple[float, Array, Array]:
        """Energy, and the velocity with mobility and walls."""
        with np.errstate(over="ignore", invalid="ignore"):  # a divergence is found and reported by the loop
            velocity = self.energy.velocity(rho)
            v_tau = self._mobility_tau * project(rho.tau, velocity.tau, self.boundary)
            return velocity.energy, self._mobility_theta * velocity.theta, v_tau

    def _drift(self, rho: Particles) -> integrators.Drift:
        def drift(theta: Array, tau: Array) -> tuple[Array, Array]:
            inside = rho.moved(theta, confine(tau, self.boundary), free=self.boundary == "free")
            return self._velocity(inside)[1:]

        return drift

    def _dissipation(self, rho: Particles, v_theta: Array, v_tau: Array) -> float:
        """-dE/ds along the velocity with mobility: |v|**2 divided by the mobilities; what is pinned adds nothing."""
        with np.errstate(over="ignore"):
            root_theta = np.sqrt(np.where(self._mobility_theta > 0, self._mobility_theta, 1.0))
            root_tau = np.sqrt(self._mobility_tau) if self._mobility_tau > 0 else 1.0
            return self.energy.dissipation(rho, v_theta / root_theta, v_tau / root_tau)

    def _steps(self, name: str, duration: float, note: str = "") -> float:
        """Duration as a number of steps, checked to be a whole one."""
        ratio = duration / self.step
        if not np.isfinite(ratio) or ratio < -_RATIO_TOLERANCE:
            raise InputError(f"{name}: expected a flow time ahead {note}".rstrip() + f", got {duration:g} to go")
        if abs(ratio - round(ratio)) > _RATIO_TOLERANCE * max(1.0, ratio):
            near = max(1, round(ratio)) * self.step
            raise InputError(
                f"{name}: expected a whole number of steps of {self.step:g}, got {duration:g} ({ratio:g} steps); "
                f"{near:g} would do"
            )
        if name == "every" and round(ratio) < 1:
            raise InputError(f"every: expected at least one step of {self.step:g}, got {duration:g}")
        return ratio


def _positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < np.inf:
        raise InputError(f"{name}: expected a finite number > 0, got {describe(value)}")
    return float(value)
