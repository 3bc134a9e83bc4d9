"""Evaluation of networks in groups of consecutive entries: array sizes, working memory and threads."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wgflow.base.types import Array, Index
from wgflow.kernels.cpu import compiled
from wgflow.kernels.cpu.arguments import Model, Samples
from wgflow.kernels.cpu.buffers import BufferPool, Shape
from wgflow.kernels.cpu.chunks import Chunks, divide
from wgflow.kernels.cpu.threads import run_ranges
from wgflow.model.depth import Network

_SERIAL = 300_000  # operations below which a second thread costs more than it saves
_TINY = 2**18  # units times samples times D up to which steps without calls from Python gain more than threads do
_GROUPS = 16  # groups that one thread takes at a time, to stack parameters or to sum over the chunks
_PIECE = 64  # entries of a piece of one wide layer at most; a piece has no triangle
_ROWS = 4  # slots of a group are padded to a multiple of it, as in the compiled tiles
_FLAG, _TRIANGLE = 7, 1  # as in wgflow.kernels.cpu.groups, which imports the compiler
_STACK, _PASS, _FINISH = 1, 2, 4  # stages, as in wgflow.kernels.cpu.evaluate, which imports the compiler


def group_size(width: int) -> int:
    """Largest number of entries of a group, a multiple of 4.

    The triangle inside a group costs 4 G flops per sample and entry, compared with 12 D for the products; larger groups
    mean fewer passes over state and adjoint, and a shorter tape.
    """
    return 8 if width <= 8 else 16 if width <= 32 else 32


class Division(NamedTuple):
    """Division of one evaluation, and the shapes of its arrays.

    Attributes
    ----------
    chunks : Chunks
        Chunks and blocks of samples.
    stack, parts, scratch : tuple of tuples of int
        Shapes of the stacked parameters, of the partial sums of all chunks, and of a thread's working memory.
    """

    chunks: Chunks
    stack: tuple[Shape, ...]
    parts: tuple[Shape, ...]
    scratch: tuple[Shape, ...]


def memory(entries: int, samples: int, width: int, outputs: int, threads: int) -> int:
    """Bytes of one evaluation with gradient in float64: stacked parameters, partial sums, tapes, results.

    Parameters
    ----------
    entries : int
        E, entries of the network; ridge units for a block that is a sum of them.
    samples, width, outputs, threads : int
        M, D, K and the number of threads.
    """
    group = group_size(width)
    rows, columns = 2 * entries + entries * (width + 1) // group, 2 * width + 1 + group
    plan = divide(samples, entries * width, entries * columns, rows)
    stack = entries * (4 * width + 1 + 2 * group + 8)
    tape = (rows + 2 * _inner(width, outputs)) * plan.block * min(threads, plan.chunks)
    return 8 * (stack + entries * columns * plan.chunks + tape + entries * (2 * width + 2))


def _inner(width: int, outputs: int) -> int:
    """Rows of one block's adjoints: p, then r of a group."""
    return max(width + _PIECE, outputs)


