"""Residual blocks f(x, theta), forward and backward side by side, and the layout of their parameters.

These NumPy methods are the definition. Compiled kernels are tested against them. Every built-in block is a sum of
ridge units a sigma(w . x + b), which is how the compiled kernels, written for those, serve all of them (``units``,
``unfold``, ``fold``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wgflow.base.errors import InputError, describe
from wgflow.base.registry import build
from wgflow.base.rng import normal
from wgflow.base.types import Array, Spec
from wgflow.base.user_objects import Candidate, nearly_equal, require_methods, try_once
from wgflow.base.validate import use_python_numbers, whole
from wgflow.model.activations import ACTIVATIONS, Activation


class Block(Protocol):
    """What a residual block has to offer; :func:`check_block` tries one out.

    A block of your own runs through NumPy on every backend, in blocks of samples. If it is a sum of ridge units and
    says so with :class:`Unfolding`'s methods, it runs compiled.
    """

    @property
    def name(self) -> str:
        """Its name in files."""

    def groups(self, width: int) -> dict[str, slice]:
        """Columns of theta by parameter group, in order and without gaps, for a state of that width D."""

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
    """What a block that is a sum of H ridge units a sigma(w . x + b) can offer to run compiled.

    If H = D and unit d has the fixed a = e_d, the attribute ``coordinate_units = True`` says so, and spares the kernel
    three of its six products.
    """

    def units(self, width: int) -> int:
        """Units of one particle, H, for a state of that width D."""

    def unfold(self, theta: Array, width: int) -> Array:
        """Units of all particles, (N, P) to (N * H, 2 D + 1), columns [a | w | b], a particle's units together."""

    def fold(self, slope: Array, width: int) -> Array:
        """Transpose of unfold's derivative, (E * H, 2 D + 1) to (E, P)."""


