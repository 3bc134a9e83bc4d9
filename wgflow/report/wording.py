"""Numbers in words: estimates with intervals, ranges, percentages, changes; and how sentences are typeset.

The rule for all that is read rather than parsed (findings, captions, titles, legends, verdicts, tables on a page and in
a terminal): the signs of mathematics, not their stand-ins in ASCII. A minus is "−" and not a hyphen, comparisons are
"≤", "≥" and "≠", a product of numbers has "×", letters are Greek, powers of ten are raised ("3.8×10⁻⁶"), ranges say
"to". Code writes whatever is convenient; :func:`typeset` is the one place where it becomes type, and
:mod:`wgflow.report.figure` and :mod:`wgflow.report.style` call it for every figure. Files that programs read (CSV,
numbers in JSON), commands, study keys with their values, and error messages stay as they are, to be parsed, copied and
searched for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

from wgflow.study.labels import word

_LONG = 1e5  # from here on numbers with fixed digits are written in scientific notation
_TIMES = 10.0  # from here on ratios are written as multiples, not in per cent

_SIGNS = {"<=": "≤", ">=": "≥", "!=": "≠", "->": "→", "+-": "±", "**": "^", " - ": " − "}
_SIGN = re.compile("|".join(map(re.escape, _SIGNS)))
# Formulas of Matplotlib, code, keys of a study with their values, labels such as count=16 stay as they are.
_QUOTED = re.compile(r"(\$[^$]*\$|`[^`]*`|\w+(?:\.\w+)+ = \S+|[\w.]+=[^\s=]\S*)")
_MINUS = re.compile(r"(?<![\w)\]}./])-(?=[\d.∞√(])")
_PRODUCT = re.compile(r"(?<=\d) x (?=\d)")
_SCIENTIFIC = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)e([+-]?)0*(\d+)(?!\w)")
_NO_SIGN = re.compile(r"−(?=0(?:\.0+)?(?![\d.×]))")  # of what is 0 to the digits printed
_INFINITY = re.compile(r"(?<![A-Za-z])inf(?![A-Za-z_])(?!\.\w)")
_LETTERS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "eta": "η", "theta": "θ", "lambda": "λ",
    "nu": "ν", "rho": "ρ", "sigma": "σ", "tau": "τ", "phi": "φ", "psi": "ψ",
}  # fmt: skip
_LETTER = re.compile(rf"(?<![\w.=/])(?:{'|'.join(_LETTERS)})(?![A-Za-z0-9=/-]|\.\w|_(?!min|max|inf|[A-Z0-9(]))")
_NUMBER = re.compile(r"(\w+\^)?-?\d+(\.\d+)?(e[+-]?\d+)?")
_WRITTEN_OUT = 4  # powers of ten up to which numbers are: 660 and 0.022
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def typeset(text: str) -> str:
    """Text with the signs of mathematics for their stand-ins in ASCII, except in formulas, code and study keys."""
    parts = _QUOTED.split(text)
    return "".join(part if place % 2 else _typeset(part) for place, part in enumerate(parts))


def _typeset(text: str) -> str:
    text = _SIGN.sub(lambda found: _SIGNS[found[0]], text)
    text = _SCIENTIFIC.sub(_power_of_ten, text)
    text = _PRODUCT.sub(" × ", _MINUS.sub("−", text))
    return _INFINITY.sub("∞", _LETTER.sub(lambda found: _LETTERS[found[0]], _NO_SIGN.sub("", text)))


def _power_of_ten(found: re.Match[str]) -> str:
    if abs(int(found[3])) <= _WRITTEN_OUT:
        return f"{Decimal(found[0]):f}"
    power = "10" + f"{found[2].strip('+')}{found[3]}".translate(_RAISED)
    return power if found[1] == "1" else f"{found[1]}×{power}"


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
    """Typeset entry of a table, numbers to so many digits; empty for None and what is not finite.

    Of texts those with spaces are sentences, some are numbers or powers, and the others labels and values of a study.
    """
    if isinstance(value, float):
        return typeset(f"{value:.{digits}g}") if math.isfinite(value) else ""
    if isinstance(value, str) and (" " in value or _NUMBER.fullmatch(value)):
        return typeset(value)
    return "" if value is None else word(value)
