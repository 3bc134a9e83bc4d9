"""Numba kernels on all cores, for the built-in blocks, activations and losses."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Index
from wgflow.kernels.codes import ACTIVATION_CODES, LOSS_CODES, OWN, STORED_SLOPES
from wgflow.kernels.cpu import compiled, motion
from wgflow.kernels.cpu.arguments import CompiledActivation, Model, Samples, Scratch, Stack
from wgflow.kernels.cpu.buffers import BufferPool, Shape, keep_freed_memory
from wgflow.kernels.cpu.chunks import Chunks, divide
from wgflow.kernels.cpu.threads import available_threads, run_ranges
from wgflow.kernels.cpu.wide import WidePasses, in_order, moves_well, suits
from wgflow.model.blocks import Ridge, Unfolding
from wgflow.model.depth import Network
from wgflow.model.losses import LOSSES
from wgflow.model.problem import Problem

_SERIAL = 300_000  # operations below which a second thread costs more than it saves
_GROUPS = 16  # groups that one thread takes at a time, to stack parameters or to sum over the chunks
_PIECE = 64  # entries of a piece of one wide layer at most; a piece has no triangle
_ROWS = 4  # row counts are padded to multiples of it, as in the compiled tiles


def compilable(problem: Problem) -> bool:
    """Whether the compiled kernels know the problem's block, activation and loss."""
    activation = problem.activation
    return activation.builtin and activation.name in ACTIVATION_CODES and compilable_apart_from_activation(problem)


def compilable_apart_from_activation(problem: Problem) -> bool:
    """Whether the compiled kernels know the problem's block and loss."""
    return isinstance(problem.block, Unfolding) and type(problem.loss) is type(LOSSES.get(problem.loss.name))


def group_size(width: int) -> int:
    """Largest number of entries of a group, a multiple of 4.

    The triangle inside a group costs 4 G flops per sample and entry, compared with 12 D for the products; larger groups
    mean fewer passes over state and adjoint, and a shorter tape.
    """
    return 8 if width <= 8 else 16 if width <= 32 else 32


class Sizes(NamedTuple):
    """Sizes of one evaluation's arrays, which depend on D and K alone.

    Attributes
    ----------
    padded, outputs : int
        D and K, rounded up to a multiple of 4.
    group : int
        Largest number of entries of a group.
    columns : int
        Columns of the partial sums: [d_a | d_w | T | g | d_b].
    inner : int
        Rows of one block's adjoints: p, then r of a group.
    """

    padded: int
    outputs: int
    group: int
    columns: int
    inner: int

    @classmethod
    def of(cls, width: int, outputs: int) -> Sizes:
        """Sizes for a state of width D and K outputs."""
        padded, group, outputs = _padded(width), group_size(width), _padded(outputs)
        return cls(padded, outputs, group, 2 * padded + group + 2, max(padded + _PIECE, outputs))


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
    sizes = Sizes.of(width, outputs)
    rows = 2 * entries + entries * sizes.padded // sizes.group
    plan = divide(samples, entries * width, entries * sizes.columns, rows)
    stack = entries * (4 * sizes.padded + 2 * sizes.group + 9)
    tape = (rows + 2 * sizes.inner) * plan.block * min(threads, plan.chunks)
    return 8 * (stack + entries * sizes.columns * plan.chunks + tape + entries * (2 * width + 2))


