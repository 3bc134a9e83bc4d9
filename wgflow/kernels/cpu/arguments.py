"""Arguments of the compiled kernels, grouped. Numba converts no field of a named tuple, so arrays must be writable."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

from wgflow.base.types import Index


class Samples(NamedTuple):
    """States at depth 0, (D, M), and targets, (M, K), which are not read where only outputs are wanted."""

    start: NDArray[Any]
    target: NDArray[Any]


class Model(NamedTuple):
    """What stays the same from one evaluation of a problem to the next.

    Attributes
    ----------
    readout, transposed : ndarray (K', D'), (D', K')
        W1 and its transpose, padded with zeros to multiples of ROWS.
    activation, loss : int
        Codes; a loss below 0 asks for the outputs alone.
    eta : float
        Parameter of the activation, in the precision of the kernel.
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
    keep: int
    coordinate: int
    lanes: int


class Stack(NamedTuple):
    """Table of groups, (groups, 8), and parameters by slot; see :mod:`wgflow.kernels.cpu.groups`.

    Attributes
    ----------
    groups : ndarray (groups, 8), int64
        Table by :func:`wgflow.kernels.cpu.groups.plan_groups`.
    w, a : ndarray (slots / 4, D' + G, 4)
        Columns [w | c (w . a)] and [a | c (w . a)], four slots to a panel.
    cw, ca : ndarray (slots, D')
        Rows c w, in the order of r, and c a.
    bias : ndarray (slots,)
        b.
    """

    groups: Index
    w: NDArray[Any]
    a: NDArray[Any]
    cw: NDArray[Any]
    ca: NDArray[Any]
    bias: NDArray[Any]


class Scratch(NamedTuple):
    """Working memory of one thread.

    Attributes
    ----------
    tape : ndarray (rows, block)
        States and values of the groups; ``block`` is the number of samples that pass through the network together.
    slope : ndarray (slots or 1, block)
        Slopes of the activation, where they are kept.
    adjoints : ndarray (2, D' + G + K', block)
        p before and after a layer.
    """

    tape: NDArray[Any]
    slope: NDArray[Any]
    adjoints: NDArray[Any]
