"""Networks of wide layers and few samples: sizes, working memory and threads of their compiled pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wgflow.base.types import Array
from wgflow.kernels.cpu import compiled
from wgflow.kernels.cpu.arguments import Model, Samples, Shared, Wide, Work
from wgflow.kernels.cpu.buffers import BufferPool
from wgflow.kernels.cpu.threads import run_chunks
from wgflow.model.depth import Network

_SAMPLES = 64  # most samples
_UNITS = 16  # fewest units of a layer
_TILE = 2048  # parameters of a tile at most, 16 KiB
_MOST = 64  # units of a tile at most
_PIECE = 30_000  # parameters times samples of a piece at least, about 10 microseconds
_PIECES = 16  # pieces of a layer at most
_COUNTERS = 24  # see wgflow.kernels.cpu.turns, which imports the compiler
_TAPE = 2**18  # values that are kept at most, 2 MiB; reading more takes as long as computing them again
_ROWS = 4  # the height of a state is a multiple of it, as in the compiled tiles


def suits(net: Network, samples: int) -> bool:
    """Whether a network has layers so wide, and so few samples, that its units are the long side of the products."""
    return samples <= _SAMPLES and len(net.particle) >= _UNITS * net.layers


class WidePass:
    """Runs :func:`wgflow.kernels.cpu.wide_layers.wide_pass` for the networks of one problem.

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
        self._shared, self._work = BufferPool(self._dtype), BufferPool(self._dtype)

    def outputs(self, net: Network, units: Array, samples: Samples) -> NDArray[Any]:
        """Outputs W1 X(1), (M, K), from the parameters of the units, by particle."""
        unused = np.empty(1, self._dtype)
        model = self._model._replace(loss=-1)
        return self._run(net, _in_order(net, units), model, samples, unused, unused, None)[0]

    def gradient(self, net: Network, units: Array, samples: Samples) -> tuple[NDArray[Any], Array, Array]:
        """Outputs, g_e, (E,), and d_theta g_e, (E, P)."""
        units = _in_order(net, units)
        first, slope = np.empty(len(units), self._dtype), np.empty(units.shape, self._dtype)
        output, _ = self._run(net, units, self._model, samples, first, slope.reshape(-1), None)
        return output, first.astype(np.float64, copy=False), slope.astype(np.float64, copy=False)

    def move(self, net: Network, units: Array, samples: Samples, factor: Array) -> tuple[NDArray[Any], Array]:
        """Move the units in place by factor, (P,), times d_theta g_e; outputs and sum_e (d_theta g_e)**2, (P,).

        Unit e is entry e of the network, and parameters are in the kernel's precision.
        """
        unused = np.empty(1, self._dtype)
        return self._run(net, units, self._model, samples, unused, unused, factor)

    def _run(
        self,
        net: Network,
        units: Array,
        model: Model,
        samples: Samples,
        first: NDArray[Any],
        slope: NDArray[Any],
        factor: Array | None,
    ) -> tuple[NDArray[Any], Array]:
        count, (entries, parameters), move = samples.start.shape[1], units.shape, factor is not None
        width, height, row = self._width, _up(self._width + 1, _ROWS), _up(count, model.lanes)
        tile = int(np.clip(_TILE // parameters // 8 * 8, 8, _MOST))
        pieces, most = 1, int(np.diff(net.first).max())
        while 2 * pieces <= min(_PIECES, most * count * parameters // _PIECE):
            pieces *= 2
        keep = 1 + model.keep if model.loss >= 0 and entries * count * (1 + model.keep) <= _TAPE else 0
        wide = Wide(
            net.first, net.weight.astype(self._dtype, copy=False), _writable(units.astype(self._dtype, copy=False)),
            width, parameters, count, tile, pieces, keep, int(move),
        )  # fmt: skip
        shapes = [
            ((net.layers + 1) * height, row), (height, row), (2, count, height), (len(model.readout), row),
            (pieces, count * width), (keep, entries * count), (tile * parameters,),
            (pieces, tile * parameters) if move else (1, 1),
        ]  # fmt: skip
        output, counters = np.empty((count, self._outputs), self._dtype), np.empty(_COUNTERS, np.int64)
        kernels = compiled.wide_kernels(self._dtype.name)
        with self._shared.arrays(*shapes) as arrays:
            shared = Shared(height, *arrays)
            if move:
                shared.factor.reshape(tile, parameters)[:] = factor
            kernels.prepare(wide, samples, shared, counters)

            def work(_: int) -> None:
                with self._work.arrays((3, tile * count), (tile * parameters,)) as own:
                    kernels.wide_pass(wide, model, samples, shared, Work(*own), counters, output, first, slope)

            threads = min(self._threads, pieces)
            run_chunks(work, threads, threads)
            return output, shared.squares.sum(axis=0).reshape(tile, -1).sum(axis=0) if move else first


def _in_order(net: Network, units: Array) -> Array:
    """Units in the order of their entries."""
    entries = len(net.particle)
    if len(units) == entries and (net.particle == np.arange(entries)).all():
        return units
    return units[net.particle]


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
