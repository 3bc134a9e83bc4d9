"""What Theorems 6.1 and 6.2 of Ding, Chen, Li and Wright (arXiv:2110.02926) ask of a block, condition by condition.

Theorem 6.2 writes f = theta_[1] fhat(x, theta_[2]) with a number theta_[1], and wants fhat bounded and Lipschitz with a
Lipschitz differential on B_r x R^(k-1) for every r (assumption 6.2.2). Theorem 6.1 wants f(x, c theta) = c**2 f(x,
theta). Assumption 4.1 adds |f| <= C (|theta|**2 + 1)(|x| + 1), |d_theta f| <= C (|theta| + 1) for |x| <= r, and two
derivatives. Of a block or activation of the user's nothing is proved, and refuted by an equation that fails alone.

Two parts of the print are listed without deciding. Theorem 6.1 prints c in R; the paper's own examples have c > 0. And
no block satisfies C^2, 2-homogeneity and the universal kernel: second derivatives of a 2-homogeneous f are constant on
rays, so continuous at 0 only if f is a quadratic form in theta, and those span at most k (k + 1)/2 functions
(derived). What is asked of the derivative here is that it is Lipschitz, as the bounded second derivatives of
assumption 4.1 imply.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wgflow.base import rng
from wgflow.base.scaling import norms
from wgflow.base.types import Array
from wgflow.model.blocks import BLOCKS, GaussianMatrix, Ridge, SaturatedMatrix, ScaledMatrix, TwoLayer
from wgflow.model.problem import Problem
from wgflow.theory.assumption import Condition, Finding
from wgflow.theory.derivative_growth import derivative_growth
from wgflow.theory.regularity_classes import jump, regularity_class

_GROWS = 0.25  # power of the radius from which a supremum counts as growing, over two decades
_NEAR, _FAR = 1e2, 1e4  # radii at which suprema are compared
_PAIRS, _HALVINGS, _SAMPLES = 24, 24, 64
CONTRADICTS = 1e-3  # relative defect from which an equation is refuted, whatever the precision of a block of the user's


def partially_homogeneous_conditions(
    problem: Problem, group: str, homogeneity: Condition, seed: int = 0
) -> tuple[Condition, ...]:
    """Conditions of Theorem 6.2, with theta_[1] a group in which f is linear, as condition ``homogeneity`` says."""
    block, known = problem.block, regularity_class(problem.activation)
    columns = problem.groups[group]
    size = columns.stop - columns.start
    saturated, own = type(block) is SaturatedMatrix and known is not None, _own(problem)
    one_dimensional: Finding = "proved" if size == 1 else "not checked" if own else "refuted"  # an own f may use one
    number = Condition("theta_[1] is a number", one_dimensional, f"the dimension of {group} is {size}")
    within = f"|(S(W), S(b))| < {block.bound:g}" if isinstance(block, SaturatedMatrix) else ""
    value, slope, change = _suprema(problem, columns, seed)
    if saturated:
        bounded = Condition("fhat bounded", "proved", within)
        lipschitz = Condition("fhat Lipschitz", "proved", within)
    else:
        bounded = _growth("fhat bounded", "|fhat|", value, own)
        lipschitz = _growth("fhat Lipschitz", "|d_x fhat|", slope, own)
        if type(block) in (Ridge, ScaledMatrix) and known is not None and known.bounded:
            bounded = Condition("fhat bounded", "proved", f"{known.low:g} <= sigma <= {known.high:g}")
    if saturated and known is not None and known.smoothness > 0:
        differential = Condition("differential of fhat Lipschitz", "proved", f"{within}, sigma' Lipschitz")
    else:
        differential = _lipschitz_slope("differential of fhat Lipschitz", problem)
        if differential.finding != "refuted":
            differential = _growth(differential.name, "|change of d_x fhat|/|change of x|", change, own)
    smooth = _twice_differentiable(problem, decides=True)
    return homogeneity, number, bounded, lipschitz, differential, derivative_growth(problem, seed), smooth


def homogeneous_conditions(
    problem: Problem, homogeneity: Condition, even: float, seed: int = 0
) -> tuple[Condition, ...]:
    """Conditions of Theorem 6.1 for a block with f(x, c theta) = c**2 f(x, theta), c > 0, as ``homogeneity`` says.

    ``even`` is the relative defect of f(x, -theta) = f(x, theta), the case c = -1.
    """
    formula = type(problem.block) in (Ridge, ScaledMatrix, TwoLayer, GaussianMatrix)
    linear = formula and regularity_class(problem.activation) is not None
    growth = "|f| at most linear in |x|"
    if linear:
        condition = Condition(growth, "proved", "|f| <= C (|theta|**2 + 1)(|x| + 1) from its formula")
    else:
        condition = _growth(growth, "|f|/(|x| + 1)", _growth_in_x(problem, seed), _own(problem), "|x|")
    smooth = _lipschitz_slope("d_theta f Lipschitz", problem)
    signs = Condition(
        "f(x, c theta) = c**2 f(x, theta) for c < 0 too, as printed",
        "refuted" if even > CONTRADICTS else homogeneity.finding,
        f"defect {even:.2g} at c = -1",
        decides=False,
    )
    twice = _twice_differentiable(problem, decides=False)
    return homogeneity, condition, smooth, derivative_growth(problem, seed), signs, twice


def _own(problem: Problem) -> bool:
    """Whether the block or the activation is the user's."""
    return regularity_class(problem.activation) is None or type(problem.block) not in BLOCKS.values()


