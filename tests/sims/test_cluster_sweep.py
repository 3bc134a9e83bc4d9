"""The sweep by itself, on a client that only counts: how much is under way at once, who gets what, who is given up."""

import collections
import pickle
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from wgflow.base import environment
from wgflow.base.errors import InputError
from wgflow.sims import pool, workers
from wgflow.sims.cluster import on_worker, sweep, transfer
from wgflow.sims.cluster.on_worker import TOPIC, Answer
from wgflow.sims.cluster.sweep import Sweep
from wgflow.sims.run_member import Outcome

pytest.importorskip("distributed", reason="needs the extra cluster")
FINISHED = Answer(workers.answered(lambda: Outcome("finished")))


class Future:
    """Of a member that has an answer at once, or never."""

    def __init__(self, client, worker, answer):
        self.client, self.worker, self.answer = client, worker, answer
        self.status = "pending" if answer is None else "finished"
        client.alive.add(self)
        client.most = max(client.most, len(client.alive))
        busy = collections.Counter(each.worker for each in client.alive)
        client.one_worker = max(client.one_worker, *busy.values())

    def add_done_callback(self, call):
        if self.answer is not None:
            call(self)

    def result(self, timeout):
        self.release()
        return self.answer

    def release(self):
        self.client.alive.discard(self)


class Client:
    """Of a cluster whose workers answer as a function says."""

    status = "running"

    def __init__(self, names, answer=lambda job, worker: FINISHED):
        self.names, self.answer = names, answer
        self.alive, self.most, self.one_worker, self.sent, self.handlers = set(), 0, 0, [], {}
        self.stopped = threading.Event()

    def nthreads(self):
        return dict.fromkeys(self.names, 1)

    def subscribe_topic(self, topic, handler):
        self.handlers[topic] = handler

    def unsubscribe_topic(self, topic):
        del self.handlers[topic]

    def submit(self, load, job, *, key, workers, pure):
        assert (load, pure) == (pickle.loads, False)
        (worker,) = workers
        job = job_of(job)
        self.sent.append((job.task.number, worker))
        return Future(self, worker, self.answer(job, worker))

    def run(self, function, *arguments, **options):
        assert function is on_worker.stop
        self.stopped.set()

    def tell(self, topic, message):
        self.handlers[topic]((0.0, message))


def job_of(payload):
    """Job in what is submitted, without running it."""
    real = on_worker.run
    on_worker.run = lambda job: job
    try:
        return pickle.loads(payload)
    finally:
        on_worker.run = real


def run_in_place(job):
    raise AssertionError("members of these tests run nowhere")


@pytest.fixture
def tasks(tmp_path):
    """As many members as asked for, none of which has a file."""

    def make(count):
        member = SimpleNamespace(record="numbers")
        plans = (SimpleNamespace(label=f"seed={k}", values={"seed": k}, member=member) for k in range(count))
        return [pool.Task(k, tmp_path, plan, "cpu", 1, {}, {}) for k, plan in enumerate(plans)]

    return make


def run(client, tasks, caught=(), deadline=None, advance=lambda number, s: None):
    return list(Sweep(client, "tcp://here:1", (), False).answers(tasks, advance, list(caught), deadline))


@pytest.mark.parametrize(("quick", "most"), [(1e9, 2), (0.0, 1)])
def test_ten_thousand_members_have_few_futures_at_once(tasks, monkeypatch, quick, most):
    """In the order in which they came, the longest first; a second on a worker only if it answers soon."""
    monkeypatch.setattr(sweep, "_QUICK", quick)
    client = Client(["tcp://a:1", "tcp://b:1", "tcp://c:1"])
    found = run(client, tasks(10_000))
    assert len(found) == 10_000
    assert {outcome.status for _, outcome in found} == {"finished"}
    assert (client.one_worker, client.most) == (most, 3 * most)
    assert not client.alive
    assert [number for number, _ in client.sent] == list(range(10_000))


def test_a_worker_of_another_version_gets_no_second_member(tasks, capsys):
    client = Client(["tcp://a:1", "tcp://b:1"], lambda _, worker: FINISHED if worker == "tcp://b:1" else OLD)
    assert len(run(client, tasks(20))) == 20
    assert [worker for _, worker in client.sent].count("tcp://a:1") == 1
    assert capsys.readouterr().err == "wgflow: worker tcp://a:1 is not used, since it has numba 0 (here 1)\n"
    with pytest.raises(InputError, match="no worker is left that has the versions"):
        run(Client(["tcp://a:1"], lambda *_: OLD), tasks(2))


OLD = Answer(skew="numba 0 (here 1)")


def test_members_of_a_lost_worker_go_to_others(tasks):
    """And if it is the member that kills them, the sweep ends; one that comes further each time may go on."""
    client = Client(["tcp://a:1", "tcp://b:1"])

    def answer(job, worker):
        if worker == "tcp://b:1" and client.names[-1] == "tcp://b:1":
            client.names.pop()
            client.tell("all", {"action": "remove-worker", "worker": worker, "expected": False})
            return None
        return FINISHED

    client.answer = answer
    assert sorted(task.number for task, _ in run(client, tasks(5))) == list(range(5))
    assert client.sent.count((1, "tcp://b:1")) == 1
    assert (1, "tcp://a:1") in client.sent

    def fatal(steps):
        count = iter(range(100))

        def answer(job, worker):
            k = next(count)
            if k == 10:
                return FINISHED
            if steps:
                client.tell(TOPIC, [job.sweep, 0, float(k + 1)])
            client.names = [f"tcp://n:{k}"]
            client.tell("all", {"action": "remove-worker", "worker": worker, "expected": False})
            client.tell("all", {"action": "add-worker", "worker": f"tcp://n:{k}"})
            return None

        client = Client(["tcp://a:1"], answer)
        return client

    client = fatal(steps=False)
    with pytest.raises(OSError, match="seed=0: 4 workers that ran it were killed, the last of them tcp://n:2"):
        run(client, tasks(1))
    client = fatal(steps=True)
    assert len(run(client, tasks(1))) == 1


