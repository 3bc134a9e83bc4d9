"""What runs in a worker of a Dask cluster: one member at a time, in the study's folder or in one on its own machine."""

from __future__ import annotations

import contextlib
import functools
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wgflow.base.environment import openmp_threads
from wgflow.base.errors import BusyError, TrajectoryError
from wgflow.sims import pool, workers
from wgflow.sims.cluster.transfer import Stored, stored
from wgflow.sims.cluster.versions import processor, skew, versions
from wgflow.sims.run_member import Outcome
from wgflow.study.workspace import Workspace
from wgflow.trajectory import Trajectory

if TYPE_CHECKING:
    from distributed import Worker

TOPIC = "wgflow"  # of the events by which members say how far they are
TOKEN = ".cluster"  # file in a run's folder by which a worker recognises its disk
_TELL = 0.5  # seconds between two such events of a member
_LOOK = 0.1  # seconds between two looks at what the scheduler wants
_PATIENCE = 60.0  # seconds for which a process that is about to end may hold the file of a member
_turn = threading.Lock()  # one member at a time in a process, whoever has sent it
_stopped = set[str]()  # sweeps that are to stop


class Job(NamedTuple):
    """A member, and what a worker needs to know beside it.

    Attributes
    ----------
    task : Task
        The member; with 0 threads it takes as many as Dask has given the worker.
    sweep : str
        Name of the command that sent it, and what the file :data:`TOKEN` in the run's folder holds.
    versions, packages : dict, tuple of str
        What the worker must have, and packages in it beside those of every run.
    scratch : str
        Name of a folder for the member where the run's own is not there.
    frames : int
        Frames of the member that the client has.
    seconds : float or None
        Seconds after which it is to stop, once a frame has been committed.
    """

    task: pool.Task
    sweep: str
    versions: dict[str, str]
    packages: tuple[str, ...]
    scratch: str
    frames: int
    seconds: float | None

    def submittable(self) -> bytes:
        """Return bytes that run the job when they are unpickled.

        A scheduler unpickles what is submitted, and need not have this package: bytes it has.
        """
        return pickle.dumps(_Call(self))


class _Call:
    def __init__(self, job: Job) -> None:
        self.job = job

    def __reduce__(self) -> tuple[Callable[[Job], Answer], tuple[Job]]:
        return run, (self.job,)


class Answer(NamedTuple):
    """What a worker has to say of a member.

    Attributes
    ----------
    pickled : bytes
        How it ended, None if it was stopped, or the error it had (:func:`wgflow.sims.workers.answered`).
    size : int
        Bytes of its trajectory in a shared folder.
    files : tuple of Stored
        Its files on the worker's own machine, where no folder is shared.
    needs : str
        Where the client is to send its own trajectory first; empty if the member was run.
    skew : str
        In what the worker's versions differ; then the member was not run.
    leaves : bool
        Whether it was stopped because the worker leaves the cluster.
    """

    pickled: bytes = b""
    size: int = 0
    files: tuple[Stored, ...] = ()
    needs: str = ""
    skew: str = ""
    leaves: bool = False


def look(packages: tuple[str, ...], dask_worker: Worker) -> dict[str, str]:
    """Versions in this worker, and its processor."""
    del dask_worker  # with which Dask calls it in the worker's process and not in its nanny's
    return versions(packages) | {"processor": processor()}


def stop(sweep: str) -> None:
    """Have members of a sweep stop at their next step."""
    _stopped.add(sweep)


def run(job: Job) -> Answer:
    """Run a member to its end, or until it is to stop."""
    from distributed import get_worker
    from distributed.worker import thread_state

    differs = skew(job.versions, versions(job.packages))
    if differs:
        return Answer(skew=differs)
    wanted = _Wanted(get_worker(), thread_state.key, job.sweep)
    while not _turn.acquire(timeout=_LOOK):
        if not wanted():
            return Answer(pickle.dumps((None, None, "")), leaves=wanted.leaves)
    try:
        return _run(job, wanted)
    finally:
        _turn.release()


