"""How a series changed along s, from its first finite value to its last, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wgflow.base.types import Array
from wgflow.report.wording import between, listed, number, span

_LAST_PART = 0.25  # of flow time, over which a series has to be quiet to count as settled
_SWING = 0.2  # of its change or its level, by which a settled series may go up and down there
_NEGLIGIBLE = 0.01  # of the first value: swings below it are not worth a word, however small the last value
_PEAK = 0.1  # part by which a series may exceed both of its ends before that is said

FALLS, RISES, STAYS, UNSETTLED, DIVERGES, UNKNOWN = "falls", "rises", "stays", "does not settle", "diverges", "unknown"


class Change(NamedTuple):
    """How a series, or the mean of several, went from its first finite value to its last.

    Attributes
    ----------
    kind : str
        ``falls``, ``rises``, ``stays`` (the same to the digits that are printed), ``does not settle`` (goes up and
        down by more than a fifth of its change over the last quarter of s), ``diverges`` (is not finite from some s
        on, or was cut off there), ``unknown`` (without two finite values).
    first, last : float
        Its ends; NaN without any finite value.
    low, high : float
        Range over the last quarter of s.
    peak : float
        Largest value if that exceeds both ends by more than a tenth, otherwise NaN.
    peak_s : float
        Where it is.
    ends : tuple of float
        Flow times of the last finite value, the least and the largest of several series.
    form : str
        Format of its numbers.
    """

    kind: str
    first: float
    last: float
    low: float
    high: float
    peak: float
    peak_s: float
    ends: tuple[float, float]
    form: str = ".2g"

    def __str__(self) -> str:
        """Say it as a predicate: "falls from 0.52 to 0.01"."""
        return self.predicate()

    def predicate(self, where: str = "") -> str:
        """Say it as a predicate, the runs it is true of behind its verb: "does not settle in 1 of 2 runs (...)"."""
        if not math.isfinite(self.first):
            return f"{self.brief}{where}"
        if self.kind in (DIVERGES, UNSETTLED):
            start, low, high = (number(each, self.form) for each in (self.first, self.low, self.high))
            late = f"last {number(self.last, self.form)}" if self.kind == DIVERGES else ""
            late = late or f"between {low} and {high} over the last quarter"
            return f"{self._verb}{where} (from {start}, {late})"
        peak = f" (with a peak of {number(self.peak, self.form)} at s = {self.peak_s:g})"
        return f"{self.brief}{where}" + (peak if math.isfinite(self.peak) else "")

    @property
    def brief(self) -> str:
        """The same in so few words that a title holds it."""
        if not math.isfinite(self.first):
            return "has no finite value"
        if self.kind == UNSETTLED:
            return f"does not settle: {span((self.low, self.high), self.form)}"
        if self.kind == UNKNOWN:
            return f"is {number(self.first, self.form)} at s = {self.ends[0]:g}, the only frame"
        return self._verb if self.kind == DIVERGES else between(self.first, self.last, self.form)

    @property
    def _verb(self) -> str:
        return f"diverges after s = {span(self.ends, 'g')}" if self.kind == DIVERGES else self.kind


def change(s: Array, values: Array, diverged: bool = False, form: str = ".2g") -> Change:
    """Find how a series changed along s.

    Parameters
    ----------
    s, values : ndarray (F,)
        Flow time, increasing, and the series.
    diverged : bool, optional
        Whether the run diverged after its last frame. Values that are not finite at the end say so, too.
    form : str, optional
        Format of the numbers in words; it decides what counts as staying.
    """
    finite = np.isfinite(values)
    if not finite.any():
        no = math.nan
        return Change(DIVERGES if diverged else UNKNOWN, no, no, no, no, no, no, (no, no), form)
    diverged = diverged or not finite[-1]
    s, values = np.asarray(s, float)[finite], np.asarray(values, float)[finite]
    first, last, end = float(values[0]), float(values[-1]), float(s[-1])
    late = values[s >= end - _LAST_PART * (end - s[0])]
    top, scale = int(np.argmax(values)), max(abs(first), abs(last))
    peaked = values[top] - max(first, last) > _PEAK * scale
    peak, peak_s = (float(values[top]), float(s[top])) if peaked else (math.nan, math.nan)
    kind = STAYS if number(first, form) == number(last, form) else FALLS if last < first else RISES
    if diverged:
        kind = DIVERGES
    elif len(values) == 1:
        kind = UNKNOWN
    elif _unsettled(late, first, last):
        kind = UNSETTLED
    return Change(kind, first, last, float(late.min()), float(late.max()), peak, peak_s, (end, end), form)


def _unsettled(late: Array, first: float, last: float) -> bool:
    """Whether a series goes up and down over its last part by more than its change or its level makes small."""
    with np.errstate(over="ignore"):
        rise = float((late - np.minimum.accumulate(late)).max())
        fall = float((np.maximum.accumulate(late) - late).max())
        swing = min(rise, fall)
        by_change = _SWING * max(abs(first - last), abs(last))
        by_end = max(abs(last), _NEGLIGIBLE * abs(first))
    return swing > min(by_change, by_end)


def joint_change(changes: Sequence[Change], of: str = "runs") -> str:
    """Say how several series changed: once if all alike, otherwise kind by kind with how many.

    Series of one kind are said by the means of their ends.
    """
    kinds = dict.fromkeys(each.kind for each in changes)
    if len(kinds) == 1:
        return str(_mean(changes))
    parts: list[str] = []
    for kind in kinds:
        alike = [each for each in changes if each.kind == kind]
        count = f"{len(alike)} of {len(changes)} {of}" if not parts else f"{len(alike)}"
        parts.append(_mean(alike).predicate(f" in {count}"))
    return listed(parts)


def joint_change_brief(changes: Sequence[Change]) -> str:
    """The same for a title: numbers if all are alike, otherwise how many of each kind."""
    kinds = list(dict.fromkeys(each.kind for each in changes))
    if len(kinds) == 1:
        return _mean(changes).brief
    count = [sum(each.kind == kind for each in changes) for kind in kinds]
    return ", ".join(f"{_BRIEF.get(kind, kind)} in {n}" for kind, n in zip(kinds, count, strict=True))


_BRIEF = {STAYS: "stays the same", UNKNOWN: "has one frame"}


def _mean(changes: Sequence[Change]) -> Change:
    """Summary of several changes of the same kind as one."""
    first, last = (_average([getattr(each, name) for each in changes]) for name in ("first", "last"))
    highest = max(changes, key=lambda each: each.peak if math.isfinite(each.peak) else -math.inf)
    ends = [end for each in changes for end in each.ends if math.isfinite(end)]
    return Change(
        changes[0].kind, first, last,
        min((each.low for each in changes if math.isfinite(each.low)), default=math.nan),
        max((each.high for each in changes if math.isfinite(each.high)), default=math.nan),
        highest.peak, highest.peak_s, (min(ends), max(ends)) if ends else (math.nan, math.nan), changes[0].form,
    )  # fmt: skip


def _average(values: Sequence[float]) -> float:
    """Mean of the finite ones, without overflow on the way; NaN of none."""
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(value / len(finite) for value in finite) if finite else math.nan
