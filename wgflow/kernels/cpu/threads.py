"""A pool of threads that share the parts of a piece of work.

Plain threads run kernels that have released the interpreter lock. Numba's own threading layers are not used: they do
not survive a fork, or abort the process when two threads call them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable


class _Helper(threading.Thread):
    """A thread that sleeps until called, runs its latest job, and sleeps again."""

    def __init__(self, number: int) -> None:
        super().__init__(name=f"wgflow-{number}", daemon=True)
        self._gate = threading.Lock()
        self._job: Callable[[], None] | None = None
        self._gate.acquire()
        self.start()

    def call(self, job: Callable[[], None]) -> None:
        """Wake the thread for a job. A job not yet begun is dropped: other threads finish it."""
        self._job = job
        with contextlib.suppress(RuntimeError):  # called before and not yet awake
            self._gate.release()

    def run(self) -> None:
        """Sleep and work, until the process ends."""
        while True:
            self._gate.acquire()
            job, self._job = self._job, None
            if job is not None:
                job()
            job = None  # a sleeping thread would otherwise keep the arrays of its last job


class _Job:
    """Parts 0..count-1 of a piece of work, each taken by the first free thread."""

    def __init__(self, work: Callable[[int], None], count: int) -> None:
        self._work, self._count = work, count
        self._parts, self._finished = itertools.count(), itertools.count(1)  # next() on them is atomic
        self._done = threading.Lock()
        self._done.acquire()
        self._error: BaseException | None = None
        self._lock = threading.Lock()

    def take(self) -> None:
        """Run parts until none is left."""
        while (part := next(self._parts)) < self._count:
            try:
                if self._error is None:
                    self._work(part)
            except BaseException as error:
                with self._lock:  # the first error is kept, but an interrupt replaces an error
                    if self._error is None or isinstance(self._error, Exception) > isinstance(error, Exception):
                        self._error = error
            if next(self._finished) == self._count:
                self._done.release()

    def wait(self) -> None:
        """Wait for all parts, and raise the error of one that failed."""
        self._done.acquire()
        if self._error is not None:
            raise self._error


class _Team:
    """Helper threads of this process, started as they are needed."""

    def __init__(self) -> None:
        self._helpers, self._lock = list[_Helper](), threading.Lock()

    def first(self, count: int) -> list[_Helper]:
        """The first ``count`` helpers."""
        with self._lock:
            while len(self._helpers) < count:
                self._helpers.append(_Helper(len(self._helpers)))
            return self._helpers[:count]


_team = _Team()


def _forget_team() -> None:
    """Start with no helpers: a forked child has none of its parent's threads."""
    global _team
    _team = _Team()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_team)


def available_threads() -> int:
    """Number of cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_ranges(work: Callable[[int, int], None], size: int, step: int, threads: int) -> None:
    """Call work(low, high) for consecutive ranges of ``step`` numbers in 0..size-1, on at most ``threads`` threads."""
    run_chunks(lambda part: work(part * step, min((part + 1) * step, size)), -(-size // step), threads)


def run_chunks(work: Callable[[int], None], count: int, threads: int) -> None:
    """Call work(0), ..., work(count - 1), once each, on at most ``threads`` threads including the caller's."""
    if min(threads, count) <= 1:
        for part in range(count):
            work(part)
        return
    job = _Job(work, count)
    for helper in _team.first(min(threads, count) - 1):
        helper.call(job.take)
    job.take()
    job.wait()
