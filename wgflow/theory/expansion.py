"""Deep residual network as an ensemble of shallow ones: expansion in the blocks' size, and similarity of gradients.

With every weight times alpha, X(1) = x + alpha A1 + alpha**2 A2 + alpha**3 A3 + O(alpha**4). The first two orders are
those of Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508), after Veit, Wilber and Belongie (arXiv:1605.06431); the third is
derived. It is a series in the size of the blocks, not in 1/L: A2 does not vanish as L grows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from wgflow.base.errors import InputError
from wgflow.base.types import Array
from wgflow.base.validate import finite_array
from wgflow.energy import Energy
from wgflow.model.depth import Network
from wgflow.model.particles import Particles
from wgflow.model.problem import Problem
from wgflow.theory.layer_jacobians import Layer, check_twice_differentiable, chunks, layers

ALPHAS = (0.4, 0.2, 0.1, 0.05)  # block scales at which slopes are measured
ORDERS = 4  # remainders after orders 0, 1, 2 and 3


class Expansion(NamedTuple):
    """Terms of X(1) in the block scale alpha at the states x = X(0); M samples, D state columns.

    Attributes
    ----------
    start : ndarray (M, D)
        x.
    first : ndarray (M, D)
        A1 = sum_a F_a(x): the shallow network of the same measure.
    second : ndarray (M, D)
        A2 = sum_(a < b) F_b'(x) F_a(x).
    chain : ndarray (M, D)
        sum_(a < b < c) F_c'(x) F_b'(x) F_a(x), the paths through three blocks.
    hessian : ndarray (M, D)
        1/2 sum_b F_b''(x)[A_(<b), A_(<b)], A_(<b) = sum_(a < b) F_a(x): over all pairs a, a' < b, which no path of
        blocks describes. A3 = chain + hessian.
    """

    start: Array
    first: Array
    second: Array
    chain: Array
    hessian: Array

    def terms(self) -> Array:
        """Coefficients of alpha**0 to alpha**3, (4, M, D)."""
        return np.stack([self.start, self.first, self.second, self.chain + self.hessian])

    def truncated(self, alpha: float, order: int) -> Array:
        """Sum of the terms up to an order 0 <= order <= 3 at a block scale, (M, D)."""
        if order not in range(ORDERS):
            raise InputError(f"order: expected 0, 1, 2 or 3, got {order!r}")
        return np.asarray(np.tensordot(alpha ** np.arange(order + 1.0), self.terms()[: order + 1], 1))


class Remainders(NamedTuple):
    """Remainders of the expansion of the outputs, at A block scales.

    Attributes
    ----------
    alpha : ndarray (A,)
        Block scales, decreasing.
    size : ndarray (4, A)
        Root mean square over samples and outputs of the network's outputs minus orders 0 to q, for q = 0 to 3.
    slope : ndarray (4,)
        Exponents of alpha by least squares of the logarithms; q + 1 as alpha goes to 0. NaN where a remainder is 0 or
        rounding.
    without_hessian : ndarray (A,)
        Size after order 3 with the Hessian term left out, a negative control: of order alpha**3.
    slope_without : float
        Its exponent.
    """

    alpha: Array
    size: Array
    slope: Array
    without_hessian: Array
    slope_without: float


def expand(problem: Problem, net: Network, theta: Array) -> Expansion:
    """Expand a network's final state in the size of its blocks, up to the third order.

    One sweep along depth that carries the running sums B_q of order q: B1 += F(x), B2 += F'(x) B1, B3 += F'(x) B2 +
    1/2 F''(x)[B1, B1], each with the sums of the layers before. Derived: truncated Taylor arithmetic in alpha.

    Parameters
    ----------
    problem : Problem
        Samples, block and activation. Remainders of order alpha**(q + 1) need an activation with q continuous
        derivatives; at the kinks of a piecewise one, derivatives are one-sided.
    net, theta : Network, ndarray (N, P)
        The network, as ``energy.depth.network(rho)`` and ``rho.theta``.

    Raises
    ------
    InputError
        If a user-defined block or activation does not accept complex numbers.
    """
    check_twice_differentiable(problem)
    stack, start = layers(problem, net, theta), problem.start()
    widest = max((int(count) for count in np.diff(net.first)), default=1)
    terms = [_sweep(stack, start[rows]) for rows in chunks(len(start), 8 * (widest + problem.shape[1] ** 2))]
    return Expansion(start, *(np.concatenate(term) for term in zip(*terms, strict=True)))


def _sweep(stack: list[Layer], x: Array) -> tuple[Array, Array, Array, Array]:
    first, second, chain, hessian = (np.zeros(x.shape) for _ in range(4))
    for layer in stack:
        at_x = layer.linearise(x)
        hessian += 0.5 * layer.second_derivative(x, first)
        chain += at_x.jvp(second)
        second += at_x.jvp(first)
        first += at_x.value
    return first, second, chain, hessian


def remainders(energy: Energy, rho: Particles, alphas: ArrayLike = ALPHAS) -> Remainders:
    """Remainders of the expansion at several block scales, and their exponents.

    Parameters
    ----------
    energy, rho : Energy, Particles
        The measure, and its problem and depth scheme; the network at scale alpha has all its weights times alpha.
    alphas : array_like (A,), optional
        At least two different block scales > 0.

    Returns
    -------
    Remainders
        Computed in float64, whatever the energy's precision.

    Raises
    ------
    InputError
        If the scales are not of this kind, rho does not fit, or as :func:`expand`.
    """
    scales = np.unique(finite_array("alphas", alphas, 1))[::-1]
    if len(scales) < 2 or scales[-1] <= 0:
        raise InputError(f"alphas: expected at least two different block scales > 0, got {np.asarray(alphas).tolist()}")
    problem, net = energy.problem, energy.network(rho)
    problem.needs_linear("the expansion of outputs")
    exact = Energy(problem, energy.depth, energy.backend, threads=energy.kernel.threads)  # in float64, no regulariser
    expansion = expand(problem, net, rho.theta)
    terms = expansion.terms() @ problem.readout.T  # (4, M, K)
    third = expansion.chain @ problem.readout.T
    size, without = np.empty((ORDERS, len(scales))), np.empty(len(scales))
    for i, alpha in enumerate(scales):
        remainder = exact.kernel.outputs(net._replace(weight=alpha * net.weight), rho.theta, expansion.start)
        for order in range(ORDERS):
            if order == ORDERS - 1:
                without[i] = _rms(remainder - alpha**order * third)
            remainder = remainder - alpha**order * terms[order]
            size[order, i] = _rms(remainder)
    rounding = 64 * np.finfo(float).eps * _rms(terms[0] + terms[1])
    slopes = [_slope(scales, sizes, rounding) for sizes in (*size, without)]
    return Remainders(scales, size, np.array(slopes[:-1]), without, slopes[-1])


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _slope(scales: Array, size: Array, rounding: float) -> float:
    if not (size > rounding).all():
        return float("nan")
    return float(np.polyfit(np.log(scales), np.log(size), 1)[0])


class Similarity(NamedTuple):
    """Comparison of deep and shallow gradients in theta at Q query parameters, vectors of Q P numbers at T depths.

    Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508) compare dE/drho = E f(X(t), theta) . p(t) of the deep network with
    E f(x, theta) . p of the shallow one: features frozen at x = X(0), adjoint at its final value.

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
    energy, rho : Energy, Particles
        The measure, and its problem and depth scheme; a regulariser, the same for both, is left out.
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
    problem, net = energy.problem, energy.network(rho)
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
    problem.needs_linear("gradients at the frozen state X(0)")
    start = problem.start()
    output = energy.kernel.outputs(net, own, start)
    p = problem.loss.gradient(output, problem.y) @ problem.readout
    gradients = [problem.block.backward(start, row, p, problem.activation)[1] for row in points]
    return np.concatenate(gradients) / len(start)
