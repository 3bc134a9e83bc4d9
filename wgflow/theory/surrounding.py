"""Points that surround the origin, and the extent that the shadows of several ensembles have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from wgflow.base.types import Array
from wgflow.base.validate import refuse_masked

_TOLERANCE = 1e-9  # of the points' size: what counts as a positive combination of them that vanishes


class Extent(NamedTuple):
    """Least extent of the shadows of several ensembles: whether all of them surround the origin; fewest dimensions."""

    surrounds: bool
    dimensions: int


def extent(shadows: Sequence[Array]) -> Extent:
    """Least extent of shadows (N, d)."""
    return Extent(all(map(surrounds, shadows)), min(map(_dimensions, shadows)))


def lacks(shadow: Array, least: Extent) -> bool:
    """Whether a shadow leaves a half-space empty that none of the others does, or spans fewer dimensions than all."""
    return bool((least.surrounds and not surrounds(shadow)) or _dimensions(shadow) < least.dimensions)


def _dimensions(points: Array) -> int:
    """Dimensions that points (N, d) span, up to rounding."""
    if not points.size:
        return 0
    sizes = np.linalg.svd(points, compute_uv=False)
    return int(np.count_nonzero(sizes > _TOLERANCE * sizes[0]))


def surrounds(points: Array) -> bool:
    """Whether points (N, d) lie in no closed half-space v . x <= 0, v != 0.

    That is so exactly if they span R^d and some positive weights have sum_i weight_i x_i = 0 (Stiemke's lemma), which a
    non-negative least squares problem decides. Independent points of a symmetric law in general position do with
    probability 1 - 2**(1 - N) sum_(j < d) binom(N - 1, j) (Wendel 1962).
    """
    refuse_masked("points", points)
    points = np.asarray(points)
    if len(points) <= points.shape[1]:
        return False
    sizes = np.linalg.svd(points, compute_uv=False)
    if sizes[-1] <= _TOLERANCE * sizes[0]:
        return False
    _, residual = nnls(points.T, -points.sum(axis=0), maxiter=100 * len(points))  # weights 1 + its solution
    return bool(residual <= _TOLERANCE * np.abs(points).sum())
