"""Verdicts: sentences that are decided by an inequality and printed together with it.

A :class:`Claim` is declared once, as a constant of its module: an inequality, and a sentence for each of its outcomes.
Called with the two numbers it returns a :class:`Verdict`, whose outcome is computed here and nowhere else. So no
sentence is printed without its numbers, and none is unconditional. A test collects :data:`CLAIMS` and demands of each
claim that other tests make it true and false through the code that states it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from wgflow.base.types import Spec

Relation: TypeAlias = Literal["<", "<=", ">", ">="]

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_SIGNS = {"<": "<", "<=": "≤", ">": ">", ">=": "≥"}
_OPPOSITE: dict[Relation, Relation] = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_REGISTERED: dict[str, Claim] = {}
CLAIMS = MappingProxyType(_REGISTERED)  # all claims of the modules that were imported, by name


@dataclass(frozen=True)
class Inequality:
    """Two numbers that were compared.

    Attributes
    ----------
    claim : str
        Name of the claim that it decides.
    what, left : str, float
        Left-hand side in words, and its value.
    relation : {"<", "<=", ">", ">="}
        What was asked of them.
    of, right : str, float
        Right-hand side in words, empty where the number speaks for itself, and its value.
    rounding : float
        Relative difference that counts as equality.
    """

    claim: str
    what: str
    left: float
    relation: Relation
    of: str
    right: float
    rounding: float = 0.0

    @property
    def holds(self) -> bool | None:
        """Whether it holds; None if a number is NaN."""
        if math.isnan(self.left) or math.isnan(self.right):
            return None
        if self.rounding and math.isclose(self.left, self.right, rel_tol=self.rounding):
            return "=" in self.relation
        return _COMPARE[self.relation](self.left, self.right)

    def __str__(self) -> str:
        """What was found, which is true: "largest step = 0.2 > 0.1", whichever relation was asked for."""
        holds = self.holds
        of = f"{self.of} = " if self.of else ""
        if holds is None:
            return f"{self.what} = {_text(self.left)}, to be {_SIGNS[self.relation]} {of}{_text(self.right)}"
        if self.rounding and math.isclose(self.left, self.right, rel_tol=self.rounding):
            left, right = _text(self.left), _text(self.right)  # more digits could show the opposite
        else:
            left, right = _told_apart(self.left, self.right)
        return f"{self.what} = {left} {_SIGNS[self.relation if holds else _OPPOSITE[self.relation]]} {of}{right}"


@dataclass(frozen=True)
class Verdict:
    """Outcome of a claim.

    Attributes
    ----------
    sentence : str
        What is said.
    inequalities : tuple of Inequality
        What decided it: one, or several of which the last one did.
    """

    sentence: str
    inequalities: tuple[Inequality, ...]

    @property
    def holds(self) -> bool | None:
        """Whether the claim holds; None if a number is NaN."""
        return self.inequalities[-1].holds

    @property
    def checked(self) -> str:
        """Inequalities in words, with numbers."""
        return ", ".join(map(str, self.inequalities))

    def __str__(self) -> str:
        """Sentence with the inequality in brackets."""
        return f"{self.sentence} ({self.checked})"

    def rows(self) -> list[Spec]:
        """Plain JSON, a row for each inequality; numbers that are not finite as text."""
        return [
            {"claim": each.claim, "sentence": self.sentence, "inequality": str(each)}
            | {"left": _plain(each.left), "relation": each.relation, "right": _plain(each.right), "holds": each.holds}
            for each in self.inequalities
        ]


@dataclass(frozen=True)
class Claim:
    """An inequality, and what is said for each of its outcomes.

    Sentences may contain fields such as ``{left:.2g}``, ``{right:.2g}``, or of further values given in the call.

    Attributes
    ----------
    name : str
        Unique name, under which tests make it true and false.
    what, relation, of : str
        The inequality, see :class:`Inequality`.
    holds, fails, unknown : str
        Sentences if it holds, if not, and if a number is NaN; all different.
    rounding : float
        Relative difference that counts as equality.
    """

    name: str
    what: str
    relation: Relation
    of: str
    holds: str
    fails: str
    unknown: str
    rounding: float = 0.0

    def __post_init__(self) -> None:
        """Register the claim.

        Raises
        ------
        ValueError
            If two outcomes have the same sentence, or another claim has the name.
        """
        if len({self.holds, self.fails, self.unknown}) < 3:
            raise ValueError(f"{self.name}: expected a sentence of its own for each outcome")
        if _REGISTERED.setdefault(self.name, self) != self:
            raise ValueError(f"{self.name}: expected a name of its own, another claim has it")

    def __call__(self, left: float, right: float, **values: object) -> Verdict:
        """Decide the claim for two numbers.

        Parameters
        ----------
        left, right : float
            Numbers to compare.
        **values
            Fields of the sentences, those of ``what`` and ``of`` included.
        """
        values |= {"left": float(left), "right": float(right)}
        what, of = self.what.format(**values), self.of.format(**values)
        one = Inequality(self.name, what, float(left), self.relation, of, float(right), self.rounding)
        sentence = self.unknown if one.holds is None else self.holds if one.holds else self.fails
        return Verdict(sentence.format(**values), (one,))

    def of_all(self, left: ArrayLike, right: ArrayLike, **values: object) -> Verdict:
        """Decide the claim for all pairs of numbers, by the pair nearest to a violation or farthest beyond.

        Pairs with NaN are left out; with no other pair the claim is undecided. So it is too if there is no pair.

        Parameters
        ----------
        left, right : array_like
            Numbers to compare pair by pair, of shapes that broadcast.
        **values
            Fields of the sentences.
        """
        first, second = (
            side.ravel() for side in np.broadcast_arrays(np.asarray(left, float), np.asarray(right, float))
        )
        known = np.flatnonzero(~np.isnan(first) & ~np.isnan(second))
        if not known.size:
            return self(math.nan, math.nan, **values)
        a, b = first[known], second[known]
        with np.errstate(all="ignore"):
            margin = np.where(a == b, 0.0, (b - a) / np.maximum(np.abs(a), np.abs(b)))
            margin = np.where(np.isnan(margin), np.sign(b - a) * 2.0, margin)  # of an infinite number, the extremes
        worst = np.argmin(margin if self.relation in ("<", "<=") else -margin)
        return self(float(a[worst]), float(b[worst]), **values)


def first_that_holds(verdicts: Sequence[Verdict]) -> Verdict:
    """First verdict whose claim holds, otherwise the last one, with all inequalities that were checked up to it."""
    for number, verdict in enumerate(verdicts, 1):
        if verdict.holds or number == len(verdicts):
            checked = tuple(one for earlier in verdicts[:number] for one in earlier.inequalities)
            return Verdict(verdict.sentence, checked)
    raise ValueError("verdicts: expected at least one, got none")


def _text(number: float, digits: int = 3) -> str:
    return "unknown" if math.isnan(number) else f"{number:.{digits}g}".replace("inf", "∞")


def _told_apart(left: float, right: float) -> tuple[str, str]:
    """Both numbers with as many digits as it takes to see which is larger."""
    for digits in range(3, 18):
        texts = _text(left, digits), _text(right, digits)
        if texts[0] != texts[1] or left == right:
            break
    return texts


def _plain(number: float) -> float | str:
    return number if math.isfinite(number) else _text(number)
