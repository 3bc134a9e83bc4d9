"""Weights of a middle layer as a history of rank-N terms, v(t) = v(0) + sum_k c_k left_k right_k^T.

Every drift of the weights between two hidden layers, (1/N) h1(beta_(l-1)) Dalpha_l^T, has rank at most N, and so have
the minimum-norm initial weights. A product with m x N features costs 4 m R N operations as a sum of R rank-one terms
and 2 m^2 N as a matrix, so the history is the cheaper form as long as 2 R < m; R is at most N (1 + steps) under Euler's
method. Derived; the paper keeps matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dgemm

from wgflow.base.errors import InputError

AnyArray: TypeAlias = NDArray[Any]  # real, or complex for a complex step


@dataclass(frozen=True)
class LowRank:
    """A matrix left right^T of rank at most R.

    Parameters
    ----------
    left, right : ndarray (a, R), (b, R)
        Factors of the rows, the source units, and of the columns, the target units.

    Raises
    ------
    InputError
        If the factors are not matrices with equally many columns.
    """

    left: AnyArray
    right: AnyArray

    def __post_init__(self) -> None:
        if self.left.ndim != 2 or self.right.ndim != 2 or self.left.shape[1] != self.right.shape[1]:
            raise InputError(
                f"factors: expected two matrices with equally many columns, got shapes {self.left.shape} and "
                f"{self.right.shape}; their product is left @ right.T"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (a, b) of the matrix."""
        return len(self.left), len(self.right)

    @property
    def T(self) -> LowRank:
        """The transposed matrix."""
        return LowRank(self.right, self.left)

    def __matmul__(self, other: AnyArray) -> AnyArray:
        """Product with an array (b, k), without the matrix itself."""
        out: AnyArray = self.left @ (self.right.T @ other)
        return out

    def dense(self) -> AnyArray:
        """The matrix (a, b)."""
        out: AnyArray = self.left @ self.right.T
        return out

    def scaled(self, factor: float) -> LowRank:
        """``factor`` times the matrix."""
        return LowRank(factor * self.left, self.right)


@dataclass(frozen=True)
class Updated:
    """A matrix plus a low-rank change that has not been added to it, as the stages of a Runge-Kutta step need it.

    Parameters
    ----------
    base, change : ndarray (a, b), LowRank (a, b)
        The matrix, shared and never written to, and what is to be added.
    """

    base: AnyArray
    change: LowRank

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (a, b) of the matrix."""
        return self.change.shape

    @property
    def T(self) -> Updated:
        """The transposed matrix."""
        return Updated(self.base.T, self.change.T)

    def __matmul__(self, other: AnyArray) -> AnyArray:
        """Product with an array (b, k)."""
        out: AnyArray = self.base @ other
        out += self.change @ other
        return out

    def dense(self) -> AnyArray:
        """The matrix (a, b)."""
        out: AnyArray = self.base + self.change.dense()
        return out


Matrix: TypeAlias = AnyArray | LowRank | Updated


def dense(matrix: Matrix) -> AnyArray:
    """Return the array (a, b) of a matrix in any of its forms; an array is passed through."""
    return matrix if isinstance(matrix, np.ndarray) else matrix.dense()


def total(terms: list[LowRank]) -> LowRank:
    """Sum of matrices of one shape, as one with the rank-one terms of all."""
    if len(terms) == 1:
        return terms[0]
    return LowRank(np.hstack([term.left for term in terms]), np.hstack([term.right for term in terms]))


def ahead(matrix: Matrix, change: LowRank) -> Matrix:
    """Return matrix + change for a few products: an array is not copied, and the change is kept apart."""
    if isinstance(matrix, LowRank):
        return total([matrix, change])
    return Updated(dense(matrix), change)


def add(matrix: Matrix, change: LowRank, own: bool = False) -> Matrix:
    """Return matrix + change in the cheaper form, to be kept.

    Parameters
    ----------
    matrix : ndarray (a, b) or LowRank
        A history stays one while 2 R < a, R counting the new terms; from then on it is an array. An array stays one.
    change : LowRank (a, b)
        What is added.
    own : bool, optional
        Whether an array may be written to, which saves a copy.

    Returns
    -------
    ndarray or LowRank
        The sum.
    """
    if isinstance(matrix, LowRank):
        longer = total([matrix, change])
        units, rank = longer.left.shape
        return longer if 2 * rank < units else longer.dense()
    base = dense(matrix)
    if not (own and base.flags.c_contiguous and base.flags.writeable):
        base = np.array(base, order="C")
    if base.dtype != np.float64 or change.left.dtype != np.float64 or change.right.dtype != np.float64:
        return base + change.dense()
    # BLAS knows columns first: base.T += right left^T, without a second a x b array
    dgemm(1.0, change.right.T, change.left.T, beta=1.0, c=base.T, trans_a=1, overwrite_c=1)
    return base
