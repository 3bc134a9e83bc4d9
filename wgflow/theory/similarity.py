"""Similarity of the gradients of a deep network and of its shallow counterpart, along depth.

Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508) compare dE/drho = E f(X(t), theta) . p(t) of the deep network with
E f(x, theta) . p of the two-layer one: features frozen at x = X(0), adjoint at its final value.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from wgflow.base.types import Array
from wgflow.base.validate import finite_array
from wgflow.energy import Energy
from wgflow.model.depth import Network
from wgflow.model.particles import Particles


class Similarity(NamedTuple):
    """Comparison of deep and shallow gradients in theta at Q query parameters, vectors of Q P numbers at T depths.

    Attributes
    ----------
    t : ndarray (T,)
        Depths.
    cosine : ndarray (2, T)
        Cosine between the deep gradient at t and the shallow one, in [-1, 1]; first row with the shallow network's
        residual, second row with the deep network's. NaN where a gradient is 0.
    distance : ndarray (2, T)
        |deep - shallow| / |deep|, rows likewise.
    """

    t: Array
    cosine: Array
    distance: Array


def gradient_similarity(energy: Energy, rho: Particles, theta: ArrayLike, t: ArrayLike) -> Similarity:
    """Compare grad_theta E f(X(t), theta) . p(t), deep, with grad_theta E f(x, theta) . p(1), shallow.

    The shallow network is that of the same measure, all entries in one layer: X(1) = x + A1, the first order of the
    ensemble expansion. Its p(1) = W1' loss'(W1 X(1), y), or with the deep network's residual the deep p(1).

    Parameters
    ----------
    energy : Energy
        Its problem and depth scheme; a regulariser, the same for both, is left out.
    rho : Particles
        The measure.
    theta : array_like (Q, P)
        Query parameters, e.g. the particles' own.
    t : array_like (T,)
        Depths in [0, 1].

    Raises
    ------
    InputError
        If shapes do not fit, or a depth lies outside [0, 1].
    """
    points, depths = finite_array("theta", theta, 2), finite_array("t", t, 1)
    problem, net = energy.problem, energy.depth.network(rho)
    plain = Energy(problem, energy.depth, energy.backend, energy.dtype, energy.kernel.threads)
    queries = np.tile(points, (len(depths), 1))
    deep = plain.first_variation_gradient(rho, queries, np.repeat(depths, len(points)))[1]
    deep = deep.reshape(len(depths), -1)
    networks = (shallow_network(net), net)
    shallow = np.stack([_frozen(plain, network, rho.theta, points) for network in networks])  # (2, Q P)
    size, sizes = np.linalg.norm(deep, axis=1), np.linalg.norm(shallow, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.clip(shallow @ deep.T / (sizes[:, None] * size), -1.0, 1.0)
        distance = np.linalg.norm(deep - shallow[:, None], axis=2) / size
    return Similarity(depths, cosine, distance)


def shallow_network(net: Network) -> Network:
    """All entries of a network in one layer: X(1) = x + sum_e weight_e f(x, theta_e)."""
    return Network(np.array([0, len(net.particle)]), net.particle, net.weight)


def _frozen(energy: Energy, net: Network, own: Array, points: Array) -> Array:
    """Gradients of mean f(x, theta) . p(1) at the points, (Q P,): x = X(0), p(1) of the network given."""
    problem = energy.problem
    start = problem.start()
    output = energy.kernel.outputs(net, own, start)
    p = problem.loss.gradient(output, problem.y) @ problem.readout
    gradients = [problem.block.backward(start, row, p, problem.activation)[1] for row in points]
    return np.concatenate(gradients) / len(start)
