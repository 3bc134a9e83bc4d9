"""Members of a study handed to the workers of a Dask cluster, one at a time to each, and their answers."""

from __future__ import annotations

import collections
import contextlib
import pickle
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING

from wgflow.base.errors import InputError, TrajectoryError, WgflowError
from wgflow.base.terminal import say
from wgflow.kernels.cpu.threads import available_threads
from wgflow.sims import pool, run_member, workers
from wgflow.sims.cluster import transfer
from wgflow.sims.cluster.inbox import Inbox, Message
from wgflow.sims.cluster.on_worker import TOKEN, Answer, Job, frames, stop
from wgflow.sims.cluster.versions import lacking, sources, versions
from wgflow.sims.run_member import Outcome
from wgflow.study.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client, Future

_POLL = 0.1  # seconds between looks at signals
_QUICK = 0.5  # seconds of a member below which its worker is sent the next before it has answered
_GRACE = 10.0  # seconds within which members have to stop; one that takes longer loses no more than the step it is at
_RESULT = 10.0  # seconds for an answer to come from the worker that has it
_REFRESH = 15.0  # seconds after which the list of workers is asked for again, whatever events have said


class _Again(Exception):
    """A member is to be sent again, to whoever is free."""


class Sweep:
    """Members on the workers of a cluster.

    Parameters
    ----------
    client : Client
        Connected to its scheduler.
    name : str
        The cluster, for messages.
    packages : tuple of str
        Packages that members need beside those of every run.
    fresh : bool
        Whether what an earlier command has left on a worker's own disk is not to be used.
    """

    def __init__(self, client: Client, name: str, packages: tuple[str, ...], fresh: bool) -> None:
        import dask

        self._client, self._name, self._packages = client, name, packages
        self._allowed = int(dask.config.get("distributed.scheduler.allowed-failures"))
        self._id, self._versions = uuid.uuid4().hex, versions(packages)
        self._own = f"-{self._id}" if fresh else ""
        self._inbox = Inbox()
        self._flying: dict[Future, tuple[pool.Task, str]] = {}
        self._workers, self._refused = set[str](), set[str]()
        self._quick, self._sent = set[str](), dict[str, float]()  # workers, and when each began its member
        self._kills, self._reached = collections.Counter[int](), dict[int, float]()
        self._begun = self._waited = False
        self._listed, self._prefers = 0.0, ""
        self._ends: float | None = None  # when members that have not stopped are given up

    def answers(
        self,
        tasks: Sequence[pool.Task],
        advance: Callable[[int, float], None],
        caught: list[int],
        deadline: float | None,
    ) -> Generator[tuple[pool.Task, Outcome | None], None, None]:
        """Run members and yield each as it ends, with None if it was stopped; parameters as of ``pool.run_all``.

        Raises
        ------
        OSError
            If the scheduler is lost, or the workers of one member are killed again and again.
        Exception
            The first that a member has, after the others have stopped; its cause is the traceback from the worker.
        """
        work = pool.Work(lambda: bool(caught), advance, deadline)
        there = collections.deque(task for task in tasks if _is_finished(task))
        known = {task.number for task in there}
        waiting = collections.deque(task for task in tasks if task.number not in known)
        with _token(tasks[0].folder, self._id), self._inbox.listening(self._client, self._id):
            try:
                while there or waiting or self._flying:
                    if caught:
                        self._stop()
                    if self._ends is None:
                        self._find_workers()
                        self._send(waiting, deadline)
                        if not self._flying and not there and _left(deadline) == 0.0:
                            return
                    elif not self._flying or time.monotonic() > self._ends:
                        return
                    if there:  # a file that is finished is checked where it is
                        task = there.popleft()
                        yield task, work(task._replace(threads=task.threads or available_threads()))
                    message = self._receive(0.0 if there else _POLL)
                    if message.kind == "at":
                        advance(message.about, message.value)
                    elif message.kind == "come":
                        self._workers.add(message.about)
                    elif message.kind == "gone":
                        waiting.extendleft(self._lost(message.about, killed=message.value))
                    elif message.kind == "done" and message.about in self._flying:
                        task, worker = self._flying.pop(message.about)
                        self._time(worker)
                        try:
                            outcome = self._outcome(message.about, task, worker)
                        except _Again:
                            waiting.appendleft(task)
                        else:
                            yield task, outcome
                            if outcome is None:
                                self._stop()
            except KeyboardInterrupt:  # a second Ctrl-C: at once
                self._ends = 0.0
                raise
            finally:
                self._drain()

    def _send(self, waiting: collections.deque[pool.Task], deadline: float | None) -> None:
        """Give every worker a member, a quick one two; after the deadline only if no member has been sent before.

        The second hides the way to the client and back. Near the end there is none, lest it wait while others are free.
        """
        given = collections.Counter(worker for _, worker in self._flying.values())
        for worker in sorted(self._workers - self._refused, key=lambda each: (each != self._prefers, each)):
            many = worker in self._quick and len(waiting) > 2 * len(self._workers)
            while waiting and given[worker] < 1 + many and not (self._begun and _left(deadline) == 0.0):
                self._submit(waiting.popleft(), worker, deadline)
                given[worker] += 1
        self._begun = self._begun or bool(self._flying)

    def _time(self, worker: str) -> None:
        """Note whether a worker has been quick with the member that it has answered."""
        now = time.monotonic()
        (self._quick.add if now - self._sent.pop(worker, 0.0) < _QUICK else self._quick.discard)(worker)
        if any(where == worker for _, where in self._flying.values()):
            self._sent[worker] = now

    def _submit(self, task: pool.Task, worker: str, deadline: float | None) -> None:
        path = _path(task)
        kept = frames(path) if task.planned.member.record == "particles" else 0
        scratch = f"wgflow-{task.folder.name}-{task.backend}-{sources()}{self._own}"
        absolute = task._replace(folder=task.folder.absolute())
        job = Job(absolute, self._id, self._versions, self._packages, scratch, kept, _left(deadline))
        future = self._client.submit(
            pickle.loads,
            job.submittable(),
            key=f"wgflow-{self._id}-{task.number}-{uuid.uuid4().hex[:8]}",
            workers=[worker],
            pure=False,
        )
        self._flying[future] = task, worker
        self._sent.setdefault(worker, time.monotonic())
        future.add_done_callback(lambda done: self._inbox.put(Message("done", done)))

    def _receive(self, seconds: float) -> Message:
        """Next message, or an empty one; of the scheduler's end too.

        Raises
        ------
        OSError
            If the scheduler is lost.
        """
        message = self._inbox.get(seconds)
        if self._client.status != "running":
            raise OSError(f"the scheduler of {self._name} was lost; start one, and the same command goes on")
        if message.kind == "at" and message.value > self._reached.get(message.about, 0.0):
            self._reached[message.about] = message.value
            del self._kills[message.about]
        return message

    def _find_workers(self) -> None:
        """Ask for the workers that there are, now and then; events tell of those that come and go meanwhile."""
        if time.monotonic() < self._listed + (_REFRESH if self._workers else 1.0):
            return
        with contextlib.suppress(OSError):
            found = set(self._client.nthreads())
            for worker in self._workers - found:
                self._inbox.put(Message("gone", worker, True))
            self._workers |= found
        self._listed = time.monotonic()
        if self._workers and self._workers <= self._refused:
            raise InputError(f"--cluster {self._name}: no worker is left that has the versions of this machine")
        if not self._workers and not self._waited:
            say(f"{self._name} has no worker now; waiting for one")
            self._waited = True

    def _lost(self, worker: str, killed: bool) -> Iterator[pool.Task]:
        """Members of a worker that is gone, which are to be sent again.

        Raises
        ------
        OSError
            If too many workers were killed with one of them.
        """
        self._workers.discard(worker)
        self._sent.pop(worker, None)
        for future, (task, where) in list(self._flying.items()):
            if where == worker:
                del self._flying[future]
                future.release()
                if killed:
                    self._count(task, worker)
                yield task
                killed = False  # the next has not begun

    def _count(self, task: pool.Task, worker: str) -> None:
        """Count a worker that was killed with a member, and end the sweep if there were too many."""
        self._kills[task.number] += 1
        if self._kills[task.number] > self._allowed:
            raise OSError(
                f"{pool.name(task)}: {self._kills[task.number]} workers that ran it were killed, the last of them "
                f"{worker}, perhaps for lack of memory; give each worker more"
            )

    def _outcome(self, future: Future, task: pool.Task, worker: str) -> Outcome | None:
        """How a member has ended, None if it was stopped; its files are here then.

        Raises
        ------
        _Again
            If it was not run to an end, through no fault of its own.
        OSError
            If its files cannot be written here.
        Exception
            The one that it has had.
        """
        answer = self._answer(future, task, worker)
        if answer.skew:
            self._refused.add(worker)
            say(f"worker {worker} is not used, since it has {answer.skew}")
            raise _Again
        path = _path(task)
        try:
            if answer.needs:
                self._prefers = worker
                for suffix in (".checkpoint", path.suffix):
                    if path.with_suffix(suffix).is_file():
                        target = str(Path(answer.needs).with_suffix(suffix))
                        transfer.send(self._client, worker, path.with_suffix(suffix), target)
                raise _Again
            for file in answer.files:
                transfer.fetch(self._client, worker, file, path.with_suffix(Path(file.path).suffix))
            if answer.files:
                transfer.remove(self._client, worker, [file.path for file in answer.files])
        except transfer.WorkerLost as error:
            raise _Again from error
        transfer.wait_for(path, answer.size)
        try:
            outcome: Outcome | None = workers.understood(answer.pickled)
        except WgflowError as error:
            if len(error.args) == 1 and not self._name.startswith("local:"):
                error.args = (f"{error} (worker {worker})",)
            raise
        if outcome is None and answer.leaves:
            raise _Again
        return outcome

    def _answer(self, future: Future, task: pool.Task, worker: str) -> Answer:
        from distributed import KilledWorker

        if future.status == "finished":
            try:
                answer: Answer = future.result(timeout=_RESULT)
            except (CancelledError, OSError) as lost:  # the worker is gone, and its answer with it
                raise _Again from lost
            return answer
        error = future.exception(timeout=_RESULT) if future.status == "error" else None
        if isinstance(error, KilledWorker):
            self._count(task, worker)
            raise _Again from error
        if error is not None and lacking(error):  # from unpickling, before anything ran
            return Answer(skew=lacking(error))
        raise error or OSError(f"{pool.name(task)}: somebody else cancelled it on {self._name}")

    def _stop(self) -> None:
        """Have all members stop at their next step, and give them time to."""
        if self._ends is None:
            self._ends = time.monotonic() + _GRACE
            threading.Thread(target=self._tell_to_stop, daemon=True).start()  # it may wait for workers that are gone

    def _tell_to_stop(self) -> None:
        with contextlib.suppress(Exception):
            self._client.run(stop, self._id, on_error="ignore")

    def _drain(self) -> None:
        """Stop what is still running: its files are here afterwards, unless it takes too long."""
        self._stop()
        while self._flying and self._client.status == "running" and time.monotonic() < (self._ends or 0.0):
            with contextlib.suppress(Exception):
                message = self._inbox.get(_POLL)
                if message.kind == "done" and message.about in self._flying:
                    self._outcome(message.about, *self._flying.pop(message.about))
                elif message.kind == "gone":
                    collections.deque(self._lost(message.about, killed=False), maxlen=0)
        for future in self._flying:
            future.release()
        self._flying.clear()


def _path(task: pool.Task) -> Path:
    return Workspace(task.folder).member(task.planned.label, task.planned.values).path


def _is_finished(task: pool.Task) -> bool:
    """Whether a member's file says so; one that cannot be read is left to the run, which says what is wrong."""
    with contextlib.suppress(TrajectoryError):
        return run_member.on_disk(Workspace(task.folder), task.planned).finished
    return False


def _left(deadline: float | None) -> float | None:
    """Seconds left until a deadline."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


@contextlib.contextmanager
def _token(folder: Path, text: str) -> Iterator[None]:
    """Leave something in a run's folder by which workers recognise it."""
    path = folder / TOKEN
    try:
        path.write_text(text, encoding="utf-8")
        yield
    finally:
        path.unlink(missing_ok=True)
