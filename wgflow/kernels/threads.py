"""Threads over chunks of samples, and the sizes of chunks: the same bits for any number of threads.

Plain threads run kernels that have released the interpreter lock. Numba's own threading layers are not used: they do
not survive a fork, or abort the process when two threads call them.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wgflow.base.types import Array

_BLOCK = 128  # samples of one block at most
_CHUNKS = 16  # partial sums of one evaluation at most
_PARTIAL = 2**25  # numbers in all partial sums together at most, 256 MiB
_WORK = 150_000  # samples times numbers of one chunk at least, about 0.1 ms
_TAPE = 2**23  # numbers on one thread's tape at most, 64 MiB


class _Helper(threading.Thread):
    """A thread that sleeps until it is called, runs the latest job it was given, and sleeps again."""

    def __init__(self, number: int) -> None:
        super().__init__(name=f"wgflow-{number}", daemon=True)
        self._gate = threading.Lock()
        self._job: Callable[[], None] | None = None
        self._gate.acquire()
        self.start()

    def call(self, job: Callable[[], None]) -> None:
        """Wake it up for that job; one it has not begun is forgotten, which is right for jobs others finish."""
        self._job = job
        with contextlib.suppress(RuntimeError):  # called a moment ago and not yet awake
            self._gate.release()

    def run(self) -> None:
        """Sleep and work, until the process ends."""
        while True:
            self._gate.acquire()
            job, self._job = self._job, None
            if job is not None:
                job()
            job = None  # or a thread asleep would keep the arrays of the last job


class _Job:
    """Parts 0..count-1 of a piece of work, each taken by whoever is free first."""

    def __init__(self, work: Callable[[int], None], count: int) -> None:
        self._work, self._count = work, count
        self._parts, self._finished = itertools.count(), itertools.count(1)  # next() on them is atomic
        self._done = threading.Lock()
        self._done.acquire()
        self._error: BaseException | None = None
        self._lock = threading.Lock()

    def take(self) -> None:
        """Do parts until none is left."""
        while (part := next(self._parts)) < self._count:
            try:
                if self._error is None:
                    self._work(part)
            except BaseException as error:
                with self._lock:  # the first one counts, but for an interrupt, which goes before an error
                    if self._error is None or isinstance(self._error, Exception) > isinstance(error, Exception):
                        self._error = error
            if next(self._finished) == self._count:
                self._done.release()

    def wait(self) -> None:
        """Return once every part is done; raise what one of them raised."""
        self._done.acquire()
        if self._error is not None:
            raise self._error


class _Team:
    """Helpers of this process, as many as were ever wanted at once."""

    def __init__(self) -> None:
        self._helpers, self._lock = list[_Helper](), threading.Lock()

    def first(self, count: int) -> list[_Helper]:
        """That many of them."""
        with self._lock:
            while len(self._helpers) < count:
                self._helpers.append(_Helper(len(self._helpers)))
            return self._helpers[:count]


_team = _Team()


def _forget_team() -> None:
    """Start anew: a forked child has none of its parent's threads."""
    global _team
    _team = _Team()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_team)


def available_threads() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Shares(NamedTuple):
    """How samples are divided.

    Attributes
    ----------
    chunks : int
        Chunks, each with partial sums of its own.
    share : int
        Samples of a chunk; the last one may have fewer.
    block : int
        Samples that pass through the network together.
    """

    chunks: int
    share: int
    block: int


def shares(samples: int, size: int, partial: int, tape: int, lanes: int = 8) -> Shares:
    """Chunks and blocks of samples.

    A rule in the sizes alone, so that the order of every sum is fixed. Chunks: about one per 128 samples, at most 16,
    and fewer where one would not be worth waking a thread or the partial sums would not fit in 256 MiB. Blocks: at most
    128 samples, and fewer where one thread's tape would not fit in 64 MiB. Both are multiples of a vector's lanes.

    Parameters
    ----------
    samples : int
        M.
    size : int
        Numbers that meet each sample, about E D.
    partial : int
        Numbers in the partial sums of one chunk.
    tape : int
        Numbers on the tape of one sample.
    lanes : int, optional
        Numbers in the widest vector register.
    """
    count = 1
    most = min(_CHUNKS, _PARTIAL // partial, samples * size // _WORK)
    while count * _BLOCK < samples and 2 * count <= most:
        count *= 2
    share = -(-samples // count)
    share = -(-share // lanes) * lanes
    blocks = -(-share // min(_BLOCK, max(lanes, _TAPE // tape // lanes * lanes)))
    block = -(-share // blocks)
    return Shares(-(-samples // share), share, -(-block // lanes) * lanes)


def tree_sum(parts: Array) -> Array:
    """Sum over the first axis along a fixed binary tree, destroying ``parts``."""
    stride = 1
    while stride < len(parts):
        right = parts[stride :: 2 * stride]
        parts[:: 2 * stride][: len(right)] += right
        stride *= 2
    total: Array = parts[0]
    return total


class Spare:
    """Arrays kept from one evaluation to the next: fresh pages from the system would cost as much as the work.

    Several threads may borrow at once; one that an error interrupts is not kept.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype, self._flat = dtype, list[NDArray[Any]]()

    @contextlib.contextmanager
    def arrays(self, *shapes: tuple[int, ...]) -> Iterator[list[NDArray[Any]]]:
        """Lend arrays of those shapes, whatever is in them, each beginning on a cache line."""
        line = 64 // self._dtype.itemsize
        ends = list(itertools.accumulate(-(-math.prod(shape) // line) * line for shape in shapes))
        try:
            flat = self._flat.pop()
        except IndexError:
            flat = np.empty(0, self._dtype)
        if len(flat) < ends[-1]:
            flat = np.empty(ends[-1] + line, self._dtype)
            flat = flat[-(flat.ctypes.data // self._dtype.itemsize) % line :]
        starts = [0, *ends[:-1]]
        yield [flat[at : at + math.prod(shape)].reshape(shape) for at, shape in zip(starts, shapes, strict=True)]
        self._flat.append(flat)


def keep_freed_memory() -> None:
    """Let the C library keep what the arrays of an evaluation free, instead of handing it back page by page.

    glibc holds on to twice the largest mapped array that was ever freed; without this one, never touched, a flow spends
    a twentieth of its time on pages it had a moment ago. Elsewhere nothing happens.
    """
    np.empty(2**24, np.uint8)


def run_ranges(work: Callable[[int, int], None], size: int, step: int, threads: int) -> None:
    """Call work(low, high) for the ranges of ``step`` numbers that make up 0..size-1, on up to that many threads."""
    run_chunks(lambda part: work(part * step, min((part + 1) * step, size)), -(-size // step), threads)


def run_chunks(work: Callable[[int], None], count: int, threads: int) -> None:
    """Call work(0), ..., work(count - 1), each once, on up to that many threads, the caller's among them."""
    if min(threads, count) <= 1:
        for part in range(count):
            work(part)
        return
    job = _Job(work, count)
    for helper in _team.first(min(threads, count) - 1):
        helper.call(job.take)
    job.take()
    job.wait()
