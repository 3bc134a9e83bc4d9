"""Whether {int f(x, theta) drho, rho in P^2} is dense in C(|x| < R; R^D), in closed form for the built-in blocks.

For blocks whose sign a parameter sets, that is density of the span of ridge functions: true for a continuous activation
that is not a polynomial, with biases (Leshno, Lin, Pinkus and Schocken 1993), and for analytic ones with weights in any
open set (Stinchcombe and White 1990). Blocks whose values are bounded, or of one sign, keep that under averages.
"""

from __future__ import annotations

import math

import numpy as np

from wgflow.model.blocks import BLOCKS, GaussianMatrix, Matrix, SaturatedMatrix
from wgflow.model.problem import Problem
from wgflow.theory.assumption import Condition
from wgflow.theory.regularity_classes import RegularityClass, regularity_class

_NAME = "dense in C(|x| < R; R^D)"


def density(problem: Problem) -> Condition:
    """Prove or refute density in closed form; ``not checked`` for blocks and activations of the user's."""
    block, known = problem.block, regularity_class(problem.activation)
    if known is None or type(block) not in BLOCKS.values():
        return Condition(_NAME, "not checked", "no closed form for a block or activation of your own")
    sigma, bias = problem.activation.name, bool(getattr(block, "bias", True))
    if known.polynomial:
        return Condition(_NAME, "refuted", f"{sigma} is a polynomial, so that f spans finitely many functions of x")
    if not bias and float(problem.activation.value(np.zeros(1))[0]) == 0:
        return Condition(_NAME, "refuted", "f(0, theta) = 0 for all theta without a bias")
    if isinstance(block, Matrix) or (isinstance(block, GaussianMatrix) and not block.signed):
        return _averages(sigma, known)
    if isinstance(block, GaussianMatrix):
        return _differences(problem, bias, known)
    if not bias:
        return Condition(_NAME, "not checked", "no closed form without a bias")
    if isinstance(block, SaturatedMatrix) and not known.analytic:
        return Condition(
            _NAME, "not checked", f"no closed form for bounded weights with {sigma}, which is not analytic"
        )
    reason = f"{sigma} is continuous and no polynomial, with biases and an outer weight of either sign (Leshno et al.)"
    if isinstance(block, SaturatedMatrix):
        reason = f"{sigma} is analytic and no polynomial, with weights in a ball (Stinchcombe and White)"
    return Condition(_NAME, "proved", reason)


def _averages(sigma: str, known: RegularityClass) -> Condition:
    """Averages of sigma itself, in which no parameter sets the sign: bounded as sigma is."""
    low, high = known.low, known.high
    bound = f"f >= {low:g}" if math.isfinite(low) else f"f <= {high:g}"
    if known.bounded:
        bound = f"{low:g} <= f <= {high:g}"
    return Condition(_NAME, "refuted", f"{bound} in every component with {sigma}, and so int f drho")


def _differences(problem: Problem, bias: bool, known: RegularityClass) -> Condition:
    """Averages of differences sigma - sigma: a cone, and then a linear space, where sigma is positively homogeneous."""
    sigma = problem.activation.name
    if known.bounded:
        return Condition(_NAME, "refuted", f"|f| <= {known.high - known.low:g} in every component, and so int f drho")
    if problem.activation.degree is not None and bias:
        reason = f"{sigma} is homogeneous and no polynomial, with biases, and either term can be 0 (Leshno et al.)"
        return Condition(_NAME, "proved", reason)
    return Condition(_NAME, "not checked", f"no closed form for differences of {sigma}")
