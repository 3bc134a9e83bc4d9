"""All members of a study, one after another in this process or side by side in several.

Processes are spawned, never forked: a fork would copy a thread pool whose threads are not there. Each works with its
share of the cores, results do not depend on the split, and a process whose parent is gone ends itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import multiprocessing
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

from wgflow.sims import members
from wgflow.sims.members import Planned
from wgflow.sims.runner import Outcome, run_member
from wgflow.sims.terminal import Stop, stop_if
from wgflow.types import Spec
from wgflow.workspace import Workspace

_POLL = 0.1  # seconds between looks at the workers
_ENOUGH = 8  # members from which starting processes pays
_LIBRARY_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class Task(NamedTuple):
    """A member to run, in this process or another.

    Attributes
    ----------
    number : int
        Its place in the study.
    folder : Path
        The run's folder.
    planned : Planned
        The member.
    backend : str
        Kernels to use.
    threads : int
        Their threads.
    provenance : dict
        Document stored with the trajectory.
    """

    number: int
    folder: Path
    planned: Planned
    backend: str
    threads: int
    provenance: Spec


def split_cores(count: int, cores: int, jobs: int | None, threads: int | None) -> tuple[int, int]:
    """Processes and threads of each: one process a core for many members, all cores in this process for few.

    Parameters
    ----------
    count : int
        Members to run.
    cores : int
        Cores there are.
    jobs, threads : int or None
        What the caller asked for.

    Returns
    -------
    jobs, threads : int
        With neither given, jobs * threads <= cores.
    """
    if jobs is None:
        wanted = cores // (threads or 1)
        jobs = wanted if count >= _ENOUGH else 1
    jobs = max(1, min(jobs, count))
    return jobs, threads or max(1, cores // jobs)


def run_all(
    tasks: Sequence[Task],
    jobs: int,
    advance: Callable[[int, float], None],
    caught: list[int],
    deadline: float | None = None,
) -> Iterator[tuple[Task, Outcome]]:
    """Run members and yield each as it ends.

    Parameters
    ----------
    tasks : sequence of Task
        In the order in which to start them: the longest first keeps all processes busy to the end.
    jobs : int
        Processes; 1 is this one.
    advance : callable
        Told the place of a member and the flow time it has reached.
    caught : list of int
        Signals received; the run stops when there is one.
    deadline : float, optional
        ``time.monotonic()`` at which to stop, once a frame has been committed.

    Raises
    ------
    Stop, KeyboardInterrupt
        After what runs has committed its last frame.
    OSError
        If the disk is lost, or a process is killed from outside.
    """
    if jobs == 1:
        yield from _here(tasks, advance, caught, deadline)
    else:
        yield from _side_by_side(tasks, jobs, advance, caught, deadline)


def _here(
    tasks: Sequence[Task], advance: Callable[[int, float], None], caught: list[int], deadline: float | None
) -> Iterator[tuple[Task, Outcome]]:
    stepped = ended = False

    def check(progressed: bool) -> None:
        nonlocal stepped
        stepped = True
        stop_if(caught)
        # A wall time too short for one frame, or one member without particles, would otherwise be requeued for ever.
        if (progressed or ended) and deadline is not None and time.monotonic() > deadline:
            raise Stop

    for task in tasks:
        yield task, _run(task, functools.partial(advance, task.number), check)
        ended = stepped  # a member that had ended before takes no step


def _run(task: Task, advance: Callable[[float], None], check: Callable[[bool], None]) -> Outcome:
    planned = task.planned
    return run_member(
        Workspace(task.folder),
        planned,
        members.build(planned.member, task.backend, task.threads),
        study=planned.member.model_dump(mode="json"),
        provenance=task.provenance,
        advance=advance,
        check=check,
    )


def _side_by_side(
    tasks: Sequence[Task],
    jobs: int,
    advance: Callable[[int, float], None],
    caught: list[int],
    deadline: float | None,
) -> Iterator[tuple[Task, Outcome]]:
    context = multiprocessing.get_context("spawn")
    stop = context.RawValue(ctypes.c_bool, False)
    reached = context.RawArray(ctypes.c_double, 1 + max(task.number for task in tasks))
    stopped = False
    # Signals wait while processes start: the workers inherit that, and take them once they know what to do.
    with _library_threads(tasks[0].threads), _signals_blocked(), _callers_main_hidden():
        pool = ProcessPoolExecutor(jobs, context, _begin, (stop, reached, deadline))
        pending: dict[Future[Outcome | None], Task] = {pool.submit(_work, task): task for task in tasks}
    try:
        while pending:
            done, _ = wait(pending, _POLL, FIRST_COMPLETED)
            for task in tasks:
                advance(task.number, reached[task.number])
            if caught:
                stop.value = True
            for future in done:
                task = pending.pop(future)
                outcome = future.result()
                if outcome is None:
                    stopped = stop.value = True
                else:
                    yield task, outcome
    except BrokenProcessPool as error:
        if caught:
            raise (Stop if caught[0] == signal.SIGTERM else KeyboardInterrupt) from error
        raise OSError("a process of the study was killed, perhaps for memory; try fewer --jobs") from error
    finally:  # an error or a stop: what runs commits its last frame first
        stop.value = True
        pool.shutdown(cancel_futures=True)
    if stopped:
        raise KeyboardInterrupt if caught and caught[0] == signal.SIGINT else Stop


@contextlib.contextmanager
def _library_threads(threads: int) -> Iterator[None]:
    """Environment for processes to be started: libraries with threads of their own use as many as the kernels."""
    before = {name: os.environ.get(name) for name in _LIBRARY_THREADS}
    os.environ.update(dict.fromkeys(_LIBRARY_THREADS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _callers_main_hidden() -> Iterator[None]:
    """Have processes that start import nothing of the caller's script, which may not be there (``python -``), or run.

    A process that is spawned imports the main module of its parent again; all that a worker needs is in wgflow.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


_shared: dict[str, Any] = {}  # in a worker: what the parent and its other workers see too


def _begin(stop: Any, reached: Any, deadline: float | None) -> None:
    """Start a worker process."""
    _shared.update(stop=stop, reached=reached, deadline=deadline)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the parent tells the workers

    def note(number: int, frame: Any) -> None:
        stop.value = True

    signal.signal(signal.SIGTERM, note)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # as if killed: committed frames are safe, and nobody is left to tell


class _Interrupted(BaseException):
    """A worker was told to stop."""


def _work(task: Task) -> Outcome | None:
    """Run a member in a worker; nothing if it was stopped before its end."""
    stop, deadline = _shared["stop"], _shared["deadline"]

    def advance(s: float) -> None:
        _shared["reached"][task.number] = s

    def check(progressed: bool) -> None:
        _shared["stepped"] = True
        late = deadline is not None and time.monotonic() > deadline
        if stop.value or (late and (progressed or _shared.get("ended", False))):
            raise _Interrupted

    try:
        if stop.value:
            return None
        outcome = _run(task, advance, check)
        _shared["ended"] = _shared.get("stepped", False)
        return outcome
    except _Interrupted:
        return None