@dataclass(frozen=True)
class Ridge:
    """Ridge function a sigma(w . x + b), a rank-one residual block.

    Columns of theta are [a (D) | w (D) | b (1)]. With relu the pair is 2-homogeneous in theta, with squared relu
    3-homogeneous; with any activation it is 1-homogeneous in a alone, the partially homogeneous case of
    Ding, Chen, Li and Wright (arXiv:2110.02926), Theorem 6.2.

    Parameters
    ----------
    bias : bool, optional
        Whether the column b is there.
    """

    bias: bool = True
    name: ClassVar[str] = "ridge"

    def __post_init__(self) -> None:
        use_python_numbers(self)
        _check_bias(self)

    def groups(self, width: int) -> dict[str, slice]:
        """Columns of a, w and, with bias, b."""
        groups = {"a": slice(0, width), "w": slice(width, 2 * width)}
        return groups | {"b": slice(2 * width, 2 * width + 1)} if self.bias else groups

    def _split(self, theta: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], Any]:
        width = theta.shape[0] // 2
        return theta[:width], theta[width : 2 * width], theta[-1] if self.bias else 0.0

    def forward(self, x: NDArray[Any], theta: NDArray[Any], activation: Activation) -> NDArray[Any]:
        """f(x, theta) = a sigma(w . x + b), (M, D)."""
        a, w, b = self._split(theta)
        out: NDArray[Any] = activation.value(x @ w + b)[:, None] * a
        return out

    def backward(
        self, x: NDArray[Any], theta: NDArray[Any], p: NDArray[Any], activation: Activation
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return p . d_x f = (p . a) sigma'(z) w, (M, D), and the sums over samples for a, w and b, (P,)."""
        a, w, b = self._split(theta)
        z = x @ w + b  # (M,)
        r = (p @ a) * activation.slope(z)  # (M,)
        parts = [activation.value(z) @ p, r @ x]
        if self.bias:
            parts.append(np.sum(r, keepdims=True))
        return r[:, None] * w, np.concatenate(parts)

    def degree(self, activation: Activation) -> int | None:
        """One more than the degree of the activation, since a multiplies it."""
        return None if activation.degree is None else activation.degree + 1

    def spec(self) -> Spec:
        """``{"name": "ridge", "bias": ...}``."""
        return {"name": self.name, "bias": self.bias}

    def units(self, width: int) -> int:
        """One ridge unit a particle."""
        return 1

    def unfold(self, theta: Array, width: int) -> Array:
        """The particles themselves, with a zero bias where there is none."""
        return theta if self.bias else np.pad(theta, ((0, 0), (0, 1)))

    def fold(self, slope: Array, width: int) -> Array:
        """Gradients in the columns the block has."""
        return slope if self.bias else slope[:, :-1]


@dataclass(frozen=True)
class Matrix:
    """Activated affine map sigma(W x + b).

    Columns of theta are [W row by row (D * D) | b (D)]; homogeneous of the activation's degree.

    Parameters
    ----------
    bias : bool, optional
        Whether the columns b are there.
    """

    bias: bool = True
    name: ClassVar[str] = "matrix"
    coordinate_units: ClassVar[bool] = True

    def __post_init__(self) -> None:
        use_python_numbers(self)
        _check_bias(self)

    def groups(self, width: int) -> dict[str, slice]:
        """Columns of W and, with bias, b."""
        groups = {"W": slice(0, width * width)}
        return groups | {"b": slice(width * width, width * width + width)} if self.bias else groups

    def _affine(self, x: NDArray[Any], theta: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        width = x.shape[1]
        weight = theta[: width * width].reshape(width, width)
        return weight, x @ weight.T + (theta[width * width :] if self.bias else 0.0)

    def forward(self, x: NDArray[Any], theta: NDArray[Any], activation: Activation) -> NDArray[Any]:
        """f(x, theta) = sigma(W x + b), (M, D)."""
        return activation.value(self._affine(x, theta)[1])

    def backward(
        self, x: NDArray[Any], theta: NDArray[Any], p: NDArray[Any], activation: Activation
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return (p sigma'(z)) W, (M, D), and the sums over samples for W and b, (P,)."""
        weight, z = self._affine(x, theta)
        r = p * activation.slope(z)  # (M, D)
        parts = [(r.T @ x).ravel()]
        if self.bias:
            parts.append(r.sum(axis=0))
        return r @ weight, np.concatenate(parts)

    def degree(self, activation: Activation) -> int | None:
        """Degree of the activation."""
        return activation.degree

    def spec(self) -> Spec:
        """``{"name": "matrix", "bias": ...}``."""
        return {"name": self.name, "bias": self.bias}

    def units(self, width: int) -> int:
        """One ridge unit a row of W: sigma(W x + b) = sum_d e_d sigma(W_d . x + b_d)."""
        return width

    def unfold(self, theta: Array, width: int) -> Array:
        """Rows [e_d | W_d | b_d] of every particle."""
        count = len(theta)
        rows = np.zeros((count, width, 2 * width + 1))
        rows[:, :, :width] = np.eye(width)
        rows[:, :, width : 2 * width] = theta[:, : width * width].reshape(count, width, width)
        if self.bias:
            rows[:, :, -1] = theta[:, width * width :]
        return rows.reshape(count * width, 2 * width + 1)

    def fold(self, slope: Array, width: int) -> Array:
        """Gradients in W and b; those in the fixed e_d are dropped."""
        rows = slope.reshape(-1, width, 2 * width + 1)
        weight = rows[:, :, width : 2 * width].reshape(len(rows), width * width)
        return np.concatenate([weight, rows[:, :, -1]], axis=1) if self.bias else weight


@dataclass(frozen=True)
class TwoLayer:
    """Two-layer perceptron V sigma(U x + c) of hidden width H.

    Columns of theta are [V row by row (D * H) | U row by row (H * D) | c (H)]. With H = 1 it is the ridge block.

    Parameters
    ----------
    hidden : int, optional
        H >= 1.
    bias : bool, optional
        Whether the columns c are there.
    """

    hidden: int = 4
    bias: bool = True
    name: ClassVar[str] = "two_layer"

    def __post_init__(self) -> None:
        use_python_numbers(self)
        _check_bias(self)
        whole("hidden of the two_layer block", self.hidden)

    def groups(self, width: int) -> dict[str, slice]:
        """Columns of V, U and, with bias, c."""
        size = width * self.hidden
        groups = {"V": slice(0, size), "U": slice(size, 2 * size)}
        return groups | {"c": slice(2 * size, 2 * size + self.hidden)} if self.bias else groups

    def _split(self, x: NDArray[Any], theta: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        width, hidden = x.shape[1], self.hidden
        outer = theta[: width * hidden].reshape(width, hidden)
        inner = theta[width * hidden : 2 * width * hidden].reshape(hidden, width)
        return outer, inner, x @ inner.T + (theta[2 * width * hidden :] if self.bias else 0.0)

    def forward(self, x: NDArray[Any], theta: NDArray[Any], activation: Activation) -> NDArray[Any]:
        """f(x, theta) = V sigma(U x + c), (M, D)."""
        outer, _, z = self._split(x, theta)
        out: NDArray[Any] = activation.value(z) @ outer.T
        return out

    def backward(
        self, x: NDArray[Any], theta: NDArray[Any], p: NDArray[Any], activation: Activation
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return (V' p sigma'(z)) U, (M, D), and the sums over samples for V, U and c, (P,)."""
        outer, inner, z = self._split(x, theta)
        r = (p @ outer) * activation.slope(z)  # (M, H)
        parts = [(p.T @ activation.value(z)).ravel(), (r.T @ x).ravel()]
        if self.bias:
            parts.append(r.sum(axis=0))
        return r @ inner, np.concatenate(parts)

    def degree(self, activation: Activation) -> int | None:
        """One more than the degree of the activation, since V multiplies it."""
        return None if activation.degree is None else activation.degree + 1

    def spec(self) -> Spec:
        """``{"name": "two_layer", "hidden": ..., "bias": ...}``."""
        return {"name": self.name, "hidden": self.hidden, "bias": self.bias}

    def units(self, width: int) -> int:
        """One ridge unit a hidden neuron: V sigma(U x + c) = sum_j V_j sigma(U_j . x + c_j)."""
        return self.hidden

    def unfold(self, theta: Array, width: int) -> Array:
        """Rows [column j of V | row j of U | c_j] of every particle."""
        count, hidden = len(theta), self.hidden
        size = width * hidden
        rows = np.zeros((count, hidden, 2 * width + 1))
        rows[:, :, :width] = theta[:, :size].reshape(count, width, hidden).swapaxes(1, 2)
        rows[:, :, width : 2 * width] = theta[:, size : 2 * size].reshape(count, hidden, width)
        if self.bias:
            rows[:, :, -1] = theta[:, 2 * size :]
        return rows.reshape(count * hidden, 2 * width + 1)

    def fold(self, slope: Array, width: int) -> Array:
        """Gradients in V, U and c."""
        rows = slope.reshape(-1, self.hidden, 2 * width + 1)
        count, size = len(rows), width * self.hidden
        outer = rows[:, :, :width].swapaxes(1, 2).reshape(count, size)
        inner = rows[:, :, width : 2 * width].reshape(count, size)
        return np.concatenate([outer, inner, rows[:, :, -1]] if self.bias else [outer, inner], axis=1)


_NEEDED = ("name", "groups", "forward", "backward", "degree", "spec")
_AXES = 8  # directions of a derivative that a block of the user's is tried along

BLOCKS: dict[str, type[Any]] = {
    "ridge": Ridge,
    "matrix": Matrix,
    "two_layer": TwoLayer,
}


def _check_bias(block: Ridge | Matrix | TwoLayer) -> None:
    if not isinstance(block.bias, bool):
        raise InputError(f"bias of the {block.name} block: expected true or false, got {describe(block.bias)}")


def block(choice: str | Spec | Block) -> Block:
    """Look up a block by name or spec; a block object is passed through, see :func:`try_out`.

    Raises
    ------
    InputError
        If the name is unknown, an option does not belong to the block, or an object lacks what a block has to offer.
    """
    if isinstance(choice, str | Mapping):
        made: Block = build("block", choice, BLOCKS)
        return made
    require_methods("block", choice, "wgflow.model.blocks.Block", _NEEDED)
    return choice


def width(block: Block, state: int) -> int:
    """Parameters of one particle, P, for a state of width D."""
    return max(int(columns.stop) for columns in block.groups(state).values())


def check_block(block: Block, width: int = 3, activation: Activation = ACTIVATIONS["tanh"], seed: int = 0) -> None:
    """Try out a block of your own: shapes, NaN, and whether its backward belongs to its forward.

    A problem does the same once, with its own width, activation and states at t = 0.

    Parameters
    ----------
    block : Block
        The block.
    width : int, optional
        State width D to try it with.
    activation : Activation, optional
        Activation to hand to it.
    seed : int, optional
        Seed of the random inputs and parameters, of order one.

    Raises
    ------
    InputError
        Naming what is wrong first: parameter groups with gaps, a wrong shape, a number that is not finite, samples that
        are not computed each by itself, a derivative that differs from differences of forward by more than one part in
        10**5, or units of which the block is not the sum.
    """
    with np.errstate(all="ignore"):
        _try(block, activation, normal(seed, "check x", (6, width)), 6, seed)


def try_out(block: Block, activation: Activation, start: Array) -> None:
    """Try a block of the user's once, as :func:`check_block` does; a built-in one is not tried.

    Parameters
    ----------
    block : Block
        The block.
    activation : Activation
        What the problem hands to it.
    start : ndarray (m, D)
        A few states at t = 0, where the block has to be finite. They are scaled down to order one.

    Raises
    ------
    InputError
        As :func:`check_block`.
    """
    known = start / max(1.0, float(np.abs(start).max()))
    x = np.concatenate([known, normal(0, "check x", known.shape)])
    try_once(block, (start.shape[1], activation.name), lambda: _try(block, activation, x, len(known), 0))


def _try(block: Block, activation: Activation, x: Array, known: int, seed: int) -> None:
    """Try a block at states x, (m, D), of which it has to be finite at the first ``known``."""
    width, trial = x.shape[1], Candidate("block", block.name)
    degree = block.degree(activation)
    if degree is not None:
        whole(f"degree of block {block.name!r}", degree, 0)
    size = _columns(block, width)
    trial.plain(trial.call("spec", block.spec))
    theta = normal(seed, "check theta", (1, size))[0] * min(1.0, (3 / width) ** 0.5)
    (value,) = trial.numbers(("forward",), block.forward, (x, theta, activation), (x.shape,))
    trial.finite("forward", value[:known])
    x = x[np.isfinite(value).all(axis=1)]
    p = normal(seed, "check p", x.shape)
    names = ("the state gradient of backward", "the parameter gradient of backward")
    found = trial.numbers(names, block.backward, (x, theta, p, activation), (x.shape, (size,)))
    for name, numbers in zip(names, found, strict=True):
        trial.finite(name, numbers)
    value = np.asarray(block.forward(x, theta, activation))
    trial.each_alone("forward", value, trial.call("forward", block.forward, x[:1], theta, activation), "sample")

    def along(x: Array, theta: Array) -> NDArray[Any]:
        return np.asarray((block.forward(x, theta, activation) * p).sum(axis=1))

    wrong = "backward does not belong to forward: the gradient in"
    trial.slopes(f"{wrong} x", "forward", found[0], lambda move: along(x + move, theta), _AXES, seed)
    trial.slopes(f"{wrong} theta", "forward", found[1], lambda move: along(x, theta + move).sum(), 4 * _AXES, seed)
    if isinstance(block, Unfolding):
        _try_units(trial, block, activation, x, theta, value)


def _try_units(
    trial: Candidate, block: Unfolding, activation: Activation, x: Array, theta: Array, value: NDArray[Any]
) -> None:
    """Try what compiled kernels run instead of forward and backward: the sum of ridge units."""
    width, both = x.shape[1], np.stack([theta, 0.5 * theta])
    units = block.units(width)
    shape = (2 * units, 2 * width + 1)
    (rows,) = trial.numbers(("unfold",), block.unfold, (both, width), (shape,))
    a, w, b = rows[:units, :width], rows[:units, width : 2 * width], rows[:units, -1]
    if getattr(block, "coordinate_units", False) and not (units == width and np.array_equal(a, np.eye(width))):
        raise trial.refuse("unit d of D to have a = e_d, since coordinate_units says so", f"{units} units, D = {width}")
    if not nearly_equal(value, activation.value(x @ w.T + b) @ a):
        raise trial.refuse(
            "forward to be the sum of the units of unfold, which is what compiled kernels run",
            "another function",
            "override units, unfold and fold together with forward, or do not inherit them",
        )
    weight = normal(0, "check fold", shape)
    (slope,) = trial.numbers(("fold",), block.fold, (weight, width), (both.shape,))

    def moved(move: Array) -> NDArray[Any]:
        return np.asarray((weight * block.unfold(both + move.reshape(both.shape), width)).sum())

    trial.slopes("fold", "unfold", slope.ravel(), moved, _AXES)


def _columns(block: Block, width: int) -> int:
    """P, after checking that the groups cover the columns."""
    stop, trial = 0, Candidate("block", block.name)
    groups = trial.call("groups", block.groups, width)
    if not isinstance(groups, dict) or not groups:
        raise trial.refuse("groups to be a dict of slices, one or more", describe(groups))
    for name, columns in groups.items():
        plain = isinstance(columns, slice) and columns.step in (None, 1)
        if not plain or columns.start != stop or not columns.stop > columns.start:
            raise trial.refuse(f"group {name!r} to start at column {stop} and not to be empty", str(columns))
        stop = columns.stop
    return stop
