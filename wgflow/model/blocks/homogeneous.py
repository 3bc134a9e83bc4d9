"""Blocks for Theorems 6.1 and 6.2 of Ding, Chen, Li and Wright (arXiv:2110.02926), after Remarks H.1 and H.2.

Saturated weights are not linear in the parameters, and a Gaussian is no ridge function, so both run in NumPy on every
backend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wgflow.base.errors import InputError, describe
from wgflow.base.validate import real
from wgflow.model.activations import Activation
from wgflow.model.blocks.builtin import BuiltinBlock, ScaledMatrix


@dataclass(frozen=True)
class SaturatedMatrix(BuiltinBlock):
    """Block a sigma(S(W) x + S(b)) with a number a and bounded inner weights, for Theorem 6.2 (Remark H.2).

    S(v) = v/sqrt(1 + |v|**2/bound**2) of v = (W, b), smooth and |S(v)| < bound. S(r v) converges with its derivatives
    as r grows, so that H_r has a C^1 limit, which a saturation entry by entry does not give. Columns of theta are
    [a (1) | W row by row (D * D) | b (D)].

    Parameters
    ----------
    bound : float, optional
        Bound of |(W, b)| after saturation, > 0.
    bias : bool, optional
        Whether there are columns b.
    """

    bound: float = 10.0
    bias: bool = True
    name: ClassVar[str] = "saturated_matrix"

    def _check_options(self) -> None:
        super()._check_options()
        real("bound of the saturated_matrix block", self.bound, above=0.0)

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        return {"a": (1,), "W": (width, width), "b": (width,)}

    def degree(self, activation: Activation) -> int | None:
        """None: saturated weights are not homogeneous."""
        return None

    def forward(self, x: NDArray[Any], theta: NDArray[Any], activation: Activation) -> NDArray[Any]:
        """f(x, theta) = a sigma(S(W) x + S(b)), (M, D)."""
        return ScaledMatrix(self.bias).forward(x, self._saturated(theta), activation)

    def backward(
        self, x: NDArray[Any], theta: NDArray[Any], p: NDArray[Any], activation: Activation
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return a (p sigma'(z)) S(W), (M, D), and the sums over samples for a, W and b, (P,)."""
        state, slope = ScaledMatrix(self.bias).backward(x, self._saturated(theta), p, activation)
        inner, factor = theta[1:], self._factor(theta)
        slope[1:] = factor * (slope[1:] - (factor / self.bound) ** 2 * (inner @ slope[1:]) * inner)
        return state, slope

    def _saturated(self, theta: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([theta[:1], self._factor(theta) * theta[1:]])

    def _factor(self, theta: NDArray[Any]) -> Any:
        return 1 / np.sqrt(1 + ((theta[1:] / self.bound) ** 2).sum())


@dataclass(frozen=True)
class GaussianMatrix(BuiltinBlock):
    """Block (sigma(W x + b) - sigma(U x + c)) exp(-|x|**2/radius**2), for Theorem 6.1 with squared_relu (Remark H.1).

    The example as printed in Remark H.1 is ``signed=False`` with squared_relu and radius 1. It has no component below
    0, nor has int f drho, so that these functions are not dense, and it contradicts the paper's assumption of a
    universal kernel (4.1.4). The difference of two such terms has both signs. Columns of theta are
    [W row by row (D * D) | b (D) | U row by row (D * D) | c (D)].

    Parameters
    ----------
    signed : bool, optional
        Whether the second term, and its columns U and c, are there.
    radius : float, optional
        Radius at which the Gaussian is 1/e, > 0.
    bias : bool, optional
        Whether there are columns b and c.
    """

    signed: bool = True
    radius: float = 1.0
    bias: bool = True
    name: ClassVar[str] = "gaussian_matrix"

    def _check_options(self) -> None:
        super()._check_options()
        if not isinstance(self.signed, bool):
            raise InputError(f"signed of the {self.name} block: expected true or false, got {describe(self.signed)}")
        real("radius of the gaussian_matrix block", self.radius, above=0.0)

    def groups(self, width: int) -> dict[str, slice]:
        """Columns of theta by parameter group."""
        names = ("W", "b", "U", "c") if self.signed else ("W", "b")
        sizes = (width * width, width) * 2
        groups, stop = {}, 0
        for name, size in zip(names, sizes, strict=False):
            if self.bias or name in "WU":
                groups[name] = slice(stop, stop + size)
                stop += size
        return groups

    def degree(self, activation: Activation) -> int | None:
        """Degree of the activation."""
        return activation.degree

    def forward(self, x: NDArray[Any], theta: NDArray[Any], activation: Activation) -> NDArray[Any]:
        """f(x, theta), (M, D)."""
        terms = [sign * activation.value(x @ weight.T + b) for sign, weight, b in self._terms(theta, x.shape[1])]
        out: NDArray[Any] = sum(terms) * self._window(x)
        return out

    def backward(
        self, x: NDArray[Any], theta: NDArray[Any], p: NDArray[Any], activation: Activation
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return p . d_x f, (M, D), and the sums over samples for the columns of theta, (P,)."""
        window = self._window(x)
        scaled = p * window
        along = (p * self.forward(x, theta, activation)).sum(axis=1, keepdims=True)
        state, slopes = -2 / self.radius**2 * along * x, []
        for sign, weight, b in self._terms(theta, x.shape[1]):
            r = sign * scaled * activation.slope(x @ weight.T + b)
            state = state + r @ weight
            slopes += [(r.T @ x).ravel(), r.sum(axis=0)] if self.bias else [(r.T @ x).ravel()]
        return state, np.concatenate(slopes)

    def _window(self, x: NDArray[Any]) -> NDArray[Any]:
        out: NDArray[Any] = np.exp(-((x / self.radius) ** 2).sum(axis=1, keepdims=True))
        return out

    def _terms(self, theta: NDArray[Any], width: int) -> list[tuple[float, NDArray[Any], Any]]:
        """Sign, matrix and bias of each term."""
        size, terms = width * width, []
        for sign, part in zip((1.0, -1.0), np.split(theta, 2) if self.signed else (theta,), strict=False):
            terms.append((sign, part[:size].reshape(width, width), part[size:] if self.bias else 0.0))
        return terms
