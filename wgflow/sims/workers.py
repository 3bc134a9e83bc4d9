"""Worker processes that share nothing: each has a pipe of its own to this process, which hands it one task at a time.

Processes are spawned, never forked: a fork would copy a thread pool whose threads are not there. There is no lock that
a killed worker could take with it, and its end is an event that this process waits for beside the answers. A worker
without a task is let go, and one whose parent is gone ends itself.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

from wgflow.base.environment import environment

_POLL = 0.1  # seconds between polls of the workers' status
LIBRARY_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_READY = b""  # first message of a worker
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_Task = TypeVar("_Task")
_Answer = TypeVar("_Answer")


class WorkerDied(Exception):
    """A worker process came to its end before it had an answer.

    Attributes
    ----------
    task : object
        The task it was running; None if it had not begun.
    code : int
        Its exit code, negative for the signal that killed it.
    """

    def __init__(self, task: Any, code: int) -> None:
        super().__init__(f"a worker process ended with exit code {code}")
        self.task, self.code = task, code


def share_out(
    work: Callable[[_Task], _Answer],
    tasks: Sequence[_Task],
    jobs: int,
    threads: int,
    stop: Any,
    tick: Callable[[], None],
    grace: float = 10.0,
) -> Generator[tuple[_Task, _Answer], None, None]:
    """Have worker processes do tasks, and yield each with its answer as it comes.

    Parameters
    ----------
    work : callable
        Answers a task, in a worker; sent there once.
    tasks : sequence
        In the order in which to begin them.
    jobs : int
        Worker processes at most.
    threads : int
        Threads of libraries in each.
    stop : ctypes.c_bool
        Shared with the workers, which look at it: once it is set no task is begun.
    tick : callable
        Called several times a second; may set ``stop``.
    grace : float, optional
        Seconds after ``stop`` within which a worker has to answer; later it is killed, which loses no more than the
        step it is at.

    Raises
    ------
    WorkerDied
        At once, after the other workers have stopped.
    OSError
        If the system grants no more processes.
    Exception
        The first that ``work`` raises, likewise; its cause is the traceback from the worker.
    """
    queue, everyone = collections.deque(tasks), list[_Worker]()
    late = math.inf  # when those who have not stopped are killed
    try:
        _start(everyone, work, min(jobs, len(tasks)), threads, stop)
        crew = list(everyone)
        while crew and time.monotonic() < late:
            tick()
            handles = [handle for worker in crew for handle in (worker.pipe, worker.process.sentinel)]
            moved = connection.wait(handles, _POLL)
            for worker in [each for each in crew if each.pipe in moved or each.process.sentinel in moved]:
                message = worker.receive()
                if message != _READY:
                    yield worker.task, understood(message)
                if queue and not stop.value:
                    worker.give(queue.popleft())
                else:
                    worker.pipe.close()  # which ends it
                    crew.remove(worker)
            if stop.value:
                late = min(late, time.monotonic() + grace)
    except KeyboardInterrupt:  # a second Ctrl-C: at once
        late = 0.0
        raise
    finally:
        stop.value = True
        _end(everyone, min(late, time.monotonic() + grace))


class _Worker:
    """A process as its parent sees it."""

    def __init__(self, process: BaseProcess, pipe: connection.Connection) -> None:
        self.process, self.pipe = process, pipe
        self.task: Any = None

    def give(self, task: Any) -> None:
        """Hand it a task."""
        self.task = task
        try:
            self.pipe.send(task)
        except OSError as error:  # nobody is there to read it
            raise self.died() from error

    def receive(self) -> bytes:
        """Return its next message, where there is one or it has ended."""
        with contextlib.suppress(EOFError, OSError):
            if self.pipe.poll():
                return self.pipe.recv_bytes()
        raise self.died()

    def died(self) -> WorkerDied:
        """Build the error for its end."""
        _end([self], time.monotonic() + 10.0)  # it takes no time, unless another process has its end of the pipe
        return WorkerDied(self.task, self.process.exitcode or 0)


def _start(everyone: list[_Worker], work: Callable[[Any], Any], count: int, threads: int, stop: Any) -> None:
    """Add workers to a list, which holds those that were started when it fails."""
    context = multiprocessing.get_context("spawn")
    # Signals wait while processes start: the workers inherit that, and take them once they know what to do.
    with environment(dict.fromkeys(LIBRARY_THREADS, str(threads))), signals_blocked(), callers_main_hidden():
        for number in range(count):
            try:
                here, there = context.Pipe()
                with there:
                    process = context.Process(target=_serve, args=(there, work, stop))
                    process.start()
            except OSError as error:
                raise OSError(
                    f"expected {count} processes, got {number} ({error.strerror or error}); try fewer --jobs"
                ) from error
            everyone.append(_Worker(process, here))


def _end(workers: Sequence[_Worker], late: float) -> None:
    """Let workers come to their end, and kill those that have not at a time of the monotonic clock."""
    try:
        for worker in workers:
            worker.pipe.close()
            if worker.task is None:  # it is still starting
                worker.process.kill()
        for worker in workers:
            worker.process.join(max(0.0, late - time.monotonic()))
    finally:  # an impatient Ctrl-C included
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.join()


def understood(message: bytes) -> Any:
    """What a call in another process returned (:func:`answered`); raises the error it had."""
    answer, error, where = ForkingPickler.loads(message)
    if error is None:
        return answer
    raise error from _InWorker(where)


class _InWorker(Exception):
    """The traceback of an error that another process had."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Block signals that stop a run in this thread, and in threads and processes that it starts."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # at its own start it unblocks the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def callers_main_hidden() -> Iterator[None]:
    """Have processes that start import nothing of the caller's script, which may not be there (``python -``), or run.

    A process that is spawned imports the main module of its parent again; all that a worker needs is in wgflow.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _serve(pipe: connection.Connection, work: Callable[[Any], Any], stop: Any) -> None:
    """Answer tasks until there are no more: what a worker process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the parent tells the workers

    def note(number: int, frame: Any) -> None:
        stop.value = True

    signal.signal(signal.SIGTERM, note)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):  # the parent has closed its end
        pipe.send_bytes(_READY)
        while True:
            pipe.send_bytes(answered(functools.partial(_done, work, pipe.recv_bytes())))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # as if killed: committed frames are safe, and nobody is left to tell


def _done(work: Callable[[Any], Any], message: bytes) -> Any:
    return work(ForkingPickler.loads(message))


def answered(call: Callable[[], Any]) -> bytes:
    """What a call returns, or the error it raises and its traceback, as :func:`understood` takes them."""
    try:
        return bytes(ForkingPickler.dumps((call(), None, "")))
    except Exception as error:
        where = traceback.format_exc()
        error.__traceback__ = None  # with the memory that its frames hold
        try:
            pickled = bytes(ForkingPickler.dumps((None, error, where)))
            ForkingPickler.loads(pickled)  # the parent is to have no surprise
        except Exception:
            plain = RuntimeError(traceback.format_exception_only(error)[-1].strip())
            pickled = bytes(ForkingPickler.dumps((None, plain, where)))
        return pickled
