"""How a series changed along s, from its first finite value to its last, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wgflow.base.types import Array
from wgflow.report.wording import between, listed, number, span

_LAST_PART = 0.25  # of flow time, over which oscillations are looked for
_SWING = 0.2  # of its change or its level: smaller swings are no oscillation
_NEGLIGIBLE = 0.01  # of the first value: smaller swings are no oscillation, however small the last value
_PEAK = 0.1  # fraction by which a maximum exceeds both ends if it is reported

FALLS, RISES, STAYS, OSCILLATES, DIVERGES, UNKNOWN = "falls", "rises", "stays", "oscillates", "diverges", "unknown"


class Change(NamedTuple):
    """Change of a series, or of the mean of several, from its first finite value to its last.

    Attributes
    ----------
    kind : str
        ``falls``, ``rises``, ``stays`` (equal to the printed digits), ``oscillates`` (goes up and down by more than a
        fifth of its change over the last quarter of s), ``diverges`` (is not finite from some s on, or was cut off
        there), ``unknown`` (without two finite values).
    first, last : float
        First and last finite value; NaN if there is none.
    low, high : float
        Range over the last quarter of s.
    peak, peak_s : float
        Maximum and its flow time if it exceeds both ends by more than a tenth, otherwise NaN.
    ends : tuple of float
        Flow time of the last finite value; the smallest and the largest for several series.
    form : str
        Format of the numbers.
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
        """Predicate: "falls from 0.52 to 0.01"."""
        return self.predicate()

    def predicate(self, where: str = "") -> str:
        """Predicate, with the runs it holds for after the verb: "oscillates in 1 of 2 runs (...)"."""
        if not math.isfinite(self.first):
            return f"{self.brief}{where}"
        if self.kind in (DIVERGES, OSCILLATES):
            start, low, high = (number(value, self.form) for value in (self.first, self.low, self.high))
            late = f"last {number(self.last, self.form)}" if self.kind == DIVERGES else ""
            late = late or f"between {low} and {high} over the last quarter"
            return f"{self._verb}{where} (from {start}, {late})"
        peak = f" (with a peak of {number(self.peak, self.form)} at s = {self.peak_s:g})"
        return f"{self.brief}{where}" + (peak if math.isfinite(self.peak) else "")

    @property
    def brief(self) -> str:
        """Short form for a title."""
        if not math.isfinite(self.first):
            return "has no finite value"
        if self.kind == OSCILLATES:
            return f"oscillates: {span((self.low, self.high), self.form)}"
        if self.kind == UNKNOWN:
            return f"is {number(self.first, self.form)} at s = {self.ends[0]:g}, the only frame"
        return self._verb if self.kind == DIVERGES else between(self.first, self.last, self.form)

    @property
    def _verb(self) -> str:
        return f"diverges after s = {span(self.ends, 'g')}" if self.kind == DIVERGES else self.kind


def change(s: Array, values: Array, diverged: bool = False, form: str = ".2g") -> Change:
    """Classify the change of a series along s.

    Parameters
    ----------
    s, values : ndarray (F,)
        Flow time, increasing, and the series.
    diverged : bool, optional
        Whether the run diverged after its last frame, which is also inferred from a last value that is not finite.
    form : str, optional
        Format of the numbers; values that print alike count as equal.
    """
    finite = np.isfinite(values)
    if not finite.any():
        nan = math.nan
        return Change(DIVERGES if diverged else UNKNOWN, nan, nan, nan, nan, nan, nan, (nan, nan), form)
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
    elif _oscillates(late, first, last):
        kind = OSCILLATES
    return Change(kind, first, last, float(late.min()), float(late.max()), peak, peak_s, (end, end), form)


def _oscillates(late: Array, first: float, last: float) -> bool:
    """Whether the swings of a series over its last part are large compared with its change or its level."""
    with np.errstate(over="ignore"):
        rise = float((late - np.minimum.accumulate(late)).max())
        fall = float((np.maximum.accumulate(late) - late).max())
        swing = min(rise, fall)
        by_change = _SWING * max(abs(first - last), abs(last))
        by_end = max(abs(last), _NEGLIGIBLE * abs(first))
    return swing > min(by_change, by_end)


def joint_change(changes: Sequence[Change]) -> str:
    """Predicate for several series: one if all are of the same kind, otherwise kind by kind with counts.

    Numbers are means over the series of a kind.
    """
    kinds = _by_kind(changes)
    if len(kinds) == 1:
        return str(_mean(changes))
    first, *others = kinds.values()
    parts = [_mean(first).predicate(f" in {len(first)} of {len(changes)} runs")]
    return listed(parts + [_mean(same).predicate(f" in {len(same)}") for same in others])


def joint_change_brief(changes: Sequence[Change]) -> str:
    """Short form of :func:`joint_change` for a title."""
    kinds = _by_kind(changes)
    if len(kinds) == 1:
        return _mean(changes).brief
    verbs = {STAYS: "stays the same", UNKNOWN: "has one frame"}
    return ", ".join(f"{verbs.get(kind, kind)} in {len(same)}" for kind, same in kinds.items())


def _by_kind(changes: Sequence[Change]) -> dict[str, list[Change]]:
    return {kind: [other for other in changes if other.kind == kind] for kind in (change.kind for change in changes)}


def _mean(changes: Sequence[Change]) -> Change:
    """Mean of several changes of the same kind, with the extremes of their ranges and peaks."""
    highest = max(changes, key=lambda change: change.peak if math.isfinite(change.peak) else -math.inf)
    ends = [end for change in changes for end in change.ends if math.isfinite(end)]
    return Change(
        changes[0].kind, _average([change.first for change in changes]), _average([change.last for change in changes]),
        min((change.low for change in changes if math.isfinite(change.low)), default=math.nan),
        max((change.high for change in changes if math.isfinite(change.high)), default=math.nan),
        highest.peak, highest.peak_s, (min(ends), max(ends)) if ends else (math.nan, math.nan), changes[0].form,
    )  # fmt: skip


def _average(values: Sequence[float]) -> float:
    """Mean of the finite values without overflow; NaN if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(value / len(finite) for value in finite) if finite else math.nan
