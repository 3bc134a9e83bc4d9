"""Measuring functions g from the final state to the outputs, R^D to R^K, with the fixed matrix W1 in them.

Ding, Chen, Li and Wright (arXiv:2110.02926) compare g(X(1)) with y and want g and grad g Lipschitz, inf |grad g| > 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from wgflow.base.registry import Options, build
from wgflow.base.scaling import norms
from wgflow.base.types import Array, Spec
from wgflow.base.validate import real


class Measuring(Protocol):
    """Interface of a measuring function; ``readout`` is W1, (K, D), and states are (M, D)."""

    @property
    def name(self) -> str:
        """Name in studies and files."""

    def value(self, state: NDArray[Any], readout: Array) -> NDArray[Any]:
        """g(state), (M, K)."""

    def pull_back(self, state: NDArray[Any], readout: Array, q: NDArray[Any]) -> NDArray[Any]:
        """Product q . d_z g at the states, (M, K) to (M, D)."""

    def least_slope(self, readout: Array) -> float:
        """Infimum over all states of |grad g|, for one output."""

    def spec(self) -> Spec:
        """Plain JSON that describes it."""


@dataclass(frozen=True)
class Linear(Options):
    """Linear measuring function g(z) = W1 z."""

    name: ClassVar[str] = "linear"

    def value(self, state: NDArray[Any], readout: Array) -> NDArray[Any]:
        """W1 z, (M, K)."""
        out: NDArray[Any] = state @ readout.T
        return out

    def pull_back(self, state: NDArray[Any], readout: Array, q: NDArray[Any]) -> NDArray[Any]:
        """Return q W1, (M, D)."""
        out: NDArray[Any] = q @ readout
        return out

    def least_slope(self, readout: Array) -> float:
        """|W1|."""
        return float(norms(readout.reshape(1, -1))[0])


@dataclass(frozen=True)
class Hyperbolic(Options):
    """Measuring function g(z) = W1 z + strength (sqrt(1 + |z|**2) - 1), the same second term in every output.

    For one output the gradient is W1 + strength z/sqrt(1 + |z|**2), a ball about W1, so that inf |grad g| =
    max(|W1| - strength, 0), and g and grad g are Lipschitz, with constants |W1| + strength and strength.

    Parameters
    ----------
    strength : float, optional
        >= 0; below |W1| the gradient stays away from 0.
    """

    strength: float = 0.5
    name: ClassVar[str] = "hyperbolic"

    def _check_options(self) -> None:
        real("strength of the hyperbolic measuring function", self.strength, least=0.0)

    def value(self, state: NDArray[Any], readout: Array) -> NDArray[Any]:
        """g(z), (M, K)."""
        square = (state * state).sum(axis=1, keepdims=True)
        out: NDArray[Any] = state @ readout.T + self.strength * square / (np.sqrt(1 + square) + 1)
        return out

    def pull_back(self, state: NDArray[Any], readout: Array, q: NDArray[Any]) -> NDArray[Any]:
        """Return q W1 + strength (sum_k q_k) z/sqrt(1 + |z|**2), (M, D)."""
        root = np.sqrt(1 + (state * state).sum(axis=1, keepdims=True))
        out: NDArray[Any] = q @ readout + self.strength * q.sum(axis=1, keepdims=True) * state / root
        return out

    def least_slope(self, readout: Array) -> float:
        """max(|W1| - strength, 0)."""
        return max(float(norms(readout.reshape(1, -1))[0]) - self.strength, 0.0)


MEASURING: dict[str, type[Any]] = {"linear": Linear, "hyperbolic": Hyperbolic}


def measuring(choice: str | Spec | Measuring) -> Measuring:
    """Look up a measuring function by name or spec; a built-in object is passed through.

    Raises
    ------
    InputError
        If the name or an option is unknown.
    """
    if type(choice) in MEASURING.values():
        return choice  # type: ignore[return-value]
    built: Measuring = build("measuring function", choice, MEASURING)
    return built
