"""Gram matrices K_l of infinitely many units, by quadrature where features are Gaussian and from a sample elsewhere.

In the limit of Algorithm 2 beta_1 ~ N(0, sigma^2 K_0), K_0 = (1/d) X X^T, alpha_(l+1) ~ N(0, sigma^2 K_l) independent
of what is below, K_l = int h1(beta_l) h1(beta_l)^T dp, beta_(l+1) = beta_l + h2(alpha_(l+1)) (DNN: alpha_(l+1)). Fang,
Lee, Yang and Zhang (COLT 2021), the population of their Theorem 7.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wgflow.base import rng
from wgflow.base.types import Array
from wgflow.base.validate import real, whole
from wgflow.systems.neural_feature_flow.gram import mean_gram
from wgflow.systems.neural_feature_flow.initial import RCOND
from wgflow.systems.neural_feature_flow.network import Network

_BATCHES = 16  # parts of a sample, whose spread gives its standard error


class Population(NamedTuple):
    """Gram matrices in the limit of infinitely many units.

    Attributes
    ----------
    grams : tuple of L - 1 ndarrays (N, N)
        K_1, ..., K_(L-1).
    error : tuple of L - 1 floats
        Largest error of an entry: the difference to half as many nodes for a quadrature, the standard error for a
        sample.
    sampled : tuple of L - 1 bools
        Whether K_l comes from a sample.
    sigma : float
        Scale of the draws.
    """

    grams: tuple[Array, ...]
    error: tuple[float, ...]
    sampled: tuple[bool, ...]
    sigma: float


def population(network: Network, sigma: float = 1.0, count: int = 2**16, seed: int = 0, nodes: int = 160) -> Population:
    """Gram matrices K_1..K_(L-1), by quadrature where features are Gaussian and from a sample elsewhere.

    beta_1, and every layer of a DNN, is Gaussian, so an entry of K_l is an integral over two dimensions. From K_2 on a
    Res-Net's features are sums through h2, and K_l is the mean over a sample of particles.

    Parameters
    ----------
    network : Network
        Data and activations.
    sigma : float, optional
        The paper's sigma_1, > 0.
    count : int, optional
        Particles of the sample, much larger than the networks compared; of order N numbers each in memory.
    seed : int, optional
        Seed of the sample.
    nodes : int, optional
        Quadrature nodes a dimension, >= 4.

    Raises
    ------
    InputError
        If an argument is out of its range.
    """
    sigma, count, nodes = real("sigma", sigma, above=0.0), whole("count", count, _BATCHES), whole("nodes", nodes, 4)
    covariance: Array = sigma**2 * network.x @ network.x.T / network.inputs
    grams: list[Array] = []
    errors: list[float] = []
    sampled = tuple(network.skip and layer > 1 for layer in range(1, network.layers))
    if any(sampled):  # a Res-Net's particles
        first = rng.normal(seed, "population 1", (count, network.inputs))
        beta = sigma / np.sqrt(network.inputs) * first @ network.x.T
    for layer, by_sample in enumerate(sampled, 1):
        if not by_sample:
            grams.append(gaussian_gram(network, covariance, nodes))
            errors.append(float(np.abs(grams[-1] - gaussian_gram(network, covariance, nodes // 2)).max()))
        else:
            draws = rng.normal(seed, f"population {layer}", (count, network.points))
            beta = beta + network.h2.value(sigma * draws @ power(grams[-1], 0.5))
            h = network.h1.value(beta)
            grams.append(mean_gram(h))
            batches = [mean_gram(batch) for batch in np.array_split(h, _BATCHES)]
            errors.append(float(np.std(batches, axis=0, ddof=1).max() / np.sqrt(_BATCHES)))
        covariance = sigma**2 * grams[-1]
    return Population(tuple(grams), tuple(errors), sampled, sigma)


def gaussian_gram(network: Network, covariance: Array, nodes: int = 160) -> Array:
    """Mean of h1(z) h1(z)^T over z ~ N(0, covariance), (N, N), by the trapezoidal rule for every pair of points.

    For h1 analytic in a strip of half width a around the real axis its error falls as exp(-2 pi a / spacing), which for
    tanh is far below that of as many Gauss-Hermite nodes.

    Parameters
    ----------
    network : Network
        For its h1.
    covariance : ndarray (N, N)
        Of the features, positive semidefinite.
    nodes : int, optional
        Nodes a dimension, in 9.5 standard deviations to either side.
    """
    u = np.linspace(-9.5, 9.5, nodes)
    w = np.exp(-0.5 * u * u)
    w /= w.sum()
    scale = np.sqrt(np.diag(covariance))
    n = len(scale)
    out = np.empty((n, n))
    for a in range(n):
        first = network.h1.value(scale[a] * u)
        out[a, a] = w @ first**2
        for b in range(a):
            along = covariance[a, b] / scale[a] if scale[a] > 0 else 0.0
            across = np.sqrt(max(covariance[b, b] - along**2, 0.0))
            second = network.h1.value(along * u[:, None] + across * u)
            out[a, b] = out[b, a] = (w * first) @ second @ w
    return out


def power(gram: Array, exponent: float) -> Array:
    """Symmetric power of a Gram matrix on its range, eigenvalues below RCOND times the largest left out."""
    values, vectors = np.linalg.eigh(gram)
    kept = values > RCOND * max(values[-1], 0.0)
    out: Array = (vectors[:, kept] * values[kept] ** exponent) @ vectors[:, kept].T
    return out
