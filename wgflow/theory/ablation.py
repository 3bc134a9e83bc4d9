"""Ablations after Veit, Wilber and Belongie (arXiv:1605.06431): path lengths, block deletion, permutation.

A residual network behaves like an ensemble of the paths through it, there trained image classifiers, here a measure.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wgflow.base import rng
from wgflow.base.errors import InputError
from wgflow.base.types import Array, Index
from wgflow.base.validate import whole
from wgflow.energy import Energy
from wgflow.model.depth import Network, switches
from wgflow.model.particles import Particles
from wgflow.theory.layer_jacobians import tapes


class PathLengths(NamedTuple):
    """Gradient at the network's input, by the number of blocks on a path.

    Attributes
    ----------
    size : ndarray (n + 1,)
        Root mean square over samples of |P_k|, the contribution of the C(L, k) paths of length k = 0 to n.
    share : ndarray (n + 1,)
        ``size`` over its sum; NaN if p(1) = 0.
    whole : float
        Root mean square of |p_0|, the whole gradient.
    left_out : float
        Root mean square of |p_0 - sum_k P_k|: the longer paths, 0 up to rounding if n = L.
    """

    size: Array
    share: Array
    whole: float
    left_out: float


class Deletion(NamedTuple):
    """E without one of the layers.

    Attributes
    ----------
    base : float
        E of the whole network.
    layer, energy : ndarray (A,)
        The layer left out, and E without it.
    """

    base: float
    layer: Index
    energy: Array


class Permutation(NamedTuple):
    """E with the layers in another order.

    Attributes
    ----------
    base : float
        E in the original order.
    swaps : ndarray (A,), int64
        Number of random exchanges of two layers.
    kendall : ndarray (A,)
        Kendall's tau between the two orders: 1 for the same, 0 on average for a random one, -1 for the reverse.
    energy : ndarray (A,)
        E in that order.
    """

    base: float
    swaps: Index
    kendall: Array
    energy: Array


def path_lengths(energy: Energy, rho: Particles, longest: int | None = None) -> PathLengths:
    """Split the gradient at the input by path length: p_0 = prod_k (I + F_k')' p(1) = sum_k P_k.

    P_k is the sum over all choices of k layers of the product of their transposed Jacobians at the network's own
    states, in order, times p(1): Veit, Wilber and Belongie, section 4.3, there sampled, here exact (derived: the
    coefficients in z of prod_k (I + z F_k')' p(1)). Where every Jacobian is the identity, P_k = C(L, k) p(1) and
    ``share`` is the binomial distribution of L and 1/2. Paths of one length may cancel each other.

    Parameters
    ----------
    energy, rho : Energy, Particles
        The network.
    longest : int, optional
        n >= 0, the longest path length resolved; by default min(L, 16).

    Raises
    ------
    InputError
        If rho does not fit, or ``longest`` is not a whole number >= 0.
    """
    problem, net = energy.problem, energy.network(rho)
    longest = min(16 if longest is None else whole("longest", longest, least=0), net.layers)
    square, total, rest, samples = np.zeros(longest + 1), 0.0, 0.0, len(problem.x)
    for tape, p, _ in tapes(problem, net, rho.theta, extra=(longest + 1) * problem.shape[1]):
        by_length = np.zeros((longest + 1, *p.shape))
        by_length[0] = p
        for blocks, tangent in enumerate(reversed(tape), start=1):
            reached = min(blocks, longest)
            by_length[1 : reached + 1] += tangent.vjp(by_length[:reached])
            p = p + tangent.vjp(p)
        square += np.sum(by_length**2, axis=(1, 2))
        total += float(np.vdot(p, p))
        rest += float(np.sum((p - by_length.sum(axis=0)) ** 2))
    size = np.sqrt(square / samples)
    share = size / size.sum() if size.sum() > 0 else np.full(len(size), np.nan)
    return PathLengths(size, share, float(np.sqrt(total / samples)), float(np.sqrt(rest / samples)))


def deletion(energy: Energy, rho: Particles) -> Deletion:
    """E without one layer, for every layer in turn: Veit, Wilber and Belongie, section 4.1.

    The layer's weights are set to 0, so that its residual connection alone remains; a regulariser loses the layer's
    part too.

    Parameters
    ----------
    energy, rho : Energy, Particles
        The network.

    Raises
    ------
    InputError
        If rho does not fit the problem or the scheme.
    """
    base, net = energy(rho), energy.depth.network(rho)
    out = np.empty(net.layers)
    for k in range(net.layers):
        weight = net.weight.copy()
        weight[net.first[k] : net.first[k + 1]] = 0.0
        out[k] = energy.network_energy(net._replace(weight=weight), rho.theta)
    return Deletion(base, np.arange(net.layers), out)


def permutation(energy: Energy, rho: Particles, swaps: list[int], repeats: int = 1, seed: int = 0) -> Permutation:
    """E with layers exchanged at random: Veit, Wilber and Belongie, section 4.2.

    A layer keeps its blocks and its weights, under Gaps its gap. There are A = len(swaps) * repeats orders, grouped by
    the number of swaps.

    Parameters
    ----------
    energy, rho : Energy, Particles
        The network.
    swaps : list of int
        Numbers of exchanges of two layers, each >= 0.
    repeats : int, optional
        Random orders for each number, >= 1.
    seed : int, optional
        0 <= seed < 2**64. An order is a function of (seed, number of swaps, repeat).

    Raises
    ------
    InputError
        If a number is out of range, the network has a single layer, or rho does not fit.
    """
    repeats = whole("repeats", repeats)
    base, net = energy(rho), energy.depth.network(rho)
    if net.layers < 2:
        raise InputError("permutation: expected a network of several layers, got one; use another depth scheme")
    counts = np.repeat(np.array([whole("swaps", count, least=0) for count in swaps], np.int64), repeats)
    kendall, out, own = np.empty(len(counts)), np.empty(len(counts)), np.arange(net.layers)
    for i, count in enumerate(counts):
        order = _exchanged(net.layers, int(count), seed, i % repeats)
        kendall[i] = 1.0 - 4.0 * switches(own, order) / (net.layers * (net.layers - 1))
        out[i] = energy.network_energy(reordered(net, order), rho.theta)
    return Permutation(base, counts, kendall, out)


def reordered(net: Network, order: Index) -> Network:
    """Network whose layer k is layer ``order[k]`` of another."""
    counts = np.diff(net.first)[order]
    first = np.concatenate([[0], np.cumsum(counts)])
    entry = np.repeat(net.first[order] - first[:-1], counts) + np.arange(first[-1])
    return Network(first, net.particle[entry], net.weight[entry])


def _exchanged(count: int, swaps: int, seed: int, repeat: int) -> Index:
    """Order after a number of random exchanges of two different places."""
    order = np.arange(count)
    draws = rng.uniform(seed, f"exchanged layers, {swaps} swaps", (max(swaps, 1), 2), repeat)[:swaps]
    for one, other in (draws * [count, count - 1]).astype(np.int64):
        other += other >= one
        order[[one, other]] = order[[other, one]]
    return order
