"""Schedules: the flow times at which a run is recorded, besides its start and its end.

A schedule is a function of flow time and step alone, so that a resumed run records the same frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, cast

import numpy as np

from wgflow.base.errors import InputError, describe
from wgflow.base.registry import Options, build
from wgflow.base.types import Spec
from wgflow.base.user_objects import Candidate, is_builtin, nearly_equal, require_methods, try_once
from wgflow.base.validate import real, scalar, whole

_MOST_PER_DECADE, _RANGE = 10_000, (1e-100, 1e100)


class Schedule(Protocol):
    """Interface of a schedule."""

    @property
    def name(self) -> str:
        """Name in :data:`SCHEDULES`."""

    def after(self, s: float) -> float:
        """First time after s, infinity if there is none."""

    def within(self, until: float) -> int:
        """Approximate number of times before a flow time."""

    def spec(self) -> Spec:
        """Plain JSON that describes it."""


@dataclass(frozen=True)
class Every(Options):
    """Frames at all multiples of a flow time.

    Parameters
    ----------
    s : float
        Flow time between frames, > 0; with constant steps a whole number of them.
    """

    s: float
    name: ClassVar[str] = "every"

    def _check_options(self) -> None:
        real("every", self.s, above=0.0)

    def after(self, s: float) -> float:
        """First multiple after s."""
        number = np.floor(s / self.s * (1 + 4e-16)) + 1
        if number * self.s <= s:
            number += 1
        return max(float(number * self.s), float(np.nextafter(s, np.inf)))

    def within(self, until: float) -> int:
        """Multiples before a flow time."""
        return math.ceil(until / self.s * (1 - 1e-9)) - 1


@dataclass(frozen=True)
class Steps(Options):
    """A frame every n steps, whatever their lengths.

    Parameters
    ----------
    n : int
        Steps between frames, >= 1.
    """

    n: int
    name: ClassVar[str] = "steps"

    def _check_options(self) -> None:
        whole("every.n", self.n)

    def after(self, s: float) -> float:
        """Infinity: frames depend on steps, not on times."""
        return math.inf

    def within(self, until: float) -> int:
        """0, for the same reason."""
        return 0


@dataclass(frozen=True)
class Log(Options):
    """Frames at first, first 10**(1/per_decade), first 10**(2/per_decade), ...; with constant steps at the nearest.

    Parameters
    ----------
    per_decade : int
        Frames per decade of flow time, 1 to 10,000.
    first : float
        First time after the start, 1e-100 to 1e100.
    """

    per_decade: int
    first: float = 0.1
    name: ClassVar[str] = "log"

    def _check_options(self) -> None:
        whole("every.per_decade", self.per_decade)
        if self.per_decade > _MOST_PER_DECADE:
            raise InputError(f"every.per_decade: expected at most {_MOST_PER_DECADE}, got {self.per_decade}")
        if not _RANGE[0] <= real("every.first", self.first) <= _RANGE[1]:
            raise InputError(
                f"every.first: expected a flow time > 0, {_RANGE[0]:g} to {_RANGE[1]:g}, got {describe(self.first)}"
            )

    def after(self, s: float) -> float:
        """First of the times after s."""
        if s < self.first:
            return float(self.first)
        k = math.floor(self.per_decade * math.log10(s / self.first))
        return next(time for j in (k, k + 1, k + 2) if (time := self._time(j)) > s)

    def within(self, until: float) -> int:
        """Times before a flow time."""
        return 1 + math.floor(self.per_decade * math.log10(until / self.first)) if until > self.first else 0

    def _time(self, k: int) -> float:
        return float(self.first * 10.0 ** (k / self.per_decade))


@dataclass(frozen=True)
class At(Options):
    """Frames at given flow times.

    Parameters
    ----------
    s : sequence of float
        Increasing and > 0; with constant steps whole numbers of them. Times beyond the end are ignored.
    """

    s: Sequence[float]
    name: ClassVar[str] = "at"

    def _check_options(self) -> None:
        if not isinstance(self.s, list | tuple) or not self.s:
            raise InputError(f"every.s: expected a list of flow times, got {describe(self.s)}")
        for before, time in zip([0.0, *self.s[:-1]], self.s, strict=True):
            if not real("every.s", time) > before:
                raise InputError(f"every.s: expected increasing flow times > 0, got {describe(list(self.s))}")

    def after(self, s: float) -> float:
        """First of the times after s."""
        return next((float(time) for time in self.s if time > s), math.inf)

    def within(self, until: float) -> int:
        """Times before a flow time."""
        return sum(time < until for time in self.s)


SCHEDULES: Mapping[str, type[Any]] = MappingProxyType({"every": Every, "steps": Steps, "log": Log, "at": At})


def schedule(choice: object) -> Schedule:
    """Schedule from a flow time between frames, a table such as ``{"name": "log", "per_decade": 8}``, or an object.

    Raises
    ------
    InputError
        If it is none of these, or a value is out of range.
    """
    choice = scalar(choice)
    if isinstance(choice, int | float) and not isinstance(choice, bool):
        return Every(choice)
    if isinstance(choice, str | Mapping) or not hasattr(choice, "after"):
        built: Schedule = build("every", choice, SCHEDULES, "a flow time between frames")
        return built
    require_methods("every", choice, "wgflow.flow.schedule.Schedule", ("name", "after", "within", "spec"))
    own = cast(Schedule, choice)
    if not is_builtin(own):
        try_once(own, "every", lambda: _try(own))
    return own


def _try(own: Schedule) -> None:
    """Test a schedule of the user's: its times increase, and are a function of flow time alone."""
    trial = Candidate("schedule", own.name)
    trial.plain(trial.call("spec", own.spec))
    for s in (0.0, 0.3, 2.0, 70.0):
        (time,) = trial.numbers(("after",), own.after, (s,), ((),))
        if not time > s:
            raise trial.refuse(f"after({s:g}) to be later than that", f"{time}")
        between = s + 0.5 * (float(time) - s) if np.isfinite(time) else s + 1.0
        if not nearly_equal(time, np.asarray(trial.call("after", own.after, between))):
            raise trial.refuse(
                f"after({between:g}) to be {time:g}, the first time after {s:g} too",
                f"{own.after(between):g}",
                "make it a function of flow time alone, so that a resumed run records the same frames",
            )
        (number,) = trial.numbers(("within",), own.within, (s + 1.0,), ((),))
        if not 0 <= number < np.inf:
            raise trial.refuse("within to be a number of times >= 0", f"{number}")
