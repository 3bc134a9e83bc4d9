"""The built-in blocks that are sums of ridge units: ridge, matrix, scaled matrix and two-layer blocks."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wgflow.base.errors import InputError, describe
from wgflow.base.registry import Options
from wgflow.base.types import Array
from wgflow.base.validate import whole
from wgflow.model.activations import Activation


class BuiltinBlock(Options):
    """Base of the built-in blocks: groups of parameters, of which the last, the bias, can be left out."""

    bias: bool

    def _check_options(self) -> None:
        if not isinstance(self.bias, bool):
            raise InputError(f"bias of the {self.name} block: expected true or false, got {describe(self.bias)}")

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the groups, the bias included."""
        raise NotImplementedError

    def groups(self, width: int) -> dict[str, slice]:
        """Columns of theta by parameter group."""
        return {name: columns for name, columns, _ in _layout(self, width)}

    def _split(self, theta: NDArray[Any], width: int) -> list[Any]:
        """Groups of theta, (..., P), in their shapes; 0 for a bias that is left out."""
        rows = theta.shape[:-1]
        parts = [theta[..., columns].reshape(rows + shape) for _, columns, shape in _layout(self, width)]
        return parts if self.bias else [*parts, 0.0]

    def _join(self, *gradients: NDArray[Any]) -> NDArray[Any]:
        """Gradients in the columns of theta, from those in the columns of each group."""
        return np.concatenate(gradients if self.bias else gradients[:-1], axis=-1)

    def degree(self, activation: Activation) -> int | None:
        """One more than the degree of the activation, since a or V multiplies it."""
        return None if activation.degree is None else activation.degree + 1