def test_progress_of_other_sweeps_is_not_taken_for_this_one(tasks):
    told = []
    client = Client(["tcp://a:1"])

    def answer(job, worker):
        client.tell(TOPIC, ["another", 0, 9.0])
        client.tell(TOPIC, [job.sweep, 0, 0.5])
        return FINISHED

    client.answer = answer
    run(client, tasks(1), advance=lambda number, s: told.append((number, s)))
    assert told == [(0, 0.5)]


def test_a_signal_stops_members_and_sends_no_more(tasks):
    client, caught = Client(["tcp://a:1"]), []

    def answer(job, worker):
        caught.append(2)
        return Answer(workers.answered(lambda: None))

    client.answer = answer
    found = list(Sweep(client, "tcp://here:1", (), False).answers(tasks(3), lambda *_: None, caught, None))
    assert client.stopped.wait(600)
    assert [outcome for _, outcome in found] == [None]
    assert len(client.sent) == 1


def test_an_error_of_a_member_ends_the_sweep_and_names_the_worker(tasks):
    def broken():
        raise InputError("x.npz: changed")

    client = Client(["tcp://a:1"], lambda *_: Answer(workers.answered(broken)))
    with pytest.raises(InputError, match=r"x.npz: changed \(worker tcp://a:1\)"):
        run(client, tasks(3))
    assert len(client.sent) == 1
    assert client.stopped.wait(600)


def test_a_lost_scheduler_is_an_error_of_the_run(tasks):
    client = Client(["tcp://a:1"])

    def answer(job, worker):
        client.status = "connecting"

    client.answer = answer
    with pytest.raises(OSError, match="the scheduler of tcp://here:1 was lost"):
        run(client, tasks(3))


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 5000])
def test_files_are_sent_and_fetched_in_pieces(tmp_path, monkeypatch, size):
    monkeypatch.setattr(transfer, "PIECE", 1000)
    here, there, back = (tmp_path / name / "x.h5" for name in ("here", "there", "back"))
    here.parent.mkdir(), back.parent.mkdir()
    here.write_bytes(bytes(k % 251 for k in range(size)))
    calls = []

    def call(function, *arguments, workers):
        calls.append(function)
        return {worker: function(*arguments) for worker in workers}

    client = SimpleNamespace(run=call)
    transfer.send(client, "w", here, str(there))
    transfer.fetch(client, "w", transfer.stored(there), back)
    assert back.read_bytes() == here.read_bytes()
    assert calls.count(transfer.read_piece) == -(-size // 1000)
    assert [path.name for path in there.parent.iterdir()] == ["x.h5"]
    changed = transfer.stored(there)._replace(sha256="0" * 64)
    with pytest.raises(OSError, match="expected SHA-256 000"):
        transfer.fetch(client, "w", changed, back)
    assert back.read_bytes() == here.read_bytes()
    with pytest.raises(transfer.WorkerLost):
        transfer.fetch(
            SimpleNamespace(run=lambda *_, **__: {}), "w", transfer.stored(here), back.with_name("new")
        ) if size else transfer.remove(SimpleNamespace(run=lambda *_, **__: {}), "w", [])
    assert [path.name for path in back.parent.iterdir()] == ["x.h5"]


def test_libraries_get_the_threads_of_the_member():
    import numba
    from threadpoolctl import threadpool_info

    environment._pools.cache_clear()  # another test may have loaded a library since
    before = numba.get_num_threads()
    with on_worker._threads(1):
        assert numba.get_num_threads() == 1
        assert all(each["num_threads"] == 1 for each in threadpool_info() if each["user_api"] == "openmp")
    numba.set_num_threads(before)


def test_one_member_at_a_time_in_a_process(monkeypatch, tmp_path):
    """Whatever threads Dask has: the second waits, and is let go if nobody wants it any more."""
    state = SimpleNamespace(tasks={"k": SimpleNamespace(state="executing")}, nthreads=2)
    worker = SimpleNamespace(state=state, status=SimpleNamespace(name="running"))
    monkeypatch.setattr("distributed.get_worker", lambda: worker)
    monkeypatch.setattr("distributed.worker.thread_state", SimpleNamespace(key="k"))
    monkeypatch.setattr(on_worker, "_run", run_in_place)
    job = on_worker.Job(None, "sweep", {}, (), "", 0, None)
    with on_worker._turn:
        thread = threading.Thread(target=lambda: found.append(on_worker.run(job)))
        found = []
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        state.tasks.clear()  # the client is gone, and the scheduler wants no answer
        thread.join(600)
    assert workers.understood(found[0].pickled) is None


def test_a_run_folder_is_recognised_by_what_the_client_wrote(tmp_path):
    assert not on_worker._is_shared(tmp_path / "absent", "x")
    (tmp_path / on_worker.TOKEN).write_text("y")
    assert not on_worker._is_shared(tmp_path, "x")
    (tmp_path / on_worker.TOKEN).write_text("x")
    assert on_worker._is_shared(Path(tmp_path), "x")
