"""Growth of the block's derivative in its parameters, |d_theta f(x, theta)| <= C (|theta| + 1) for |x| <= r.

Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508) ask for it on their nested sets Q_r, and Ding, Chen, Li and Wright
(arXiv:2110.02926) in assumption 4.1. With it the velocities of particles grow linearly, so that flows do not leave
every ball in finite time. With z = W x + b, for the built-in blocks (derived):

- a sigma(z) and its like have d_a f = sigma(z) and d_(W, b) f = a sigma'(z) (x, 1), so it holds where sigma' is
  bounded, and does not for squared_relu, where d_theta f grows like |theta|**2;
- sigma(z) alone has d_(W, b) f = sigma'(z) (x, 1), so it holds where sigma' grows linearly, as all built-in ones do;
- with saturated weights z is bounded, and only the factor a grows.
"""

from __future__ import annotations

import math

import numpy as np

from wgflow.base import rng
from wgflow.base.scaling import norms
from wgflow.model.blocks import BLOCKS, GaussianMatrix, Matrix, SaturatedMatrix
from wgflow.model.problem import Problem
from wgflow.theory.assumption import Condition
from wgflow.theory.regularity_classes import suprema

_NEAR, _FAR = 1e2, 1e4  # sizes of theta
_DRAWS, _STATES = 48, 8
NAME = "|d_theta f| <= C (|theta| + 1) for |x| <= r"


def derivative_growth(problem: Problem, seed: int = 0) -> Condition:
    """Growth of the derivative: proved or refuted in closed form for built-in blocks and activations alone."""
    block, known = problem.block, suprema(problem.activation)
    near, far = observed(problem, seed)
    numbers = f"|d_theta f|/(|theta| + 1) is {near:.3g} at |theta| = {_NEAR:g} and {far:.3g} at {_FAR:g}, for |x| = 1"
    if known is None or type(block) not in BLOCKS.values():
        return Condition(NAME, "not checked", f"{numbers}; a block or activation of your own")
    sigma = problem.activation.name
    if isinstance(block, SaturatedMatrix):
        return Condition(NAME, "proved", f"linear in a, with bounded inner weights; {numbers}")
    if isinstance(block, Matrix | GaussianMatrix):
        return Condition(NAME, "proved", f"the slope of {sigma} grows linearly at most; {numbers}")
    if math.isfinite(known.slope):
        return Condition(NAME, "proved", f"sup |sigma'| = {known.slope:.4g} of {sigma}; {numbers}")
    return Condition(NAME, "refuted", f"d_theta f grows like |theta|**2 with {sigma}; {numbers}")


def observed(problem: Problem, seed: int = 0) -> tuple[float, float]:
    """Largest |p . d_theta f|/(|theta| + 1) found at |theta| = 100 and 10**4, over states and p of size 1."""
    drawn = rng.normal(seed, "growth of a derivative", (_DRAWS, problem.shape[3]))
    drawn /= np.maximum(norms(drawn), 1e-300)[:, None]
    states, ends = (
        rng.normal(seed, f"growth of a derivative, {what}", (_STATES, problem.shape[1])) for what in ("states", "ends")
    )
    states, ends = (rows / np.maximum(norms(rows), 1e-300)[:, None] for rows in (states, ends))
    found = []
    for radius in (_NEAR, _FAR):
        largest = 0.0
        for theta in radius * drawn:
            for x, p in zip(states, ends, strict=True):
                slope = problem.block.backward(x[None], theta, p[None], problem.activation)[1]
                largest = max(largest, float(np.linalg.norm(slope)))
        found.append(largest / (radius + 1))
    return found[0], found[1]
