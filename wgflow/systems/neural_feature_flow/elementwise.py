"""What happens to features between the matrix products of a network's passes, entry by entry, in NumPy.

This is the definition, for real and complex numbers and any activation;
:mod:`wgflow.systems.neural_feature_flow.kernels` has the same six
functions compiled, each one pass over memory.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from wgflow.model.activations import Activation
from wgflow.systems.neural_feature_flow.low_rank import AnyArray


class Elementwise(Protocol):
    """The parts between matrix products; all arrays (m, N) unless said otherwise."""

    def activate(self, beta: AnyArray) -> tuple[AnyArray, AnyArray]:
        """h1(beta), h1'(beta)."""

    def bend(self, alpha: AnyArray) -> AnyArray:
        """h2'(alpha)."""

    def layer(
        self, product: AnyArray, scale: float, beta: AnyArray
    ) -> tuple[AnyArray, AnyArray, AnyArray, AnyArray, AnyArray]:
        """Next alpha = scale product, beta, h1(beta), h1'(beta) and h2'(alpha) from the beta below."""

    def seed(self, outer: AnyArray, d_output: AnyArray, slope: AnyArray, bend: AnyArray) -> tuple[AnyArray, AnyArray]:
        """Dbeta_L = (outer d_output^T) o slope and Dalpha_L = Dbeta_L o bend, from (m,) and (N,)."""

    def pull(
        self, product: AnyArray, scale: float, d_beta: AnyArray, slope: AnyArray, bend: AnyArray | None
    ) -> tuple[AnyArray, AnyArray]:
        """Dbeta = [Dbeta above, if skipped] + scale product o slope, and Dalpha = Dbeta o bend (Dbeta without bend)."""

    def push(
        self,
        through: AnyArray,
        scale: float,
        anew: AnyArray,
        weight: float,
        g_beta: AnyArray,
        bend: AnyArray,
        slope: AnyArray,
    ) -> tuple[AnyArray, AnyArray, AnyArray]:
        """Galpha = scale through + weight anew, Gbeta = [that below, if skipped] + Galpha o bend, and slope o Gbeta."""


class Plain:
    """The definition, in NumPy.

    Parameters
    ----------
    h1, h2 : Activation
        Activations.
    skip : bool
        Whether a layer is added to the one below it.
    """

    def __init__(self, h1: Activation, h2: Activation, skip: bool) -> None:
        self.h1, self.h2, self.skip = h1, h2, skip

    def activate(self, beta: AnyArray) -> tuple[AnyArray, AnyArray]:
        """See :class:`Elementwise`."""
        return self.h1.value(beta), self.h1.slope(beta)

    def bend(self, alpha: AnyArray) -> AnyArray:
        """See :class:`Elementwise`."""
        return self.h2.slope(alpha)

    def layer(
        self, product: AnyArray, scale: float, beta: AnyArray
    ) -> tuple[AnyArray, AnyArray, AnyArray, AnyArray, AnyArray]:
        """See :class:`Elementwise`."""
        alpha = scale * product
        # without a skip the two are one array, which callers may rely on
        beta = beta + self.h2.value(alpha) if self.skip else alpha
        return alpha, beta, self.h1.value(beta), self.h1.slope(beta), self.h2.slope(alpha)

    def seed(self, outer: AnyArray, d_output: AnyArray, slope: AnyArray, bend: AnyArray) -> tuple[AnyArray, AnyArray]:
        """See :class:`Elementwise`."""
        d_beta = np.multiply.outer(outer, d_output) * slope
        return d_beta, d_beta * bend

    def pull(
        self, product: AnyArray, scale: float, d_beta: AnyArray, slope: AnyArray, bend: AnyArray | None
    ) -> tuple[AnyArray, AnyArray]:
        """See :class:`Elementwise`."""
        below = scale * product * slope
        if self.skip:
            below = d_beta + below
        return below, below if bend is None else below * bend

    def push(
        self,
        through: AnyArray,
        scale: float,
        anew: AnyArray,
        weight: float,
        g_beta: AnyArray,
        bend: AnyArray,
        slope: AnyArray,
    ) -> tuple[AnyArray, AnyArray, AnyArray]:
        """See :class:`Elementwise`."""
        g_alpha = scale * through + weight * anew
        above = g_beta + g_alpha * bend if self.skip else g_alpha
        return g_alpha, above, slope * above
