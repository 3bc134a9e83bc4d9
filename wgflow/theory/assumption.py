"""Assumption of a theorem, as checked on a problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from wgflow.base.verdict import Verdict as DecidedClaim

Verdict: TypeAlias = Literal["pass", "fail", "unknown"]
Finding: TypeAlias = Literal["proved", "refuted", "not checked"]

LU = "Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508), landscape theorem"
DING = "Ding, Chen, Li and Wright (arXiv:2110.02926)"


@dataclass(frozen=True)
class Condition:
    """One condition of an assumption.

    Attributes
    ----------
    name : str
        The condition.
    finding : {"proved", "refuted", "not checked"}
        ``proved`` in closed form only, since no finite computation proves a bound for all parameters; ``refuted`` in
        closed form or by numbers that contradict it; else ``not checked``.
    reason : str
        Inequality that was checked, with its numbers, or the argument.
    decides : bool
        Whether the verdict depends on it. It does not on what is printed in the paper and no block of interest meets.
    """

    name: str
    finding: Finding
    reason: str
    decides: bool = True


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
    conditions : tuple of Condition
        Its conditions one by one, where it has several.
    verdicts : tuple of wgflow.base.verdict.Verdict
        Claims in the sentence that inequalities decided.
    """

    name: str
    verdict: Verdict
    number: float
    sentence: str
    source: str
    conditions: tuple[Condition, ...] = ()
    verdicts: tuple[DecidedClaim, ...] = ()


def verdict_of(conditions: Sequence[Condition]) -> Verdict:
    """Fail if a deciding condition is refuted, pass if all of them are proved, else unknown."""
    findings = {one.finding for one in conditions if one.decides}
    return "fail" if "refuted" in findings else "pass" if findings <= {"proved"} else "unknown"


def listed(conditions: Sequence[Condition]) -> str:
    """Conditions in one sentence, grouped by finding, each with its reason."""
    parts = []
    findings: tuple[Finding, ...] = ("proved", "refuted", "not checked")
    for finding in findings:
        some = [f"{one.name} ({one.reason})" for one in conditions if one.finding == finding]
        if some:
            parts.append(f"{finding}: {'; '.join(some)}")
    return ". ".join(part[0].upper() + part[1:] for part in parts) + "."
