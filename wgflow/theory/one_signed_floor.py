"""Least loss of networks whose blocks all push one way, on a line."""

from __future__ import annotations

import numpy as np

from wgflow.base.errors import InputError
from wgflow.model.blocks import GaussianMatrix, Ridge
from wgflow.model.problem import Problem
from wgflow.theory.regularity_classes import regularity_class


def one_signed_floor(problem: Problem) -> float:
    """Smaller of the two bounds E >= mean (X(0) - y)_+**2 / 2 and E >= mean (y - X(0))_+**2 / 2 (derived).

    For D = 1, W1 = 1 and f = a sigma(w X + b) with sigma >= 0, X(1) >= X(0) while a >= 0 in all blocks, hence the
    first; while a <= 0 in all of them, the second. With relu the flow keeps a**2 - w**2 - b**2 of every particle, and
    so the sign of an a that is larger than (w, b). So too for gaussian_matrix while one of its terms is 0 in all
    blocks; the flow keeps it 0 with squared_relu, whose slope there is 0.

    Raises
    ------
    InputError
        If the problem has another state, readout, loss or block, or an activation not known to be >= 0.
    """
    known = regularity_class(problem.activation)
    one_signed = type(problem.block) in (Ridge, GaussianMatrix) and known is not None and known.low >= 0
    single = problem.linear and problem.readout.tolist() == [[1.0]]
    if not single or problem.loss.name != "squared" or not one_signed:
        raise InputError(
            "problem: expected D = 1, W1 = 1, a ridge or gaussian_matrix block, the squared loss and a built-in "
            f"activation >= 0, got D = {problem.shape[1]}, {problem.block.name}, {problem.loss.name}, "
            f"{problem.activation.name}"
        )
    gap = problem.start() - problem.y
    return 0.5 * min(float(np.mean(np.maximum(side, 0.0) ** 2)) for side in (gap, -gap))
