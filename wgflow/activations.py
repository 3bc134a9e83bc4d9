"""Scalar activations sigma and their derivatives, by name.

Written for NumPy arrays, real or complex: a complex argument with a tiny imaginary part gives the complex-step
derivative of every activation here, the piecewise ones decided by the real part. Comparisons are written so that
NaN comes out as NaN: a relu that turned it into 0 would hide a broken state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from wgflow.errors import InputError, lookup, named
from wgflow.types import Spec, real

_Function = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Activation:
    """An activation sigma: R -> R.

    Parameters
    ----------
    name : str
        Its name in studies and files.
    value, slope : callable
        sigma(z) and sigma'(z), elementwise on an array of any shape.
    degree : int or None
        k if sigma(c z) = c**k sigma(z) for all c > 0, None if sigma is not positively homogeneous.
    parameter : float, optional
        The one number a parametrised activation depends on; part of its spec.
    builtin : bool, optional
        Whether it is wgflow's own and so has compiled code; leave it False for yours.
    """

    name: str
    value: _Function
    slope: _Function
    degree: int | None = None
    parameter: float | None = None
    builtin: bool = False

    def spec(self) -> Spec:
        """Plain JSON from which :func:`activation` rebuilds this activation."""
        return {"name": self.name} if self.parameter is None else {"name": self.name, "eta": self.parameter}


def _gelu_slope(z: NDArray[Any]) -> NDArray[Any]:
    out: NDArray[Any] = 0.5 * (1 + erf(z / np.sqrt(2.0))) + z * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return out


def regularised_relu(eta: float = 0.5) -> Activation:
    """Regularised relu: 0 below -eta, (z + eta)**2 / (4 eta) on [-eta, eta], z above; C^1 with a Lipschitz slope.

    Ding, Chen, Li and Wright (arXiv:2110.02926), the example after Theorem 6.2.

    Parameters
    ----------
    eta : float
        Half width of the bend, > 0.

    Raises
    ------
    InputError
        If eta is not a positive number.
    """
    eta = real("eta of regularised_relu", eta, above=0.0)
    return Activation(
        "regularised_relu",
        lambda z: np.where(z.real <= -eta, 0.0, np.where(z.real <= eta, (z + eta) ** 2 / (4 * eta), z)),
        lambda z: np.where(z.real <= -eta, 0.0, np.where(z.real <= eta, (z + eta) / (2 * eta), 1.0)),
        parameter=eta,
        builtin=True,
    )


_BUILTIN = (
    Activation("linear", lambda z: z, np.ones_like, degree=1, builtin=True),
    Activation("tanh", np.tanh, lambda z: 1 - np.tanh(z) ** 2, builtin=True),
    Activation(
        "relu",
        lambda z: np.where(z.real <= 0, 0.0, z),
        lambda z: np.where(z.real <= 0, 0.0, 1.0),
        degree=1,
        builtin=True,
    ),
    Activation(
        "squared_relu",
        lambda z: np.where(z.real <= 0, 0.0, z * z),
        lambda z: np.where(z.real <= 0, 0.0, 2 * z),
        degree=2,
        builtin=True,
    ),
    regularised_relu(),
    Activation("gelu", lambda z: 0.5 * z * (1 + erf(z / np.sqrt(2.0))), _gelu_slope, builtin=True),
    Activation("sin", np.sin, np.cos, builtin=True),
)
ACTIVATIONS: dict[str, Activation] = {each.name: each for each in _BUILTIN}


def activation(choice: str | Spec | Activation) -> Activation:
    """Look up an activation by name or spec; an :class:`Activation` is passed through.

    Raises
    ------
    InputError
        If the name is unknown, or a parameter does not belong to it.
    """
    if isinstance(choice, Activation):
        return choice
    name, options = named("activation", choice)
    found = lookup("activation", name, ACTIVATIONS)
    if not options:
        return found
    if name == "regularised_relu" and set(options) == {"eta"}:
        eta: Any = options["eta"]
        return regularised_relu(eta)
    raise InputError(
        f"activation {name!r}: unknown option {', '.join(map(repr, options))}; only regularised_relu takes eta"
    )
