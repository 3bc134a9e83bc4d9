"""Residual blocks f(x, theta), forward and backward side by side, and the layout of their parameters.

These NumPy methods are the definition. Compiled kernels are tested against them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from wgflow.activations import Activation
from wgflow.errors import InputError, describe, unknown
from wgflow.types import Spec


class Block(Protocol):
    """What a residual block has to offer."""

    name: ClassVar[str]

    def groups(self, width: int) -> dict[str, slice]:
        """Columns of theta by parameter group, in order and without gaps, for a state of that width D."""

    def forward(self, x: NDArray[Any], theta: NDArray[Any], activation: Activation) -> NDArray[Any]:
        """f(x, theta): (M, D) and (P,) to (M, D)."""

    def backward(
        self, x: NDArray[Any], theta: NDArray[Any], p: NDArray[Any], activation: Activation
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Products with the derivatives of f: p . d_x f, (M, D), and sum_m p_m . d_theta f, (P,)."""

    def degree(self, activation: Activation) -> int | None:
        """K if f(x, c theta) = c**k f(x, theta) for c > 0, else None."""

    def spec(self) -> Spec:
        """Plain JSON from which :func:`block` rebuilds this block."""


@dataclass(frozen=True)
class Ridge:
    """Ridge function a sigma(w . x + b), a rank-one residual block.

    Columns of theta are [a (D) | w (D) | b (1)]. With relu the pair is 2-homogeneous in theta, with squared relu
    3-homogeneous; with any activation it is 1-homogeneous in a alone, the partially homogeneous case of
    Ding, Chen, Li and Wright (arXiv:2110.02926), Theorem 6.2.

    Parameters
    ----------
    bias : bool, optional
        Whether the column b is there.
    """

    bias: bool = True
    name: ClassVar[str] = "ridge"

    def __post_init__(self) -> None:
        if not isinstance(self.bias, bool):
            raise InputError(f"bias of the ridge block: expected true or false, got {describe(self.bias)}")

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

    def spec(self) -> Spec:
        """``{"name": "ridge", "bias": ...}``."""
        return {"name": self.name, "bias": self.bias}


BLOCKS: dict[str, type[Ridge]] = {"ridge": Ridge}


def block(choice: str | Spec | Block) -> Block:
    """Look up a block by name or spec; a block object is passed through.

    Raises
    ------
    InputError
        If the name is unknown, or an option does not belong to the block.
    """
    if not isinstance(choice, str | dict):
        return choice
    spec = {"name": choice} if isinstance(choice, str) else dict(choice)
    name = spec.pop("name", None)
    if name not in BLOCKS:
        raise unknown("block", name, BLOCKS)
    kind = BLOCKS[name]
    known = kind.__dataclass_fields__
    for option in spec:
        if option not in known:
            raise unknown(f"option of block {name!r}", option, known)
    return kind(**spec)


def width(block: Block, state: int) -> int:
    """Parameters of one particle, P, for a state of width D."""
    return max(int(columns.stop) for columns in block.groups(state).values())
