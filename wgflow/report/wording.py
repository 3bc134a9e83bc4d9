"""Numbers in words: estimates with intervals, ranges, percentages, changes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from wgflow.study.labels import word

_LONG = 1e5  # from here on numbers with fixed digits are written in scientific notation
_TIMES = 10.0  # from here on ratios are written as multiples, not in per cent


def between(first: float, last: float, form: str = ".2g") -> str:
    """Change of a number: "falls from 0.52 to 0.01", "rises from ...", "stays at ..."."""
    if not (math.isfinite(first) and math.isfinite(last)):
        return f"goes from {number(first, form)} to {number(last, form)}"
    before, after = number(first, form), number(last, form)
    if before == after:
        return f"stays at {before}"
    return f"{'falls' if last < first else 'rises'} from {before} to {after}"


def relative(ratio: float) -> str:
    """Relative change, from the ratio of new to old: "rises by 3%", "falls by 12%", "does not change"."""
    if not math.isfinite(ratio):
        return "is not finite"
    text = share(abs(ratio - 1.0))
    return "does not change" if text == "0%" else f"{'rises' if ratio > 1 else 'falls'} by {text}"


def share(value: float, digits: int = 0) -> str:
    """Ratio in per cent: "12%"; large ones as a multiple: "35 times"."""
    if not math.isfinite(value):
        return number(value)
    return f"{value:.{digits}%}" if abs(value) < _TIMES else f"{value:.2g} times"


def number(value: float, form: str = ".2g") -> str:
    """Formatted number if finite (in scientific notation if long), "unknown" if NaN, otherwise "not finite"."""
    if math.isfinite(value):
        return f"{value:.3g}" if form.endswith("f") and abs(value) >= _LONG else f"{value:{form}}"
    return "unknown" if math.isnan(value) else "not finite"


def span(values: Iterable[float], form: str = ".2g") -> str:
    """Range of numbers, the smaller absolute value first: "0.1 to 0.3", or one number if both print alike."""
    finite = [float(value) for value in values if math.isfinite(value)]
    if not finite:
        return "unknown"
    low, high = (number(end, form) for end in sorted((min(finite), max(finite)), key=abs))
    return low if low == high else f"{low} to {high}"


def interval(value: float, low: float, high: float, form: str = ".2f") -> str:
    """Estimate with its interval, if it has one: "0.49 (0.48 to 0.50)"."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return number(value, form)
    return f"{number(value, form)} ({number(low, form)} to {number(high, form)})"


def trend(low: float, high: float) -> str:
    """Verb for C x**(-r) from the interval of r: "falls", "grows", or "" if it contains 0 or is unknown."""
    return "falls" if low > 0 else "grows" if high < 0 else ""


def listed(parts: Sequence[str], last: str = "and") -> str:
    """Enumeration: "a, b and c"."""
    return f" {last} ".join(filter(None, [", ".join(parts[:-1]), parts[-1]])) if parts else ""


def counted(count: int, total: int) -> str:
    """Count out of a total: "all 6", "none of 6", "2 of 6"."""
    return f"all {total}" if count == total else f"none of {total}" if count == 0 else f"{count} of {total}"


def cell(value: object, digits: int) -> str:
    """Entry of a table, numbers to so many digits; empty for None and what is not finite."""
    if isinstance(value, float):
        return f"{value:.{digits}g}" if math.isfinite(value) else ""
    return "" if value is None else word(value)
