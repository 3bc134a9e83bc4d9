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

import numpy as np

from wgflow.depth import Network
from wgflow.errors import BackendError
from wgflow.kernels import cache
from wgflow.problems import Problem
from wgflow.types import Array, Index

_BLOCK = 128  # samples of one block at most: state and adjoint then fill the first-level cache at D = 16
_LANES = 8  # float64 numbers in the widest vector register; blocks are multiples of it
_CHUNKS = 16  # partial sums of one evaluation at most
_PARTIAL = 2**25  # numbers in all partial sums together at most, 256 MiB
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
    128 samples, at most 16 and fewer where the partial sums would not fit in 256 MiB.
    """
    count = 1
    while count < _CHUNKS and count * _BLOCK < samples and 2 * count * entries * (parameters + 1) <= _PARTIAL:
        count *= 2
    if count == 1 and samples >= 2 * _LANES:
        count = 2
    share = -(-samples // count)
    share = -(-share // _LANES) * _LANES
    return share, min(share, _BLOCK)


def tree_sum(parts: Array) -> Array:
    """Sum over the first axis along a fixed binary tree, destroying ``parts``."""
    stride = 1
    while stride < len(parts):
        right = parts[stride :: 2 * stride]
        parts[:: 2 * stride][: len(right)] += right
        stride *= 2
    total: Array = parts[0]
    return total


class Cpu:
    """Compiled kernel for the built-in blocks; see :class:`wgflow.kernels.Kernel` for the contract.

    Parameters
    ----------
    problem : Problem
        The problem, whose block, activation and loss must be built-in ones.
    threads : int, optional
        Threads to use; by default all cores of the process.

    Raises
    ------
    BackendError
        If the block, the activation or the loss has no compiled kernel.
    """

    name = "cpu"

    def __init__(self, problem: Problem, threads: int | None = None) -> None:
        from wgflow.kernels._functions import CODES  # imports numba, so not before a kernel is wanted

        for kind, name, known in (
            ("block", problem.block.name, ("ridge",)),
            ("activation", problem.activation.name, tuple(CODES)),
            ("loss", problem.loss.name, ("squared",)),
        ):
            if name not in known:
                raise BackendError(f"{kind} {name!r} has no compiled kernel; use backend='reference'")
        self.problem = problem
        self.threads = available_threads() if threads is None else threads
        self._start = np.ascontiguousarray(problem.start().T)  # (D, M)
        self._code = CODES[problem.activation.name]
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
        samples, entries, parameters = len(y), len(net.particle), theta.shape[1]
        share, block = chunks(samples, entries, parameters)
        count = -(-samples // share)
        output = np.empty((samples, y.shape[1]))
        parts = np.zeros((count, entries * (parameters + 1)))  # one row a chunk: g, then d_theta g

        def work(chunk: int) -> None:
            low, high = chunk * share, min((chunk + 1) * share, samples)
            first, slope = parts[chunk, :entries], parts[chunk, entries:].reshape(entries, parameters)
            kernel(
                start,
                y,
                self.problem.readout,
                theta,
                *net,
                self._code,
                self._eta,
                low,
                high,
                block,
                output,
                first,
                slope,
            )

        kernel = _kernels().gradient_squared
        self._run(work, count, entries * start.size)
        result = tree_sum(parts)
        result /= samples
        energy = float(np.mean(self.problem.loss.value(output, y)))
        return energy, result[:entries], result[entries:].reshape(entries, parameters)

    def _samples(self, batch: Index | None) -> tuple[Array, Array]:
        if batch is None:
            return self._start, self.problem.y
        return np.ascontiguousarray(self._start[:, batch]), self.problem.y[batch]

    def _outputs(self, net: Network, theta: Array, start: Array) -> Array:
        samples, entries = start.shape[1], len(net.particle)
        share, block = chunks(samples, entries, theta.shape[1])
        output = np.empty((samples, len(self.problem.readout)))

        def work(chunk: int) -> None:
            low, high = chunk * share, min((chunk + 1) * share, samples)
            kernel(start, self.problem.readout, theta, *net, self._code, self._eta, low, high, block, output)

        kernel = _kernels().outputs
        self._run(work, -(-samples // share), entries * start.size)
        return output

    def _run(self, work: Callable[[int], None], count: int, size: int) -> None:
        """Call work(0), ..., work(count - 1), each once, on up to ``threads`` threads."""
        pending = itertools.count()  # next() on it is atomic

        def drain() -> None:
            while (chunk := next(pending)) < count:
                work(chunk)

        workers = min(self.threads, count)
        if workers == 1 or size <= _SERIAL:
            drain()
            return
        # The caller waits instead of taking a share: a thread woken by a busy one tends to be put on the same core.
        futures = [_pool(workers).submit(drain) for _ in range(workers)]
        for future in futures:
            future.result()
