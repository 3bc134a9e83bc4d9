"""Runs under mpirun: the files of a run on one process, ranks that die, signals, and one line for what cannot be."""

import os
import signal
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

import h5py
import pytest

from wgflow.sims import run

STUDY = """
name = "shared"
figure = "none"
observables = ["heldout"]
[problem]
name = "teacher"
samples = 2000
heldout = 0.1
[particles]
count = 80
[flow]
until = 2.0
step = 0.1
every = 0.2
[grid]
depth = [{ name = "gaps" }, { name = "deposit", layers = 6 }, { name = "layers", layers = 4 }]
"""

# Runs the command; on one rank, something happens in its n-th share of an evaluation.
EVENT = """
import os, signal, sys
from mpi4py import MPI
from wgflow.kernels.cpu.sharded import ShardedPasses
from wgflow.sims import run

rank, count, what = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
summed = ShardedPasses._summed

def interrupted(passes, parts, chunks):
    global count
    count -= 1
    if MPI.COMM_WORLD.rank == rank and count == 0:
        if what == "raise":
            raise MemoryError
        os.kill(os.getpid(), int(what))
    return summed(passes, parts, chunks)

ShardedPasses._summed = interrupted
sys.exit(run.main(sys.argv[4:]))
"""

FLOW = """
import hashlib, sys
import numpy as np
import wgflow
comm = None
if "mpi" in sys.argv:
    from mpi4py import MPI
    comm = MPI.COMM_WORLD
x = np.random.default_rng(0).normal(size=(2000, 3))
problem = wgflow.Problem.padded(x, np.sin(x.sum(axis=1)))
energy = wgflow.Energy(problem, comm=comm)
flow = wgflow.Flow(energy, step={"name": "descent", "length": 0.2})
last = list(flow.run(wgflow.Particles.draw(problem, 80, 1), until=1.0))[-1]
bits = last.theta.tobytes() + np.array([last.energy, last.dissipation]).tobytes()
print(hashlib.sha256(bits).hexdigest(), flush=True)  # mpirun may drop what a rank writes as it ends
"""


def installed(name):
    """Path of a file of the package mpich, or of one beside Python."""
    beside = Path(sys.executable).with_name(name)
    if beside.exists():
        return beside
    try:
        files = metadata.files("mpich") or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(file.locate()).resolve() for file in files if file.name == name), None)


MPIRUN, LIBRARY = installed("mpirun"), installed("libmpi.so.12")
if MPIRUN is None or util.find_spec("mpi4py") is None:
    pytest.skip("needs mpi4py and mpirun, which the extra test installs", allow_module_level=True)


