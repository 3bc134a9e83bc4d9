"""All members of a study, one after another in this process or side by side in several.

Each process works with its share of the cores; results do not depend on the split.

Members of one shape are not stepped together in a batch, which would gain little. Of the 12 ms that a member of 16
particles, 32 samples and 100 steps takes in a sweep of 1,000 (one core, with its share of summary and figures), 0.9 ms
are compiled steps, of 1000 steps 4.7 of 20 ms. With samples of four members in one pass the vectors of a step would
take 1.3 us a member in place of 2.4, at best, as if all had the same weights: 0.1 and 1 ms. The rest of a step is each
member's own (stacking, gradients, order), as are file, frames and observables.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import multiprocessing
import operator
import signal
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import NamedTuple

from wgflow.base.environment import one_thread
from wgflow.base.types import Spec
from wgflow.kernels.ranks import Ranks
from wgflow.model import data_files
from wgflow.sims import trial, workers
from wgflow.sims.run_member import Outcome, run_member
from wgflow.sims.signals import Stop, stop_if, warned_once
from wgflow.study.grid import RunPlan
from wgflow.study.workspace import Workspace

_ENOUGH = 8  # members from which starting processes pays
_LOOK_EVERY = 0.09  # seconds between looks at how far the members in other processes are


class Task(NamedTuple):
    """A member to run, in this process or another.

    Attributes
    ----------
    number : int
        Its place in the study.
    folder : Path
        The run's folder.
    planned : RunPlan
        The member.
    backend : str
        Kernels to use.
    threads : int
        Their threads.
    provenance, document : dict
        Documents stored with the trajectory: what makes it, and what it is to hold.
    ranks : Ranks or None
        Processes that share its evaluations.
    """

    number: int
    folder: Path
    planned: RunPlan
    backend: str
    threads: int
    provenance: Spec
    document: Spec
    ranks: Ranks | None = None


def split_cores(
    count: int, cores: int, jobs: int | None, threads: int | None, enough: int = _ENOUGH
) -> tuple[int, int]:
    """Processes and threads of each: one process a core for many members, all cores in this process for few.

    Parameters
    ----------
    count : int
        Members to run.
    cores : int
        Cores there are.
    jobs, threads : int or None
        What the caller asked for.
    enough : int, optional
        Members from which starting processes pays.

    Returns
    -------
    jobs, threads : int
        With neither given, jobs * threads <= cores.
    """
    if jobs is None:
        wanted = cores // (threads or 1)
        jobs = wanted if count >= enough else 1
    jobs = max(1, min(jobs, count))
    return jobs, threads or max(1, cores // jobs)


def run_all(
    tasks: Sequence[Task],
    jobs: int,
    advance: Callable[[int, float], None],
    caught: list[int],
    deadline: float | None = None,
    elsewhere: Callable[..., Generator[tuple[Task, Outcome | None], None, None]] | None = None,
) -> Generator[tuple[Task, Outcome], None, None]:
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
    elsewhere : callable, optional
        Runs members on a cluster: called with tasks, ``advance``, ``caught`` and ``deadline``.

    Raises
    ------
    Stop, KeyboardInterrupt
        After what runs has committed its last frame.
    OSError
        If the disk is lost, or a process is killed from outside.
    """
    if elsewhere is not None:
        answers = elsewhere(tasks, advance, caught, deadline)
    elif jobs == 1:
        work = Work(lambda: bool(caught), advance, deadline)
        answers = ((task, work(task)) for task in tasks)
    else:
        answers = _side_by_side(tasks, jobs, advance, caught, deadline)
    ended = 0
    with contextlib.closing(answers):
        for task, outcome in answers:
            if outcome is not None:
                ended += 1
                yield task, outcome
    if ended < len(tasks):
        stop_if(caught)
        raise Stop


class _Interrupted(BaseException):
    """A run is to stop between two steps."""