def _twice_differentiable(problem: Problem, decides: bool) -> Condition:
    name, known = "f in C^2", regularity_class(problem.activation)
    if known is None or _own(problem):
        return Condition(name, "not checked", "an activation or block of your own", decides)
    if known.smoothness > 1:
        return Condition(name, "proved", f"{problem.activation.name} is", decides)
    return Condition(name, "refuted", _jump(problem), decides)


def _lipschitz_slope(name: str, problem: Problem) -> Condition:
    """Whether the slope of the activation jumps; if not, a 2-homogeneous built-in block has a Lipschitz derivative."""
    known = regularity_class(problem.activation)
    if known is None or _own(problem):
        return Condition(name, "not checked", "an activation or block of your own")
    if known.smoothness == 0:
        return Condition(name, "refuted", _jump(problem))
    return Condition(name, "proved", "second derivatives are bounded where they exist, for |x| <= r")


def _jump(problem: Problem) -> str:
    known = regularity_class(problem.activation)
    assert known is not None
    order = known.smoothness + 1
    size = abs(jump(problem.activation, known.kink, order))
    return f"sigma{chr(39) * order} jumps by {size:.3g} > 0 at z = {known.kink:g}"


def _growth(name: str, what: str, found: tuple[float, float], own: bool, radius: str = "|theta_[2]|") -> Condition:
    """Refute a bound by a supremum that grows at least like a fourth root of the radius from 100 to 10**4.

    A function of the user's may be bounded beyond any radius that is tried: of it the numbers are said, and no more.
    """
    near, far = found
    said = f"{what} is {near:.3g} at {radius} = {_NEAR:g} and {far:.3g} at {_FAR:g}"
    grows = far > near * (_FAR / _NEAR) ** _GROWS and far > 1e-12
    if grows and own:
        return Condition(name, "not checked", f"{said}, growing there; of your own, and not known farther out")
    return Condition(
        name, "refuted" if grows else "not checked", f"{said}, {'growing' if grows else 'no growth found'}"
    )


def _suprema(problem: Problem, columns: slice, seed: int) -> list[tuple[float, float]]:
    """Largest |fhat|, |d_x fhat| and difference quotient of d_x fhat found at the two radii of theta_[2]."""
    x, inner = problem.start()[:_SAMPLES], np.ones(problem.shape[3], bool)
    inner[columns] = False
    drawn = rng.normal(seed, "growth of a block", (2 * _PAIRS, int(inner.sum())))
    p = rng.normal(seed, "growth of a block, outputs", x.shape)
    p /= np.maximum(norms(p), 1e-300)[:, None]
    outer = np.ones(columns.stop - columns.start) / np.sqrt(columns.stop - columns.start)

    def at(direction: Array, radius: float) -> Array:
        theta = np.empty(problem.shape[3])
        size = max(float(np.linalg.norm(direction)), 1e-300)
        theta[columns], theta[inner] = outer, radius / size * direction
        return theta

    def value(x: Array, theta: Array) -> Array:
        return np.asarray(problem.block.forward(x, theta, problem.activation))

    def slope(x: Array, theta: Array) -> Array:
        return np.asarray(problem.block.backward(x, theta, p[: len(x)], problem.activation)[0])

    def along(what: Callable[[Array, Array], Array], row: Array, radius: float) -> Callable[[Array], Array]:
        return lambda direction: what(row, at(direction, radius))

    found = []
    for radius in (_NEAR, _FAR):
        places = list(drawn)
        for k, (low, high) in enumerate(zip(drawn[::2], drawn[1::2], strict=True)):
            row = x[k % len(x)][None]
            places += [_steepest(along(what, row, radius), low, high) for what in (value, slope)]
        thetas = [at(place, radius) for place in places]
        h = 1e-2 / radius
        steps = h * p
        found.append((
            max(float(norms(value(x, theta)).max()) for theta in thetas),
            max(float(norms(slope(x, theta)).max()) for theta in thetas),
            max(float(norms(slope(x + steps, theta) - slope(x, theta)).max()) / h for theta in thetas),
        ))  # fmt: skip
    return list(zip(*found, strict=True))


def _steepest(function: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Place between two points where a function changes fastest, by halving towards the larger change."""
    ends = function(low), function(high)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        between = function(middle)
        if np.abs(between - ends[0]).sum() >= np.abs(ends[1] - between).sum():
            high, ends = middle, (ends[0], between)
        else:
            low, ends = middle, (between, ends[1])
    return low


def _growth_in_x(problem: Problem, seed: int) -> tuple[float, float]:
    """Largest |f|/(|x| + 1) found at the two radii of x, for |theta| = 1."""
    theta = rng.normal(seed, "growth in x", (_PAIRS, problem.shape[3]))
    theta /= norms(theta)[:, None]
    x = rng.normal(seed, "growth in x, states", (_SAMPLES, problem.shape[1]))
    x /= norms(x)[:, None]
    sizes = []
    for radius in (_NEAR, _FAR):
        values = [problem.block.forward(radius * x, row, problem.activation) for row in theta]
        sizes.append(max(float(norms(np.asarray(value)).max()) for value in values) / (radius + 1))
    return sizes[0], sizes[1]