class Cpu:
    """Compiled kernel for blocks made of ridge units; see :class:`wgflow.kernels.select.Kernel` for the contract.

    Parameters
    ----------
    problem : Problem
        A :func:`compilable` problem, or one whose activation is the user's.
    threads : int, optional
        Number of threads; all cores of the process by default.
    dtype : {"float64", "float32"}, optional
        Precision of states, adjoints and sums over samples.
    own : CompiledActivation, optional
        Code of an activation of the user's.
    """

    name = "cpu"
    motion = motion

    def __init__(
        self,
        problem: Problem,
        threads: int | None = None,
        dtype: str = "float64",
        own: CompiledActivation | None = None,
    ) -> None:
        self.problem = problem
        self.threads = available_threads() if threads is None else threads
        self._precision, self._dtype, self._own = dtype, np.dtype(dtype), own
        self._block = cast(Unfolding, problem.block)
        self._width = problem.shape[1]
        self._units = self._block.units(self._width)
        # Columns [a | w | b] or [a | w], unless somebody overrides what the ridge block makes of them.
        self._plain = (type(self._block).unfold, type(self._block).fold) == (Ridge.unfold, Ridge.fold)
        self._samples = Samples(self._writable(problem.start().T), self._writable(problem.y))
        outputs = len(problem.readout)
        self._sizes = Sizes.of(self._width, outputs)
        readout = np.zeros((self._sizes.outputs, self._sizes.padded), self._dtype)
        readout[:outputs, : self._width] = problem.readout
        code = OWN if own else ACTIVATION_CODES[problem.activation.name]
        self._model = Model(
            readout,
            transposed=np.ascontiguousarray(readout.T),
            activation=code,
            loss=LOSS_CODES[problem.loss.name],
            eta=self._dtype.type(problem.activation.parameter or 0.0),
            own=own.address if own else 0,
            keep=int(code in STORED_SLOPES),
            coordinate=self._width if getattr(self._block, "coordinate_units", False) else 0,
            lanes=64 // self._dtype.itemsize,
        )
        self._outputs_alone = self._model._replace(loss=-1, keep=0)
        self._wide = WidePasses(self._model, self._width, outputs, self.threads)
        keep_freed_memory()
        self._stacks, self._parts, self._scratch = (BufferPool(self._dtype) for _ in range(3))
        self._divide = functools.lru_cache(16)(self._division)  # by sizes, which seldom change

    def outputs(self, net: Network, theta: Array, start: Array) -> Array:
        """Outputs W1 X(1), (M, K)."""
        return self._outputs(net, theta, self._writable(start.T))

    def energy(self, net: Network, theta: Array, batch: Index | None = None) -> float:
        """E = mean over samples of the loss."""
        return self._mean_loss(self._outputs(net, theta, self._rows(batch).start), batch)

    def gradient(self, net: Network, theta: Array, batch: Index | None = None) -> tuple[float, Array, Array]:
        """E, and g_e = mean f(X_k, theta_e) . p_(k+1), (E,), with d_theta g_e, (E, P), at every entry."""
        samples, model = self._rows(batch), self._model
        net, units = self._unfold(net, theta)
        if self._is_wide(net, samples):
            output, first, slope = self._wide.gradient(net, units, samples)
            return self._folded(output, first, slope, batch)
        groups, division = self._plan(net, len(samples.target), True)
        lent, parts = self._stacks.lend(division.stack), self._parts.lend(division.parts)
        stack = Stack(groups, *lent.arrays)
        self._fill(net, units, stack)
        output = self._pass(samples, model, stack, division, parts.arrays[0])
        first, slope = self._finish(net, stack, units.shape[1], len(samples.target), parts.arrays[0])
        self._stacks.give_back(lent)
        self._parts.give_back(parts)
        return self._folded(output, first, slope, batch)

    def mover(self, net: Network, theta: Array, factor: Array) -> Callable[[], tuple[float, Array]] | None:
        """Function that moves parameters in place by factor, (P,), times d_theta g_e, once a call.

        It returns E and the sums over the particles of (d_theta g_e)**2, (P,), both before the move. None where no pass
        computes all this at once: it needs wide layers or one small one, units that are plain parameters in double
        precision, and as many entries as particles, in their order.

        Parameters
        ----------
        net : Network
            Layers, which stay the same.
        theta : ndarray (N, P)
            Parameters, contiguous and writable.
        factor : ndarray (P,)
            Factors by column.
        """
        plain = self._plain and self._dtype == np.float64
        good = moves_well(net, self._samples.start.shape[1]) and in_order(net, len(theta))
        if not plain or not good or self._model.coordinate:
            return None
        move = self._wide.move(net, theta, self._samples, factor)

        def moved() -> tuple[float, Array]:
            output, squares = move()
            return self._mean_loss(output, None), squares

        return moved

    def _is_wide(self, net: Network, samples: Samples) -> bool:
        """Whether the units of a network, rather than the samples, should fill vectors and threads."""
        return not self._model.coordinate and suits(net, samples.start.shape[1])

    def _folded(self, output: Array, first: Array, slope: Array, batch: Index | None) -> tuple[float, Array, Array]:
        """Energy, and gradients by particle instead of by unit."""
        if self._units > 1:
            first = first.reshape(-1, self._units).sum(axis=1)
        return self._mean_loss(output, batch), first, slope if self._plain else self._block.fold(slope, self._width)

    def _outputs(self, net: Network, theta: Array, start: NDArray[Any]) -> Array:
        net, units = self._unfold(net, theta)
        model, unused = self._outputs_alone, np.empty((1, 1), self._dtype)
        if self._is_wide(net, Samples(start, unused)):
            return self._wide.outputs(net, units, Samples(start, unused)).astype(np.float64, copy=False)
        groups, division = self._plan(net, start.shape[1], False)
        lent = self._stacks.lend(division.stack)
        stack = Stack(groups, *lent.arrays)
        self._fill(net, units, stack)
        output = self._pass(Samples(start, unused), model, stack, division, [unused] * division.chunks.chunks)
        self._stacks.give_back(lent)
        return output

    def _writable(self, array: Array) -> NDArray[Any]:
        """The array in the form compiled code expects, copied only if necessary."""
        return np.require(array, self._dtype, ["C", "W"])

    def _rows(self, batch: Index | None) -> Samples:
        if batch is None:
            return self._samples
        return Samples(np.ascontiguousarray(self._samples.start[:, batch]), self._samples.target[batch])

    def _mean_loss(self, output: Array, batch: Index | None) -> float:
        y = self.problem.y if batch is None else self.problem.y[batch]
        return float(np.add.reduce(self.problem.loss.value(output, y)) / len(output))

    def _unfold(self, net: Network, theta: Array) -> tuple[Network, Array]:
        """Network of ridge units: each entry becomes the H units of its particle, in one layer."""
        if len(net.particle) != net.first[-1] or len(net.weight) != net.first[-1] or net.particle.max() >= len(theta):
            raise InputError(  # compiled code would read past the end
                f"depth scheme: expected {net.first[-1]} entries of particles 0..{len(theta) - 1}, got "
                f"{len(net.particle)} with {len(net.weight)} weights, up to particle {net.particle.max()}"
            )
        units = np.ascontiguousarray(theta if self._plain else self._block.unfold(theta, self._width))
        if self._units == 1:
            return net, units
        particle = (net.particle[:, None] * self._units + np.arange(self._units)).ravel()
        return Network(net.first * self._units, particle, np.repeat(net.weight, self._units)), units

    def _plan(self, net: Network, samples: int, gradient: bool) -> tuple[Index, Division]:
        """Table of groups, and division of the evaluation."""
        groups, counts = np.empty((len(net.particle), 8), np.int64), np.empty(3, np.int64)
        size = 1 if self._model.coordinate else self._sizes.group  # units of different particles are never joined
        kernels = compiled.ridge_kernels(self._precision)
        kernels.plan_groups(net.first, size, _PIECE, self._sizes.padded, gradient, groups, counts)
        count, slots, rows = counts.tolist()
        return groups[:count], self._divide(slots, rows, samples, gradient)

    def _division(self, slots: int, rows: int, samples: int, gradient: bool) -> Division:
        """Division for these numbers of slots, tape rows and samples."""
        sizes, keep = self._sizes, self._model.keep if gradient else 0
        panels, matrix = (slots // _ROWS, sizes.padded + sizes.group, _ROWS), (slots, sizes.padded)
        partial = slots * sizes.columns if gradient else 1
        plan = divide(samples, slots * self._width, partial, rows + keep * slots, self._model.lanes)
        return Division(
            plan,
            stack=(panels, panels, matrix, matrix, (slots,)),
            parts=((plan.chunks, slots, sizes.columns),),
            scratch=((rows, plan.block), (slots if keep else 1, plan.block), (2, sizes.inner, plan.block)),
        )

    def _fill(self, net: Network, units: Array, stack: Stack) -> None:
        """Stack the parameters by slot."""
        kernel, size = compiled.ridge_kernels(self._precision).stack_parameters, stack.ca.size * self._sizes.group

        def work(low: int, high: int) -> None:
            kernel(*net, units, self._width, low, high, stack)

        self._share_groups(work, len(stack.groups), size)

    def _pass(
        self, samples: Samples, model: Model, stack: Stack, division: Division, parts: NDArray[Any] | list[NDArray[Any]]
    ) -> Array:
        """Run the kernel over all chunks, each with its own tape and partial sums; returns the outputs, (M, K)."""
        kernel, count = compiled.ridge_kernels(self._precision).ridge_pass, samples.start.shape[1]
        output, size = np.empty((count, len(self.problem.readout)), self._dtype), division.chunks.size

        def work(low: int, high: int) -> None:
            lent = self._scratch.lend(division.scratch)
            kernel(samples, model, stack, low, high, Scratch(*lent.arrays), output, parts[low // size])
            self._scratch.give_back(lent)

        run_ranges(work, count, size, self.threads)
        return output.astype(np.float64, copy=False)

    def _finish(
        self, net: Network, stack: Stack, parameters: int, samples: int, parts: NDArray[Any]
    ) -> tuple[Array, Array]:
        """g_e and its derivatives by unit from the partial sums of all chunks."""
        kernel = compiled.ridge_kernels(self._precision).finish_gradients
        first, slope = np.empty(len(net.particle)), np.empty((len(net.particle), parameters))

        def work(low: int, high: int) -> None:
            kernel(net.first, stack, low, high, self._width, samples, parts, first, slope)

        self._share_groups(work, len(stack.groups), parts.size)
        return first, slope

    def _share_groups(self, work: Callable[[int, int], None], count: int, size: int) -> None:
        """Run work on ranges of groups, on several threads where it takes ``size`` > ``_SERIAL`` operations."""
        if self.threads == 1 or size <= _SERIAL:
            work(0, count)
        else:
            run_ranges(work, count, _GROUPS, self.threads)


def _padded(count: int) -> int:
    return -(-count // _ROWS) * _ROWS
