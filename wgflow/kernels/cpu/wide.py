"""Networks of wide layers and few samples: sizes, working memory and threads of their compiled pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wgflow.base.types import Array, Index
from wgflow.kernels.cpu import compiled
from wgflow.kernels.cpu.arguments import Model, Samples, Shared, Wide, Work
from wgflow.kernels.cpu.buffers import BufferPool, Shape
from wgflow.kernels.cpu.threads import run_chunks
from wgflow.model.depth import Network

_SAMPLES = 64  # most samples; with more, they fill vectors and threads as well as units do
_UNITS = 8  # fewest units of a layer
_SMALL = 2**15  # values of one layer whose evaluation takes little longer than its calls
_TILE = 8192  # parameters of a tile at most, 64 KiB
_MOST = 128  # units of a tile at most
_REPEAT = 8  # units whose factors and sums of squares are laid out; a tile is a multiple of it
_PIECE = 60_000  # parameters times samples of a piece at least, about 20 microseconds
_PIECES = 16  # pieces of a layer at most
_SHARED = len(Shared._fields) - 1  # arrays that the threads share
_COUNTERS = 24  # see wgflow.kernels.cpu.turns, which imports the compiler
_TAPE = 2**18  # values that are kept in any case, 2 MiB; otherwise no more than there are parameters
_ROWS = 4  # the height of a state is a multiple of it, as in the compiled tiles


def suits(net: Network, samples: int) -> bool:
    """Whether a network has few samples, and layers that are at least as wide: measured, with D from 2 to 50.

    The units are then the long side of a layer's products, and there are enough of them for the threads.
    """
    return samples <= _SAMPLES and len(net.particle) >= max(_UNITS, samples) * net.layers


def moves_well(net: Network, samples: int) -> bool:
    """Whether a move in one pass is faster than an evaluation and a step, which is so for one small layer as well."""
    return suits(net, samples) or (net.layers == 1 and samples * len(net.particle) <= _SMALL)


class WidePasses:
    """Evaluations of the networks of one problem by :func:`wgflow.kernels.cpu.wide_layers.wide_pass`.

    Parameters
    ----------
    model : Model
        What stays the same from one evaluation to the next.
    width, outputs : int
        D and K.
    threads : int
        Number of threads.
    """

    def __init__(self, model: Model, width: int, outputs: int, threads: int) -> None:
        self._model, self._width, self._outputs, self._threads = model, width, outputs, threads
        self._dtype = model.readout.dtype
        self._precision = self._dtype.name  # NumPy computes the name anew every time
        self._alone = model._replace(loss=-1)
        self._buffers = BufferPool(self._dtype)
        self._known: tuple[Network, Any, Any] | None = None  # layout of the last network, which often is the next one

    def outputs(self, net: Network, units: Array, samples: Samples) -> NDArray[Any]:
        """Outputs W1 X(1), (M, K), from the parameters of the units, by particle."""
        unused, plan = np.empty(1, self._dtype), self._plan(net, _in_order(net, units), samples, False, False)
        with self._buffers.arrays(*plan.shapes) as arrays:
            return plan.ready(arrays)(unused, unused)

    def gradient(self, net: Network, units: Array, samples: Samples) -> tuple[NDArray[Any], Array, Array]:
        """Outputs, g_e, (E,), and d_theta g_e, (E, P)."""
        units = _in_order(net, units)
        first, slope = np.empty(len(units), self._dtype), np.empty(units.shape, self._dtype)
        plan = self._plan(net, units, samples, True, False)
        with self._buffers.arrays(*plan.shapes) as arrays:
            output = plan.ready(arrays)(first, slope.reshape(-1))
        return output, first.astype(np.float64, copy=False), slope.astype(np.float64, copy=False)

    def mover(self, net: Network, units: Array, samples: Samples, factor: Array) -> Mover:
        """What moves the units in place by factor, (P,), times d_theta g_e.

        Unit e is entry e of the network; parameters are in the kernel's precision, contiguous and writable.
        """
        plan = self._plan(net, units, samples, True, True)
        arrays = BufferPool(self._dtype).lend(plan.shapes).arrays
        plan.shared(arrays).factor.reshape(_REPEAT, -1)[:] = factor
        return Mover(plan, arrays, len(factor))

    def _plan(self, net: Network, units: Array, samples: Samples, gradient: bool, move: bool) -> _Plan:
        count, (entries, parameters) = samples.start.shape[1], units.shape
        asked, known = (entries, parameters, count, gradient, move), self._known
        if known is None or known[0] is not net or known[1] != asked:
            known = self._known = net, asked, self._layout(net, *asked)
        (tile, pieces, keep), even, height, threads, shapes = known[2]
        weight, data = net.weight.astype(self._dtype, copy=False), units.astype(self._dtype, copy=False)
        lanes, width = self._model.lanes, self._width
        by_sample = int(count * _up(width, lanes) < width * _up(count, lanes))
        sizes = width, parameters, count, tile, pieces, keep, int(move), by_sample
        wide = Wide(net.first, even, weight, _writable(data), *sizes)
        model = self._model if gradient else self._alone
        return _Plan(wide, model, samples, height, self._outputs, self._precision, threads, shapes)

    def _layout(
        self, net: Network, entries: int, parameters: int, count: int, gradient: bool, move: bool
    ) -> tuple[tuple[int, int, int], Index, int, int, tuple[Shape, ...]]:
        """Tile, pieces and what is kept; layers of one weight; height of a state; threads; shapes of working memory."""
        model, height, row = self._model, _up(self._width + 1, _ROWS), _up(count, self._model.lanes)
        pieces, most = 1, int(np.diff(net.first).max())
        while 2 * pieces <= min(_PIECES, most * count * parameters // _PIECE):
            pieces *= 2
        share = -(-most // pieces)  # units of a piece, in tiles of equal size
        tiles = -(-share // max(8, min(_MOST, _TILE // parameters)))
        tile = _up(-(-share // tiles), 8)
        tape = entries * count * (1 + model.keep)
        keep = 1 + model.keep if gradient and tape <= max(_TAPE, entries * parameters) else 0
        threads = min(self._threads, pieces)
        own: list[Shape] = [(3, tile * count), (tile * parameters,)]
        shapes = (
            ((net.layers + 1) * height, row), (height, row), (2, count, height), (len(model.readout), row),
            (pieces, count * self._width), (keep, entries * count), (_REPEAT * parameters,),
            (pieces, _REPEAT * parameters) if move else (1, 1), *own * threads,
        )  # fmt: skip
        return (tile, pieces, keep), _even(net), height, threads, shapes


class Moved(NamedTuple):
    """Outputs before a move, (M, K), and sum_e (d_theta g_e)**2 there, (P,); of several moves, a row for each."""

    output: NDArray[Any]
    squares: Array


class Mover:
    """Moves units in place, again and again.

    Attributes
    ----------
    at_once : bool
        Whether several moves can be made in one call, by one thread.
    """

    def __init__(self, plan: _Plan, arrays: list[NDArray[Any]], parameters: int) -> None:
        self._plan, self._arrays, self._parameters = plan, arrays, parameters
        self._shared, self._unused, self._run = plan.shared(arrays), arrays[0].reshape(-1)[:1], plan.ready(arrays)
        self.at_once = plan.threads == 1

    def move(self) -> Moved:
        """Move the units once."""
        output = self._run(self._unused, self._unused)
        return Moved(output, self._shared.squares.reshape(-1, self._parameters).sum(axis=0))

    def several(self, steps: int) -> Moved:
        """Move the units some times, with the same bits."""
        plan, (pieces, row), dtype = self._plan, self._shared.squares.shape, self._unused.dtype
        kernels, size = compiled.wide_step_kernels(plan.precision), (plan.wide.samples, plan.outputs)
        outputs, squares = np.empty((steps, *size), dtype), np.empty((steps, pieces, row), dtype)
        kernels.wide_steps(
            *kernels.addresses, plan.wide, plan.model, plan.samples, self._shared, plan.works(self._arrays)[0],
            np.empty(_COUNTERS, np.int64), self._unused, np.empty(size, dtype), outputs, squares,
        )  # fmt: skip
        return Moved(outputs, squares.reshape(steps, -1, self._parameters).sum(axis=1))


class _Plan(NamedTuple):
    """A pass, ready to run in working memory of these shapes: what threads share, then what each one owns."""

    wide: Wide
    model: Model
    samples: Samples
    height: int
    outputs: int
    precision: str
    threads: int
    shapes: tuple[Shape, ...]

    def shared(self, arrays: list[NDArray[Any]]) -> Shared:
        return Shared(self.height, *arrays[:_SHARED])

    def works(self, arrays: list[NDArray[Any]]) -> list[Work]:
        own = arrays[_SHARED:]
        return [Work(*own[2 * thread : 2 * thread + 2]) for thread in range(self.threads)]

    def ready(self, arrays: list[NDArray[Any]]) -> Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]:
        """Function that runs it in arrays of these shapes, with g and its gradient as outputs; returns (M, K)."""
        shared, works, kernels = self.shared(arrays), self.works(arrays), compiled.wide_kernels(self.precision)
        counters, size = np.empty(_COUNTERS, np.int64), (self.wide.samples, self.outputs)

        def run(first: NDArray[Any], slope: NDArray[Any]) -> NDArray[Any]:
            output = np.empty(size, self.precision)
            kernels.prepare(self.wide, self.samples, shared, counters)

            def work(thread: int) -> None:
                kernels.wide_pass(
                    self.wide, self.model, self.samples, shared, works[thread], counters, output, first, slope
                )

            run_chunks(work, self.threads, self.threads)
            return output

        return run


def _even(net: Network) -> Index:
    """1 for each layer whose units all have one weight, else 0."""
    changes = np.concatenate([[0], np.cumsum(np.diff(net.weight) != 0)])
    low = np.minimum(net.first[:-1], len(net.weight) - 1)  # of an empty layer, any
    even: Index = (changes[np.maximum(net.first[1:] - 1, low)] == changes[low]).astype(np.int64)
    return even


def in_order(net: Network, units: int) -> bool:
    """Whether entry e of a network is unit e, for all of them."""
    return len(net.particle) == units and bool((net.particle == np.arange(units)).all())


def _in_order(net: Network, units: Array) -> Array:
    """Units in the order of their entries."""
    return units if in_order(net, len(units)) else units[net.particle]


class _Data:
    """Data of an array as of one that may be written to."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.owner = array
        place = (array.ctypes.data, False)
        self.__array_interface__ = {"shape": (array.size,), "typestr": array.dtype.str, "data": place, "version": 3}


def _writable(array: NDArray[Any]) -> NDArray[Any]:
    """Flat view of an array for compiled code, which takes one kind of array alone; it writes only in a move."""
    return np.asarray(_Data(np.ascontiguousarray(array)))


def _up(count: int, step: int) -> int:
    return -(-count // step) * step
