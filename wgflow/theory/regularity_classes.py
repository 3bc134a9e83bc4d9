"""Range and smoothness of the built-in activations in closed form, for what no finite computation can prove."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from wgflow.model.activations import Activation


class RegularityClass(NamedTuple):
    """Range and smoothness of an activation.

    Attributes
    ----------
    low, high : float
        Bounds of its values.
    smoothness : int
        0 if its slope jumps, 1 if the slope is Lipschitz and the second derivative jumps, 2 if it is C^2.
    kink : float
        Where that derivative jumps; nan for a C^2 activation.
    analytic, polynomial : bool
        Whether it is analytic, and whether it is a polynomial, whose ridge functions span finitely many dimensions.
    """

    low: float
    high: float
    smoothness: int = 2
    kink: float = math.nan
    analytic: bool = False
    polynomial: bool = False

    @property
    def bounded(self) -> bool:
        """Whether all values are in a finite interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)


class Suprema(NamedTuple):
    """Suprema of |h|, |h'| and the Lipschitz constant of h', infinite where there is none."""

    value: float
    slope: float
    bend: float


_SUPREMA = {
    "linear": Suprema(math.inf, 1.0, 0.0),
    "tanh": Suprema(1.0, 1.0, 4 / (3 * math.sqrt(3))),
    "relu": Suprema(math.inf, 1.0, math.inf),
    "squared_relu": Suprema(math.inf, math.inf, 2.0),
    "gelu": Suprema(math.inf, 0.5 * (1 + math.erf(1)) + math.exp(-1) / math.sqrt(math.pi), math.sqrt(2 / math.pi)),
    "sin": Suprema(1.0, 1.0, 1.0),
}
_INFINITE = math.inf
_CLASSES = {
    "linear": RegularityClass(-_INFINITE, _INFINITE, analytic=True, polynomial=True),
    "tanh": RegularityClass(-1.0, 1.0, analytic=True),
    "relu": RegularityClass(0.0, _INFINITE, 0, 0.0),
    "squared_relu": RegularityClass(0.0, _INFINITE, 1, 0.0),
    "gelu": RegularityClass(-0.17, _INFINITE, analytic=True),
    "sin": RegularityClass(-1.0, 1.0, analytic=True),
}


def regularity_class(activation: Activation) -> RegularityClass | None:
    """Class of a built-in activation; None for one of the user's."""
    if not activation.builtin:
        return None
    if activation.name == "regularised_relu" and activation.parameter is not None:
        return RegularityClass(0.0, _INFINITE, 1, activation.parameter)
    return _CLASSES.get(activation.name)


def suprema(activation: Activation) -> Suprema | None:
    """Suprema of a built-in activation in closed form; None for one of the user's."""
    if regularity_class(activation) is None:
        return None
    if activation.name == "regularised_relu" and activation.parameter is not None:
        return Suprema(math.inf, 1.0, 1 / (2 * activation.parameter))
    return _SUPREMA[activation.name]


def jump(activation: Activation, kink: float, order: int) -> float:
    """Jump of the derivative of order 1 or 2 at a kink, from slopes at 10**-6 of its size to both sides."""
    h = 1e-6 * (abs(kink) or 1.0)
    below, at, above = activation.slope(np.array([kink - h, kink, kink + h]))
    return float(above - below if order == 1 else (above - 2 * at + below) / h)
