"""Matrix block sigma(W x + b)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wgflow.base.types import Array
from wgflow.model.activations import Activation
from wgflow.model.blocks.base import BuiltinBlock


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

    def groups(self, width: int) -> dict[str, slice]:
        """Columns of W and, with bias, b."""
        groups = {"W": slice(0, width * width)}
        return groups | {"b": slice(width * width, width * width + width)} if self.bias else groups

    def _affine(self, x: NDArray[Any], theta: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        width = x.shape[1]
        weight = theta[: width * width].reshape(width, width)
        return weight, x @ weight.T + (theta[width * width :] if self.bias else 0.0)

    def forward(self, x: NDArray[Any], theta: NDArray[Any], activation: Activation) -> NDArray[Any]:
        """f(x, theta) = sigma(W x + b), (M, D)."""
        return activation.value(self._affine(x, theta)[1])

    def backward(
        self, x: NDArray[Any], theta: NDArray[Any], p: NDArray[Any], activation: Activation
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return (p sigma'(z)) W, (M, D), and the sums over samples for W and b, (P,)."""
        weight, z = self._affine(x, theta)
        r = p * activation.slope(z)  # (M, D)
        parts = [(r.T @ x).ravel()]
        if self.bias:
            parts.append(r.sum(axis=0))
        return r @ weight, np.concatenate(parts)

    def degree(self, activation: Activation) -> int | None:
        """Degree of the activation."""
        return activation.degree

    def units(self, width: int) -> int:
        """One ridge unit per row of W: sigma(W x + b) = sum_d e_d sigma(W_d . x + b_d)."""
        return width

    def unfold(self, theta: Array, width: int) -> Array:
        """Rows [e_d | W_d | b_d] of every particle."""
        count = len(theta)
        rows = np.zeros((count, width, 2 * width + 1))
        rows[:, :, :width] = np.eye(width)
        rows[:, :, width : 2 * width] = theta[:, : width * width].reshape(count, width, width)
        if self.bias:
            rows[:, :, -1] = theta[:, width * width :]
        return rows.reshape(count * width, 2 * width + 1)

    def fold(self, slope: Array, width: int) -> Array:
        """Gradients in W and b; those in the fixed e_d are discarded."""
        rows = slope.reshape(-1, width, 2 * width + 1)
        weight = rows[:, :, width : 2 * width].reshape(len(rows), width * width)
        return np.concatenate([weight, rows[:, :, -1]], axis=1) if self.bias else weight
