"""The loss as a convex function of masses and connections on a fixed grid of features.

Units of layer l carry features alpha_l^(i), beta_l^(i) that do not move, and mass p_l(i) instead. In the variables
omega_l(i, j) = v_l(i, j) p_(l-1)(i) p_l(j), l = 2..L, and omega_(L+1)(i) = v_(L+1)(i) p_L(i), what makes it a network,

    sum_i omega_l(i, j) h1(beta_(l-1)^(i)) = alpha_l^(j) p_l(j),     output = sum_i omega_(L+1)(i) h1(beta_L^(i)),

is linear, and with penalties that are perspectives of convex functions the objective

    (1/N) sum_n phi(output_n, y_n) + sum_(l=2)^L lam_l sum_i (sum_j |omega_l(i, j)|)^2 / p_(l-1)(i)
                                   + lam_(L+1) sum_i omega_(L+1)(i)^2 / p_L(i)

is jointly convex in (omega, p) for phi convex. At p_l = 1/m it is the network's loss plus its own penalties,
lam_l (1/m) sum_i ((1/m) sum_j |v_l(i, j)|)^2 and lam_(L+1) (1/m) sum_i v_(L+1)(i)^2. Plain weight decay, the sum of
omega^2 / (p p'), is not jointly convex.

A DNN has a law p_l for each layer. A Res-Net adds features up along a path of units, so its grid is one of paths (v_1,
alpha_2, ..., alpha_L), with one law p_1 = ... = p_L; h2 acts inside the grid, and the constraints stay linear.

Derived; after the arXiv version (2007.01452) of Fang, Lee, Yang and Zhang, whose text on this was not consulted, and
the COLT 2021 text for the network, Appendix E for the DNN.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from wgflow.base.errors import InputError, describe
from wgflow.base.types import Array
from wgflow.base.validate import finite_array, real
from wgflow.systems.neural_feature_flow.low_rank import dense
from wgflow.systems.neural_feature_flow.network import Network
from wgflow.systems.neural_feature_flow.state import Features, Weights

Strength: TypeAlias = float | Sequence[float] | Array
CUT = 1e-8  # singular values below this times the largest leave the constraints: rounding dominates there


class Point(NamedTuple):
    """Masses and weighted connections on a grid.

    Attributes
    ----------
    omega : tuple of L ndarrays
        omega_2, ..., omega_L (m_(l-1), m_l), source unit first, and omega_(L+1) (m_L,).
    p : tuple of L ndarrays (m_l,)
        p_1, ..., p_L, each >= 0 with sum 1.
    """

    omega: tuple[Array, ...]
    p: tuple[Array, ...]


class Cost(NamedTuple):
    """Objective and its parts.

    Attributes
    ----------
    value, loss : float
        Loss plus regulariser, and mean loss.
    regulariser : float
        Penalties times their lam, infinite where omega is not 0 and its p is.
    """

    value: float
    loss: float
    regulariser: float


def lift(weights: Weights) -> Point:
    """Point of a network of m units a layer on its own grid: p_l = 1/m, v_l / m^2 and v_(L+1) / m as omega."""
    m = len(weights.outer)
    omega = tuple(np.asarray(dense(v)) / m**2 for v in weights.middle)
    return Point((*omega, weights.outer / m), tuple(np.full(m, 1 / m) for _ in range(len(weights.middle) + 1)))


def check_grid(network: Network, grid: Features) -> tuple[int, ...]:
    """Numbers of units m_1, ..., m_L of a grid.

    Raises
    ------
    InputError
        If it does not have the network's layers and points, or, in a Res-Net, equally many units in each layer.
    """
    alphas, betas = ([np.shape(array) for array in part] for part in grid)
    sizes = tuple(shape[0] for shape in betas)
    fits = len(betas) == network.layers and alphas == betas[1:] and betas == [(m, network.points) for m in sizes]
    if not fits or min(sizes) < 1 or (network.skip and len(set(sizes)) > 1):
        raise InputError(
            f"grid: expected {network.layers} layers of units with {network.points} numbers each"
            f"{', equally many' if network.skip else ''}, got shapes {betas} and {alphas}"
        )
    return sizes


def strengths(network: Network, lam: Strength) -> Array:
    """lam_2, ..., lam_(L+1) from one number for all or L numbers, (L,); raises InputError unless all are > 0."""
    numbers = np.full(network.layers, real("lam", lam, above=0.0)) if np.ndim(lam) == 0 else finite_array("lam", lam, 1)
    if len(numbers) != network.layers or numbers.min() <= 0:
        raise InputError(f"lam: expected one number > 0, or {network.layers} of them, got {describe(lam)}")
    return numbers


def objective(network: Network, grid: Features, point: Point, lam: Strength) -> Cost:
    """Objective of the convex programme at a point, whether or not it satisfies the constraints.

    Parameters
    ----------
    network : Network
        Data, h1 and loss; any loss.
    grid : Features
        Features of the units.
    point : Point
        omega and p.
    lam : float or sequence of L floats
        lam_2, ..., lam_(L+1), > 0.

    Raises
    ------
    InputError
        If shapes do not fit or some p_l is not a law.
    """
    strength = strengths(network, lam)
    _check_point(network, grid, point)
    loss = float(network.loss_of(point.omega[-1] @ network.h1.value(grid.beta[-1])))
    sums = [np.abs(omega).sum(axis=1) for omega in point.omega[:-1]] + [np.abs(point.omega[-1])]
    parts = [_perspective(row, p) for row, p in zip(sums, point.p, strict=True)]
    regulariser = float(np.dot(strength, parts))
    return Cost(loss + regulariser, loss, regulariser)


def residual(network: Network, grid: Features, point: Point) -> float:
    """Largest |sum_i omega_l(i, j) h1(beta_(l-1)^(i)) - alpha_l^(j) p_l(j)| over layers, units and points."""
    _check_point(network, grid, point)
    layers = zip(point.omega, grid.beta, grid.alpha, point.p[1:], strict=False)
    return max(float(np.abs(w.T @ network.h1.value(b) - p[:, None] * a).max()) for w, b, a, p in layers)


def law(value: ArrayLike, units: int) -> Array:
    """Probabilities of so many units, (units,); raises InputError if they are negative or do not sum to 1."""
    p = finite_array("p", value, 1)
    if p.shape != (units,) or p.min() < 0 or abs(p.sum() - 1) > 1e-6:  # single precision will do
        raise InputError(
            f"p: expected {units} numbers >= 0 with sum 1, got {p.shape[0]} from {p.min():g} with sum {p.sum():.9g}"
        )
    return p


def _check_point(network: Network, grid: Features, point: Point) -> None:
    sizes = check_grid(network, grid)
    wanted = [*pairwise(sizes), (sizes[-1],)]
    shapes = [np.shape(omega) for omega in point.omega]
    if shapes != wanted or len(point.p) != len(sizes):
        raise InputError(
            f"point: expected omega of shapes {wanted} and {len(sizes)} laws, got {shapes} and {len(point.p)}"
        )
    for p, m in zip(point.p, sizes, strict=True):
        law(p, m)
    if network.skip and any(not np.array_equal(p, point.p[0]) for p in point.p):
        raise InputError("point: expected one law for all layers of a Res-Net, got different ones; a path has one mass")


def _perspective(top: Array, p: Array) -> float:
    """Sum of top^2 / p, with 0/0 = 0."""
    if (top[p == 0] != 0).any():
        return np.inf
    return float((top[p > 0] ** 2 / p[p > 0]).sum())
