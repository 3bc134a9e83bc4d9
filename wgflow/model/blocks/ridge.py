"""Ridge block a sigma(w . x + b)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wgflow.base.types import Array
from wgflow.model.activations import Activation
from wgflow.model.blocks.base import BuiltinBlock


@dataclass(frozen=True)
class Ridge(BuiltinBlock):
    """Ridge function a sigma(w . x + b), a rank-one residual block.

    Columns of theta are [a (D) | w (D) | b (1)]. With relu the pair is 2-homogeneous in theta, with squared relu
    3-homogeneous; with any activation it is 1-homogeneous in a alone, the partially homogeneous case of
    Ding, Chen, Li and Wright (arXiv:2110.02926), Theorem 6.2.

    Parameters
    ----------
    bias : bool, optional
        Whether there is a column b.
    """

    bias: bool = True
    name: ClassVar[str] = "ridge"

    def groups(self, width: int) -> dict[str, slice]:
        """Columns of a, w and, with bias, b."""
        groups = {"a": slice(0, width), "w": slice(width, 2 * width)}
        return groups | {"b": slice(2 * width, 2 * width + 1)} if self.bias else groups

    def _split(self, theta: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], Any]:
        width = theta.shape[0] // 2
        return theta[:width], theta[width : 2 * width], theta[-1] if self.bias else 0.0

    def forward(self, x: NDArray[Any], theta: NDArray[Any], activation: Activation) -> NDArray[Any]:
        """f(x, theta) = a sigma(w . x + b), (M, D)."""
        a, w, b = self._split(theta)
        out: NDArray[Any] = activation.value(x @ w + b)[:, None] * a
        return out

    def backward(
        self, x: NDArray[Any], theta: NDArray[Any], p: NDArray[Any], activation: Activation
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return p . d_x f = (p . a) sigma'(z) w, (M, D), and the sums over samples for a, w and b, (P,)."""
        a, w, b = self._split(theta)
        z = x @ w + b  # (M,)
        r = (p @ a) * activation.slope(z)  # (M,)
        parts = [activation.value(z) @ p, r @ x]
        if self.bias:
            parts.append(np.sum(r, keepdims=True))
        return r[:, None] * w, np.concatenate(parts)

    def degree(self, activation: Activation) -> int | None:
        """One more than the degree of the activation, since a multiplies it."""
        return None if activation.degree is None else activation.degree + 1

    def units(self, width: int) -> int:
        """One ridge unit per particle."""
        return 1

    def unfold(self, theta: Array, width: int) -> Array:
        """The particles themselves, with a zero bias if the block has none."""
        return theta if self.bias else np.pad(theta, ((0, 0), (0, 1)))

    def fold(self, slope: Array, width: int) -> Array:
        """Gradients in the block's own columns."""
        return slope if self.bias else slope[:, :-1]
