"""Layers of a network as functions of the state: increment, Jacobian products, spectral norm, second derivative.

F_k(x) = sum_(e in layer k) weight_e f(x, theta_particle(e)), so that X_(k+1) = X_k + F_k(X_k).
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from wgflow.base import rng
from wgflow.base.errors import InputError
from wgflow.base.types import Array
from wgflow.model.activations import Activation
from wgflow.model.blocks import Unfolding
from wgflow.model.depth import Network
from wgflow.model.problem import Problem

_STEP = 1e-30  # imaginary part of a complex step; its square is nothing
_NUMBERS = 2**22  # numbers of one temporary array, 32 MiB
_SPECTRA = 64  # spectral norms computed between two looks at whether another can be larger


class Tangent(Protocol):
    """One layer's increment at states x (M, D) with its derivative there; M samples, D state columns."""

    @property
    def value(self) -> Array:
        """F(x), (M, D)."""

    def push(self, v: Array) -> Array:
        """Directional derivative F'(x) v, (M, D), for v (M, D) or for many at once, (..., M, D)."""

    def pull(self, p: Array) -> Array:
        """Transpose p . F'(x), (M, D), for p (M, D) or (..., M, D)."""

    def norm(self, least: float = 0.0) -> float:
        """Largest over samples of the spectral norm of F'(x), or ``least`` if that is more."""


class Layer(Protocol):
    """One layer of a network as a function of the state."""

    def value(self, x: Array) -> Array:
        """F(x), (M, D)."""

    def at(self, x: Array) -> Tangent:
        """The layer and its derivative at states x (M, D)."""

    def curve(self, x: Array, v: Array) -> Array:
        """Second derivative F''(x)[v, v], (M, D): 0 for a piecewise linear activation, whose kinks it leaves out."""


def layers(problem: Problem, net: Network, theta: Array) -> list[Layer]:
    """Layers of a network as functions of the state, L of them.

    Parameters
    ----------
    problem : Problem
        Block and activation. A block that is a sum of ridge units is handled a layer at a time, any other one
        particle at a time through its ``backward``.
    net : Network
        Layers as a depth scheme makes them.
    theta : ndarray (N, P)
        Parameters that the network's entries point at.
    """
    width = problem.shape[1]
    spans = [slice(int(low), int(high)) for low, high in zip(net.first[:-1], net.first[1:], strict=True)]
    if not isinstance(problem.block, Unfolding):
        return [_Own(problem, theta[net.particle[span]], net.weight[span]) for span in spans]
    count = problem.block.units(width)
    units = problem.block.unfold(theta, width).reshape(len(theta), count, 2 * width + 1)
    out: list[Layer] = []
    for span in spans:
        rows = units[net.particle[span]].reshape(-1, 2 * width + 1)
        a = rows[:, :width] * np.repeat(net.weight[span], count)[:, None]
        out.append(_Ridges(a, rows[:, width : 2 * width], rows[:, -1], problem.activation))
    return out


def tape_size(problem: Problem, net: Network) -> int:
    """Numbers that the tangents of all layers hold for one sample."""
    width = problem.shape[1]
    if isinstance(problem.block, Unfolding):
        return len(net.particle) * problem.block.units(width) + net.layers * width
    return net.layers * (width * width + width)


