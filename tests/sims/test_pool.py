"""Members side by side: the same bytes as one after another, stopping, resuming, and nobody left behind."""

import contextlib
import errno
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import wgflow
from wgflow.sims import pool, run
from wgflow.systems import problem, residual

STUDY = """
name = "many"
[problem]
name = "sine"
samples = 40
[flow]
until = 2.0
every = 0.5
[grid]
"particles.count" = [3, 5]
seed = [0, 1, 2, 3]
"""
LONG = ["--set", "flow.until=1e6", "--set", "flow.every=10", "--jobs", "2"]  # more than any machine does meanwhile
linux = pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs ps and /proc as on Linux")


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "many.toml").write_text(STUDY)
    return "many.toml"


def command(study, *options):
    return [sys.executable, "-m", "wgflow.sims.run", study, "--quiet", *options]


@pytest.fixture
def begin(study):
    """Start commands, none of which outlives its test."""
    begun = []

    def start(*options):
        begun.append(
            subprocess.Popen(command(study, *options), stderr=subprocess.PIPE, text=True, start_new_session=True)
        )
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.wait()
        process.stderr.close()


def frames(path):
    with wgflow.Trajectory(path) as trajectory:
        return [(f.step, f.theta.tobytes(), f.tau.tobytes(), f.energy) for f in trajectory]


def begun(tmp_path):
    """Whether two members have a frame."""
    found = [path for path in tmp_path.glob("runs/many/[0-9a-f]*/members/*.h5") if frames(path)]
    return len(found) >= 2


@pytest.mark.parametrize(
    ("count", "cores", "jobs", "threads", "expected"),
    [(4, 8, None, None, (1, 8)), (8, 8, None, None, (8, 1)), (100, 6, None, None, (6, 1)), (100, 8, None, 4, (2, 4)),
     (100, 8, 2, None, (2, 4)), (3, 8, 16, None, (3, 2)), (100, 1, None, None, (1, 1)), (0, 2, None, None, (1, 2)),
     (100, 2, None, 4, (1, 4))],
)  # fmt: skip
def test_cores_are_shared_out(count, cores, jobs, threads, expected):
    assert pool.split_cores(count, cores, jobs, threads) == expected


def test_side_by_side_is_the_same(study, tmp_path):
    assert run.main([study, "--quiet", "--out", "one", "--jobs", "1"]) == 0
    assert run.main([study, "--quiet", "--out", "two", "--jobs", "2"]) == 0
    (one,), (two,) = (list((tmp_path / out / "many").glob("[0-9a-f]*")) for out in ("one", "two"))
    assert one.name == two.name
    for path in (one / "members").iterdir():
        assert frames(path) == frames(two / "members" / path.name)
    assert (one / "summary.csv").read_bytes() == (two / "summary.csv").read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_signals_stop_all_processes(begin, tmp_path, number, code, wait_until):
    """A signal to the whole group, as a terminal or a batch system sends it."""
    process = begin(*LONG)
    wait_until(lambda: begun(tmp_path), process)
    os.killpg(process.pid, number)
    _, err = process.communicate()
    assert process.returncode == code, err
    assert err.splitlines() == ["wgflow: stopped; the same command resumes from the last committed frame"]
    for path in tmp_path.glob("runs/many/[0-9a-f]*/members/*.h5"):
        assert frames(path)


def test_walltime_stops_all_processes(study):
    assert run.main([study, "--quiet", *LONG, "--walltime", "0"]) == run.REQUEUE


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), ""),
        (MemoryError("Unable to allocate 1 TiB"), " (Unable to allocate 1 TiB)"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), " ([Errno 12] Cannot allocate memory)"),
        (RuntimeError("can't start new thread"), " (can't start new thread)"),
        (RuntimeError("CUDA out of memory. Tried"), " (CUDA out of memory. Tried)"),
    ],
)
def test_memory_that_runs_out_is_one_line_with_the_run(study, tmp_path, monkeypatch, capsys, error, words):
    real = pool.run_member

    def short(work, planned, *given, **options):
        if planned.label == "count=3, seed=1":
            raise error
        return real(work, planned, *given, **options)

    monkeypatch.setattr(pool, "run_member", short)
    arguments = [study, "--quiet", "--jobs", "1", "--set", "flow.until=0.5", "--set", "figure=none"]
    assert run.main(arguments) == run.DISK
    assert capsys.readouterr().err == (
        f"wgflow: count=3, seed=1: memory ran out{words}; committed frames are intact, use fewer --jobs or smaller "
        "runs\n"
    )
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("runs/many/[0-9a-f]*/members/*.h5")}
    assert len(kept) == 5  # the longest come first
    monkeypatch.setattr(pool, "run_member", real)
    assert run.main(arguments) == 0
    for name, content in kept.items():
        assert next(tmp_path.glob(f"runs/many/[0-9a-f]*/members/{name}")).read_bytes() == content