def _run(job: Job, wanted: _Wanted) -> Answer:
    task = job.task
    shared = _is_shared(task.folder, job.sweep)
    folder = task.folder if shared else Path(wanted.worker.local_directory).parent / job.scratch
    path = Workspace(folder).member(task.planned.label, task.planned.values).path
    if not shared:
        path.parent.mkdir(parents=True, exist_ok=True)
        found = frames(path)
        if found < job.frames:
            return Answer(needs=str(path))
        if not found:  # what is there, if anything, cannot be read, and nobody else can remove it
            path.unlink(missing_ok=True)
    threads = task.threads or wanted.worker.state.nthreads
    here = task._replace(folder=folder, threads=threads)
    deadline = None if job.seconds is None else time.monotonic() + job.seconds
    work = pool.Work(lambda: not wanted(), _Teller(wanted.worker, job.sweep), deadline)
    with _threads(threads):
        pickled = workers.answered(functools.partial(_patiently, work, here, wanted, task.folder))
    if shared:
        return Answer(pickled, size=path.stat().st_size if path.is_file() else 0, leaves=wanted.leaves)
    files = tuple(stored(file) for file in (path.with_suffix(".checkpoint"), path) if file.is_file())
    return Answer(pickled, files=files, leaves=wanted.leaves)


def _patiently(work: pool.Work, task: pool.Task, wanted: _Wanted, folder: Path) -> Outcome | None:
    """Run a member, once the process that a killed command left behind lets go of its file; names are the client's."""
    given_up = time.monotonic() + _PATIENCE

    def named(text: Any) -> Any:
        return text.replace(str(task.folder), str(folder)) if isinstance(text, str) else text

    while wanted():
        try:
            outcome = work(task)
        except BusyError:
            if time.monotonic() > given_up:
                raise
            time.sleep(_LOOK)
        except OSError as error:
            error.args, error.filename = tuple(map(named, error.args)), named(error.filename)
            raise
        else:
            return outcome and outcome._replace(repaired=named(outcome.repaired))
    return None


class _Wanted:
    """Whether a member is to go on: nobody has stopped its sweep, and the scheduler wants it from this worker.

    That it does not is how a worker learns that the client is gone, the scheduler, or both.
    """

    def __init__(self, worker: Worker, key: str, sweep: str) -> None:
        self.worker, self._key, self._sweep = worker, key, sweep
        self._wanted, self.leaves, self._next = True, False, 0.0

    def __call__(self) -> bool:
        if self._wanted and time.monotonic() >= self._next:
            state = self.worker.state.tasks.get(self._key)
            executing = state is not None and state.state in ("executing", "long-running")
            self.leaves = self.worker.status.name not in ("running", "paused")
            self._wanted = executing and not self.leaves and self._sweep not in _stopped
            self._next = time.monotonic() + _LOOK
        return self._wanted


class _Teller:
    """Tell the client, through the scheduler, how far a member is, now and then."""

    def __init__(self, worker: Worker, sweep: str) -> None:
        self._worker, self._sweep, self._next = worker, sweep, time.monotonic() + _TELL

    def __call__(self, number: int, s: float) -> None:
        if time.monotonic() >= self._next:
            self._worker.log_event(TOPIC, [self._sweep, number, s])
            self._next = time.monotonic() + _TELL


def _is_shared(folder: Path, token: str) -> bool:
    """Whether a run's folder is the client's own, as what it has written there shows."""
    try:
        return (folder / TOKEN).read_text(encoding="utf-8") == token
    except OSError:
        return False


def frames(path: Path) -> int:
    """Frames of a trajectory on this machine, 0 if it cannot be read."""
    if not path.is_file():
        return 0
    try:
        with Trajectory(path) as trajectory:
            return len(trajectory)
    except TrajectoryError:
        return 0


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Limit the thread pools of libraries; Dask limits some of them, to one thread, and Numba's not at all."""
    import numba

    settings: Any = numba.config
    numba.set_num_threads(min(count, settings.NUMBA_NUM_THREADS))
    with openmp_threads(count):
        yield
