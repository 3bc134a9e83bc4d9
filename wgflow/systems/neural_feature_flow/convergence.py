"""Hypotheses of Theorem 8 of Fang, Lee, Yang and Zhang (COLT 2021) along a run: convergence of beta_L and v_(L+1).

The theorem assumes that beta_L(Theta) converges in l_inf(p) and v_(L+1) in l_1(p) as s goes to infinity, and concludes
that the loss tends to its infimum. If they converge, their changes over doubling windows [S/2, S] tend to 0. A run is
finite and decides nothing of a limit: tanh(s - 20) changes by more in every window up to s = 24, and converges. So both
hypotheses are not checked, with what was observed. Suprema over m units bound the supremum over p from below. Derived.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Array
from wgflow.systems.neural_feature_flow.assumptions import FANG
from wgflow.theory.assumption import Assumption, Condition, listed, verdict_of

_MOST = 8  # windows
_ROUNDING = 64 * float(np.finfo(float).eps)  # of the largest entry: changes up to it count as 0


class Window(NamedTuple):
    """Largest distances within a window of flow time from the state at its end.

    Attributes
    ----------
    low, high : float
        Flow times of its first and last frame.
    beta, beta_mean : float
        Of beta_L: the largest over units and points, and the mean over units of the largest over points.
    outer, outer_largest : float
        Of v_(L+1): the mean over units, which is the l_1(p) distance, and the largest.
    """

    low: float
    high: float
    beta: float
    beta_mean: float
    outer: float
    outer_largest: float


def windows(s: Array, beta: Sequence[Array] | Array, outer: Sequence[Array] | Array) -> list[Window]:
    """Changes over the windows [S/2, S], [S/4, S/2], ... of a run, earliest first.

    Parameters
    ----------
    s : ndarray (F,)
        Flow times of the frames, increasing.
    beta, outer : (F, m, N), (F, m)
        beta_L and v_(L+1) there; the same units at all times.

    Raises
    ------
    InputError
        If the numbers of frames differ.
    """
    if not len(s) == len(beta) == len(outer):
        raise InputError(f"s: expected as many times as states, got {len(s)}, {len(beta)} and {len(outer)}")
    out: list[Window] = []
    end = len(s) - 1
    while end > 0 and s[end] > 0 and len(out) < _MOST:
        start = int(np.searchsorted(s, s[end] / 2 * (1 - 1e-12)))
        if start >= end:
            break
        with np.errstate(invalid="ignore"):  # a run may end in infinities
            farthest = [_change(beta[t], beta[end]).max(axis=1) for t in range(start, end)]
            moved = [_change(outer[t], outer[end]) for t in range(start, end)]
        out.append(
            Window(
                float(s[start]),
                float(s[end]),
                *(max(float(norm(each)) for each in farthest) for norm in (np.max, np.mean)),
                *(max(float(norm(each)) for each in moved) for norm in (np.mean, np.max)),
            )
        )
        end = start
    return out[::-1]


def _change(then: Array, end: Array) -> Array:
    """|then - end| entry by entry, 0 where it is no more than rounding."""
    change = np.abs(then - end)
    return np.where(np.isfinite(change) & (change <= _ROUNDING * np.abs(end).max()), 0.0, change)


def convergence(found: Sequence[Window], convex: Condition) -> Assumption:
    """Hypotheses of Theorem 8, with ``convex`` that of its loss; of the limits a run proves and refutes nothing."""
    conditions = (
        convex,
        _observed("beta_L converges in l_inf(p)", "sup over units and points of the change of beta_L", found, "beta"),
        _observed("v_(L+1) converges in l_1(p)", "mean over units of the change of v_(L+1)", found, "outer"),
    )
    number = found[-1].beta if found else math.nan
    name, source = "Theorem 8: convergence of the flow", f"{FANG}, Theorem 8"
    return Assumption(name, verdict_of(conditions), number, listed(conditions), source, conditions)


def _observed(name: str, what: str, found: Sequence[Window], key: str) -> Condition:
    if len(found) < 2:
        return Condition(name, "not checked", "fewer than two doubling windows were recorded")
    before, last = found[-2:]
    earlier, change = getattr(before, key), getattr(last, key)
    if not math.isfinite(change):
        said = f"{what} is not finite from s = {last.low:g} to {last.high:g}: the steps diverged"
        return Condition(name, "not checked", said)
    numbers = (
        f"{earlier:.3g} over s = {before.low:g} to {before.high:g}, {change:.3g} over {last.low:g} to {last.high:g}"
    )
    falls = change < earlier or change == 0
    said = "falls, which does not prove a limit" if falls else "does not fall, as far as the run goes"
    return Condition(name, "not checked", f"{what} {said}: {numbers}")