def parts(samples: int, size: int) -> list[slice]:
    """Samples in pieces, for each of which ``size`` numbers a sample fit into 32 MiB."""
    share = max(1, _NUMBERS // max(1, size))
    return [slice(low, min(low + share, samples)) for low in range(0, samples, share)]


class _Ridges(NamedTuple):
    """Layer of U ridge units, sum_u a_u sigma(w_u . x + b_u), its weights inside a."""

    a: Array  # (U, D)
    w: Array  # (U, D)
    b: Array  # (U,)
    activation: Activation

    def value(self, x: Array) -> Array:
        return np.asarray(self.activation.value(x @ self.w.T + self.b) @ self.a)

    def at(self, x: Array) -> Tangent:
        z = x @ self.w.T + self.b  # (M, U)
        return _RidgesAt(np.asarray(self.activation.value(z) @ self.a), self.activation.slope(z), self.a, self.w)

    def curve(self, x: Array, v: Array) -> Array:
        bend = np.imag(self.activation.slope(x @ self.w.T + self.b + 1j * _STEP)) / _STEP  # sigma'', (M, U)
        return np.asarray((bend * (v @ self.w.T) ** 2) @ self.a)


class _RidgesAt(NamedTuple):
    value: Array  # (M, D)
    slope: Array  # sigma'(z), (M, U)
    a: Array  # (U, D)
    w: Array  # (U, D)

    def push(self, v: Array) -> Array:
        return np.asarray((v @ self.w.T * self.slope) @ self.a)

    def pull(self, p: Array) -> Array:
        return np.asarray((p @ self.a.T * self.slope) @ self.w)

    def norm(self, least: float = 0.0) -> float:
        units, width = self.w.shape
        if units == 0:
            return least
        if units == 1:  # a s w', of rank one: |a| |w| |s|
            return max(least, float(np.linalg.norm(self.a) * np.linalg.norm(self.w) * np.abs(self.slope).max()))
        share = max(1, _NUMBERS // width**2)
        for rows in parts(len(self.slope), width**2):
            jacobian = np.zeros((rows.stop - rows.start, width**2))
            for low in range(0, units, share):  # sum_u s_u a_u w_u', as one product over the units
                outer = self.a[low : low + share, :, None] * self.w[low : low + share, None, :]
                jacobian += self.slope[rows, low : low + share] @ outer.reshape(-1, width**2)
            least = _largest_norm(jacobian.reshape(-1, width, width), least)
        return least


class _Own(NamedTuple):
    """Layer of blocks that are no sums of ridge units, known by their ``forward`` and ``backward`` alone."""

    problem: Problem
    theta: Array  # (E, P)
    weight: Array  # (E,)

    def value(self, x: Array) -> Array:
        block, total = self.problem.block, np.zeros(x.shape)
        for row, weight in zip(self.theta, self.weight, strict=True):
            total += weight * block.forward(x, row, self.problem.activation)
        return total

    def at(self, x: Array) -> Tangent:
        return _OwnAt(self.value(x), self._jacobian(x))

    def curve(self, x: Array, v: Array) -> Array:
        along = np.imag(self._jacobian(x + 1j * _STEP * v)) / _STEP  # derivative of F' along v
        return np.asarray(np.einsum("mij,mj->mi", along, v))

    def _jacobian(self, x: NDArray[Any]) -> NDArray[Any]:
        """F'(x), (M, D, D): row i is the pull of the unit vector e_i."""
        block, width = self.problem.block, x.shape[1]
        out = np.zeros((len(x), width, width), x.dtype)
        for row, weight in zip(self.theta, self.weight, strict=True):
            for i, unit in enumerate(np.eye(width)):
                p = np.broadcast_to(unit, x.shape)
                out[:, i] += weight * block.backward(x, row, p, self.problem.activation)[0]
        return out


class _OwnAt(NamedTuple):
    value: Array  # (M, D)
    jacobian: Array  # (M, D, D)

    def push(self, v: Array) -> Array:
        return np.asarray(np.einsum("mij,...mj->...mi", self.jacobian, v))

    def pull(self, p: Array) -> Array:
        return np.asarray(np.einsum("mij,...mi->...mj", self.jacobian, p))

    def norm(self, least: float = 0.0) -> float:
        return _largest_norm(self.jacobian, least)


def _largest_norm(matrices: Array, least: float) -> float:
    """Largest spectral norm of matrices (M, D, D), or ``least`` if that is more.

    |J|_2 <= |(J'J)**2|_F**(1/4), and matrices whose bound is below a norm already found are not decomposed.
    """
    gram = matrices.swapaxes(1, 2) @ matrices
    bound = np.linalg.norm(gram @ gram, axis=(1, 2)) ** 0.25
    order = np.argsort(-bound)
    cuts = [0, *range(1, len(order), _SPECTRA), len(order)]  # the first alone may rule out all others
    for low, high in itertools.pairwise(cuts):
        if bound[order[low]] <= least:
            break
        least = max(least, float(np.linalg.norm(matrices[order[low:high]], 2, axis=(1, 2)).max()))
    return least


def check_twice_differentiable(problem: Problem) -> None:
    """Refuse a block or activation of your own whose second derivative a complex step cannot find.

    Raises
    ------
    InputError
        If the block's ``backward`` or the activation's ``slope`` fails on complex arguments, or drops the imaginary
        part: what they give then differs from central differences of ``backward``.
    """
    if problem.activation.builtin and isinstance(problem.block, Unfolding):
        return
    _, width, _, parameters = problem.shape
    x, v = rng.normal(0, "check x", (6, width)), rng.normal(0, "check v", (6, width))
    theta, h = rng.normal(0, "check theta", (1, parameters)), 1e-5
    net = Network(np.array([0, 1]), np.array([0]), np.array([1.0]))
    layer = layers(problem, net, theta)[0]
    try:
        found = layer.curve(x, v)
    except (TypeError, ValueError) as error:
        raise InputError(f"{_named(problem)}: expected functions that take complex numbers, got {error}") from error
    expected = (layer.at(x + h * v).push(v) - layer.at(x - h * v).push(v)) / (2 * h)
    error_ = float(np.abs(found - expected).max())
    if not error_ <= 1e-5 * (1 + float(np.abs(expected).max())):
        raise InputError(
            f"{_named(problem)}: expected functions whose derivative a complex step gives, got a second derivative "
            f"that is off by {error_:.3g}; let them compute with complex numbers, without abs or real"
        )


def _named(problem: Problem) -> str:
    return f"block {problem.block.name!r} with activation {problem.activation.name!r}"
