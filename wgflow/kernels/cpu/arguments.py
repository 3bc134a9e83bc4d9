"""Arguments of the compiled kernels, grouped. Numba converts no field of a named tuple, so arrays must be writable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from wgflow.base.errors import InputError
from wgflow.base.types import Index


class Samples(NamedTuple):
    """States at depth 0, (D, M), and targets, (M, K), which are not read where only outputs are wanted."""

    start: NDArray[Any]
    target: NDArray[Any]


class Constant(NamedTuple):
    """A number that a function of the user's reads by name: how to read it, and its value when it was compiled."""

    name: str
    read: Callable[[], Any]
    value: Any


class CompiledActivation(NamedTuple):
    """Address of compiled code of an activation of the user's, valid while ``owner`` lives; numbers in that code."""

    address: int
    owner: Any
    constants: tuple[Constant, ...] = ()

    def check(self) -> None:
        """Raise an InputError if a number that the activation reads is no longer the one it was compiled with."""
        for name, read, value in self.constants:
            now = read()
            if now is not value and (type(now) is not type(value) or now != value):
                raise InputError(
                    f"activation: expected {name} = {value!r}, as when it was compiled, got {now!r}; build problem and "
                    "energy again after such a change"
                )


class Model(NamedTuple):
    """What stays the same from one evaluation of a problem to the next.

    Attributes
    ----------
    readout, transposed : ndarray (K, D), (D, K)
        W1 and its transpose.
    activation, loss : int
        Codes; a loss below 0 asks for the outputs alone.
    eta : float
        Parameter of the activation, in the precision of the kernel.
    own : int
        Address of an activation with a slope: the user's, see :mod:`wgflow.kernels.cpu.own_activation`, or a built-in
        one's; 0 for one that is compiled into the kernel.
    keep : int
        1 if the slope of the activation is stored in the forward pass.
    coordinate : int
        D if unit e of the network moves coordinate e mod D alone, else 0.
    lanes : int
        Numbers in the widest vector register; blocks of samples are padded to multiples of it.
    """

    readout: NDArray[Any]
    transposed: NDArray[Any]
    activation: int
    loss: int
    eta: Any
    own: int
    keep: int
    coordinate: int
    lanes: int


class Stack(NamedTuple):
    """Table of groups, (groups, 8), and parameters by slot; see :mod:`wgflow.kernels.cpu.groups`.

    Attributes
    ----------
    groups : ndarray (groups, 8), int64
        Table by :func:`wgflow.kernels.cpu.groups.plan_groups`.
    w, a : ndarray (slots / 4, D + 1 + G, 4), (slots / 4, D + G, 4)
        Columns [w | b | c (w . a)], without b where units have none, and [a | c (w . a)], four slots to a panel.
    cw, ca : ndarray (slots, D)
        Rows c w, in the order of r, and c a.
    """

    groups: Index
    w: NDArray[Any]
    a: NDArray[Any]
    cw: NDArray[Any]
    ca: NDArray[Any]


class Scratch(NamedTuple):
    """Working memory of one thread.

    Attributes
    ----------
    tape : ndarray (rows, block)
        States and values of the groups; ``block`` is the number of samples that pass through the network together.
    slope : ndarray (slots or 1, block)
        Slopes of the activation, where they are kept.
    adjoints : ndarray (2, rows, block)
        p before and after a layer, each followed by r of a group.
    """

    tape: NDArray[Any]
    slope: NDArray[Any]
    adjoints: NDArray[Any]


class Wide(NamedTuple):
    """A network of wide layers and how its pass is divided; see :mod:`wgflow.kernels.cpu.wide_layers`.

    Attributes
    ----------
    first : ndarray (L + 1,), int64
        Layer k holds the units first[k] <= e < first[k + 1].
    even : ndarray (L,), int64
        Whether all units of a layer have one weight.
    weight : ndarray (E,)
        Weight of each unit in its layer's step.
    units : ndarray (E P,)
        Parameters [a | w | b] of the units, in the order of their layers.
    width, parameters, samples : int
        D, P and M.
    tile, pieces : int
        Units of a tile, and pieces of a layer.
    keep : int
        Whether values (1), or values and slopes (2), are kept from the forward pass; otherwise they are computed again.
    move : int
        1 if the units are moved instead of their gradients written.
    by_sample : int
        1 if the sums of a piece lie by sample, (M, D), which takes fewer vectors than (D, M) where D is the longer.
    """

    first: Index
    even: Index
    weight: NDArray[Any]
    units: NDArray[Any]
    width: int
    parameters: int
    samples: int
    tile: int
    pieces: int
    keep: int
    move: int
    by_sample: int


class Shared(NamedTuple):
    """Working memory that the threads of a pass share.

    Attributes
    ----------
    height : int
        Rows of a state, D + 1 rounded up.
    states : ndarray ((L + 1) height, M')
        State before each layer and after the last, with a row of ones; M' is M rounded up to whole vectors.
    adjoint : ndarray (at least D, M')
        Adjoint after the layer at work.
    across : ndarray (2, M, height)
        That adjoint and the state before the layer, by sample.
    outputs : ndarray (K, M')
        Outputs, then the gradients of the losses.
    parts : ndarray (pieces, M D)
        Sums of the pieces, by sample or by coordinate.
    tape : ndarray (keep, E M)
        Values and slopes of all units, where they are kept.
    factor : ndarray (8 P,)
        Factor of each parameter's gradient in a move, for some units.
    squares : ndarray (pieces, 8 P)
        Sums of the squares of the gradients in a move, likewise.
    """

    height: int
    states: NDArray[Any]
    adjoint: NDArray[Any]
    across: NDArray[Any]
    outputs: NDArray[Any]
    parts: NDArray[Any]
    tape: NDArray[Any]
    factor: NDArray[Any]
    squares: NDArray[Any]


class Work(NamedTuple):
    """Working memory of one thread: values, slopes and adjoints of a tile, (3, tile M); gradients, (tile P,)."""

    values: NDArray[Any]
    gradient: NDArray[Any]
