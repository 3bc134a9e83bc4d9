"""Losses of one sample as functions of the network's output, with their gradients."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from numpy.typing import NDArray

from wgflow.errors import unknown


class Loss(Protocol):
    """What a loss has to offer; ``output`` and ``y`` are (M, K)."""

    name: ClassVar[str]

    def value(self, output: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Loss of each sample, (M,)."""

    def gradient(self, output: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Gradient of each sample's loss in its own output, (M, K)."""


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


LOSSES: dict[str, Loss] = {"squared": Squared()}


def loss(choice: str | Loss) -> Loss:
    """Look up a loss by name; a loss object is passed through.

    Raises
    ------
    InputError
        If the name is unknown.
    """
    if not isinstance(choice, str):
        return choice
    if choice not in LOSSES:
        raise unknown("loss", choice, LOSSES)
    return LOSSES[choice]
