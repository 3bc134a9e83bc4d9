"""Networks of m units beside their population: ideal particles, and the epsilon_1 that separates them.

A unit of Algorithm 2 and its ideal particle share v_1 and the standard normal g behind alpha_(l+1) = sigma
Khat_l^(1/2) g, so alphabar_(l+1) = K_l^(1/2) Khat_l^(-1/2) alpha_(l+1) = sigma K_l^(1/2) g: independent draws of the
population. Fang, Lee, Yang and Zhang (COLT 2021), Definition 5 and the proof of Theorem 7.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Array
from wgflow.systems.neural_feature_flow.flow import State
from wgflow.systems.neural_feature_flow.initial import Start
from wgflow.systems.neural_feature_flow.low_rank import AnyArray, LowRank, block
from wgflow.systems.neural_feature_flow.network import Network
from wgflow.systems.neural_feature_flow.population import Population, power
from wgflow.systems.neural_feature_flow.state import Features, Weights

_EXACT = 1e-8  # residuals of a regression that are rounding


class Epsilon(NamedTuple):
    """Definition 5, measured: differences of weights over 1 + |Theta_i| + |Theta_j|, their largest.

    Attributes
    ----------
    inner, outer : float
        Of v_1 and v_(L+1), over 1 + |Theta_i|.
    middle : tuple of L - 1 floats
        Of v_2, ..., v_L.
    """

    inner: float
    middle: tuple[float, ...]
    outer: float

    @property
    def largest(self) -> float:
        """epsilon_1, the smallest for which the initial network is epsilon_1-independent by these particles."""
        return max(self.inner, *self.middle, self.outer)


class Gap(NamedTuple):
    """Difference of two arrays.

    Attributes
    ----------
    rms, largest : float
        Root of the mean square, and maximum, over entries.
    """

    rms: float
    largest: float


class Apart(NamedTuple):
    """Differences of two networks over the units they have in common.

    Attributes
    ----------
    weights : tuple of L + 1 Gaps
        v_1, ..., v_(L+1).
    alpha : tuple of L - 1 Gaps
        alpha_2, ..., alpha_L.
    beta : tuple of L Gaps
        beta_1, ..., beta_L.
    """

    weights: tuple[Gap, ...]
    alpha: tuple[Gap, ...]
    beta: tuple[Gap, ...]


def ideal(network: Network, begin: Start, limit: Population) -> State:
    """Ideal particles of an initial network, independent draws of the population p, with their weights v_l.

    v_(l+1)(Theta_i, Theta_j) = h1(betabar_(l,i))^T K_l^(-1) alphabar_(l+1,j), v_1 and v_(L+1) as in the network.

    Parameters
    ----------
    network : Network
        Data and activations.
    begin : Start
        Network of Algorithm 2 or 4.
    limit : Population
        Its population, of the same sigma.

    Returns
    -------
    State
        Weights vbar, the middle ones of rank <= N, and features. The constraint defect is that of the empirical law of
        m ideal particles, O(m^(-1/2)), not 0.

    Raises
    ------
    InputError
        If the scales differ, or weights were drawn and the features do not determine g (rank below N).
    """
    if begin.sigma != limit.sigma:
        raise InputError(f"limit: expected the population of sigma = {begin.sigma}, got that of {limit.sigma}")
    alphas: list[Array] = []
    betas, middle = [begin.features.beta[0]], []
    for g, gram in zip(noise(network, begin), limit.grams, strict=True):
        h = network.h1.value(betas[-1])
        alphas.append(begin.sigma * g @ power(gram, 0.5))
        middle.append(LowRank(h, begin.sigma * g @ power(gram, -0.5)))
        betas.append(betas[-1] + network.h2.value(alphas[-1]) if network.skip else alphas[-1])
    weights = Weights(begin.weights.inner, tuple(middle), begin.weights.outer)
    return State(weights, Features(tuple(alphas), tuple(betas)))


def noise(network: Network, begin: Start) -> tuple[Array, ...]:
    """Standard normal g of each layer, (m, N): as drawn, or Khat_l^(-1/2) alpha_(l+1) / sigma where weights were drawn.

    Raises
    ------
    InputError
        If a Gram matrix is singular or a ridge has changed alpha, so that it does not determine g.
    """
    if begin.noise is not None:
        return begin.noise
    if min(begin.rank) < network.points or max(begin.residual) > _EXACT:
        raise InputError(
            f"begin: expected Gram matrices of full rank N = {network.points} and no ridge, to find what the features "
            f"were drawn from, got rank {min(begin.rank)}, residual {max(begin.residual):.2g}; use draw='features', "
            "which keeps it"
        )
    out = []
    for alpha, beta in zip(begin.features.alpha, begin.features.beta, strict=False):
        h = network.h1.value(beta)
        out.append(alpha @ power(h.T @ h / len(h), -0.5) / begin.sigma)
    return tuple(out)


def epsilon(weights: Weights, particles: State) -> Epsilon:
    """epsilon_1 of Definition 5: how far an initial network's weights are from those of its ideal particles.

    |Theta_i| is the Euclidean norm of (v_1, alphabar_2, ..., alphabar_L) of particle i.

    Parameters
    ----------
    weights : Weights
        The network's.
    particles : State
        Its ideal particles, of as many units.

    Raises
    ------
    InputError
        If the numbers of units differ.
    """
    m = len(weights.outer)
    if len(particles.weights.outer) != m:
        raise InputError(f"particles: expected {m}, one a unit, got {len(particles.weights.outer)}")
    other = particles.weights
    squares = (other.inner**2).sum(axis=0) + sum((each**2).sum(axis=1) for each in particles.features.alpha)
    size = np.sqrt(squares)
    middle = []
    for v, bar in zip(weights.middle, other.middle, strict=True):
        scaled = np.abs(block(bar, m) - block(v, m))
        scaled /= 1 + size[:, None] + size
        middle.append(float(scaled.max()))
    inner = (np.abs(other.inner - weights.inner) / (1 + size)).max()
    return Epsilon(float(inner), tuple(middle), float((np.abs(other.outer - weights.outer) / (1 + size)).max()))


def apart(a: State, b: State) -> Apart:
    """Differences of weights and features of the units that two networks have in common, the first min(m, m') of each.

    Networks of Algorithm 2 with one seed share v_1 and g unit by unit, so this compares a network with a larger one, or
    gradient descent with the flow of ideal particles.

    Raises
    ------
    InputError
        If depths, inputs or points differ.
    """
    m = min(len(a.weights.outer), len(b.weights.outer))
    shapes = [(len(each.weights.inner), len(each.features.beta), each.features.beta[0].shape[1]) for each in (a, b)]
    if shapes[0] != shapes[1]:
        raise InputError(f"networks: expected equal (d, L, N), got {shapes[0]} and {shapes[1]}; compare like with like")
    middle = [_gap(block(v, m), block(w, m)) for v, w in zip(a.weights.middle, b.weights.middle, strict=True)]
    inner = _gap(a.weights.inner[:, :m], b.weights.inner[:, :m])
    outer = _gap(a.weights.outer[:m], b.weights.outer[:m])
    alpha, beta = (
        tuple(_gap(p[:m], q[:m]) for p, q in zip(first, second, strict=True))
        for first, second in zip(a.features, b.features, strict=True)
    )
    return Apart((inner, *middle, outer), alpha, beta)


def _gap(a: AnyArray, b: AnyArray) -> Gap:
    apart = np.abs(a - b)
    return Gap(float(np.sqrt((apart**2).mean())), float(apart.max()))
