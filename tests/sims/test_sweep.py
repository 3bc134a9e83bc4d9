"""Members side by side: the same bytes as one after another, stopping, resuming, and nobody left behind."""

import os
import signal
import subprocess
import sys
import time

import pytest

import wgflow
from wgflow.sims import run, sweep

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
LONG = ["--set", "flow.until=2000", "--set", "flow.every=0.1", "--jobs", "2"]


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "many.toml").write_text(STUDY)
    return "many.toml"


def command(study, *options):
    return [sys.executable, "-m", "wgflow.sims.run", study, "--quiet", *options]


def frames(path):
    with wgflow.Trajectory(path) as trajectory:
        return [(f.step, f.theta.tobytes(), f.tau.tobytes(), f.energy) for f in trajectory]


def begun(tmp_path, process):
    """Wait until two members have a frame."""
    for _ in range(600):
        found = [path for path in tmp_path.glob("runs/many/*/members/*.h5") if path.stat().st_size > 0]
        if len(found) >= 2:
            time.sleep(0.5)
            return
        assert process.poll() is None
        time.sleep(0.1)
    pytest.fail("no member began")


@pytest.mark.parametrize(
    ("count", "cores", "jobs", "threads", "expected"),
    [(4, 8, None, None, (1, 8)), (8, 8, None, None, (8, 1)), (100, 6, None, None, (6, 1)), (100, 8, None, 4, (2, 4)),
     (100, 8, 2, None, (2, 4)), (3, 8, 16, None, (3, 2)), (100, 1, None, None, (1, 1)), (0, 2, None, None, (1, 2)),
     (100, 2, None, 4, (1, 4))],
)  # fmt: skip
def test_cores_are_shared_out(count, cores, jobs, threads, expected):
    assert sweep.split_cores(count, cores, jobs, threads) == expected


def test_side_by_side_is_the_same(study, tmp_path):
    assert run.main([study, "--quiet", "--out", "one", "--jobs", "1"]) == 0
    subprocess.run(command(study, "--out", "two", "--jobs", "2"), check=True)
    (one,), (two,) = (list((tmp_path / out / "many").iterdir()) for out in ("one", "two"))
    assert one.name == two.name
    for path in (one / "members").iterdir():
        assert frames(path) == frames(two / "members" / path.name)
    assert (one / "summary.csv").read_bytes() == (two / "summary.csv").read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_signals_stop_all_processes(study, tmp_path, number, code):
    """A signal to the whole group, as a terminal or a batch system sends it."""
    process = subprocess.Popen(command(study, *LONG), stderr=subprocess.PIPE, text=True, start_new_session=True)
    begun(tmp_path, process)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert err.splitlines() == ["wgflow: stopped; the same command resumes from the last committed frame"]
    for path in tmp_path.glob("runs/many/*/members/*.h5"):
        assert frames(path)


def test_walltime_stops_all_processes(study):
    result = subprocess.run(command(study, *LONG, "--walltime", "2"), capture_output=True, text=True, check=False)
    assert result.returncode == run.REQUEUE, result.stderr


def children(pid):
    """Worker processes; Python's own tracker of resources is a child too, and left alone."""
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "spawn_main" in line]


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs ps as on Linux")
def test_a_killed_parent_leaves_nobody_and_a_killed_worker_is_said(study, tmp_path):
    process = subprocess.Popen(command(study, *LONG), stderr=subprocess.PIPE, text=True)
    begun(tmp_path, process)
    orphans = children(process.pid)
    assert len(orphans) >= 2
    process.kill()
    process.communicate()
    for _ in range(100):
        if not any(os.path.isdir(f"/proc/{pid}") for pid in orphans):
            break
        time.sleep(0.1)
    else:
        pytest.fail("workers outlived their parent")
    process = subprocess.Popen(command(study, *LONG), stderr=subprocess.PIPE, text=True)
    time.sleep(4)
    for pid in children(process.pid):
        os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == run.DISK, err
    assert "a process of the study was killed" in err
    assert len(err.splitlines()) == 1
