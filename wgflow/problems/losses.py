"""Losses of one sample as functions of the network's output, with their gradients."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from wgflow.errors import InputError, lookup


class Loss(Protocol):
    """What a loss has to offer; ``output`` and ``y`` are (M, K)."""

    name: ClassVar[str]

    def value(self, output: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Loss of each sample, (M,)."""

    def gradient(self, output: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Gradient of each sample's loss in its own output, (M, K)."""

    def check(self, y: NDArray[Any]) -> None:
        """Raise InputError if these cannot be targets."""


class Squared:
    """Squared error, one half of |output - y|**2 summed over the K outputs."""

    name: ClassVar[str] = "squared"

    def value(self, output: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Half the squared distance of each sample, (M,)."""
        residual = output - y
        total: NDArray[Any] = 0.5 * (residual * residual).sum(axis=1)
        return total

    def gradient(self, output: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Residual output - y, (M, K)."""
        residual: NDArray[Any] = output - y
        return residual

    def check(self, y: NDArray[Any]) -> None:
        """Accept any finite targets."""


class CrossEntropy:
    """Cross-entropy of the softmax of the outputs with class probabilities y (one-hot for labels).

    sum_k y_k (log sum_j exp(output_j) - output_k).
    """

    name: ClassVar[str] = "cross_entropy"

    def value(self, output: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Cross-entropy of each sample, (M,)."""
        shifted = output - output.real.max(
            axis=1, keepdims=True
        )  # a constant shift changes nothing but avoids overflow
        total: NDArray[Any] = (y * (np.log(np.exp(shifted).sum(axis=1, keepdims=True)) - shifted)).sum(axis=1)
        return total

    def gradient(self, output: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Softmax (times the sum of y, which is 1) minus y, (M, K)."""
        weight = np.exp(output - output.real.max(axis=1, keepdims=True))
        out: NDArray[Any] = weight * (y.sum(axis=1) / weight.sum(axis=1))[:, None] - y
        return out

    def check(self, y: NDArray[Any]) -> None:
        """Refuse targets that are not class probabilities."""
        if y.shape[1] < 2 or (y < 0).any() or not np.allclose(y.sum(axis=1), 1.0, atol=1e-9):
            raise InputError(
                "y: expected class probabilities for the cross_entropy loss, K >= 2 numbers >= 0 a row with sum 1, got "
                f"shape {y.shape}, row sums {y.sum(axis=1).min():g} to {y.sum(axis=1).max():g}; use one-hot rows"
            )


LOSSES: dict[str, Loss] = {"squared": Squared(), "cross_entropy": CrossEntropy()}


def loss(choice: str | Loss) -> Loss:
    """Look up a loss by name; a loss object is passed through.

    Raises
    ------
    InputError
        If the name is unknown.
    """
    if hasattr(choice, "gradient"):
        return cast(Loss, choice)
    return lookup("loss", choice, LOSSES)
