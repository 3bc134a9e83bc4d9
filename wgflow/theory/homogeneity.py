"""Homogeneity of (block, activation) in theta, declared and observed.

Global convergence is proved for f(x, c theta) = c**2 f(x, theta) (Ding, Chen, Li and Wright, arXiv:2110.02926, Theorem
6.1) or for f = theta_[1] fhat(x, theta_[2]), partially 1-homogeneous (Theorem 6.2), with bounds and smoothness that
:mod:`wgflow.theory.block_conditions` checks.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from wgflow.base import rng
from wgflow.base.types import Array
from wgflow.model.blocks import BLOCKS, GaussianMatrix, Matrix, SaturatedMatrix
from wgflow.model.problem import Problem
from wgflow.theory.assumption import DING, Assumption, Condition, Finding, Verdict, listed, verdict_of
from wgflow.theory.block_conditions import CONTRADICTS, homogeneous_conditions, partially_homogeneous_conditions

_FACTORS = (0.5, 2.0, 3.0)
_DEGREES = (1, 2, 3)  # tried where none is declared
_TOLERANCE = 1e-10
_TRIES, _SAMPLES, _STATES = 8, 64, 8


def defect(problem: Problem, degree: int, seed: int = 0) -> float:
    """Largest |f(x, c theta) - c**k f(x, theta)| over c in {1/2, 2, 3}, relative to c**k max |f|, k the degree.

    Over up to 64 samples at X(0), 8 random states and 8 draws of theta of order one, with this seed.
    """
    return _defect(problem, slice(None), _FACTORS, degree, seed)


def linear_groups(problem: Problem, seed: int = 0) -> tuple[str, ...]:
    """Parameter groups in which f is linear, such as a of the ridge block and V of the two-layer one.

    By their formulas for the built-in blocks; for one of the user's as observed.
    """
    block, names = problem.block, tuple(problem.groups)
    if _builtin(problem):
        plain = problem.activation.name == "linear" and not block.bias  # type: ignore[attr-defined]
        if isinstance(block, SaturatedMatrix):
            return names[:1]
        if isinstance(block, Matrix) or (isinstance(block, GaussianMatrix) and not block.signed):
            return names if plain else ()
        return () if isinstance(block, GaussianMatrix) else names[: 2 if plain else 1]
    factors = (-1.0, *_FACTORS)
    return tuple(
        name for name, columns in problem.groups.items() if _defect(problem, columns, factors, 1, seed) <= _TOLERANCE
    )


def _builtin(problem: Problem) -> bool:
    return type(problem.block) in BLOCKS.values() and problem.activation.builtin


def leading_group(problem: Problem, seed: int = 0) -> str | None:
    """The group that is theta_[1] of f = theta_[1] fhat(x, theta_[2]): the first of a single number, else the first.

    A bias-free linear ridge unit is linear in a and in w, and theta_[1] is one of them. None if there is no such group.
    """
    groups = linear_groups(problem, seed)
    numbers = [name for name in groups if problem.groups[name].stop - problem.groups[name].start == 1]
    return next(iter([*numbers, *groups]), None)


def homogeneity(problem: Problem, seed: int = 0) -> Assumption:
    """Check what Theorems 6.1 and 6.2 ask of the block, homogeneity, growth and smoothness, condition by condition.

    Returns
    -------
    Assumption
        ``number`` is the relative defect of the degree, or of the group in which f is linear. ``pass`` if all deciding
        conditions of one theorem are proved, ``fail`` if each theorem has one that is refuted, else ``unknown``. Of a
        block or activation of the user's nothing is proved by numbers, and no bound is refuted by them: it fails only
        by an equation that it declares and breaks.
    """
    result = partial(Assumption, "homogeneity", source=f"{DING}, Theorems 6.1 and 6.2")
    block = problem.block
    name = f"{block.name} with {problem.activation.name}"
    declared = block.degree(problem.activation)
    builtin = _builtin(problem)
    group = leading_group(problem, seed)
    candidates = _DEGREES if declared is None else (declared,)
    defects = {degree: defect(problem, degree, seed) for degree in candidates}
    degree = min(defects, key=lambda each: (defects[each] > _TOLERANCE, each != 2, defects[each]))
    observed = defects[degree] <= _TOLERANCE and (declared is not None or not builtin)
    if declared is not None and not observed:
        contradicted = defects[degree] > CONTRADICTS
        only = Condition(
            f"{name} is {declared}-homogeneous in theta, as it says",
            "refuted" if contradicted else "not checked",
            _beyond(defects[degree]) + ("" if contradicted else ", which may be rounding"),
        )
        return result(verdict_of([only]), defects[degree], listed([only]), conditions=(only,))
    proved: Finding = "proved" if builtin else "not checked"
    theorems: dict[str, tuple[float, tuple[Condition, ...]]] = {}
    if observed and degree == 2:
        even = _defect(problem, slice(None), (-1.0,), 2, seed)
        one = Condition("f(x, c theta) = c**2 f(x, theta) for c > 0", proved, _within(defects[2]))
        theorems["6.1"] = defects[2], homogeneous_conditions(problem, one, even, seed)
    if group is not None:
        linear = _defect(problem, problem.groups[group], (-1.0, *_FACTORS), 1, seed)
        one = Condition(f"f linear in {group}", proved, _within(linear))
        theorems["6.2"] = linear, partially_homogeneous_conditions(problem, group, one, seed)
    overall = f"{degree}-homogeneous in theta" if observed else "not homogeneous in theta"
    if not theorems:
        # Of a block of the user's another split of theta may be linear, or a defect may be its own rounding.
        only = Condition(
            f"{name} is homogeneous in theta or linear in a parameter group",
            "refuted" if builtin else "not checked",
            _beyond(defects[degree]) + ("" if builtin else "; of your own, other splits of theta were not tried"),
        )
        return result(verdict_of([only]), defects[degree], listed([only]), conditions=(only,))
    order: tuple[Verdict, ...] = ("pass", "unknown", "fail")
    verdict = min((verdict_of(conditions) for _, conditions in theorems.values()), key=order.index)
    parts = [f"Theorem {theorem}: {listed(conditions)}" for theorem, (_, conditions) in theorems.items()]
    conditions = tuple(
        replace(one, name=f"Theorem {theorem}: {one.name}") for theorem, (_, some) in theorems.items() for one in some
    )
    number = next(iter(theorems.values()))[0]
    return result(verdict, number, f"{name} is {overall}. {' '.join(parts)}", conditions=conditions)


def _beyond(defect: float) -> str:
    return f"defect {defect:.2g} > {_TOLERANCE:g}" if defect > _TOLERANCE else _within(defect)


def _within(defect: float) -> str:
    return f"defect {defect:.1g} <= {_TOLERANCE:g}"


def _defect(problem: Problem, columns: slice, factors: tuple[float, ...], degree: int, seed: int) -> float:
    """The larger of the defects at X(0), where f may vanish for all theta, and at random states of size one."""
    drawn = rng.normal(seed, "homogeneity, states", (_STATES, problem.shape[1]))
    return max(_defect_at(problem, x, columns, factors, degree, seed) for x in (problem.start()[:_SAMPLES], drawn))


def _defect_at(problem: Problem, x: Array, columns: slice, factors: tuple[float, ...], degree: int, seed: int) -> float:
    worst = 0.0
    for theta in rng.normal(seed, "homogeneity", (_TRIES, problem.shape[3])):
        value = problem.block.forward(x, theta, problem.activation)
        size = float(np.abs(value).max())
        for factor in factors:
            scaled = theta.copy()
            scaled[columns] *= factor
            difference = problem.block.forward(x, scaled, problem.activation) - factor**degree * value
            if size > 0:
                worst = max(worst, float(np.abs(difference).max()) / (abs(factor) ** degree * size))
    return worst
