"""Two-layer block V sigma(U x + c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wgflow.base.types import Array
from wgflow.base.validate import whole
from wgflow.model.activations import Activation
from wgflow.model.blocks.base import BuiltinBlock


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

    def groups(self, width: int) -> dict[str, slice]:
        """Columns of V, U and, with bias, c."""
        size = width * self.hidden
        groups = {"V": slice(0, size), "U": slice(size, 2 * size)}
        return groups | {"c": slice(2 * size, 2 * size + self.hidden)} if self.bias else groups

    def _split(self, x: NDArray[Any], theta: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        width, hidden = x.shape[1], self.hidden
        outer = theta[: width * hidden].reshape(width, hidden)
        inner = theta[width * hidden : 2 * width * hidden].reshape(hidden, width)
        return outer, inner, x @ inner.T + (theta[2 * width * hidden :] if self.bias else 0.0)

    def forward(self, x: NDArray[Any], theta: NDArray[Any], activation: Activation) -> NDArray[Any]:
        """f(x, theta) = V sigma(U x + c), (M, D)."""
        outer, _, z = self._split(x, theta)
        out: NDArray[Any] = activation.value(z) @ outer.T
        return out

    def backward(
        self, x: NDArray[Any], theta: NDArray[Any], p: NDArray[Any], activation: Activation
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return (V' p sigma'(z)) U, (M, D), and the sums over samples for V, U and c, (P,)."""
        outer, inner, z = self._split(x, theta)
        r = (p @ outer) * activation.slope(z)  # (M, H)
        parts = [(p.T @ activation.value(z)).ravel(), (r.T @ x).ravel()]
        if self.bias:
            parts.append(r.sum(axis=0))
        return r @ inner, np.concatenate(parts)

    def degree(self, activation: Activation) -> int | None:
        """One more than the degree of the activation, since V multiplies it."""
        return None if activation.degree is None else activation.degree + 1

    def units(self, width: int) -> int:
        """One ridge unit per hidden neuron: V sigma(U x + c) = sum_j V_j sigma(U_j . x + c_j)."""
        return self.hidden

    def unfold(self, theta: Array, width: int) -> Array:
        """Rows [column j of V | row j of U | c_j] of every particle."""
        count, hidden = len(theta), self.hidden
        size = width * hidden
        rows = np.zeros((count, hidden, 2 * width + 1))
        rows[:, :, :width] = theta[:, :size].reshape(count, width, hidden).swapaxes(1, 2)
        rows[:, :, width : 2 * width] = theta[:, size : 2 * size].reshape(count, hidden, width)
        if self.bias:
            rows[:, :, -1] = theta[:, 2 * size :]
        return rows.reshape(count * hidden, 2 * width + 1)

    def fold(self, slope: Array, width: int) -> Array:
        """Gradients in V, U and c."""
        rows = slope.reshape(-1, self.hidden, 2 * width + 1)
        count, size = len(rows), width * self.hidden
        outer = rows[:, :, :width].swapaxes(1, 2).reshape(count, size)
        inner = rows[:, :, width : 2 * width].reshape(count, size)
        return np.concatenate([outer, inner, rows[:, :, -1]] if self.bias else [outer, inner], axis=1)
