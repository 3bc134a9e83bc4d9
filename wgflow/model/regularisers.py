"""Regularisers: terms of the energy linear in the measure, int r(theta, s) rho, which may decay with flow time s."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from wgflow.base import rng
from wgflow.base.registry import Options, build
from wgflow.base.types import Array, Spec
from wgflow.base.user_objects import Candidate, is_builtin, require_methods, try_once
from wgflow.base.validate import real


class Regulariser(Protocol):
    """Interface of a regulariser; its first variation is r itself."""

    @property
    def name(self) -> str:
        """Name in studies and files."""

    def value(self, theta: Array, s: float) -> Array:
        """r(theta, s), (N, P) to (N,)."""

    def gradient(self, theta: Array, s: float) -> Array:
        """d_theta r(theta, s), (N, P)."""

    def rate(self, theta: Array, s: float) -> Array:
        """d_s r(theta, s), (N,)."""

    def spec(self) -> Spec:
        """Plain JSON that describes it."""


@dataclass(frozen=True)
class Quadratic(Options):
    """Quadratic term strength e**(-decay s) |theta|**2.

    With strength = decay = 1 the regularisation of Ding, Chen, Li and Wright (JMLR 23, 2022), E_s = E + e**(-s) int
    |theta|**2 rho, which bounds second moments and vanishes as s grows. With decay = 0 it is weight decay.

    Parameters
    ----------
    strength : float, optional
        >= 0.
    decay : float, optional
        Rate of decay in s, >= 0.
    """

    strength: float = 1.0
    decay: float = 1.0
    name: ClassVar[str] = "quadratic"

    def _check_options(self) -> None:
        for name in ("strength", "decay"):
            real(f"{name} of the quadratic regulariser", getattr(self, name), least=0.0)

    def factor(self, s: float) -> float:
        """Return strength e**(-decay s)."""
        return self.strength * float(np.exp(-self.decay * s))

    def value(self, theta: Array, s: float) -> Array:
        """Return strength e**(-decay s) |theta|**2."""
        out: Array = self.factor(s) * np.sum(theta**2, axis=1)
        return out

    def gradient(self, theta: Array, s: float) -> Array:
        """2 strength e**(-decay s) theta."""
        return 2.0 * self.factor(s) * theta

    def rate(self, theta: Array, s: float) -> Array:
        """-decay times the value."""
        return -self.decay * self.value(theta, s)


_REQUIRED = ("name", "value", "gradient", "rate", "spec")
_AXES = 8  # directions of theta in which a user's regulariser is differentiated

REGULARISERS: dict[str, type[Quadratic]] = {"quadratic": Quadratic}


def regulariser(choice: str | Spec | Regulariser) -> Regulariser:
    """Look up a regulariser by name or spec; an object is passed through, see :func:`try_out`.

    Raises
    ------
    InputError
        If the name or an option is unknown, or an object lacks a method of a regulariser.
    """
    if isinstance(choice, str | Mapping):
        return build("regulariser", choice, REGULARISERS)
    require_methods("regulariser", choice, "wgflow.model.regularisers.Regulariser", _REQUIRED)
    return choice


def try_out(candidate: Regulariser, parameters: int) -> None:
    """Test a regulariser of the user's once, for P parameters: shapes, independence of particles, derivatives.

    Raises
    ------
    InputError
        On the first failure.
    """
    if not is_builtin(candidate):
        try_once(candidate, parameters, lambda: _try(candidate, parameters))


def _try(candidate: Regulariser, parameters: int) -> None:
    trial, count = Candidate("regulariser", candidate.name), 6
    trial.plain(trial.call("spec", candidate.spec))
    theta = rng.normal(0, "try regulariser", (count, parameters))
    for s in (0.0, 0.75):
        (value,) = trial.numbers(("value",), candidate.value, (theta, s), ((count,),))
        (gradient,) = trial.numbers(("gradient",), candidate.gradient, (theta, s), (theta.shape,))
        (rate,) = trial.numbers(("rate",), candidate.rate, (theta, s), ((count,),))
        for what, function, numbers in (
            ("value", candidate.value, value),
            ("gradient", candidate.gradient, gradient),
            ("rate", candidate.rate, rate),
        ):
            trial.finite(f"{what} at s = {s:g}", numbers)
            trial.independent_rows(what, numbers, trial.call(what, function, theta[:1], s), "particle")

        def displaced(move: Array, s: float = s) -> Array:
            return candidate.value(theta + move, s)

        trial.slopes("gradient", "value", gradient, displaced, _AXES)
    # At the last, positive s: the value need not be defined before s = 0.
    trial.slope("rate", "value in s", rate, lambda t: np.asarray(candidate.value(theta, s + t)))