def test_products_of_a_run_are_computed_on_one_thread_whatever_the_process_has(study, monkeypatch):
    """Their sums have an order that depends on it: of data and observables too, before a run begins and in it."""
    seen = []

    def watched(real):
        def call(*given, **options):
            seen.extend(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas")
            return real(*given, **options)

        return call

    monkeypatch.setattr(pool, "run_member", watched(pool.run_member))
    monkeypatch.setitem(problem.DATASETS, "sine", watched(problem.DATASETS["sine"]))
    monkeypatch.setattr(residual.Particles, "draw", watched(residual.Particles.draw))
    problem._problems.cache_clear()
    with threadpool_limits(2, "blas"):
        assert run.main([study, "--quiet", "--jobs", "1", "--set", "figure=none", "--set", "grid={}"]) == 0
    assert set(seen) == {1}


def children(pid):
    """Worker processes; Python's own tracker of resources is a child too, and left alone."""
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "spawn_main" in line]


def at_work(pid):
    """Whether a process has a member's file open."""
    with contextlib.suppress(OSError):
        return any(os.readlink(each).endswith(".h5") for each in Path(f"/proc/{pid}/fd").iterdir())
    return False


@linux
def test_a_killed_parent_leaves_nobody(begin, tmp_path, wait_until):
    process = begin(*LONG)
    wait_until(lambda: begun(tmp_path), process)
    orphans = children(process.pid)
    assert len(orphans) == 2
    process.kill()
    process.wait()
    wait_until(lambda: not any(os.path.isdir(f"/proc/{pid}") for pid in orphans))


@linux
def test_a_worker_killed_while_idle_changes_nothing_and_one_killed_at_work_is_named(begin, tmp_path, wait_until):
    """Two short members and a long one: the second process has nothing left to do, the first goes on."""
    options = ["--set", "flow.every=10", "--set", "grid={'flow.until' = [10.0, 20.0, 1e6]}", "--jobs", "2"]
    process = begin(*options)

    def of(pattern):
        return list(tmp_path.glob(f"runs/many/[0-9a-f]*/{pattern}"))

    wait_until(lambda: any(path.read_text().count('"finished"') == 2 for path in of("events.jsonl")), process)
    (busy,) = wait_until(lambda: [pid for pid in children(process.pid) if at_work(pid)], process)
    for pid in set(children(process.pid)) - {busy}:
        with contextlib.suppress(ProcessLookupError):  # it has gone by itself
            os.kill(pid, signal.SIGKILL)
    (long,) = of("members/until-1000000.0.h5")
    before = len(frames(long))
    wait_until(lambda: len(frames(long)) > before + 1, process)
    os.kill(busy, signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == run.DISK
    assert err == (
        "wgflow: until=1000000.0: its process was killed, perhaps for lack of memory; try fewer --jobs; committed "
        "frames are intact\n"
    )
    assert sorted(len(frames(path)) for path in of("members/until-?0.0.h5")) == [2, 3]  # the long one may have as few


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("os.kill(os.getpid(), 9)", "was killed, before it could begin, perhaps for lack of memory; try fewer --jobs"),
        ("os._exit(7)", "ended with exit code 7, before it could begin; --jobs 1 runs without worker processes"),
    ],
)
def test_a_worker_that_ends_while_it_starts_stops_the_others(study, tmp_path, monkeypatch, capfd, end, words):
    """One of six; the others would go on for ever."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif any('spawn_main' in each for each in sys.orig_argv):\n    try:\n"
        f"        os.close(os.open({str(tmp_path / 'once')!r}, os.O_CREAT | os.O_EXCL))\n"
        f"    except FileExistsError:\n        pass\n    else:\n        {end}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run.main([study, "--quiet", *LONG, "--jobs", "6"]) == run.DISK
    assert capfd.readouterr().err == f"wgflow: a process of the study {words}; committed frames are intact\n"
    assert not multiprocessing.active_children()
