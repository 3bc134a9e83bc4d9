"""Scalar activations sigma and their derivatives, by name.

For NumPy arrays, real or complex: a tiny imaginary part gives the complex-step derivative of every activation; the
piecewise ones go by the real part. Comparisons let NaN pass: a relu that turned it into 0 would hide an invalid state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from wgflow.base import rng
from wgflow.base.copies import Copyable
from wgflow.base.errors import InputError, describe
from wgflow.base.registry import lookup, name_and_options
from wgflow.base.types import Spec
from wgflow.base.user_objects import Candidate, contradicted, try_once
from wgflow.base.validate import real, whole

_Function = Callable[[NDArray[Any]], NDArray[Any]]
_BY_COMPLEX_STEP: Any = None


@dataclass(frozen=True)
class ComplexStep:
    """Derivative Im f(z + i h) / h of an analytic function; h is so small that nothing is left of its square."""

    value: _Function
    h: ClassVar[float] = 1e-40

    def __call__(self, z: NDArray[Any]) -> NDArray[Any]:
        """The derivative at z, elementwise."""
        out: NDArray[Any] = np.imag(self.value(z + 1j * self.h)) / self.h
        return out


@dataclass(frozen=True)
class Activation(Copyable):
    """An activation sigma: R -> R.

    Parameters
    ----------
    name : str
        Name in studies and files.
    value : callable
        sigma(z), elementwise on an array of any shape.
    slope : callable, optional
        sigma'(z), likewise. By default a complex step, which is exact to rounding if ``value`` takes complex arrays and
        uses analytic functions alone (no abs, which drops the imaginary part), and is tested against differences.
    degree : int or None
        k if sigma(c z) = c**k sigma(z) for all c > 0, None if sigma is not positively homogeneous.
    parameter : float, optional
        The parameter of a parametrised activation; part of its spec.
    builtin : bool, optional
        Whether it is built in and has compiled code; leave it False for your own.
    """

    name: str
    value: _Function
    slope: _Function = _BY_COMPLEX_STEP
    degree: int | None = None
    parameter: float | None = None
    builtin: bool = False

    def __post_init__(self) -> None:
        if self.slope is _BY_COMPLEX_STEP:
            object.__setattr__(self, "slope", ComplexStep(self.value))

    def spec(self) -> Spec:
        """Plain JSON from which :func:`activation` rebuilds this activation."""
        return {"name": self.name} if self.parameter is None else {"name": self.name, "eta": self.parameter}


# Named functions, so that they can be pickled.
def _tanh_slope(z: NDArray[Any]) -> NDArray[Any]:
    out: NDArray[Any] = 1 - np.tanh(z) ** 2
    return out


def _relu(z: NDArray[Any]) -> NDArray[Any]:
    return np.where(z.real <= 0, 0.0, z)


def _relu_slope(z: NDArray[Any]) -> NDArray[Any]:
    return np.where(z.real <= 0, 0.0, 1.0)


def _squared_relu(z: NDArray[Any]) -> NDArray[Any]:
    return np.where(z.real <= 0, 0.0, z * z)


def _squared_relu_slope(z: NDArray[Any]) -> NDArray[Any]:
    return np.where(z.real <= 0, 0.0, 2 * z)


def _gelu(z: NDArray[Any]) -> NDArray[Any]:
    out: NDArray[Any] = 0.5 * z * (1 + erf(z / np.sqrt(2.0)))
    return out


def _gelu_slope(z: NDArray[Any]) -> NDArray[Any]:
    out: NDArray[Any] = 0.5 * (1 + erf(z / np.sqrt(2.0))) + z * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return out


@dataclass(frozen=True)
class _RegularisedRelu:
    eta: float

    def __call__(self, z: NDArray[Any]) -> NDArray[Any]:
        eta = self.eta
        return np.where(z.real <= -eta, 0.0, np.where(z.real <= eta, (z + eta) ** 2 / (4 * eta), z))


@dataclass(frozen=True)
class _RegularisedReluSlope:
    eta: float

    def __call__(self, z: NDArray[Any]) -> NDArray[Any]:
        eta = self.eta
        return np.where(z.real <= -eta, 0.0, np.where(z.real <= eta, (z + eta) / (2 * eta), 1.0))


def regularised_relu(eta: float = 0.5) -> Activation:
    """Regularised relu: 0 below -eta, (z + eta)**2 / (4 eta) on [-eta, eta], z above; C^1 with a Lipschitz derivative.

    Ding, Chen, Li and Wright (arXiv:2110.02926), the example after Theorem 6.2.

    Parameters
    ----------
    eta : float
        Half width of the quadratic part, > 0.

    Raises
    ------
    InputError
        If eta is not a positive number.
    """
    eta = real("eta of regularised_relu", eta, above=0.0)
    return Activation(
        "regularised_relu", _RegularisedRelu(eta), _RegularisedReluSlope(eta), parameter=eta, builtin=True
    )


_BUILTIN = (
    Activation("linear", np.positive, np.ones_like, degree=1, builtin=True),
    Activation("tanh", np.tanh, _tanh_slope, builtin=True),
    Activation("relu", _relu, _relu_slope, degree=1, builtin=True),
    Activation("squared_relu", _squared_relu, _squared_relu_slope, degree=2, builtin=True),
    regularised_relu(),
    Activation("gelu", _gelu, _gelu_slope, builtin=True),
    Activation("sin", np.sin, np.cos, builtin=True),
)
ACTIVATIONS: dict[str, Activation] = {item.name: item for item in _BUILTIN}


def activation(choice: str | Spec | Activation) -> Activation:
    """Look up an activation by name or spec; an :class:`Activation` is passed through, one of your own tested once.

    Raises
    ------
    InputError
        If the name or a parameter is unknown, or your own slope is not the derivative of its value.
    """
    if isinstance(choice, Activation):
        if not _is_builtin(choice):
            try_once(choice, "activation", lambda: _try(choice))
        return choice
    name, options = name_and_options("activation", choice, "a wgflow.model.activations.Activation(name, value, slope)")
    known = lookup("activation", name, ACTIVATIONS)
    if not options:
        return known
    if name == "regularised_relu" and set(options) == {"eta"}:
        eta: Any = options["eta"]
        return regularised_relu(eta)
    raise InputError(
        f"activation {name!r}: unknown option {', '.join(map(repr, options))}; only regularised_relu takes eta"
    )


def recorded_spec(chosen: Activation) -> Spec:
    """Spec of an activation for files; see :func:`wgflow.base.user_objects.recorded_spec`."""
    spec = chosen.spec()
    return spec if _is_builtin(chosen) or chosen.name not in ACTIVATIONS else spec | {"name": f"{chosen.name} (own)"}


def _is_builtin(candidate: Activation) -> bool:
    """Whether an activation is built in, whatever its attribute ``builtin`` claims."""
    if candidate.parameter is not None and candidate.name == "regularised_relu":
        return candidate == regularised_relu(candidate.parameter)
    return candidate == ACTIVATIONS.get(candidate.name)


def _try(candidate: Activation) -> None:
    """Test an activation of the user's: elementwise, finite, its slope the derivative of its value."""
    trial = Candidate("activation", candidate.name)
    if candidate.builtin:
        raise trial.refuse("builtin to be left False for one of your own", "True", "compiled code would run another")
    if not isinstance(candidate.name, str):
        raise trial.refuse("a name that is text", describe(candidate.name))
    near, far = rng.normal(0, "try activation", (12, 2)), np.linspace(-5.03, 4.97, 24).reshape(12, 2)
    z = np.concatenate([near, far], axis=1)
    (value,) = trial.numbers(("value",), candidate.value, (z,), (z.shape,))
    (slope,) = trial.numbers(("slope",), candidate.slope, (z,), (z.shape,))
    for what, function, numbers in (("value", candidate.value, value), ("slope", candidate.slope, slope)):
        trial.finite(f"{what} at z of order one", numbers)
        trial.independent_rows(what, numbers.ravel(), trial.call(what, function, z[0]), "number")
    wrong, expected = contradicted(slope, lambda t: np.asarray(candidate.value(z + t)))
    if wrong.any():
        where = np.unravel_index(int(np.argmax(wrong)), z.shape)
        raise trial.refuse(
            f"slope to be the derivative of value, {expected[where]:.6g} at z = {z[where]:.6g}",
            f"{slope[where]:.6g}",
            "give the slope too: a complex step needs an analytic value"
            if isinstance(candidate.slope, ComplexStep)
            else "check sign and factors",
        )
    degree = candidate.degree
    if degree is not None:
        whole(f"degree of activation {candidate.name!r}", degree, 0)
        twice = np.asarray(candidate.value(2 * z))
        if not np.allclose(twice, 2.0**degree * value, rtol=1e-6, atol=1e-12):
            raise trial.refuse(
                f"an activation of degree {degree}, f(2 z) = 2**{degree} f(z)", "another number", "leave the degree out"
            )
