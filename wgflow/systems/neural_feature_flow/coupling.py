"""Networks of m units compared with their population: ideal particles, and the distance epsilon_1 to them.

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
from wgflow.systems.neural_feature_flow.gram import grams
from wgflow.systems.neural_feature_flow.initial import Start
from wgflow.systems.neural_feature_flow.low_rank import LowRank, dense
from wgflow.systems.neural_feature_flow.network import Network
from wgflow.systems.neural_feature_flow.population import Population, power
from wgflow.systems.neural_feature_flow.state import Features, Weights

_EXACT = 1e-8  # residuals of a regression that count as rounding


class Epsilon(NamedTuple):
    """Definition 5 as measured: largest differences of weights over 1 + |Theta_i| + |Theta_j|.

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
        If the scales differ, the last layer is regressed, or weights were drawn and the features do not determine g
        (rank below N).
    """
    if begin.sigma != limit.sigma:
        raise InputError(f"limit: expected the population of sigma = {begin.sigma}, got that of {limit.sigma}")
    if begin.last != "constant":
        raise InputError(
            f"begin: expected a constant last layer, got one that is {begin.last}: its limit depends on one draw of "
            "the outputs; use last = 'constant' where ideal particles are wanted"
        )
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
    khats = grams(network, begin.features)
    pairs = zip(begin.features.alpha, khats, strict=False)
    return tuple(alpha @ power(khat, -0.5) / begin.sigma for alpha, khat in pairs)


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
    size = np.sqrt((other.inner**2).sum(axis=0) + sum((alpha**2).sum(axis=1) for alpha in particles.features.alpha))
    pairs = zip(weights.middle, other.middle, strict=True)
    middle = tuple(_largest(dense(v) - dense(bar), 1 + size[:, None] + size) for v, bar in pairs)
    inner, outer = weights.inner - other.inner, weights.outer - other.outer
    return Epsilon(_largest(inner, 1 + size), middle, _largest(outer, 1 + size))


def _largest(difference: Array, scale: Array) -> float:
    return float((np.abs(difference) / scale).max())
