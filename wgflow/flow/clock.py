"""Clocks of a flow: the flow time of every step, which steps are recorded as frames, and when to stop."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from wgflow.base.errors import InputError
from wgflow.flow.schedule import Every, Log, Schedule, Steps

_MOST_STEPS = 2**53  # beyond it step numbers, and so flow times, would not be exact
_TOLERANCE = 1e-9  # tolerance for a ratio of times to be a whole number


class StepClock:
    """Clock of constant steps, which counts steps so that no rounding accumulates in s.

    s = origin + step h, with origin 0 in runs with a single step length, which therefore resume exactly; after a change
    of h the origin, and so s, has one rounding error.

    Attributes
    ----------
    frames : range or frozenset of int
        Steps at which frames are due, besides the start and the end.
    """

    def __init__(self, step: int, s: float, until: float, every: Schedule | None, h: float) -> None:
        self.step, self._h = step, h
        self._origin = 0.0 if s == step * h else s - step * h
        self._last = step + _whole_steps("until", until - s, h, f"from s = {s:g}")
        self.frames = self._due(Steps(1) if every is None else every)

    @property
    def s(self) -> float:
        """Current flow time."""
        return self._origin + self.step * self._h

    @property
    def due(self) -> bool:
        """Whether a frame is due."""
        return self.step in self.frames

    @property
    def done(self) -> bool:
        """Whether the last step has been taken."""
        return self.step >= self._last

    def coming(self, most: int, onto: bool) -> list[float]:
        """Flow times after the next steps, at most this many, up to the next frame or the end, with it if ``onto``."""
        steps, last = list[float](), min(self.step + most, self._last - (not onto))
        for step in range(self.step + 1, last + 1):
            due = step in self.frames
            if due and not onto:
                break
            steps.append(self._origin + step * self._h)
            if due:
                break
        return steps

    def reach(self, h: float) -> float:
        """Return h: events coincide with steps."""
        return h

    def tick(self, h: float) -> None:
        """Count a step."""
        self.step += 1

    def _due(self, every: Schedule) -> range | frozenset[int]:
        if isinstance(every, Steps):
            return range(-(-self.step // every.n) * every.n, self._last + 1, every.n)
        if isinstance(every, Every):
            stride = _whole_steps("every", every.s, self._h, "")
            if stride < 1:
                raise InputError(f"every: expected at least one step of {self._h:g}, got {every.s:g}")
            # The origin in steps, so that frames lie at multiples of `every` after a change of h too.
            origin = self._origin / self._h
            shift = round(origin) if abs(origin - round(origin)) < _TOLERANCE * max(1.0, abs(origin)) else -self.step
            return range(self.step + -(self.step + shift) % stride, self._last + 1, stride)
        steps, s, end = set(), 0.0, self._origin + self._last * self._h
        while (s := every.after(s)) <= end * (1 + _TOLERANCE):
            if isinstance(every, Log):
                steps.add(max(1, round((s - self._origin) / self._h)))
            elif s > self.s:
                steps.add(self.step + _whole_steps("every.s", s - self.s, self._h, f"from s = {self.s:g}"))
        return frozenset(steps)


class EventClock:
    """Clock of varying steps, which are shortened to end at the times of frames; members as of :class:`StepClock`."""

    def __init__(self, step: int, s: float, until: float, every: Schedule | None) -> None:
        self.step, self.s, self._until = step, s, until
        if not np.isfinite(until) or until < s:
            raise InputError(f"until: expected a flow time ahead from s = {s:g}, got {until - s:g} to go")
        self._every = Every(until / 100 if until > 0 else 1.0) if every is None else every
        self._met = False

    @property
    def due(self) -> bool:
        """Whether the last step ended at the time of a frame, or its number is that of a frame."""
        return self._met or (isinstance(self._every, Steps) and self.step % self._every.n == 0)

    @property
    def done(self) -> bool:
        """Whether s has reached the end."""
        return self.s >= self._until

    def coming(self, most: int, onto: bool) -> list[float]:
        """Return nothing: the length of a step is known only when the one before has been taken."""
        return []

    def reach(self, h: float) -> float:
        """Step length up to the next event at most; a negligible remainder is added to the step."""
        left = self._next() - self.s
        return left if h > left * (1 - _TOLERANCE) else h

    def tick(self, h: float) -> None:
        """Advance by h, exactly to the event if it was reached."""
        event = self._next()
        self._met = h >= event - self.s
        self.s = event if self._met else self.s + h
        self.step += 1

    def _next(self) -> float:
        return min(self._every.after(self.s), self._until)


Clock: TypeAlias = StepClock | EventClock


def _whole_steps(name: str, duration: float, h: float, note: str) -> int:
    """Duration in steps, checked to be a whole number."""
    ratio = duration / h
    if ratio > _MOST_STEPS:
        raise InputError(f"{name}: expected at most 2**53 steps, got {ratio:g} of {h:g}")
    if not np.isfinite(ratio) or ratio < -_TOLERANCE:
        raise InputError(f"{name}: expected a flow time ahead {note}".rstrip() + f", got {duration:g} to go")
    if abs(ratio - round(ratio)) > _TOLERANCE * max(1.0, ratio):
        near = max(1, round(ratio)) * h
        raise InputError(
            f"{name}: expected a whole number of steps of {h:g}, got {duration:g} ({ratio:g} steps); {near:g} would do"
        )
    return round(ratio)
