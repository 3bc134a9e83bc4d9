"""How a series changed along s, from its first finite value to its last, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wgflow.base.types import Array
from wgflow.base.verdict import Claim, Verdict, first_that_holds
from wgflow.report.wording import listed, number, span

_LAST_PART = 0.25  # of flow time, over which oscillations are looked for
_SWING = 0.2  # of its change or its level: smaller swings are no oscillation
_NEGLIGIBLE = 0.01  # of the first value: smaller swings are no oscillation, however small the last value
_PEAK = 0.1  # fraction by which a maximum exceeds both ends if it is reported

FALLS, RISES, STAYS, OSCILLATES, DIVERGES, UNKNOWN = "falls", "rises", "stays", "oscillates", "diverges", "unknown"

CUT_OFF = Claim(
    "course_diverges", "runs that diverge", ">", "",
    holds="{subject} diverges{rest}", fails="{subject} stays finite", unknown="{subject} is unknown",
)  # fmt: skip
SWINGS = Claim(
    "course_oscillates", "up and down over the last quarter of s", ">", "what passes for noise",
    holds="{subject} oscillates{rest}", fails="{subject} does not oscillate", unknown="{subject} is unknown",
)  # fmt: skip
GOES_DOWN = Claim(
    "course_falls", "{subject} at the end", "<", "at the start",
    holds="{subject} falls{rest}", fails="{subject} does not fall", unknown="{subject} is unknown",
)  # fmt: skip
GOES_UP = Claim(
    "course_rises", "{subject} at the end", ">", "at the start",
    holds="{subject} rises{rest}", fails="{subject} stays{rest}", unknown="{subject}{rest}",
)  # fmt: skip
_KINDS = {CUT_OFF.name: DIVERGES, SWINGS.name: OSCILLATES, GOES_DOWN.name: FALLS, GOES_UP.name: RISES}


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
    swing, noise : float
        Smaller of its largest rise and largest fall over the last quarter of s, and the least that counts.
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
    swing: float = math.nan
    noise: float = math.nan

    def __str__(self) -> str:
        """Predicate: "falls from 0.52 to 0.01"."""
        return self.predicate()

    def predicate(self, where: str = "") -> str:
        """Predicate, with the runs it holds for after the verb: "oscillates in 1 of 2 runs (...)"."""
        return _predicate([self], self.rest(where))

    def rest(self, where: str = "") -> str:
        """What follows the verb."""
        if not math.isfinite(self.first):
            return f" {'has' if self.kind == UNKNOWN else 'with'} no finite value{where}"
        if self.kind in (DIVERGES, OSCILLATES):
            start, low, high = (number(value, self.form) for value in (self.first, self.low, self.high))
            late = f"last {number(self.last, self.form)}" if self.kind == DIVERGES else ""
            late = late or f"between {low} and {high} over the last quarter"
            return f"{self.numbers * (self.kind == DIVERGES)}{where} (from {start}, {late})"
        peak = f" (with a peak of {number(self.peak, self.form)} at s = {self.peak_s:g})"
        return f"{self.numbers}{where}" + (peak if math.isfinite(self.peak) else "")

    @property
    def brief(self) -> str:
        """Short form for a title."""
        if not math.isfinite(self.first):
            return "has no finite value"
        return _predicate([self], self.numbers)

    @property
    def numbers(self) -> str:
        """What follows the verb in a title."""
        first, last = number(self.first, self.form), number(self.last, self.form)
        return {
            DIVERGES: f" after s = {span(self.ends, 'g')}",
            OSCILLATES: f": {span((self.low, self.high), self.form)}",
            STAYS: f" at {first}",
            UNKNOWN: f" is {first} at s = {self.ends[0]:g}, the only frame",
        }.get(self.kind, f" from {first} to {last}")


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
    kind = DIVERGES if diverged or not finite[-1] else UNKNOWN
    s, values = np.asarray(s, float)[finite], np.asarray(values, float)[finite]
    first, last, end = float(values[0]), float(values[-1]), float(s[-1])
    late = values[s >= end - _LAST_PART * (end - s[0])]
    top, scale = int(np.argmax(values)), max(abs(first), abs(last))
    peaked = values[top] - max(first, last) > _PEAK * scale
    peak, peak_s = (float(values[top]), float(s[top])) if peaked else (math.nan, math.nan)
    swing, noise = _swing(late, first, last)
    found = Change(
        kind, first, last, float(late.min()), float(late.max()), peak, peak_s, (end, end), form, swing, noise
    )
    if kind == DIVERGES or len(values) == 1:
        return found
    decided = _verdict([found._replace(kind="")], "", "")
    return found._replace(kind=_KINDS[decided.inequalities[-1].claim] if decided.holds else STAYS)


def _swing(late: Array, first: float, last: float) -> tuple[float, float]:
    """How far a series goes up and down over its last part, and what is small compared with its change or its level."""
    with np.errstate(over="ignore"):
        rise = float((late - np.minimum.accumulate(late)).max())
        fall = float((np.maximum.accumulate(late) - late).max())
        by_change = _SWING * max(abs(first - last), abs(last))
        by_end = max(abs(last), _NEGLIGIBLE * abs(first))
    return min(rise, fall), min(by_change, by_end)


def _verdict(same: Sequence[Change], subject: str, rest: str) -> Verdict:
    """What series of one kind do, decided by that of them which is nearest to doing something else."""
    lost = sum(change.kind == DIVERGES for change in same)
    known = [change for change in same if change.kind != UNKNOWN]
    last, first = ([_printed(getattr(change, end), change.form) for change in known] for end in ("last", "first"))
    said = {"subject": subject, "rest": rest}
    return first_that_holds(
        [
            CUT_OFF(lost, 0.0, **said),
            SWINGS.of_all([change.swing for change in known], [change.noise for change in known], **said),
            GOES_DOWN.of_all(last, first, **said),
            GOES_UP.of_all(last, first, **said),
        ]
    )


def _predicate(same: Sequence[Change], rest: str) -> str:
    return _verdict(same, "", rest).sentence.strip()


def _printed(value: float, form: str) -> float:
    """Number rounded as it is printed, so that two that print alike compare as equal."""
    return float(number(value, form)) if math.isfinite(value) else math.nan


def courses(subject: str, changes: Sequence[Change]) -> list[Verdict]:
    """Sentences on several series, one for each kind of change, with the inequalities that decided its verb.

    Parameters
    ----------
    subject : str
        Subject of the sentences: "the loss".
    changes : sequence of Change
        Of the runs.
    """
    kinds = _by_kind(changes)
    where = "" if len(kinds) == 1 else f" in {{}} of {len(changes)} runs"
    return [_verdict(same, subject, _mean(same).rest(where.format(len(same)))) for same in kinds.values()]


def shift(subject: str, first: float, last: float, form: str = ".2g") -> Verdict:
    """Whether a number that is measured twice falls, rises or stays, as it is printed."""
    before, after = number(first, form), number(last, form)
    ends = (_printed(last, form), _printed(first, form))
    rest = f" goes from {before} to {after}" if math.isnan(sum(ends)) else f" from {before} to {after}"
    said = {"subject": subject, "rest": f" at {before}" if ends[0] == ends[1] else rest}
    return first_that_holds([claim(ends[0], ends[1], **said) for claim in (GOES_DOWN, GOES_UP)])


def joint_change(changes: Sequence[Change]) -> str:
    """Predicate for several series: one if all are of the same kind, otherwise kind by kind with counts.

    Numbers are means over the series of a kind.
    """
    kinds = _by_kind(changes)
    if len(kinds) == 1:
        return _predicate(changes, _mean(changes).rest())
    first, *others = kinds.values()
    parts = [_predicate(first, _mean(first).rest(f" in {len(first)} of {len(changes)} runs"))]
    return listed(parts + [_predicate(same, _mean(same).rest(f" in {len(same)}")) for same in others])


def joint_change_brief(changes: Sequence[Change]) -> str:
    """Short form of :func:`joint_change` for a title."""
    kinds = _by_kind(changes)
    if len(kinds) == 1:
        mean = _mean(changes)
        return mean.brief if len(changes) == 1 or not math.isfinite(mean.first) else _predicate(changes, mean.numbers)
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
        min(change.swing for change in changes), max(change.noise for change in changes),
    )  # fmt: skip


def _average(values: Sequence[float]) -> float:
    """Mean of the finite values without overflow; NaN if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(value / len(finite) for value in finite) if finite else math.nan
