"""Assumption of a theorem, as checked on a problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["pass", "fail", "unknown"]

LU = "Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508), landscape theorem"
DING = "Ding, Chen, Li and Wright (arXiv:2110.02926)"


@dataclass(frozen=True)
class Assumption:
    """Assumption of a theorem, and whether it holds.

    Attributes
    ----------
    name : str
        Short name, unique.
    verdict : {"pass", "fail", "unknown"}
        ``unknown`` where a finite computation can neither confirm nor refute it.
    number : float
        The number behind the verdict, explained in the sentence.
    sentence : str
        What was computed, and the result.
    source : str
        The theorem with this assumption.
    """

    name: str
    verdict: Verdict
    number: float
    sentence: str
    source: str