@dataclass(frozen=True)
class Ridge(BuiltinBlock):
    """Ridge function a sigma(w . x + b), a rank-one residual block.

    Columns of theta are [a (D) | w (D) | b (1)]. With relu the pair is 2-homogeneous in theta, with squared relu
    3-homogeneous; with any activation it is 1-homogeneous in a alone, the partially homogeneous case of
    Ding, Chen, Li and Wright (arXiv:2110.02926), Theorem 6.2, whose bounds it does not meet (SaturatedMatrix does).

    Parameters
    ----------
    bias : bool, optional
        Whether there is a column b.
    """

    bias: bool = True
    name: ClassVar[str] = "ridge"

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        return {"a": (width,), "w": (width,), "b": (1,)}

    def forward(self, x: NDArray[Any], theta: NDArray[Any], activation: Activation) -> NDArray[Any]:
        """f(x, theta) = a sigma(w . x + b), (M, D)."""
        a, w, b = self._split(theta, x.shape[1])
        out: NDArray[Any] = activation.value(x @ w + b)[:, None] * a
        return out

    def backward(
        self, x: NDArray[Any], theta: NDArray[Any], p: NDArray[Any], activation: Activation
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return p . d_x f = (p . a) sigma'(z) w, (M, D), and the sums over samples for a, w and b, (P,)."""
        a, w, b = self._split(theta, x.shape[1])
        z = x @ w + b  # (M,)
        r = (p @ a) * activation.slope(z)  # (M,)
        return r[:, None] * w, self._join(activation.value(z) @ p, r @ x, np.sum(r, keepdims=True))

    def units(self, width: int) -> int:
        """One ridge unit per particle."""
        return 1

    def unfold(self, theta: Array, width: int) -> Array:
        """The particles themselves, with a zero bias if the block has none."""
        return theta if self.bias else np.pad(theta, ((0, 0), (0, 1)))

    def fold(self, slope: Array, width: int) -> Array:
        """Gradients in the block's own columns."""
        return slope if self.bias else slope[:, :-1]


@dataclass(frozen=True)
class Matrix(BuiltinBlock):
    """Activated affine map sigma(W x + b).

    Columns of theta are [W row by row (D * D) | b (D)]; homogeneous of the activation's degree.

    Parameters
    ----------
    bias : bool, optional
        Whether there are columns b.
    """

    bias: bool = True
    name: ClassVar[str] = "matrix"
    coordinate_units: ClassVar[bool] = True

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        return {"W": (width, width), "b": (width,)}

    def forward(self, x: NDArray[Any], theta: NDArray[Any], activation: Activation) -> NDArray[Any]:
        """f(x, theta) = sigma(W x + b), (M, D)."""
        weight, b = self._split(theta, x.shape[1])
        return activation.value(x @ weight.T + b)

    def backward(
        self, x: NDArray[Any], theta: NDArray[Any], p: NDArray[Any], activation: Activation
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return (p sigma'(z)) W, (M, D), and the sums over samples for W and b, (P,)."""
        weight, b = self._split(theta, x.shape[1])
        r = p * activation.slope(x @ weight.T + b)  # (M, D)
        return r @ weight, self._join((r.T @ x).ravel(), r.sum(axis=0))

    def degree(self, activation: Activation) -> int | None:
        """Degree of the activation."""
        return activation.degree

    def units(self, width: int) -> int:
        """One ridge unit per row of W: sigma(W x + b) = sum_d e_d sigma(W_d . x + b_d)."""
        return width

    def unfold(self, theta: Array, width: int) -> Array:
        """Rows [e_d | W_d | b_d] of every particle."""
        return _rows(np.eye(width), *self._split(theta, width))

    def fold(self, slope: Array, width: int) -> Array:
        """Gradients in W and b; those in the fixed e_d are discarded."""
        rows = slope.reshape(-1, width, 2 * width + 1)
        return self._join(rows[:, :, width:-1].reshape(-1, width * width), rows[:, :, -1])


@dataclass(frozen=True)
class ScaledMatrix(BuiltinBlock):
    """Number times an activated affine map, a sigma(W x + b) componentwise.

    The form f = theta_[1] fhat(x, theta_[2]) with a number theta_[1] = a of Ding, Chen, Li and Wright
    (arXiv:2110.02926), Theorem 6.2 with k_1 = 1; SaturatedMatrix also meets its bounds. Columns of theta are
    [a (1) | W row by row (D * D) | b (D)]. With D = 1 it is the ridge block.

    Parameters
    ----------
    bias : bool, optional
        Whether there are columns b.
    """

    bias: bool = True
    name: ClassVar[str] = "scaled_matrix"

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        return {"a": (1,), "W": (width, width), "b": (width,)}

    def forward(self, x: NDArray[Any], theta: NDArray[Any], activation: Activation) -> NDArray[Any]:
        """f(x, theta) = a sigma(W x + b), (M, D)."""
        a, weight, b = self._split(theta, x.shape[1])
        out: NDArray[Any] = a * activation.value(x @ weight.T + b)
        return out

    def backward(
        self, x: NDArray[Any], theta: NDArray[Any], p: NDArray[Any], activation: Activation
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return a (p sigma'(z)) W, (M, D), and the sums over samples for a, W and b, (P,)."""
        a, weight, b = self._split(theta, x.shape[1])
        z = x @ weight.T + b
        r = a * p * activation.slope(z)  # (M, D)
        outer = np.sum(p * activation.value(z), keepdims=True)[0]
        return r @ weight, self._join(outer, (r.T @ x).ravel(), r.sum(axis=0))

    def units(self, width: int) -> int:
        """One ridge unit per row of W: a sigma(W x + b) = sum_d (a e_d) sigma(W_d . x + b_d)."""
        return width

    def unfold(self, theta: Array, width: int) -> Array:
        """Rows [a e_d | W_d | b_d] of every particle."""
        a, inner, b = self._split(theta, width)
        return _rows(a[:, :, None] * np.eye(width), inner, b)

    def fold(self, slope: Array, width: int) -> Array:
        """Gradients in a, W and b."""
        rows = slope.reshape(-1, width, 2 * width + 1)
        a = np.trace(rows[:, :, :width], axis1=1, axis2=2)[:, None]
        return self._join(a, rows[:, :, width:-1].reshape(-1, width * width), rows[:, :, -1])


@dataclass(frozen=True)
class TwoLayer(BuiltinBlock):
    """Two-layer perceptron V sigma(U x + c) of hidden width H.

    Columns of theta are [V row by row (D * H) | U row by row (H * D) | c (H)]. With H = 1 it is the ridge block.

    Parameters
    ----------
    hidden : int, optional
        H >= 1.
    bias : bool, optional
        Whether there are columns c.
    """

    hidden: int = 4
    bias: bool = True
    name: ClassVar[str] = "two_layer"

    def _check_options(self) -> None:
        super()._check_options()
        whole("hidden of the two_layer block", self.hidden)

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        return {"V": (width, self.hidden), "U": (self.hidden, width), "c": (self.hidden,)}

    def forward(self, x: NDArray[Any], theta: NDArray[Any], activation: Activation) -> NDArray[Any]:
        """f(x, theta) = V sigma(U x + c), (M, D)."""
        outer, inner, c = self._split(theta, x.shape[1])
        out: NDArray[Any] = activation.value(x @ inner.T + c) @ outer.T
        return out

    def backward(
        self, x: NDArray[Any], theta: NDArray[Any], p: NDArray[Any], activation: Activation
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return (V' p sigma'(z)) U, (M, D), and the sums over samples for V, U and c, (P,)."""
        outer, inner, c = self._split(theta, x.shape[1])
        z = x @ inner.T + c
        r = (p @ outer) * activation.slope(z)  # (M, H)
        return r @ inner, self._join((p.T @ activation.value(z)).ravel(), (r.T @ x).ravel(), r.sum(axis=0))

    def units(self, width: int) -> int:
        """One ridge unit per hidden neuron: V sigma(U x + c) = sum_j V_j sigma(U_j . x + c_j)."""
        return self.hidden

    def unfold(self, theta: Array, width: int) -> Array:
        """Rows [column j of V | row j of U | c_j] of every particle."""
        outer, inner, c = self._split(theta, width)
        return _rows(outer.swapaxes(1, 2), inner, c)

    def fold(self, slope: Array, width: int) -> Array:
        """Gradients in V, U and c."""
        rows, size = slope.reshape(-1, self.hidden, 2 * width + 1), width * self.hidden
        outer = rows[:, :, :width].swapaxes(1, 2).reshape(-1, size)
        return self._join(outer, rows[:, :, width:-1].reshape(-1, size), rows[:, :, -1])


@functools.cache
def _layout(block: BuiltinBlock, width: int) -> list[tuple[str, slice, tuple[int, ...]]]:
    """Name, columns and shape of each group."""
    layout, stop = [], 0
    for name, shape in block._shapes(width).items():
        start, stop = stop, stop + math.prod(shape)
        layout.append((name, slice(start, stop), shape))
    return layout if block.bias else layout[:-1]


def _rows(outer: Array, inner: Array, bias: Array | float) -> Array:
    """Rows [a | w | b] of the units of all particles, from a, (H, D) or (N, H, D), w, (N, H, D), and b, (N, H) or 0."""
    count, units, width = inner.shape
    rows = np.empty((count, units, 2 * width + 1))
    rows[:, :, :width], rows[:, :, width:-1], rows[:, :, -1] = outer, inner, bias
    return rows.reshape(count * units, 2 * width + 1)
