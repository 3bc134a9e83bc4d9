"""Numba kernels on all cores: threads over chunks of samples, the same bits for any number of threads.

A plain thread pool runs kernels that have released the interpreter lock. Numba's own threading layers are not used:
they do not survive a fork, or abort the process when two threads call them.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import cast

import numpy as np

from wgflow.blocks import Unfolding
from wgflow.depth import Network
from wgflow.kernels import cache
from wgflow.problems import Problem
from wgflow.problems.losses import LOSSES
from wgflow.types import Array, Index

_BLOCK = 128  # samples of one block at most: state and adjoint then fill the first-level cache at D = 16
_LANES = 8  # float64 numbers in the widest vector register; blocks are multiples of it
_CHUNKS = 16  # partial sums of one evaluation at most
_PARTIAL = 2**25  # numbers in all partial sums together at most, 256 MiB
_TAPE = 2**23  # numbers on one thread's tape of sigma and sigma' at most, 64 MiB
_SERIAL = 200_000  # E M D below which waking a second thread costs more than it saves


@functools.cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="wgflow")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked child has none of its parent's threads


@functools.cache
def _kernels() -> ModuleType:
    """Import the kernels, which compiles them or loads them from disk: one process, one thread at a time."""
    with cache.exclusive():
        from wgflow.kernels import _ridge

        return _ridge


def available_threads() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def chunks(samples: int, entries: int, parameters: int) -> tuple[int, int]:
    """Samples of one chunk and of one block.

    A rule in the sizes alone, so that the order of every sum is fixed: a power of two of chunks, about one per
    128 samples, at most 16 and fewer where the partial sums would not fit in 256 MiB; blocks of at most 128 samples and
    fewer where one thread's tape would not fit in 64 MiB.
    """
    count = 1
    while count < _CHUNKS and count * _BLOCK < samples and 2 * count * entries * (parameters + 1) <= _PARTIAL:
        count *= 2
    if count == 1 and samples >= 2 * _LANES:
        count = 2
    share = -(-samples // count)
    share = -(-share // _LANES) * _LANES
    fitting = max(_LANES, _TAPE // (2 * entries) // _LANES * _LANES)
    return share, min(share, _BLOCK, fitting)


def tree_sum(parts: Array) -> Array:
    """Sum over the first axis along a fixed binary tree, destroying ``parts``."""
    stride = 1
    while stride < len(parts):
        right = parts[stride :: 2 * stride]
        parts[:: 2 * stride][: len(right)] += right
        stride *= 2
    total: Array = parts[0]
    return total


def run_chunks(work: Callable[[int], None], count: int, threads: int) -> None:
    """Call work(0), ..., work(count - 1), each once, on up to that many threads."""
    pending = itertools.count()  # next() on it is atomic

    def drain() -> None:
        while (chunk := next(pending)) < count:
            work(chunk)

    workers = min(threads, count)
    if workers == 1:
        drain()
        return
    # The caller waits instead of taking a share: a thread woken by a busy one tends to be put on the same core.
    for future in [_pool(workers).submit(drain) for _ in range(workers)]:
        future.result()


def compilable(problem: Problem) -> bool:
    """Whether the compiled kernels know the problem's block, activation and loss."""
    known = problem.loss is LOSSES.get(problem.loss.name) and problem.activation.builtin
    return known and isinstance(problem.block, Unfolding)


class Cpu:
    """Compiled kernel for blocks made of ridge units; see :class:`wgflow.kernels.Kernel` for the contract.

    Parameters
    ----------
    problem : Problem
        A problem that is :func:`compilable`.
    threads : int, optional
        Threads to use; by default all cores of the process.
    """

    name = "cpu"

    def __init__(self, problem: Problem, threads: int | None = None) -> None:
        from wgflow.kernels._functions import CODES, LOSS_CODES  # imports numba, so not before a kernel is wanted

        self.problem = problem
        self.threads = available_threads() if threads is None else threads
        self._block = cast(Unfolding, problem.block)
        self._width = problem.shape[1]
        self._units = self._block.units(self._width)
        self._start = np.ascontiguousarray(problem.start().T)  # (D, M)
        self._code, self._loss = CODES[problem.activation.name], LOSS_CODES[problem.loss.name]
        self._eta = problem.activation.parameter or 0.0

    def outputs(self, net: Network, theta: Array, start: Array) -> Array:
        """Outputs W1 X(1), (M, K)."""
        return self._outputs(net, theta, np.ascontiguousarray(start.T))

    def energy(self, net: Network, theta: Array, batch: Index | None = None) -> float:
        """E = mean over samples of the loss."""
        start, y = self._samples(batch)
        return float(np.mean(self.problem.loss.value(self._outputs(net, theta, start), y)))

    def gradient(self, net: Network, theta: Array, batch: Index | None = None) -> tuple[float, Array, Array]:
        """E, and g_e = mean f(X_k, theta_e) . p_(k+1), (E,), with d_theta g_e, (E, P), at every entry."""
        start, y = self._samples(batch)
        net, units = self._unfold(net, theta)
        samples, entries, parameters = len(y), len(net.particle), units.shape[1]
        share, block = chunks(samples, entries, parameters)
        count = -(-samples // share)
        output = np.empty((samples, y.shape[1]))
        parts = np.zeros((count, entries * (parameters + 1)))  # one row a chunk: g, then d_theta g

        def work(chunk: int) -> None:
            low, high = chunk * share, min((chunk + 1) * share, samples)
            first, slope = parts[chunk, :entries], parts[chunk, entries:].reshape(entries, parameters)
            network = (start, y, self.problem.readout, units, *net)
            kernel(*network, self._code, self._eta, low, high, block, self._loss, output, first, slope)

        kernel = _kernels().network_pass
        run_chunks(work, count, self._useful_threads(entries * start.size))
        result = tree_sum(parts)
        result /= samples
        energy = float(np.mean(self.problem.loss.value(output, y)))
        first = result[:entries].reshape(-1, self._units).sum(axis=1) if self._units > 1 else result[:entries]
        return energy, first, self._block.fold(result[entries:].reshape(entries, parameters), self._width)

    def _samples(self, batch: Index | None) -> tuple[Array, Array]:
        if batch is None:
            return self._start, self.problem.y
        return np.ascontiguousarray(self._start[:, batch]), self.problem.y[batch]

    def _unfold(self, net: Network, theta: Array) -> tuple[Network, Array]:
        """Network of ridge units: each entry becomes the H units of its particle, in the same layer."""
        units = np.ascontiguousarray(self._block.unfold(theta, self._width))
        if self._units == 1:
            return net, units
        particle = (net.particle[:, None] * self._units + np.arange(self._units)).ravel()
        return Network(net.first * self._units, particle, np.repeat(net.weight, self._units)), units

    def _outputs(self, net: Network, theta: Array, start: Array) -> Array:
        net, units = self._unfold(net, theta)
        samples, entries = start.shape[1], len(net.particle)
        share, block = chunks(samples, entries, units.shape[1])
        output = np.empty((samples, len(self.problem.readout)))

        def work(chunk: int) -> None:
            low, high = chunk * share, min((chunk + 1) * share, samples)
            network = (start, nothing, self.problem.readout, units, *net)
            kernel(*network, self._code, self._eta, low, high, block, -1, output, nothing[0], nothing)

        kernel, nothing = _kernels().network_pass, np.empty((1, 1))
        run_chunks(work, -(-samples // share), self._useful_threads(entries * start.size))
        return output

    def _useful_threads(self, size: int) -> int:
        return self.threads if size > _SERIAL else 1