@pytest.fixture
def mpi(tmp_path, monkeypatch):
    """Run Python under mpirun, in a folder with a study."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shared.toml").write_text(STUDY)
    if LIBRARY is not None:
        monkeypatch.setenv("LD_LIBRARY_PATH", str(LIBRARY.parent), prepend=os.pathsep)

    def start(ranks, *arguments):
        launch = [str(MPIRUN), "-n", str(ranks)] if ranks else []
        command = [*launch, sys.executable, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)

    return start


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Folder of the run on one process."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "shared.toml").write_text(STUDY)
    assert run.main([str(folder / "shared.toml"), "--quiet", "--out", str(folder)]) == 0
    return folder


def contents(folder):
    """Bytes of all datasets and tables of the run in a folder, but for the provenance."""
    out = {}
    (folder,) = folder.glob("shared/[0-9a-f]*")
    for path in sorted(folder.glob("members/*.h5")):
        with h5py.File(path, "r", locking=False) as file:

            def keep(name, item, path=path):
                if isinstance(item, h5py.Dataset) and name != "parameters/provenance":
                    out[path.name, name] = item[()].tobytes()

            file.visititems(keep)
    assert len({path for path, _ in out}) == 3
    return out | {"summary": (folder / "summary.csv").read_bytes()}


def ours(result):
    """Lines of wgflow on stderr, apart from those of mpirun."""
    return [line for line in result.stderr.splitlines() if line.startswith("wgflow:")]


COMMAND = ("-m", "wgflow.sims.run", "shared.toml", "--quiet", "--mpi")


@pytest.mark.parametrize("ranks", [0, 2, 3, 5])
def test_files_are_those_of_one_process(mpi, alone, tmp_path, ranks):
    """0 is a command without mpirun; Deposit has 8 chunks, the others 4, so that of 5 ranks one is idle at times."""
    done = mpi(ranks, *COMMAND)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    assert contents(tmp_path / "runs") == contents(alone)


def test_a_flow_that_all_ranks_run_has_the_bits_of_one_process(mpi):
    expected = mpi(0, "-c", FLOW)
    assert expected.returncode == 0, expected.stderr
    shared = mpi(3, "-c", FLOW, "mpi")
    assert shared.returncode == 0, shared.stderr
    assert "".join(shared.stdout.split()) == 3 * expected.stdout.strip()  # lines of three ranks may run together


@pytest.mark.parametrize(
    ("rank", "what", "lines"),
    [
        (1, int(signal.SIGKILL), []),  # mpirun ends the others before they can notice
        (0, int(signal.SIGKILL), []),
        (1, "raise", ["wgflow: rank 1: memory ran out; committed frames are intact, and the same command resumes"]),
        (
            0,
            "raise",
            ["wgflow: depth=gaps: memory ran out; committed frames are intact, use fewer --jobs or smaller runs"],
        ),
    ],
)
def test_a_rank_that_dies_ends_the_run_which_resumes(mpi, alone, tmp_path, rank, what, lines):
    study = COMMAND[2:]
    died = mpi(2, "-c", EVENT, str(rank), "30", str(what), *study)  # of 63 evaluations, one for each step and start
    assert died.returncode not in (0, 2)
    assert [line.partition("[")[0] for line in ours(died)] == lines
    (left,) = (tmp_path / "runs/shared").glob("[0-9a-f]*")
    assert 1 <= len(list(left.glob("members/*.h5"))) < 3
    assert mpi(2, *COMMAND).returncode == 0
    assert contents(tmp_path / "runs") == contents(alone)


@pytest.mark.parametrize(
    ("rank", "number", "code"),
    [(0, signal.SIGTERM, run.REQUEUE), (0, signal.SIGINT, run.INTERRUPTED), (1, signal.SIGTERM, run.DONE)],
)
def test_rank_0_alone_answers_signals_that_mpirun_sends_to_all(mpi, alone, tmp_path, rank, number, code):
    stopped = mpi(2, "-c", EVENT, str(rank), "30", str(int(number)), *COMMAND[2:])
    assert stopped.returncode == code
    expected = [] if code == run.DONE else ["wgflow: stopped; the same command resumes from the last committed frame"]
    assert stopped.stderr.splitlines() == expected
    if code == run.REQUEUE:  # the end of the wall time is the same way out
        assert mpi(2, *COMMAND, "--walltime", "0s").returncode == run.REQUEUE
    assert mpi(2, *COMMAND).returncode == 0
    assert contents(tmp_path / "runs") == contents(alone)


@pytest.mark.parametrize(
    ("ranks", "options", "expected"),
    [
        (2, ["nowhere.toml"], "no such file"),
        (2, ["--mpi", "--frobnicate"], "unrecognized arguments: --frobnicate"),
        (0, ["--jobs", "2"], "--jobs: expected no such option with --mpi"),
        (2, ["--jobs", "2"], "--jobs: expected no such option with --mpi"),
        (2, ["--backend", "reference"], "--mpi: expected measures of built-in blocks"),
        (2, ["--set", "problem.loss=huber"], "--mpi: expected measures of built-in blocks"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(mpi, tmp_path, ranks, options, expected):
    study = [] if options[0].endswith("toml") else ["shared.toml"]
    refused = mpi(ranks, "-m", "wgflow", "run", *study, *options, "--mpi")
    assert refused.returncode == run.BAD_INPUT
    (line,) = refused.stderr.splitlines()
    assert expected in line
    assert not (tmp_path / "runs").exists()


def test_networks_of_features_are_refused(mpi):
    refused = mpi(2, *COMMAND[:2], "feature_rate", "--mpi")
    assert refused.returncode == run.BAD_INPUT
    (line,) = refused.stderr.splitlines()
    assert "--mpi: expected measures of built-in blocks" in line


def test_ranks_without_a_chunk_are_told(mpi):
    done = mpi(
        3, "-m", "wgflow", "run", "shared.toml", "--mpi", "--set", "flow.until=0.2", "--set", "problem.samples=60"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == (
        "--mpi: the samples make at most 1 chunk; 2 of the 3 ranks have nothing to do"
    )


def test_missing_mpi4py_or_another_mpi_is_one_line(mpi, tmp_path, monkeypatch):
    hidden = "import sys; sys.modules['mpi4py'] = None; from wgflow.sims import run; sys.exit(run.main(sys.argv[1:]))"
    refused = mpi(0, "-c", hidden, "shared.toml", "--mpi")
    assert refused.returncode == run.BAD_INPUT
    (line,) = refused.stderr.splitlines()
    assert line.startswith("wgflow: --mpi: expected the package mpi4py, which is not installed: pip install ")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "3")  # as the mpirun of Open MPI sets it
    refused = mpi(0, *COMMAND)
    assert refused.returncode == run.BAD_INPUT
    (line,) = refused.stderr.splitlines()
    assert line.startswith("wgflow: --mpi: mpirun started 3 processes, but mpi4py is connected to 1; use the mpirun")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    assert mpi(0, *COMMAND).stderr == ""  # rank 0 says it
    assert not (tmp_path / "runs").exists()