class Work:
    """What a process, this one or a worker, does with a task; nothing comes of it if it was stopped before its end.

    Parameters
    ----------
    stopping : callable
        Whether to stop at the next step.
    advance, deadline : callable, float or None
        As for :func:`run_all`.
    """

    def __init__(
        self, stopping: Callable[[], bool], advance: Callable[[int, float], None], deadline: float | None
    ) -> None:
        self.stopping, self.advance, self.deadline = stopping, advance, deadline
        self.late = self.stepped = self.ended = False

    def __call__(self, task: Task) -> Outcome | None:
        """Run a member."""
        if self.late or self.stopping():
            return None
        planned = task.planned
        data_files.check_unchanged(planned.member.data or ())
        in_worker = multiprocessing.parent_process() is not None  # its parent has given the warnings
        try:  # data, observables and projections are products too; the kernels have threads of their own
            with one_thread(), warned_once(already=in_worker):
                setup = trial.take(planned.member, task.backend, task.threads)
                if task.ranks is not None:
                    setup.energy.distribute(task.ranks)
                outcome = run_member(
                    Workspace(task.folder),
                    planned,
                    setup,
                    study=task.document,
                    provenance=task.provenance,
                    advance=functools.partial(self.advance, task.number),
                    check=self.check,
                )
        except _Interrupted:
            return None
        except (MemoryError, OSError, RuntimeError) as error:
            if not _for_memory(error):
                raise
            raise MemoryError(f"{name(task)}: memory ran out{f' ({error})' if str(error) else ''}") from error
        self.ended = self.stepped  # a member that had ended before takes no step
        return outcome

    def check(self, progressed: bool) -> None:
        """Interrupt a run between two steps, if it is to stop."""
        self.stepped = True
        # A wall time too short for one frame, or one member without particles, would otherwise be requeued for ever.
        self.late = self.deadline is not None and time.monotonic() > self.deadline and (progressed or self.ended)
        if self.late or self.stopping():
            raise _Interrupted


def _for_memory(error: Exception) -> bool:
    """Whether an error means out of memory, as NumPy, the system, Python or torch report it."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return any(words in str(error) for words in ("can't start new thread", "can't allocate memory", "out of memory"))


def name(task: Task) -> str:
    """Name of a task's run for a message."""
    return task.planned.label or task.folder.parent.name


def _side_by_side(
    tasks: Sequence[Task],
    jobs: int,
    advance: Callable[[int, float], None],
    caught: list[int],
    deadline: float | None,
) -> Generator[tuple[Task, Outcome | None], None, None]:
    context = multiprocessing.get_context("spawn")
    stop = context.RawValue(ctypes.c_bool, False)
    reached = context.RawArray(ctypes.c_double, 1 + max(task.number for task in tasks))
    work = Work(functools.partial(getattr, stop, "value"), functools.partial(operator.setitem, reached), deadline)

    looked = 0.0

    def tick() -> None:
        nonlocal looked
        if caught:
            stop.value = True
        if (now := time.monotonic()) - looked > _LOOK_EVERY:  # not at every answer of thousands
            looked = now
            for task in tasks:
                advance(task.number, reached[task.number])

    try:
        with contextlib.closing(workers.share_out(work, tasks, jobs, tasks[0].threads, stop, tick)) as answers:
            for task, outcome in answers:
                if outcome is None:
                    stop.value = True
                yield task, outcome
    except workers.WorkerDied as died:
        if not caught:
            raise OSError(_describe_lost_process(died)) from died


def _describe_lost_process(died: workers.WorkerDied) -> str:
    """Sentence about a lost process: whose it was, how it ended, what to do."""
    whose = "a process of the study" if died.task is None else f"{name(died.task)}: its process"
    when = ", before it could begin" if died.task is None else ""
    if died.code == -getattr(signal, "SIGKILL", 0):
        return f"{whose} was killed{when}, perhaps for lack of memory; try fewer --jobs"
    how = f"was ended by signal {-died.code}" if died.code < 0 else f"ended with exit code {died.code}"
    return f"{whose} {how}{when}; --jobs 1 runs without worker processes"
