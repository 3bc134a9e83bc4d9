"""One assumption of a theorem, as checked on a problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["pass", "fail", "unknown"]

LU = "Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508), landscape theorem"
DING = "Ding, Chen, Li and Wright (arXiv:2110.02926)"


@dataclass(frozen=True)
class Assumption:
    """What a theorem assumes, and whether it holds here.

    Attributes
    ----------
    name : str
        Short name, unique within a panel.
    verdict : {"pass", "fail", "unknown"}
        ``unknown`` where a finite computation can neither confirm nor refute it.
    number : float
        The number behind the verdict; what it is stands in the sentence.
    sentence : str
        What was done and found.
    source : str
        The theorem that assumes it.
    """

    name: str
    verdict: Verdict
    number: float
    sentence: str
    source: str
