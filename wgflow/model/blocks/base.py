"""Interface of residual blocks."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from wgflow.base.types import Array, Spec
from wgflow.model.activations import Activation


class Block(Protocol):
    """Interface of a residual block; :func:`wgflow.check_block` tests one.

    A block of your own runs in NumPy on every backend, in blocks of samples. If it is a sum of ridge units and has
    the methods of :class:`Unfolding`, it runs compiled.
    """

    @property
    def name(self) -> str:
        """Its name in files."""

    def groups(self, width: int) -> dict[str, slice]:
        """Columns of theta by parameter group, in order and without gaps, for state width D."""

    def forward(self, x: NDArray[Any], theta: NDArray[Any], activation: Activation) -> NDArray[Any]:
        """f(x, theta): (M, D) and (P,) to (M, D)."""

    def backward(
        self, x: NDArray[Any], theta: NDArray[Any], p: NDArray[Any], activation: Activation
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Products with the derivatives of f: p . d_x f, (M, D), and sum_m p_m . d_theta f, (P,)."""

    def degree(self, activation: Activation) -> int | None:
        """K if f(x, c theta) = c**k f(x, theta) for c > 0, else None."""

    def spec(self) -> Spec:
        """Plain JSON that describes it, with its ``name``."""


@runtime_checkable
class Unfolding(Protocol):
    """Additional interface of a block that is a sum of H ridge units a sigma(w . x + b), which then runs compiled.

    If H = D and unit d has the fixed a = e_d, the attribute ``coordinate_units = True`` declares it and
    saves the kernel three of its six products.
    """

    def units(self, width: int) -> int:
        """Units of one particle, H, for state width D."""

    def unfold(self, theta: Array, width: int) -> Array:
        """Units of all particles, (N, P) to (N * H, 2 D + 1), columns [a | w | b], a particle's units together."""

    def fold(self, slope: Array, width: int) -> Array:
        """Transpose of unfold's derivative, (E * H, 2 D + 1) to (E, P)."""
