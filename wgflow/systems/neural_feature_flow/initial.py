"""Initial networks: minimum-norm regression weights (Algorithms 2 and 4), their soft version, standard draws.

Features are drawn layer by layer, alpha_l iid N(0, sigma^2 Khat_(l-1)) given the features below, with Khat_l =
(1/m) sum_i h1(beta_(l,i)) h1(beta_(l,i))^T, and the weights between hidden layers are those of least norm that give
them: min (1/m) sum_i v_(l,i,j)^2 subject to alpha_(l,j) = (1/m) sum_i v_(l,i,j) h1(beta_(l-1,i)), equation (16) of
Fang, Lee, Yang and Zhang (COLT 2021). The paper inverts Khat, which is singular whenever m < N, and in practice for few
inputs and smooth h1. Here the regression goes by singular values, those below rcond times the largest left out, and
reports its rank (derived).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wgflow.base import rng
from wgflow.base.errors import InputError, describe
from wgflow.base.types import Array
from wgflow.base.validate import real, refuse_masked, whole
from wgflow.systems.neural_feature_flow.low_rank import LowRank
from wgflow.systems.neural_feature_flow.network import Network
from wgflow.systems.neural_feature_flow.state import Features, Weights

RCOND = 1e-13  # singular values below this times the largest count as zero


class Regression(NamedTuple):
    """Weights fitted to features.

    Attributes
    ----------
    weights : LowRank (m, m')
        v, source unit first, as factors of the rank's size.
    rank : int
        Singular values of h1(beta) counted, <= min(m, N).
    residual : float
        Largest |alpha_j(n) - (1/m) sum_i v_(i,j) h1(beta_i)(n)|; rounding where the h1(beta_i) span alpha.
    """

    weights: LowRank
    rank: int
    residual: float


class Start(NamedTuple):
    """An initial network.

    Attributes
    ----------
    weights : Weights
        Middle weights as :class:`LowRank`.
    features : Features
        Features of these weights at the training points, up to ``residual``.
    rank : tuple of L - 1 ints, or of L
        Rank of each regression; the last layer's comes last if it was regressed.
    residual : tuple of L - 1 floats, or of L
        Distance of the drawn features, and outputs, from those of the weights; rounding except for ridge > 0.
    noise : tuple of L - 1 ndarrays (m, N), or None
        Standard normal g with alpha_l = sigma Khat_(l-1)^(1/2) g, for coupling; None where weights were drawn.
    sigma : float
        Scale of the draws.
    last : str
        How v_(L+1) was chosen, ``"constant"`` or ``"regressed"``.
    """

    weights: Weights
    features: Features
    rank: tuple[int, ...]
    residual: tuple[float, ...]
    noise: tuple[Array, ...] | None
    sigma: float
    last: str = "constant"


def regress(h: Array, alpha: Array, ridge: float = 0.0, rcond: float = RCOND) -> Regression:
    """Weights of least norm, or a ridge penalty, from features h1(beta) to features alpha.

    min_v (1/m) sum_i v_(i,j)^2 subject to alpha_j = (1/m) sum_i v_(i,j) h_i, or, for ridge > 0,
    min_v (ridge/m) sum_i v_(i,j)^2 + |alpha_j - (1/m) sum_i v_(i,j) h_i|^2. In terms of h = U S W^T both are
    v_j = U f(S) W^T alpha_j with f(S) = m / S and m S / (S^2 + m ridge).

    Parameters
    ----------
    h : ndarray (m, N)
        h1(beta_(l-1)), one row a source unit.
    alpha : ndarray (m', N)
        Features wanted, one row a target unit.
    ridge, rcond : float, optional
        Penalty, >= 0; singular values below rcond times the largest are left out, >= 0.

    Raises
    ------
    InputError
        If the arrays have no common N, or a number is negative.
    """
    for name, array in (("h", h), ("alpha", alpha)):
        refuse_masked(name, array)
    if h.ndim != 2 or alpha.ndim != 2 or h.shape[1] != alpha.shape[1]:
        raise InputError(f"alpha: expected features (units, N) beside h (m, N), got {alpha.shape} beside {h.shape}")
    ridge, rcond = real("ridge", ridge, least=0.0), real("rcond", rcond, least=0.0)
    m = len(h)
    u, s, wt = np.linalg.svd(h, full_matrices=False)
    rank = int(np.count_nonzero(s > rcond * s[0]))
    u, s, wt = u[:, :rank], s[:rank], wt[:rank]
    filtered = m / s if ridge == 0 else m * s / (s * s + m * ridge)
    # the square root of m on either side keeps both factors of the size of their entries
    weights = LowRank(np.sqrt(m) * u, (alpha @ wt.T) * (filtered / np.sqrt(m)))
    return Regression(weights, rank, float(np.abs(alpha - weights.T @ h / m).max()))


def minimum_norm(
    network: Network,
    units: int,
    seed: int = 0,
    sigma: float = 1.0,
    outer: float = 1.0,
    ridge: float = 0.0,
    draw: str = "features",
    last: str = "constant",
) -> Start:
    """Initial weights of Algorithm 2 (Res-Net) or Algorithm 4 (DNN), or of their soft version.

    v_1 ~ N(0, d sigma^2) entrywise, alpha_l ~ N(0, sigma^2 Khat_(l-1)), minimum-norm v_l, v_(L+1) = outer or regressed.

    Parameters
    ----------
    network, units : Network, int
        Data and activations, and m.
    seed : int, optional
        Draws are functions of (seed, layer, unit, training point).
    sigma : float, optional
        The paper's sigma_1, > 0.
    outer : float, optional
        The paper's C3; for ``last = "constant"``.
    ridge : float, optional
        The paper's lambda_m of the soft version, >= 0; 0 is the exact one. With it, the features of each layer become
        those its ridge weights give before the next is drawn, so that the start has no constraint defect (derived).
    draw : {"features", "weights"}, optional
        ``weights`` draws v~_l ~ N(0, m sigma^2) and takes alpha_l = (1/m) v~_l^T h1(beta_(l-1)), Algorithm 2 to the
        letter. ``features`` draws alpha_l = sigma Khat_(l-1)^(1/2) g, the same law given the layers below, from m N
        numbers instead of m^2.
    last : {"constant", "regressed"}, optional
        ``regressed``: the paper's alternative for the last layer (footnote 4), a standard draw v~_(L+1) ~
        N(0, m sigma^2) replaced by the v_(L+1) of least norm with the same outputs at the training points.

    Returns
    -------
    Start
        v_1, beta_1 and g of the first units of a larger network with the same seed are exactly those of a smaller one.
        Their alpha_l differ by what Khat does, O(m^(-1/2)) ("features"); under "weights" v~ is shared but enters
        through a sum over all units, so features of different m are practically independent.

    Raises
    ------
    InputError
        If an argument is out of its range.
    """
    units, sigma, outer = whole("units", units), real("sigma", sigma, above=0.0), real("outer", outer)
    if draw not in ("features", "weights"):
        raise InputError(f"draw: expected 'features' or 'weights', got {describe(draw)}")
    if last not in ("constant", "regressed"):
        raise InputError(f"last: expected 'constant' or 'regressed', got {describe(last)}")
    if last == "regressed" and outer != 1.0:
        raise InputError(f"outer: expected no constant for a last layer that is regressed, got {outer:g}; leave it out")
    inner = _first(network, units, seed, sigma)
    alphas: list[Array] = []
    betas, noises, fits = [inner.T @ network.x.T / network.inputs], [], []
    for layer in range(2, network.layers + 1):
        h = network.h1.value(betas[-1])
        if draw == "features":
            noises.append(rng.normal(seed, f"features {layer}", (units, network.points)))
            alpha = sigma * noises[-1] @ root(h)
        else:
            alpha = sigma / np.sqrt(units) * (_square(seed, f"weights {layer}", units) @ h)
        fits.append(regress(h, alpha, ridge))
        alpha = alpha if ridge == 0 else fits[-1].weights.T @ h / units
        alphas.append(alpha)
        betas.append(betas[-1] + network.h2.value(alpha) if network.skip else alpha)
    middle, v = tuple(fit.weights for fit in fits), np.full(units, outer)
    if last == "regressed":
        fits.append(_regressed_outputs(network.h1.value(betas[-1]), seed, sigma, ridge))
        v = fits[-1].weights.dense()[:, 0]
    weights, features = Weights(inner, middle, v), Features(tuple(alphas), tuple(betas))
    rank, residual = tuple(fit.rank for fit in fits), tuple(fit.residual for fit in fits)
    return Start(weights, features, rank, residual, tuple(noises) if draw == "features" else None, sigma, last)


def _regressed_outputs(h: Array, seed: int, sigma: float, ridge: float) -> Regression:
    """Weights (m, 1) of least norm, or a ridge penalty, with the outputs of a standard draw N(0, m sigma^2)."""
    units = len(h)
    drawn = sigma * np.sqrt(units) * rng.normal(seed, "outer weights", (units, 1))
    return regress(h, drawn.T @ h / units, ridge)


def standard(network: Network, units: int, seed: int = 0, sigma: float = 1.0) -> Weights:
    """Weights with O(1) variance: v_1 ~ N(0, d sigma^2), v_l, v_(L+1) ~ N(0, sigma^2), all independent.

    With the factors 1/m of the forward pass alpha_l is O(m^(-1/2)): the units of a middle layer coincide as m grows
    (Fang, Lee, Yang and Zhang, COLT 2021, Proposition 1).

    Parameters
    ----------
    network, units : Network, int
        Data and activations, and m.
    seed : int, optional
        The weights of the first units are those of a smaller network with the same seed.
    sigma : float, optional
        Scale, > 0.

    Raises
    ------
    InputError
        If an argument is out of its range.
    """
    units, sigma = whole("units", units), real("sigma", sigma, above=0.0)
    middle = tuple(
        sigma * np.ascontiguousarray(_square(seed, f"weights {layer}", units).T)
        for layer in range(2, network.layers + 1)
    )
    outer = sigma * rng.normal(seed, "outer weights", (units, 1))[:, 0]
    return Weights(_first(network, units, seed, sigma), middle, outer)


def spread(features: Features) -> Array:
    """Largest |alpha_(l,i)(n) - alpha_(l,i')(n)| over units i, i' and points n, layer by layer, l = 2..L, (L - 1,).

    In a DNN these are the features of Proposition 1 themselves. A Res-Net's beta_l keep the differences of beta_1, and
    in training its skips hand v_(L+1) down to all layers: there the spread of standard draws falls at the start only.
    """
    return np.array([np.ptp(alpha, axis=0).max() for alpha in features.alpha])


def root(h: Array) -> Array:
    """Symmetric square root of Khat = (1/m) h^T h, (N, N), from the singular values of h (m, N).

    Through the eigenvalues of Khat those below rounding, 1e-16, would come out as 1e-8.
    """
    _, s, wt = np.linalg.svd(h / np.sqrt(len(h)), full_matrices=False)
    out: Array = (wt.T * s) @ wt
    return out


def _first(network: Network, units: int, seed: int, sigma: float) -> Array:
    """v_1 (d, m), column j a function of (seed, j)."""
    draws = rng.normal(seed, "inner weights", (units, network.inputs))
    return np.ascontiguousarray(sigma * np.sqrt(network.inputs) * draws.T)


def _square(seed: int, stream: str, units: int) -> Array:
    """Standard normal numbers (m, m), entry (j, i) a function of (seed, stream, j, i), whatever m is."""
    return np.vstack([rng.normal(seed, stream, (1, units), step=j) for j in range(units)])
