"""Sweeps on a Dask cluster: the bits of a run without one, kills of every process, refusals in one line."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from clusters import Processes

import wgflow
from wgflow.base.errors import InputError
from wgflow.sims import run
from wgflow.sims.cluster import address, connection
from wgflow.sims.cluster.on_worker import TOKEN
from wgflow.sims.cluster.versions import skew, versions

pytest.importorskip("distributed", reason="needs the extra cluster")

STUDY = """
name = "many"
figure = "none"
observables = ["heldout"]
[problem]
name = "sine"
samples = 60
heldout = 0.25
[particles]
count = 24
[flow]
until = 2.0
step = 0.1
[grid]
seed = [0, 1, 2, 3]
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "many.toml").write_text(STUDY)
    return "many.toml"


@pytest.fixture
def cluster(tmp_path, wait_until):
    (tmp_path / "dask").mkdir()
    processes = Processes(tmp_path / "dask", wait_until)
    yield processes
    processes.end()


def command(study, *options):
    return [sys.executable, "-m", "wgflow.sims.run", study, "--quiet", *options]


@pytest.fixture
def begin(study):
    """Start commands, none of which outlives its test."""
    begun = []

    def start(*options):
        process = subprocess.Popen(command(study, *options), stderr=subprocess.PIPE, text=True, start_new_session=True)
        begun.append(process)
        return process

    yield start
    for process in begun:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()


def folder(tmp_path, out):
    (found,) = (tmp_path / out).glob("many/[0-9a-f]*")
    return found


