"""Constraints of the convex programme on a grid of features: feasible points and lower bounds from multipliers.

The constraints sum_i omega_l(i, j) h1(beta_(l-1)^(i)) = alpha_l^(j) p_l(j) of :mod:`.convex` can be met only where
alpha_l lies in the span of h1(beta_(l-1)) = U S W^T, and there read U^T omega_l = S^(-1) W^T alpha_l^T diag(p_l).
Derived.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from wgflow.base.errors import InputError, describe
from wgflow.base.types import Array
from wgflow.base.validate import real
from wgflow.model.losses import Squared
from wgflow.systems.neural_feature_flow.convex import CUT, Point, Strength, check_grid, law, strengths
from wgflow.systems.neural_feature_flow.network import Network
from wgflow.systems.neural_feature_flow.state import Features

_IN_SPAN = 1e-6  # root mean square outside the span, relative to the layer's, above which a feature is infeasible


class Constraint(NamedTuple):
    """Constraint |(rows omega_l - targets diag(p_l))_j| <= radius_j p_l(j) on the units j of a layer.

    Attributes
    ----------
    rows : ndarray (R, m_(l-1))
        Orthonormal rows U^T from h1(beta_(l-1)) = U S W^T, or S U^T / sqrt(N) where a slack is allowed.
    targets : ndarray (R, m_l)
        S^(-1) W^T alpha_l^T, or W^T alpha_l^T / sqrt(N): the coordinates of the layer's features.
    radius : ndarray (m_l,)
        0, or the slack that remains after the part of a feature outside the span.
    """

    rows: Array
    targets: Array
    radius: Array


class Dual(NamedTuple):
    """Multipliers of the constraints; any numbers give a lower bound.

    Attributes
    ----------
    slope : ndarray (N,)
        N times the multipliers of output = sum omega_(L+1) h1(beta_L); phi' at the optimum.
    layers : tuple of L - 1 ndarrays (R_l, m_l)
        Those of the constraints of l = 2..L.
    """

    slope: Array
    layers: tuple[Array, ...]


def constraints(network: Network, grid: Features, slack: float = 0.0, cut: float = CUT) -> tuple[Constraint, ...]:
    """Linear constraints of the layers l = 2..L in coordinates of the span of h1(beta_(l-1)).

    Directions of singular values below cut times the largest are left out, which relaxes the programme: its optimum
    can only fall, and features are met up to about cut.

    Parameters
    ----------
    network : Network
        Data and h1.
    grid : Features
        Features of the units.
    slack : float, optional
        Root mean square over the points by which features may be missed, >= 0. With 0 they are met.
    cut : float, optional
        In [0, 1).

    Raises
    ------
    InputError
        If a feature is farther than the slack from the span of the features below it.
    """
    check_grid(network, grid)
    slack, cut = real("slack", slack, least=0.0), real("cut", cut, least=0.0)
    out, root = [], np.sqrt(network.points)
    for number, (beta, alpha) in enumerate(zip(grid.beta, grid.alpha, strict=False), start=2):
        u, s, wt = np.linalg.svd(network.h1.value(beta), full_matrices=False)
        kept = s > cut * s[0]
        u, s, wt = u[:, kept], s[kept], wt[kept]
        inside = alpha @ wt.T
        outside = np.linalg.norm(alpha - inside @ wt, axis=1) / root
        if outside.max() > max(slack, _IN_SPAN * float(np.sqrt((alpha**2).mean()))):
            worst = int(outside.argmax())
            raise InputError(
                f"grid: expected alpha_{number} in the span of h1(beta_{number - 1}), got unit {worst} at "
                f"{outside[worst]:.3g} (root mean square) from it; take a network's features, or allow it as slack"
            )
        if slack == 0:
            out.append(Constraint(u.T, (inside / s).T, np.zeros(len(alpha))))
        else:
            radius = np.sqrt(np.clip(slack**2 - outside**2, 0.0, None))
            out.append(Constraint((u * s).T / root, inside.T / root, radius))
    return tuple(out)


def project(limits: Sequence[Constraint], point: Point) -> Point:
    """Nearest point with the same p that satisfies the constraints, in the norm sum omega_l(i, j)^2 / p_(l-1)(i).

    Connections from units without mass become 0; where the others do not span a layer's features, constraints stay
    violated.
    """
    omega = []
    for limit, w, below, p in zip(limits, point.omega, point.p, point.p[1:], strict=False):
        root = np.sqrt(below)[:, None]
        w = np.where(root > 0, w, 0.0)
        off = limit.rows @ w - limit.targets * p
        size = np.linalg.norm(off, axis=0)
        allowed = np.minimum(limit.radius * p, size)
        off = off * np.where(size > 0, 1 - allowed / np.where(size > 0, size, 1.0), 0.0)
        omega.append(w - root * (np.linalg.pinv(limit.rows * root.T, rcond=1e-13) @ off))
    return Point((*omega, np.where(point.p[-1] > 0, point.omega[-1], 0.0)), point.p)


def lower_bound(
    network: Network,
    grid: Features,
    lam: Strength,
    limits: Sequence[Constraint],
    dual: Dual,
    first: ArrayLike | None = None,
) -> float:
    """Minimum of the Lagrangian over all omega and p: a lower bound at all feasible points for any multipliers.

    With slope s and multipliers M_l it is -(1/N) sum_n (s_n^2/2 + s_n y_n) + sum_l min_i c_l(i), where c_l(i) adds up

        -M_l(., i) . targets_l(., i) - radius_l(i) |M_l(., i)|                       for l >= 2,
        -max_j (rows_(l+1)^T M_(l+1))(i, j)^2 / (4 lam_(l+1))                        for l < L,
        -(h1(beta_L^(i)) . s / N)^2 / (4 lam_(L+1))                                  for l = L.

    A Res-Net takes the minimum of sum_l c_l, and a given law its mean instead of the minimum. Derived.

    Parameters
    ----------
    network, grid, lam
        As in :func:`.convex.objective`; squared loss.
    limits : sequence of L - 1 Constraints
        From :func:`constraints`.
    dual : Dual
        Multipliers.
    first : array_like (m_1,), optional
        p_1 where it is given.

    Raises
    ------
    InputError
        If the loss is not the squared one.
    """
    squared(network)
    strength = strengths(network, lam)
    cost = [np.zeros(m) for m in check_grid(network, grid)]
    cost[-1] -= (network.h1.value(grid.beta[-1]) @ dual.slope / network.points) ** 2 / (4 * strength[-1])
    for k, (limit, m) in enumerate(zip(limits, dual.layers, strict=True)):
        cost[k + 1] -= (m * limit.targets).sum(axis=0) + limit.radius * np.linalg.norm(m, axis=0)
        cost[k] -= np.abs(limit.rows.T @ m).max(axis=1) ** 2 / (4 * strength[k])
    if network.skip:
        cost = [np.sum(cost, axis=0)]
    least = [float(layer.min()) for layer in cost]
    if first is not None:
        least[0] = float(law(first, len(cost[0])) @ cost[0])
    return sum(least) - float(np.mean(0.5 * dual.slope**2 + dual.slope * network.y))


def squared(network: Network) -> None:
    """Raise InputError unless the loss is the squared one, the only one whose conjugate is implemented."""
    if type(network.loss) is not Squared:  # one of the user's of that name neither
        raise InputError(
            f"loss: expected 'squared' for the convex programme, got {describe(network.loss.name)}; `objective` alone "
            "takes any loss"
        )
