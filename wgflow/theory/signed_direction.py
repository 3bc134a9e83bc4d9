"""Direction of descent of the local = global theorem: a signed measure of mass zero at one depth, by a kernel solve."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Array
from wgflow.base.validate import real, whole
from wgflow.energy import Energy
from wgflow.kernels import reference
from wgflow.model.particles import Particles

_FLOATS = 1 << 23  # numbers of one tape, or of one block of features, in memory: 64 MiB


class SignedDirection(NamedTuple):
    """Signed measure nu = sum_j c_j delta_(theta_j, t) with sum_j c_j = 0 and <dE/drho, nu> < 0.

    Attributes
    ----------
    value : float
        <dE/drho, nu>, about -mean |p(t)|**2 where ``residual`` is small.
    residual : float
        mean |sum_j c_j f(X(t), theta_j) + p(t)|**2 / mean |p(t)|**2, the part of the adjoint outside the span of the
        features, in [0, 1]; under Deposit means over the layers k that t sees, with weights |S_k(t)|.
    adjoint : float
        mean |p(t)|**2 over the samples; under Deposit and Intervals sum_k S_k(t) mean |p_(k+1)|**2, its interpolant.
    t : float
        The depth.
    theta, weight : ndarray (Q, P), (Q,)
        Features, and c, with sum 0.
    """

    value: float
    residual: float
    adjoint: float
    t: float
    theta: Array
    weight: Array

    @property
    def variation(self) -> float:
        """Total variation sum_j |c_j| of nu: size of the change of the network for this slope."""
        return float(np.abs(self.weight).sum())


def signed_direction(
    energy: Energy,
    rho: Particles,
    t: float = 0.5,
    features: int = 256,
    seed: int = 0,
    regularisation: float = 1e-8,
    s: float = 0.0,
) -> SignedDirection:
    """Direction of descent at depth t in the span of random features.

    c minimises mean |sum_j c_j f(X(t), theta_j) + p(t)|**2 + lambda |c|**2 under sum_j c_j = 0. With the Gram matrix
    G_ij = mean f_i . f_j and g_j = mean f_j . p the solution is c = -A^-1 (g - mu 1), A = G + lambda, and
    g . c = -c' A c <= 0. Under Deposit the fit is at all layers that t sees; as S_k may be negative, <dE/drho, nu> is
    then below 0 where the residual is small and sum_k S_k mean |p_(k+1)|**2 is positive.

    Parameters
    ----------
    energy, rho : Energy, Particles
        The measure, and its problem and scheme.
    t : float, optional
        Depth in [0, 1].
    features, seed : int, optional
        Q >= 2 draws from the default initial law, and their seed.
    regularisation : float, optional
        lambda over the mean diagonal entry of G, > 0.
    s : float, optional
        Flow time. A regulariser enters ``value``, which may then be positive, but not the solve.

    Raises
    ------
    InputError
        If a number is out of range.

    Notes
    -----
    Ding, Chen, Li and Wright (arXiv:2110.02926), proof of Proposition 6.1, after Lu, Ma, Lu, Lu and Ying
    (arXiv:2003.05508): features dense in C(R^D, R^D) make the residual 0, and mean |p(t)|**2 >= Q(L_rho) E(rho) then
    leaves <dE/drho, nu> <= -Q E < 0. As nu is signed, rho + lambda nu is a measure only where rho has mass at every
    theta_j, which is where full support enters.
    """
    if not 0 <= real("t", t) <= 1:
        raise InputError(f"t: expected a depth in [0, 1], got {t}")
    features = whole("features", features, 2)
    regularisation = real("regularisation", regularisation, above=0.0)
    theta = Particles.draw(energy.problem, features, seed).theta
    gram, along, samples = np.zeros((features, features)), np.zeros(features), len(energy.problem.x)
    adjoint, square, total = 0.0, 0.0, 0.0
    for x, p, weight in states_and_adjoints(energy, rho, t):
        size = np.abs(weight)
        root = np.sqrt(size)[:, None]
        for low in range(0, len(x), step := max(1, _FLOATS // (features * x.shape[1]))):
            part = slice(low, low + step)
            values = (energy.problem.block.forward(x[part], row, energy.problem.activation) for row in theta)
            block = np.stack([(root[part] * value).ravel() for value in values])
            gram += block @ block.T / samples
            along += block @ (root[part] * p[part]).ravel() / samples
        squares = np.einsum("md,md->m", p, p)
        adjoint += float(weight @ squares) / samples
        square += float(size @ squares) / samples
        total += float(size.sum()) / samples
    gram, along, square = gram / total, along / total, square / total  # means over the layers with weights |S_k|
    ridge = regularisation * max(float(np.trace(gram)) / features, 1e-300)
    solved = np.linalg.solve(gram + ridge * np.eye(features), np.column_stack([along, np.ones(features)]))
    coefficients = -(solved[:, 0] - solved[:, 1] * (solved[:, 0].sum() / solved[:, 1].sum()))
    value = float(coefficients @ energy.first_variation(rho, theta, np.full(features, float(t)), s))
    remainder = float(coefficients @ gram @ coefficients + 2 * coefficients @ along + square)
    return SignedDirection(value, remainder / square if square > 0 else 0.0, adjoint, float(t), theta, coefficients)


def states_and_adjoints(energy: Energy, rho: Particles, t: float) -> Iterator[tuple[Array, Array, Array]]:
    """States X_k and adjoints p_(k+1) in dE/drho at depth t, in blocks of samples.

    dE/drho(theta, t) = mean_m sum_k S_k(t) f(X_k, theta) . p_(k+1), so under Deposit every sample occurs once for
    each layer k with S_k(t) != 0, with that weight, which may be negative.

    Parameters
    ----------
    energy, rho : Energy, Particles
        The network.
    t : float
        Depth in [0, 1].

    Yields
    ------
    x, p, weight : ndarray (m, D), (m, D), (m,)
        States, adjoints and weights S_k(t), from the reference kernel. Its tape of all layers is kept for as many
        samples as fit into 64 MiB.
    """
    net, problem = energy.depth.network(rho), energy.problem
    stencil, start = energy.depth.sample(rho, np.array([float(t)])), problem.start()
    step = max(1, _FLOATS // (2 * (net.layers + 1) * start.shape[1]))
    for low in range(0, len(start), step):
        rows = slice(low, low + step)
        tape = reference.states(problem, start[rows], net, rho.theta)
        p = reference.adjoints(problem, tape, problem.y[rows], net, rho.theta)
        for layer, weight in zip(stencil.layer[0], stencil.weight[0], strict=True):
            if weight != 0:
                after = min(int(layer) + 1, net.layers)  # past the last layer, X(1) and p(1)
                yield tape[layer], p[after], np.full(len(p[after]), weight)