def content(place):
    """All that a run's files hold, without what made it and when."""
    out = {}
    for path in sorted(path for path in place.rglob("*") if path.is_file()):
        name = str(path.relative_to(place))
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                file.visititems(
                    lambda key, item, name=name: (
                        out.update({(name, key): item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
                    )
                )
            assert out.pop((name, "parameters/provenance"))
        else:  # these three name the command, or say when
            out[name] = None if name in ("events.jsonl", "report.html", "summary.json") else path.read_bytes()
    return out


def committed(place, out="runs"):
    """Frames in all members, as far as they can be read now."""
    total = 0
    for path in (place / out).glob("many/[0-9a-f]*/members/*.h5"):
        with contextlib.suppress(OSError), wgflow.Trajectory(path) as trajectory:
            total += len(trajectory)
    return total


def test_local_workers_give_the_same_bits_and_say_nothing(study, tmp_path):
    subprocess.run(command(study, "--out", "one", "--jobs", "1"), check=True)
    found = subprocess.run(
        command(study, "--out", "two", "--cluster", "local:2"), capture_output=True, text=True, check=True
    )
    assert (found.stdout, found.stderr) == ("", "")
    assert content(folder(tmp_path, "two")) == content(folder(tmp_path, "one"))


KINDS = ["worker", "scheduler", "client"]
GENTLE = "a worker that is asked to leave"


@pytest.mark.parametrize(
    "kinds",
    [*([kind] for kind in [*KINDS, GENTLE]), pytest.param([KINDS[k % 3] for k in range(20)], marks=pytest.mark.slow)],
    ids=[*KINDS, "leaves", "twenty"],
)
def test_kills_at_random_moments(study, tmp_path, cluster, begin, kinds):
    """Nothing committed is lost, and the same command finishes: all files are those of a run that was left alone."""
    rng = np.random.default_rng(len(kinds))
    options = ["--set", f"flow.until={100 * (1 + len(kinds))}.0", "--threads", "1"]
    subprocess.run(command(study, *options, "--out", "whole", "--jobs", "1"), check=True)
    share = committed(tmp_path, "whole") // (2 * len(kinds))
    cluster.add(), cluster.add()
    process = begin(*options, "--cluster", cluster.where)
    for kind in rng.permutation(kinds):  # at moments counted in frames: they come however fast the machine is
        if process.poll() is not None:
            process = begin(*options, "--cluster", cluster.where)
        frames = committed(tmp_path) + int(rng.integers(1, share))
        while process.poll() is None and committed(tmp_path) < frames:
            time.sleep(0.001)
        before = committed(tmp_path)
        if kind in ("worker", GENTLE):
            victim = cluster.workers.pop(int(rng.integers(2)))
            victim.kill() if kind == "worker" else victim.terminate()
            victim.wait()
            cluster.add()
        elif kind == "client":
            process.kill()
            process.wait()
        else:
            cluster.scheduler.kill()
            cluster.scheduler.wait()
            _, err = process.communicate()
            assert process.returncode in (0, run.DISK), err
            *waiting, line = err.splitlines() or [""]
            assert all("has no worker now; waiting for one" in each for each in waiting)
            assert process.returncode == 0 or "the scheduler of file:" in line
            for worker in cluster.workers:
                worker.kill()
            cluster.workers.clear()
            cluster.start()
            cluster.add(), cluster.add()
        assert committed(tmp_path) >= before
    if process.poll() is None:
        process.communicate()
    if process.returncode != 0:
        assert not set(kinds) <= {"worker", GENTLE}  # for which others do the work
        process = begin(*options, "--cluster", cluster.where)
        _, err = process.communicate()
        assert process.returncode == 0, err
    assert content(folder(tmp_path, "runs")) == content(folder(tmp_path, "whole"))


def at_work(pid):
    """Processes under a command that have a member's file open."""
    import psutil

    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found += [child for file in child.open_files() if file.path.endswith(".h5")]
    return found


def test_a_killed_local_worker_is_replaced_and_all_listen_on_the_loopback_alone(begin, tmp_path, wait_until):
    """Whatever has Dask's usual port."""
    import psutil

    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(socket.create_server(("127.0.0.1", 8787)))
        process = begin("--set", "flow.until=1e6", "--set", "flow.every=10", "--cluster", "local:2")
        first, second = wait_until(lambda: len(found := at_work(process.pid)) == 2 and found, process)
        everyone = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        listening = [each.laddr.ip for one in everyone for each in one.net_connections() if each.status == "LISTEN"]
    assert len(listening) >= 3
    assert set(listening) == {"127.0.0.1"}
    first.kill()
    wait_until(lambda: {each.pid for each in at_work(process.pid)} - {first.pid, second.pid}, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == run.REQUEUE
    assert err == "wgflow: stopped; the same command resumes from the last committed frame\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_signals_stop_local_workers(begin, tmp_path, number, code, wait_until):
    """A signal to the whole group, as a terminal or a batch system sends it."""
    process = begin("--set", "flow.until=1e6", "--set", "flow.every=10", "--cluster", "local:2")
    wait_until(lambda: committed(tmp_path) > 2, process)
    os.killpg(process.pid, number)
    _, err = process.communicate()
    assert err.splitlines() == ["wgflow: stopped; the same command resumes from the last committed frame"]
    assert process.returncode == code

    def gone():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 0)
            return False
        return True

    wait_until(gone)  # nobody is left


def test_walltime_stops_after_a_frame(study, tmp_path, capfd):
    options = ["--set", "flow.until=1e6", "--set", "flow.every=1", "--cluster", "local:2", "--walltime", "0"]
    assert run.main([study, "--quiet", *options]) == run.REQUEUE
    first = committed(tmp_path)
    assert first > 0
    assert run.main([study, "--quiet", *options]) == run.REQUEUE
    assert committed(tmp_path) > first


UNSHARED = """
from wgflow.sims.cluster import on_worker
on_worker._is_shared = lambda folder, token: False
"""


def test_files_come_back_where_no_disk_is_shared(study, tmp_path, cluster, monkeypatch):
    """In many pieces; a stopped run too, from which the next goes on, on a worker that has never seen it."""
    options = ["--set", "flow.until=100.0", "--threads", "1"]
    subprocess.run(command(study, *options, "--out", "whole", "--jobs", "1"), check=True)
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif 'wgflow.sims.run' in sys.orig_argv:\n    from wgflow.sims.cluster import transfer\n"
        "    transfer.PIECE = 10_000\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = cluster.add(UNSHARED)
    options += ["--cluster", cluster.where]
    stopped = subprocess.run(command(study, *options, "--walltime", "0"), capture_output=True, text=True, check=False)
    assert stopped.returncode == run.REQUEUE, stopped.stderr
    before = committed(tmp_path)
    assert before > 0
    worker.kill()
    cluster.add(UNSHARED)
    found = subprocess.run(command(study, *options), capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    assert content(folder(tmp_path, "runs")) == content(folder(tmp_path, "whole"))
    assert not [path for path in (tmp_path / "dask").rglob("*.h5") if "worker1" not in str(path)]


def test_a_worker_that_dies_again_and_again_is_one_line(study, tmp_path, cluster, monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "1")
    fatal = "import os\nfrom wgflow.sims import pool\npool.run_member = lambda *_, **__: os.kill(os.getpid(), 9)\n"
    cluster.add(fatal), cluster.add(fatal), cluster.add(fatal)
    found = subprocess.run(
        command(study, "--cluster", cluster.where, "--set", "grid.seed=[0]"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == run.DISK
    (line,) = found.stderr.splitlines()
    assert "seed=0: 2 workers that ran it were killed, the last of them tcp://127.0.0.1:" in line
    assert "committed frames are intact" in line


OLD_NUMBA = """
import numba
from importlib import metadata
version = metadata.version
metadata.version = lambda name: "0.1" if name == "numba" else version(name)
"""


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ("import sys; sys.modules['wgflow'] = None", "got another wgflow, or none ("),
        (OLD_NUMBA, "got numba 0.1 (here "),
        ("import wgflow; wgflow.__version__ = '9.9'", "got wgflow 9.9 (sources "),
        ("import platform; platform.python_version_tuple = lambda: ('3', '9', '1')", "got Python 3.9 (here 3."),
    ],
)  # fmt: skip
def test_other_versions_are_refused_and_named(study, tmp_path, cluster, capfd, before, words):
    cluster.add(before)
    assert run.main([study, "--quiet", "--cluster", cluster.where]) == run.BAD_INPUT
    *waiting, line = capfd.readouterr().err.splitlines()
    assert words in line, line
    assert " in worker tcp://127.0.0.1:" in line
    assert all("waiting for one" in each for each in waiting)
    assert not (tmp_path / "runs").exists()


def test_the_token_of_a_killed_command_goes_with_the_next_without_a_cluster(study, tmp_path):
    assert run.main([study, "--quiet"]) == 0
    token = folder(tmp_path, "runs") / TOKEN
    token.write_text("of a command that was killed")
    assert run.main([study, "--quiet"]) == 0
    assert not token.exists()


DIES = """
import os
from wgflow.sims.cluster import on_worker
on_worker.look = lambda packages, dask_worker: os._exit(1)
"""


def test_a_worker_that_is_killed_while_it_is_asked_what_it_has_is_not_one_of_another_version(
    study, cluster, capfd, wait_until
):
    dies = cluster.add(DIES)
    wait_until(lambda: "Registered to" in cluster.logs(), dies)
    cluster.add()
    assert run.main([study, "--quiet", "--cluster", cluster.where]) == 0, capfd.readouterr().err
    assert dies.wait() == 1


def test_another_processor_is_said(study, cluster, capfd):
    cluster.add("from wgflow.sims.cluster import versions\nversions.processor = lambda: 'abacus'")
    assert run.main([study, "--quiet", "--cluster", cluster.where]) == 0
    *_, line = capfd.readouterr().err.splitlines()
    assert "has processors abacus, and this machine " in line


def test_a_data_file_that_a_worker_has_not_is_named_with_the_worker(study, tmp_path, cluster):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", x=rng.normal(size=(20, 2)), y=rng.normal(size=20))
    (tmp_path / "many.toml").write_text(
        STUDY.replace('"sine"', '"file"\npath = "mine.npz"').replace("samples = 60", "")
    )
    cluster.add("from wgflow.model import data_files\ndata_files.digest = lambda path: 64 * '0'")
    found = subprocess.run(command(study, "--cluster", cluster.where), capture_output=True, text=True, check=False)
    assert found.returncode == run.BAD_INPUT
    line = found.stderr.splitlines()[-1]
    assert "mine.npz: changed while the study ran" in line
    assert "(worker tcp://127.0.0.1:" in line


@pytest.mark.parametrize(
    ("text", "words"),
    [("local:0", "N >= 1"), ("local", "local:N"), ("local:two", "N >= 1"), ("tcp://host", "tcp://HOST:PORT"),
     ("tcp://:8786", "expected local:N"), ("tcp://host:99999", "expected local:N"), ("http://h:80", "expected local"),
     ("tcp://host:1/x", "expected local:N"), ("file:none.json", "no such file"), ("", "expected local:N")],
)  # fmt: skip
def test_wrong_strings(study, capsys, text, words):
    assert run.main([study, "--cluster", text]) == run.BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_files_of_a_scheduler(tmp_path):
    path = tmp_path / "s.json"
    for text, words in [("{", "expected JSON"), ("[]", "got None"), ('{"address": "x"}', "expected local:N")]:
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            address.parse(f"file:{path}")
    path.write_text('{"address": "tls://[::1]:8786"}')
    assert address.parse(f"file:{path}").scheduler == "tls://[::1]:8786"


def test_an_address_without_a_scheduler(study, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(connection, "_CONNECT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        place = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        assert run.main([study, "--cluster", place]) == run.BAD_INPUT
    assert run.main([study, "--cluster", place]) == run.BAD_INPUT
    assert run.main([study, "--cluster", place.replace("tcp", "tls")]) == run.BAD_INPUT
    first, second, third = capfd.readouterr().err.splitlines()
    for line in (first, second):
        assert f"expected a Dask scheduler at {place}, got no answer" in line
    assert "expected certificates for TLS in Dask's configuration" in third
    assert not (tmp_path / "runs").exists()


def test_encrypted_as_dask_is_configured(study, tmp_path, monkeypatch, wait_until):
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    try:
        subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("makes its certificate with openssl")
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TLS__CA_FILE", certificate)
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{role}__KEY", key)
        monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{role}__CERT", certificate)
    (tmp_path / "dask").mkdir()
    processes = Processes(tmp_path / "dask", wait_until, "tls")
    try:
        processes.add()
        place = address.parse(processes.where).scheduler
        assert place.startswith("tls://")
        found = subprocess.run(command(study, "--cluster", place), capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr
        for role in ("CA_FILE", "CLIENT__KEY", "CLIENT__CERT"):
            monkeypatch.delenv(f"DASK_DISTRIBUTED__COMM__TLS__{role}")
        found = subprocess.run(command(study, "--cluster", place), capture_output=True, text=True, check=False)
        assert found.returncode == run.BAD_INPUT
        assert "expected certificates for TLS in Dask's configuration, got none" in found.stderr
    finally:
        processes.end()


def test_without_dask(study, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert run.main([study, "--cluster", "local:2"]) == run.BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("wgflow: --cluster: expected Dask, got no such package; pip install ")


def test_jobs_and_cluster(study, capsys):
    assert run.main([study, "--cluster", "local:2", "--jobs", "2"]) == run.BAD_INPUT
    assert "--jobs: expected it without --cluster" in capsys.readouterr().err


def test_versions_that_differ_are_named():
    here = versions()
    assert skew(here, dict(here)) == ""
    assert skew(here, here | {"numba": "0"}) == f"numba 0 (here {here['numba']})"
    assert versions(("no-such-package",))["no-such-package"] == "none"
