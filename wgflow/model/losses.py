"""Losses of one sample as functions of the network's output, with their gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from wgflow.base import rng
from wgflow.base.errors import InputError
from wgflow.base.registry import lookup, name_and_options
from wgflow.base.types import Array
from wgflow.base.user_objects import Candidate, require_methods, try_once


class Loss(Protocol):
    """Interface of a loss; ``output`` and ``y`` are (M, K)."""

    name: ClassVar[str]

    def value(self, output: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Loss of each sample, (M,)."""

    def gradient(self, output: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Gradient of each sample's loss in its own output, (M, K)."""

    def check(self, y: NDArray[Any]) -> None:
        """Raise InputError if y are not valid targets."""


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

    def check(self, y: NDArray[Any]) -> None:
        """Accept any finite targets."""


class CrossEntropy:
    """Cross-entropy of the softmax of the outputs with class probabilities y (one-hot for labels).

    sum_k y_k (log sum_j exp(output_j) - output_k).
    """

    name: ClassVar[str] = "cross_entropy"

    def value(self, output: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Cross-entropy of each sample, (M,)."""
        shifted = output - output.real.max(axis=1, keepdims=True)  # against overflow
        total: NDArray[Any] = (y * (np.log(np.exp(shifted).sum(axis=1, keepdims=True)) - shifted)).sum(axis=1)
        return total

    def gradient(self, output: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Softmax (times the sum of y, which is 1) minus y, (M, K)."""
        weight = np.exp(output - output.real.max(axis=1, keepdims=True))
        out: NDArray[Any] = weight * (y.sum(axis=1) / weight.sum(axis=1))[:, None] - y
        return out

    def check(self, y: NDArray[Any]) -> None:
        """Refuse targets that are not class probabilities."""
        # The tolerance allows for probabilities in single precision.
        if y.shape[1] < 2 or (y < 0).any() or not np.allclose(y.sum(axis=1), 1.0, atol=1e-6):
            raise InputError(
                "y: expected class probabilities for the cross_entropy loss, K >= 2 numbers >= 0 per row with sum 1, "
                f"got shape {y.shape}, row sums {y.sum(axis=1).min():.9g} to {y.sum(axis=1).max():.9g}; "
                "use one-hot rows"
            )


class Huber:
    """Huber's loss: r**2/2 for a residual |r| <= 1 and |r| - 1/2 beyond, summed over the K outputs.

    Its derivative is bounded by 1 and 1-Lipschitz. Scale the targets for another threshold.
    """

    name: ClassVar[str] = "huber"

    def value(self, output: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Loss of each sample, (M,)."""
        residual = output - y
        near = np.abs(residual.real) <= 1
        total: NDArray[Any] = np.where(near, 0.5 * residual**2, residual * np.sign(residual.real) - 0.5).sum(axis=1)
        return total

    def gradient(self, output: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Residual output - y, cut off at -1 and 1, (M, K)."""
        residual = output - y
        out: NDArray[Any] = np.where(np.abs(residual.real) <= 1, residual, np.sign(residual.real))
        return out

    def check(self, y: NDArray[Any]) -> None:
        """Accept any finite targets."""


class Logistic:
    """Logistic loss of labels y = -1 or 1, log(1 + exp(-y output)) summed over the K outputs.

    Its derivative is bounded by 1 and 1/4-Lipschitz; the infimum 0 is reached at infinite outputs only.
    """

    name: ClassVar[str] = "logistic"

    def value(self, output: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Loss of each sample, (M,)."""
        margin = y * output
        wrong = margin.real < 0
        total: NDArray[Any] = (np.where(wrong, -margin, 0) + np.log1p(_small_exponential(margin, wrong))).sum(axis=1)
        return total

    def gradient(self, output: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """-y / (1 + exp(y output)), (M, K)."""
        margin = y * output
        wrong = margin.real < 0
        small = _small_exponential(margin, wrong)
        out: NDArray[Any] = -y * np.where(wrong, 1.0, small) / (1 + small)
        return out

    def check(self, y: NDArray[Any]) -> None:
        """Refuse targets other than -1 and 1."""
        if (np.abs(y) != 1).any():
            wrong = y[np.abs(y) != 1]
            raise InputError(
                f"y: expected -1 or 1 for the logistic loss, got {len(wrong)} others such as {wrong[0]:.9g}; code the "
                "classes so, and leave targets as they are (standardise = false in a study)"
            )


def _small_exponential(margin: NDArray[Any], wrong: NDArray[Any]) -> NDArray[Any]:
    """exp(-|margin|), which cannot overflow."""
    out: NDArray[Any] = np.exp(np.where(wrong, margin, -margin))
    return out


LOSSES: dict[str, Loss] = {loss.name: loss for loss in (Squared(), CrossEntropy(), Huber(), Logistic())}


_REQUIRED = ("name", "value", "gradient", "check")
_AXES = 8  # outputs in which a user's loss is differentiated


def loss(choice: str | Loss) -> Loss:
    """Look up a loss by name; a loss object is passed through, see :func:`try_out`.

    Raises
    ------
    InputError
        If the name is unknown, or the object lacks a method of a loss.
    """
    if isinstance(choice, str | Mapping):
        name, options = name_and_options("loss", choice)
        for option in options:
            raise InputError(f"loss {name!r}: unknown option {option!r}; losses have none")
        return lookup("loss", name, LOSSES)
    require_methods("loss", choice, "wgflow.model.losses.Loss", _REQUIRED)
    return choice


def check_targets(chosen: Loss, y: Array) -> None:
    """Raise InputError for targets (M, K) that a loss does not accept."""
    Candidate("loss", chosen.name).call("check", chosen.check, y)


def try_out(candidate: Loss, output: Array, y: Array) -> None:
    """Test a loss of the user's once: shapes, independence of samples, gradient against value.

    Parameters
    ----------
    candidate, output, y : Loss, ndarray (m, K), ndarray (m, K)
        The loss; outputs of the network without particles, and targets, near which the loss must be finite.

    Raises
    ------
    InputError
        On the first failure.
    """
    try_once(candidate, y.shape[1], lambda: _try(candidate, output, y))


def _try(candidate: Loss, output: Array, y: Array) -> None:
    trial = Candidate("loss", candidate.name)
    trial.plain({"name": candidate.name})
    normal = rng.normal(0, "try loss", (2 * len(y), y.shape[1]))
    # The outputs given, some near them, and some in (0, 1) for losses of probabilities.
    near, between = output + normal[: len(y)], 1 / (1 + np.exp(-normal[len(y) :]))
    outputs, targets = np.concatenate([output, near, between]), np.concatenate([y] * 3)
    count = outputs.shape
    (value,) = trial.numbers(("value",), candidate.value, (outputs, targets), (count[:1],))
    (gradient,) = trial.numbers(("gradient",), candidate.gradient, (outputs, targets), (count,))
    for what, function, numbers in (("value", candidate.value, value), ("gradient", candidate.gradient, gradient)):
        if not np.isfinite(numbers).any():
            trial.finite(f"{what} at some outputs near these targets", numbers)
        trial.independent_rows(what, numbers, trial.call(what, function, outputs[:1], targets[:1]), "sample")
    away = slice(len(y), None)  # an output equal to the target may lie on a kink
    trial.finite("gradient where value is finite", gradient[away][np.isfinite(value[away])])
    known = np.where(np.isfinite(value)[:, None], gradient, np.nan)
    trial.slopes("gradient", "value", known, lambda move: candidate.value(outputs + move, targets), _AXES)
