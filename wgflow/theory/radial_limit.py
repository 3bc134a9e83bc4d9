"""C^1 limit of H_r(theta) = dE/drho(1, r theta, t0) on the sphere of inner parameters as r grows.

Ding, Chen, Li and Wright (arXiv:2110.02926), Theorem 6.2, assume that it exists. With units sigma(w . x + b) it does
not: for tanh, H_r steepens at every hyperplane w . x_m + b = 0, for growing units H_r itself grows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from wgflow.base import rng
from wgflow.base.errors import InputError, describe
from wgflow.base.scaling import norms
from wgflow.base.types import Array
from wgflow.base.user_objects import is_builtin
from wgflow.base.validate import real
from wgflow.base.verdict import Claim
from wgflow.energy import Energy
from wgflow.model.blocks import SaturatedMatrix
from wgflow.model.particles import Particles
from wgflow.model.regularisers import Quadratic
from wgflow.theory.assumption import DING, Assumption, Condition, listed, verdict_of
from wgflow.theory.homogeneity import leading_group
from wgflow.theory.regularity_classes import regularity_class

_RADII = (1e1, 1e2, 1e3, 1e4)
_GROWS = 0.25  # power of r from which a supremum counts as growing, over the last two decades
_PAIRS, _HALVINGS = 64, 12
_ROUNDING = 1e-12
_NAME = "H_r converges with its gradient"

GROWS = Claim(
    "h_r_grows", "growth of max |H_r| or max |grad H_r| from r = 100 to 10000", ">", "100^(1/4)",
    holds="it grows as far as r was followed, without a sign of a limit",
    fails="no such growth was found, which proves nothing",
    unknown="its size is unknown",
)  # fmt: skip


def radial_limit(energy: Energy, rho: Particles, t0: float = 0.5, seed: int = 0) -> Assumption:
    """Check whether H_r converges with its gradient, from r = 10 to 10**4.

    Parameters
    ----------
    energy, rho : Energy, Particles
        E and the measure. The theorem has the limit of the flow for it.
    t0 : float, optional
        Depth in [0, 1].
    seed : int, optional
        Seed of the directions, half of them moved towards where H_r changes fastest.

    Returns
    -------
    Assumption
        ``number`` is the largest difference of gradients between r = 10**4 and 10**3. ``fail`` if max |H_r| or
        max |grad H_r| grows at least like r**(1/4) from 100 to 10**4; ``unknown`` then for a block, an activation or a
        regulariser of the user's, which may be bounded farther out. ``pass`` only in closed form, for a block with
        saturated inner weights and an activation with a continuous slope, without a regulariser, which is part of
        dE/drho and may grow.
        A vector theta_[1] is taken as (1, ..., 1)/sqrt(n); the theorem has a number.
    """
    result = partial(Assumption, "C^1 limit of H_r", source=f"{DING}, Theorem 6.2, limit of H_r")
    if not 0 <= real("t0", t0) <= 1:
        raise InputError(f"t0: expected a depth in [0, 1], got {describe(t0)}")
    problem = energy.problem
    group = leading_group(problem, seed)
    inner = np.ones(problem.shape[3], bool)
    if group is not None:
        inner[problem.groups[group]] = False
    if group is not None and not inner.any():
        alone = Condition(_NAME, "not checked", f"theta_[1] = {group} is all of theta: H_r has no sphere to live on")
        return result("unknown", 0.0, listed([alone]), conditions=(alone,))
    if group is None:
        holds = "does not hold" if is_builtin(problem.block) else "is not known to hold of a block of your own"
        return result("unknown", 0.0, f"f = theta_[1] fhat(x, theta_[2]) {holds}: Theorem 6.2 is not checked.")

    def at(directions: Array, r: float) -> tuple[Array, Array]:
        """H_r (Q,) and its tangential gradient (Q, k - 1)."""
        theta = np.full((len(directions), len(inner)), 1 / np.sqrt((~inner).sum()))
        theta[:, inner] = r * directions
        value, slope, _ = energy.first_variation_gradient(rho, theta, np.full(len(theta), t0))
        slope = r * slope[:, inner]
        return value, slope - np.sum(slope * directions, axis=1, keepdims=True) * directions

    def value(r: float) -> Callable[[Array], Array]:
        return lambda directions: at(directions, r)[0]

    size, slope, change = [], [], []
    drawn = _unit(rng.normal(seed, "directions of H_r", (2 * _PAIRS, int(inner.sum()))))
    for r in _RADII:
        found, gradient = at(np.concatenate([drawn, _steep(value(r), drawn)]), r)
        size.append(float(np.abs(found).max()))
        slope.append(float(norms(gradient).max()))
        change.append(float(norms(gradient[: len(drawn)] - at(drawn, r / 10)[1]).max()))
    slopes = ", ".join(f"{one:.2g}" for one in slope)
    sentence = (
        f"At t0 = {t0:g}, max |grad H_r| over {3 * _PAIRS} directions is {slopes} for r = 10, 100, 1000, 10000, and "
        f"max |H_r| is {size[0]:.2g} to {size[-1]:.2g}; grad H_r changes by up to {change[-1]:.2g} in the last decade"
    )
    known = regularity_class(problem.activation)
    plain = energy.regulariser is None
    if plain and type(problem.block) is SaturatedMatrix and known is not None and known.smoothness > 0:
        limit = Condition(_NAME, "proved", "S(r v) converges to a multiple of v/|v| with its derivatives")
        return result("pass", change[-1], f"{sentence}. {listed([limit])}", conditions=(limit,))
    growth = GROWS(max(_growth(size), _growth(slope)), (_RADII[-1] / _RADII[1]) ** _GROWS)
    refuted = bool(growth.holds) and _keeps_growing(energy)
    limit = Condition(_NAME, "refuted" if refuted else "not checked", str(growth))
    verdict = verdict_of([limit])
    return result(verdict, change[-1], f"{sentence}. {listed([limit])}", conditions=(limit,), verdicts=(growth,))


def _keeps_growing(energy: Energy) -> bool:
    """Whether what grows up to r = 10**4 is known to grow on: a function may be bounded beyond the largest r tried.

    Not one of the user's, nor saturated weights, whose bound may be larger; but |theta|**2 beside them does.
    """
    problem, regulariser = energy.problem, energy.regulariser
    own = not (
        problem.activation.builtin
        and is_builtin(problem.block)
        and (regulariser is None or type(regulariser) is Quadratic)
    )
    squares = type(regulariser) is Quadratic and regulariser.strength > 0
    return not own and (squares or type(problem.block) is not SaturatedMatrix)


def _growth(suprema: list[float]) -> float:
    """Factor by which suprema grow from r = 100 to 10**4; 0 if the last is below rounding."""
    with np.errstate(divide="ignore"):
        return float(np.float64(suprema[-1]) / suprema[1]) if suprema[-1] > _ROUNDING else 0.0


def _steep(function: Callable[[Array], Array], drawn: Array) -> Array:
    """Directions between pairs of those drawn, halved towards where the function changes most."""
    low, high = drawn[::2].copy(), drawn[1::2].copy()
    first, last = function(low), function(high)
    for _ in range(_HALVINGS):
        middle = _unit(low + high)
        between = function(middle)
        left = np.abs(between - first) >= np.abs(last - between)
        low, high = np.where(left[:, None], low, middle), np.where(left[:, None], middle, high)
        first, last = np.where(left, first, between), np.where(left, between, last)
    return low


def _unit(points: Array) -> Array:
    return np.asarray(points / np.maximum(norms(points), 1e-300)[:, None])
