"""Hypothesis of Ding, Chen, Li and Wright (arXiv:2110.02926) on data and the measuring function g.

E = mean of (g(X(1)) - y)**2/2 with g from R^D to R, g and grad g Lipschitz and inf |grad g| > 0: then p(1) =
(g - y) grad g vanishes only where the loss does.
"""

from __future__ import annotations

import numpy as np

from wgflow.base import rng
from wgflow.base.scaling import norms
from wgflow.model.losses import LOSSES
from wgflow.model.measuring import Hyperbolic, Linear
from wgflow.model.problem import Problem
from wgflow.theory.assumption import DING, Assumption, Condition, Finding, listed, verdict_of

_STATES, _RADII = 64, (1.0, 1e2, 1e4)
_ULPS = 8  # of |W1|, within which rounding may have made it larger or smaller than the strength


def measuring_function(problem: Problem, seed: int = 0) -> Assumption:
    """Check the hypothesis on data and g.

    Returns
    -------
    Assumption
        ``number`` is inf |grad g| over all states in closed form; NaN for several outputs, which the paper has not.
        Numbers listed with it are of |grad g| at random states of size 1 to 10**4, towards -W1 too.
    """
    outputs, g, kind = problem.shape[2], problem.measuring, type(problem.loss)
    size_x, size_y = (float(norms(values).max()) for values in (problem.x, problem.y))
    samples = f"{len(problem.x)} samples, |x| <= {size_x:.3g}, |y| <= {size_y:.3g}"
    conditions = [
        Condition("mu has compact support and y is bounded", "proved", samples),
        Condition(
            "squared loss",
            "proved"
            if kind is type(LOSSES["squared"])
            else "refuted"
            if kind in map(type, LOSSES.values())
            else "not checked",
            f"the loss is {problem.loss.name}" + ("" if kind in map(type, LOSSES.values()) else ", of your own"),
        ),
        Condition("one output", "proved" if outputs == 1 else "refuted", f"K = {outputs}"),
    ]
    if type(g) is Linear:
        conditions.append(Condition("g and grad g Lipschitz", "proved", "g(z) = W1 z"))
    elif type(g) is Hyperbolic:
        size = float(np.linalg.norm(problem.readout, 2)) + g.strength * np.sqrt(outputs)
        reason = f"constants {size:.3g} and {g.strength * np.sqrt(outputs):.3g}"
        conditions.append(Condition("g and grad g Lipschitz", "proved", reason))
    number, name = np.nan, "inf |grad g| > 0"
    if outputs == 1 and type(g) is Linear:
        number = g.least_slope(problem.readout)
        conditions.append(Condition(name, "proved" if number > 0 else "refuted", f"|grad g| = |W1| = {number:.3g}"))
    elif outputs == 1 and type(g) is Hyperbolic:
        number, found = g.least_slope(problem.readout), _slopes(problem, seed)
        reason = f"inf |grad g| = {number:.3g}; {found.min():.3g} to {found.max():.3g} at {len(found)} states"
        size = float(norms(problem.readout)[0])
        finding: Finding = "proved" if size > g.strength else "refuted"
        if (
            problem.shape[1] > 1 and abs(size - g.strength) <= _ULPS * np.finfo(float).eps * size
        ):  # not |W1| of a number
            finding, reason = "not checked", f"|W1| = {size:.17g} is the strength {g.strength:.17g} up to rounding"
        conditions.append(Condition(name, finding, reason))
    else:
        conditions.append(Condition(name, "not checked", f"of {outputs} outputs"))
    verdict = verdict_of(conditions)
    sentence = f"g is {g.name}. {listed(conditions)}"
    return Assumption("data and g", verdict, float(number), sentence, f"{DING}, data", tuple(conditions))


def _slopes(problem: Problem, seed: int) -> np.ndarray:
    """|grad g| at random states of several sizes, and along -W1, where a gradient with a radial part is least."""
    drawn = rng.normal(seed, "states of grad g", (_STATES, problem.shape[1]))
    drawn = np.concatenate([drawn, -problem.readout])
    drawn /= np.maximum(norms(drawn), 1e-300)[:, None]
    states = np.concatenate([radius * drawn for radius in _RADII])
    return np.asarray(norms(problem.measuring.pull_back(states, problem.readout, np.ones((len(states), 1)))))
