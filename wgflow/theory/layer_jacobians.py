"""Layers of a network as functions of the state: increment, Jacobian products, spectral norm, second derivative.

F_k(x) = sum_(e in layer k) weight_e f(x, theta_particle(e)), so that X_(k+1) = X_k + F_k(X_k).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wgflow.base import rng
from wgflow.base.errors import InputError
from wgflow.base.types import Array
from wgflow.model.activations import Activation
from wgflow.model.blocks import Unfolding
from wgflow.model.depth import Network
from wgflow.model.problem import Problem

_STEP = 1e-30  # imaginary part of a complex step; its square underflows against 1
_NUMBERS = 2**22  # numbers of one temporary array, 32 MiB
_SPECTRA = 64  # spectral norms computed between two checks whether another can be larger


def layers(problem: Problem, net: Network, theta: Array) -> list[Layer]:
    """Layers of a network as functions of the state, L of them.

    Parameters
    ----------
    problem : Problem
        Block and activation. Sums of ridge units are evaluated layer by layer, other blocks particle by particle
        through ``backward``.
    net : Network
        Layers as made by a depth scheme.
    theta : ndarray (N, P)
        Parameters of the network's particles.
    """
    width = problem.shape[1]
    spans = [slice(int(low), int(high)) for low, high in zip(net.first[:-1], net.first[1:], strict=True)]
    if not isinstance(problem.block, Unfolding):
        return [_BlockLayer(problem, theta[net.particle[span]], net.weight[span]) for span in spans]
    count = problem.block.units(width)
    units = problem.block.unfold(theta, width).reshape(len(theta), count, 2 * width + 1)
    out: list[Layer] = []
    for span in spans:
        rows = units[net.particle[span]].reshape(-1, 2 * width + 1)
        a = rows[:, :width] * np.repeat(net.weight[span], count)[:, None]
        out.append(_RidgeLayer(a, rows[:, width : 2 * width], rows[:, -1], problem.activation))
    return out


def tapes(
    problem: Problem, net: Network, theta: Array, extra: int = 0
) -> Iterator[tuple[list[Linearisation], Array, float]]:
    """Forward sweep: linearisations of all layers, p(1) = W1' loss'(W1 X(1), y), (m, D), and the sum of the losses.

    In chunks of samples, so that the linearisations and ``extra`` more numbers per sample fit into 32 MiB.
    """
    width, stack, start = problem.shape[1], layers(problem, net, theta), problem.start()
    if isinstance(problem.block, Unfolding):
        size = len(net.particle) * problem.block.units(width) + net.layers * width
    else:
        size = net.layers * (width * width + width)
    for rows in chunks(len(start), size + extra):
        x, tape = start[rows], []
        for layer in stack:
            tape.append(layer.linearise(x))
            x = x + tape[-1].value
        y = problem.y[rows]
        yield tape, problem.end_adjoint(x, y), float(problem.loss.value(problem.outputs(x), y).sum())


def chunks(samples: int, size: int) -> list[slice]:
    """Chunks of samples for which ``size`` numbers per sample fit into 32 MiB."""
    share = max(1, _NUMBERS // max(1, size))
    return [slice(low, min(low + share, samples)) for low in range(0, samples, share)]


class _RidgeLayer(NamedTuple):
    """Layer of U ridge units as a function of the state, sum_u a_u sigma(w_u . x + b_u), with its weights in a."""

    a: Array  # (U, D)
    w: Array  # (U, D)
    b: Array  # (U,)
    activation: Activation

    def linearise(self, x: Array) -> _RidgeLinearisation:
        """Increment and Jacobians at states x (M, D)."""
        z = x @ self.w.T + self.b  # (M, U)
        return _RidgeLinearisation(
            np.asarray(self.activation.value(z) @ self.a), self.activation.slope(z), self.a, self.w
        )

    def second_derivative(self, x: Array, v: Array) -> Array:
        """Second derivative F''(x)[v, v], (M, D): 0 for a piecewise linear activation, whose kinks it leaves out."""
        curvature = np.imag(self.activation.slope(x @ self.w.T + self.b + 1j * _STEP)) / _STEP  # sigma'', (M, U)
        return np.asarray((curvature * (v @ self.w.T) ** 2) @ self.a)


class _RidgeLinearisation(NamedTuple):
    """Increment of one layer at states x (M, D) and its Jacobians there; M samples, D state columns."""

    value: Array  # F(x), (M, D)
    slope: Array  # sigma'(z), (M, U)
    a: Array  # (U, D)
    w: Array  # (U, D)

    def jvp(self, v: Array) -> Array:
        """Jacobian-vector product F'(x) v, (M, D), for v (M, D) or for many at once, (..., M, D)."""
        return np.asarray((v @ self.w.T * self.slope) @ self.a)

    def vjp(self, p: Array) -> Array:
        """Vector-Jacobian product F'(x)' p, (M, D), for p (M, D) or (..., M, D)."""
        return np.asarray((p @ self.a.T * self.slope) @ self.w)

    def norm(self, least: float = 0.0) -> float:
        """Largest spectral norm of F'(x) over the samples, or ``least`` if that is larger."""
        units, width = self.w.shape
        if units == 0:
            return least
        if units == 1:  # a s w', of rank one: |a| |w| |s|
            return max(least, float(np.linalg.norm(self.a) * np.linalg.norm(self.w) * np.abs(self.slope).max()))
        share = max(1, _NUMBERS // width**2)
        for rows in chunks(len(self.slope), width**2):
            jacobian = np.zeros((rows.stop - rows.start, width**2))
            for low in range(0, units, share):  # sum_u s_u a_u w_u', as one product over the units
                outer = self.a[low : low + share, :, None] * self.w[low : low + share, None, :]
                jacobian += self.slope[rows, low : low + share] @ outer.reshape(-1, width**2)
            least = _largest_norm(jacobian.reshape(-1, width, width), least)
        return least


class _BlockLayer(NamedTuple):
    """Layer of other blocks, evaluated through their ``forward`` and ``backward``."""

    problem: Problem
    theta: Array  # (E, P)
    weight: Array  # (E,)

    def linearise(self, x: Array) -> _BlockLinearisation:
        block, value = self.problem.block, np.zeros(x.shape)
        for row, weight in zip(self.theta, self.weight, strict=True):
            value += weight * block.forward(x, row, self.problem.activation)
        return _BlockLinearisation(value, self._jacobian(x))

    def second_derivative(self, x: Array, v: Array) -> Array:
        along = np.imag(self._jacobian(x + 1j * _STEP * v)) / _STEP  # derivative of F' along v
        return np.asarray(np.einsum("mij,mj->mi", along, v))

    def _jacobian(self, x: NDArray[Any]) -> NDArray[Any]:
        """F'(x), (M, D, D): row i is the product with the unit vector e_i."""
        block, width = self.problem.block, x.shape[1]
        out = np.zeros((len(x), width, width), x.dtype)
        for row, weight in zip(self.theta, self.weight, strict=True):
            for i, unit in enumerate(np.eye(width)):
                p = np.broadcast_to(unit, x.shape)
                out[:, i] += weight * block.backward(x, row, p, self.problem.activation)[0]
        return out


class _BlockLinearisation(NamedTuple):
    value: Array  # (M, D)
    jacobian: Array  # (M, D, D)

    def jvp(self, v: Array) -> Array:
        return np.asarray(np.einsum("mij,...mj->...mi", self.jacobian, v))

    def vjp(self, p: Array) -> Array:
        return np.asarray(np.einsum("mij,...mi->...mj", self.jacobian, p))

    def norm(self, least: float = 0.0) -> float:
        return _largest_norm(self.jacobian, least)


Layer: TypeAlias = _RidgeLayer | _BlockLayer
Linearisation: TypeAlias = _RidgeLinearisation | _BlockLinearisation


def _largest_norm(matrices: Array, least: float) -> float:
    """Largest spectral norm of matrices (M, D, D), or ``least`` if that is larger.

    |J|_2 <= |(J'J)**2|_F**(1/4): matrices whose bound is below a norm already computed are not decomposed.
    """
    gram = matrices.swapaxes(1, 2) @ matrices
    bound = np.linalg.norm(gram @ gram, axis=(1, 2)) ** 0.25
    order = np.argsort(-bound)
    cuts = [0, *range(1, len(order), _SPECTRA), len(order)]  # the first may already exclude all others
    for low, high in itertools.pairwise(cuts):
        if bound[order[low]] <= least:
            break
        least = max(least, float(np.linalg.norm(matrices[order[low:high]], 2, axis=(1, 2)).max()))
    return least


def check_twice_differentiable(problem: Problem) -> None:
    """Refuse a user-defined block or activation whose second derivative a complex step does not give.

    Raises
    ------
    InputError
        If the block's ``backward`` or the activation's ``slope`` fails on complex arguments or drops the imaginary
        part, so that the result differs from central differences.
    """
    if problem.activation.builtin and isinstance(problem.block, Unfolding):
        return
    _, width, _, parameters = problem.shape
    x, v = rng.normal(0, "check x", (6, width)), rng.normal(0, "check v", (6, width))
    theta, h = rng.normal(0, "check theta", (1, parameters)), 1e-5
    net = Network(np.array([0, 1]), np.array([0]), np.array([1.0]))
    layer = layers(problem, net, theta)[0]
    try:
        value = layer.second_derivative(x, v)
    except (TypeError, ValueError) as error:
        raise InputError(f"{_named(problem)}: expected functions that take complex numbers, got {error}") from error
    expected = (layer.linearise(x + h * v).jvp(v) - layer.linearise(x - h * v).jvp(v)) / (2 * h)
    error_ = float(np.abs(value - expected).max())
    if not error_ <= 1e-5 * (1 + float(np.abs(expected).max())):
        raise InputError(
            f"{_named(problem)}: expected functions whose derivative a complex step gives, got a second derivative "
            f"that is off by {error_:.3g}; let them compute with complex numbers, without abs or real"
        )


def _named(problem: Problem) -> str:
    return f"block {problem.block.name!r} with activation {problem.activation.name!r}"
