"""Trial of a block of the user's: shapes, finite numbers, derivatives, and its ridge units."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wgflow.base.errors import describe
from wgflow.base.rng import normal
from wgflow.base.types import Array
from wgflow.base.user_objects import Candidate, nearly_equal, try_once
from wgflow.base.validate import whole
from wgflow.model.activations import ACTIVATIONS, Activation
from wgflow.model.blocks.base import Block, Unfolding

_AXES = 8  # directions of a derivative that are tried


def check_block(block: Block, width: int = 3, activation: Activation = ACTIVATIONS["tanh"], seed: int = 0) -> None:
    """Test a block of your own: shapes, finite numbers, and whether backward is the derivative of forward.

    A problem runs the same test once, with its own width, activation and states at t = 0.

    Parameters
    ----------
    block : Block
        The block.
    width : int, optional
        State width D of the test.
    activation : Activation, optional
        Activation passed to the block.
    seed : int, optional
        Seed of the random inputs and parameters, of order one.

    Raises
    ------
    InputError
        On the first failure: parameter groups with gaps, a wrong shape, a number that is not finite, samples that
        depend on one another, a derivative that deviates from finite differences of forward by more than one part in
        10**5, or units whose sum is not the block.
    """
    with np.errstate(all="ignore"):
        _try(block, activation, normal(seed, "check x", (6, width)), 6, seed)


def try_out(block: Block, activation: Activation, start: Array) -> None:
    """Try a block of the user's once, as :func:`check_block` does, with the problem's activation and states at t = 0.

    It must be finite at these states ``start``, (m, D), which are scaled down to order one.
    """
    known = start / max(1.0, float(np.abs(start).max()))
    x = np.concatenate([known, normal(0, "check x", known.shape)])
    try_once(block, (start.shape[1], activation.name), lambda: _try(block, activation, x, len(known), 0))


def _try(block: Block, activation: Activation, x: Array, known: int, seed: int) -> None:
    """Try a block at states x, (m, D), finite at least at the first ``known`` of them."""
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
    gradients = trial.numbers(names, block.backward, (x, theta, p, activation), (x.shape, (size,)))
    for name, numbers in zip(names, gradients, strict=True):
        trial.finite(name, numbers)
    value = np.asarray(block.forward(x, theta, activation))
    trial.independent_rows("forward", value, trial.call("forward", block.forward, x[:1], theta, activation), "sample")

    def directional(x: Array, theta: Array) -> NDArray[Any]:
        return np.asarray((block.forward(x, theta, activation) * p).sum(axis=1))

    wrong = "backward does not belong to forward: the gradient in"
    trial.slopes(f"{wrong} x", "forward", gradients[0], lambda move: directional(x + move, theta), _AXES, seed)
    trial.slopes(
        f"{wrong} theta", "forward", gradients[1], lambda move: directional(x, theta + move).sum(), 4 * _AXES, seed
    )
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