class GroupedPasses:
    """Runs :func:`wgflow.kernels.cpu.evaluate.evaluate` for the networks of one problem.

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
        self._dtype, self._precision = model.readout.dtype, model.readout.dtype.name
        self._stacks, self._parts, self._scratch = (BufferPool(self._dtype) for _ in range(3))
        self._alone = model._replace(loss=-1, keep=0)  # for the outputs alone
        self._divide = functools.lru_cache(16)(self._division)  # by sizes, which seldom change

    def outputs(self, net: Network, units: Array, samples: Samples) -> Array:
        """Outputs W1 X(1), (M, K), from the parameters of the units, by particle."""
        return self._run(net, units, samples, False)[0]

    def gradient(self, net: Network, units: Array, samples: Samples) -> tuple[Array, Array, Array]:
        """Outputs, g_e, (E,), and d_theta g_e, (E, P)."""
        return self._run(net, units, samples, True)

    def serial(self, net: Network, parameters: int, samples: Samples) -> tuple[int, tuple[Any, ...]] | None:
        """Samples of a chunk, and arguments of the kernel from ``width`` on, in arrays of their own.

        None if several threads are worth waking.
        """
        count, entries = samples.start.shape[1], len(net.particle)
        table, division = self._plan(net, parameters, count, True)
        if self._threads > 1 and entries * count * self._width > _TINY:
            return None
        arrays = BufferPool(self._dtype).lend((*division.stack, *division.scratch, *division.parts)).arrays
        results = np.empty((count, self._outputs), self._dtype), np.empty(entries), np.empty((entries, parameters))
        return division.chunks.size, (self._width, *samples, *self._model, table, *arrays, *results)

    def chunks(self, net: Network, parameters: int, samples: int, gradient: bool = True) -> int:
        """Number of chunks of an evaluation of so many samples, for units of so many parameters."""
        return self._plan(net, parameters, samples, gradient)[1].chunks.chunks

    def division(self, net: Network, parameters: int, samples: int) -> Division:
        """Division of an evaluation with gradients of so many samples."""
        return self._plan(net, parameters, samples, True)[1]

    def _run(self, net: Network, units: Array, samples: Samples, gradient: bool) -> tuple[Array, Array, Array]:
        """Stack the parameters, pass the chunks of samples, each with its own partial sums, and add these up."""
        count, model = samples.start.shape[1], self._model if gradient else self._alone
        table, division = self._plan(net, units.shape[1], count, gradient)
        kernel, chunks, groups = compiled.ridge_kernels(self._precision).evaluate, division.chunks, len(table)
        output, entries = np.empty((count, self._outputs), self._dtype), len(net.particle) if gradient else 0
        first, slope = np.empty(entries), np.empty((entries, units.shape[1]))
        owned = self._owned(chunks, count)
        begin, end = owned.start * chunks.size, min(owned.stop * chunks.size, count)
        stack, lent = self._stacks.lend(division.stack), self._parts.lend(((len(owned), *division.parts[0][1:]),))
        (parts,) = lent.arrays

        def evaluate(stages: int, first_group: int, last_group: int, low: int, high: int, parts: NDArray[Any]) -> None:
            scratch = self._scratch.lend(division.scratch)
            kernel(
                stages, first_group, last_group, low, high, low // chunks.size - owned.start, *net, units, self._width,
                *samples, *model, table, *stack.arrays, *scratch.arrays, parts, output, first, slope,
            )  # fmt: skip
            self._scratch.give_back(scratch)

        size = parts.size if gradient else stack.arrays[0].size
        if chunks.chunks == 1 and (self._threads == 1 or size <= _SERIAL):
            evaluate(_STACK | _PASS | (_FINISH if gradient else 0), 0, groups, 0, count, parts)
        else:
            alone = self._threads == 1 or size <= _SERIAL
            share = groups if alone else _GROUPS  # at a time, to stack parameters or to add up
            run_ranges(lambda low, high: evaluate(_STACK, low, high, 0, 0, parts), groups, share, self._threads)
            run_ranges(
                lambda low, high: evaluate(_PASS, 0, 0, begin + low, begin + high, parts),
                end - begin, chunks.size, self._threads,
            )  # fmt: skip
            total = self._summed(parts, chunks.chunks) if gradient else None
            if total is not None:
                run_ranges(lambda low, high: evaluate(_FINISH, low, high, 0, 0, total), groups, share, self._threads)
        self._stacks.give_back(stack)
        self._parts.give_back(lent)
        return output[begin:end].astype(np.float64, copy=False), first, slope

    def _owned(self, chunks: Chunks, samples: int) -> range:
        """Chunks that this process passes: all of them."""
        return range(chunks.chunks)

    def _summed(self, parts: NDArray[Any], chunks: int) -> NDArray[Any] | None:
        """Partial sums from which the gradients are finished, with the last sums over chunks: those of all chunks."""
        return parts

    def _plan(self, net: Network, parameters: int, samples: int, gradient: bool) -> tuple[Index, Division]:
        """Table of groups, and division of the evaluation, for units of so many parameters."""
        groups, counts = np.empty((len(net.particle), 8), np.int64), np.empty(3, np.int64)
        size = 1 if self._model.coordinate else group_size(self._width)  # units of several particles are never joined
        kernels = compiled.ridge_kernels(self._precision)
        kernels.plan_groups(net.first, size, _PIECE, parameters - self._width, gradient, groups, counts)
        count, slots, rows = counts.tolist()
        several = bool((groups[:count, _FLAG] & _TRIANGLE).any())
        return groups[:count], self._divide(parameters, slots, rows, samples, gradient, several)

    def _division(
        self, parameters: int, slots: int, rows: int, samples: int, gradient: bool, several: bool
    ) -> Division:
        """Division for these numbers of slots, tape rows and samples, and groups of several layers or none."""
        width, keep = self._width, self._model.keep if gradient else 0
        triangle = group_size(width) if several else 0  # columns that such groups alone need
        panels, matrix = slots // _ROWS, (slots, width)
        columns, inner = parameters + triangle, _inner(width, self._outputs)
        partial = slots * columns if gradient else 1
        plan = divide(samples, slots * width, partial, rows + keep * slots, self._model.lanes)
        return Division(
            plan,
            stack=((panels, columns - width, _ROWS), (panels, width + triangle, _ROWS), matrix, matrix),
            parts=((plan.chunks, panels, columns, _ROWS) if gradient else (plan.chunks, 1, 1, _ROWS),),
            scratch=((rows, plan.block), (slots if keep else 1, plan.block), (2, inner, plan.block)),
        )
