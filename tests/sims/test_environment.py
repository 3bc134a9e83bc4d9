"""A study comes out the same wherever it is run: any locale, settings, streams; names that look like markup or code."""

import builtins
import json
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

import wgflow
from wgflow.base.errors import BackendError
from wgflow.cli import runs
from wgflow.kernels import cache
from wgflow.report import page as report
from wgflow.sims import run
from wgflow.study.workspace import Workspace
from wgflow.systems.neural_feature_flow.elementwise import Plain
from wgflow.systems.neural_feature_flow.network import Network

STUDY = """
name = "strange"
question = "Does τ → 0 [bold] & <b>?"
figure = "envelope"
[problem]
name = "file"
[flow]
step = 0.1
until = 0.3
every = 0.1
[grid]
"problem.path" = ["a[/x]^2 $y_{.npz", "<b>e[red]'&.npz"]
"particles.count" = [3]
"""
ODD = """
text.usetex: True
font.family: Nosuch
font.size: 40
savefig.dpi: 30
savefig.format: jpg
axes.formatter.use_locale: True
axes.grid: False
figure.constrained_layout.use: False
"""
SCRIPT = """
import json, sys
from pathlib import Path
from wgflow.sims.run import main
codes = [main([sys.argv[1], "--out", sys.argv[2], "--jobs", "2"]), main(["--list"])]
plain = "matplotlib.pyplot" not in sys.modules
(folder,) = Path(sys.argv[2]).glob("*/[0-9a-f]*")
from wgflow.cli import runs, trajectory
paths = sorted(map(str, folder.glob("members/*.h5")))
codes += [runs.watch([str(folder)]), trajectory.main(["check", *paths])]
import matplotlib
matplotlib.use("svg")
codes.append(runs.figure(["envelope", str(folder)]))
plain = plain and matplotlib.get_backend() == "svg" and matplotlib.rcParams["backend"] == "svg"
Path("codes.json").write_text(json.dumps([codes, plain]), encoding="utf-8")
"""


def data(path, seed):
    rng = np.random.default_rng(seed)
    np.savez(path, x=rng.normal(size=(8, 2)), y=rng.normal(size=8))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A study of two data files whose names are markup, code, a formula, a power."""
    place = tmp_path_factory.mktemp("strange")
    (place / "strange.toml").write_text(STUDY, encoding="utf-8-sig")
    (place / "a[").mkdir()
    data(place / "a[/x]^2 $y_{.npz", 1)
    data(place / "<b>e[red]'&.npz", 2)
    return place


@pytest.fixture(scope="module")
def elsewhere(place):
    """Its run by a script on stdin, in ASCII, with settings that break Matplotlib, into a folder that is no text."""
    (place / "matplotlibrc").write_text(ODD, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "PYTHONIO"))}
    environment |= {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    environment |= {
        "MPLBACKEND": "nosuch",
        "MATPLOTLIBRC": str(place / "matplotlibrc"),
        "TERM": "dumb",
        "TZ": "No/Where",
    }
    environment |= {"PYTHONPATH": str(Path(wgflow.__file__).parents[1]), "COLUMNS": "1"}
    out = b"runs [red]\xff\xc3\xa9"
    found = subprocess.run(
        [sys.executable, "-", "strange.toml", out],
        input=SCRIPT.encode(),
        cwd=place,
        env=environment,
        capture_output=True,
    )
    assert not found.returncode, found.stderr
    (folder,) = (place / os.fsdecode(out)).glob("*/[0-9a-f]*")
    return found, folder


@pytest.fixture(scope="module")
def here(place):
    """Its run in this process."""
    assert run.main([str(place / "strange.toml"), "--out", str(place / "runs [/x]"), "--quiet", "--jobs", "1"]) == 0
    (folder,) = (place / "runs [/x]").glob("*/[0-9a-f]*")
    return folder


def test_every_command_works_in_a_strange_environment(place, elsewhere):
    found, _ = elsewhere
    err = found.stderr.decode("ascii")
    assert found.returncode == 0, err
    assert json.loads((place / "codes.json").read_text(encoding="utf-8")) == [[0] * 5, True]
    assert "Traceback" not in err
    assert "Matplotlib rejects MPLBACKEND" in err
    assert "runs [red]\\udcff\\udcc3\\udca9/strange/" in found.stdout.decode("ascii")


def test_results_are_those_of_any_other_environment(here, elsewhere):
    _, there = elsewhere
    assert here.name == there.name
    for name in ("envelope.png", "envelope.pdf", "summary.csv"):
        assert (here / name).read_bytes() == (there / name).read_bytes(), name
    for one, other in zip(Workspace(here).trajectories(), Workspace(there).trajectories(), strict=True):
        with wgflow.Trajectory(one) as mine, wgflow.Trajectory(other) as theirs:
            np.testing.assert_array_equal(mine[-1].theta, theirs[-1].theta)


def test_the_page_shows_names_as_they_are(here, elsewhere):
    for folder in (here, elsewhere[1]):
        page = (folder / "report.html").read_text(encoding="utf-8")
        assert "Does τ → 0 [bold] &amp; &lt;b&gt;?" in page
        assert "/a[/x]^2 $y_{.npz" in page
        assert "<b>" not in page
        assert "a[/x]<sup>" not in page
        assert "N<sup>−0.5</sup>" in report._prose("N^-0.5 of a^2", ["a^2"])


def test_the_terminal_shows_names_as_they_are(here, place, capsys):
    assert run.main([str(place / "strange.toml"), "--out", str(place / "runs [/x]"), "--jobs", "1"]) == 0
    assert runs.watch([str(here)]) == 0
    assert run.main([str(place / "strange.toml"), "--out", "runs [/x] :eye: \x1b", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f"{here}: summary.json" in out
    assert out.count("[/x]^2 $y_{.npz") >= 3
    assert "into runs [/x] :eye: \\x1b/strange" in out
    assert "Does τ → 0 [bold] & <b>?" in out


def test_streams_that_were_closed(place):
    """The files of a run do not get the numbers of the streams, and nothing a library prints gets into them."""
    script = 'exec "$0" -m wgflow.sims.run strange.toml --out closed --set figure=none --jobs 1 <&- >&- 2>&-'
    assert subprocess.run(["bash", "-c", script, sys.executable], cwd=place).returncode == 0
    (folder,) = place.glob("closed/*/[0-9a-f]*")
    assert [event["event"] for event in Workspace(folder).events()][-1] == "done"
    for path in Workspace(folder).trajectories():
        with wgflow.Trajectory(path) as trajectory:
            assert trajectory.finished


def test_data_that_cannot_be_named_are_refused_in_a_line(place, capsys, monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    words = {"b\udcff.npz": "expected text in UTF-8", "~/a.npz": "Could not determine home", "a\0": "null"}
    for path, said in words.items():
        assert run.main([str(place / "strange.toml"), "--set", f"problem.path={path}", "--dry-run"]) == run.BAD_INPUT
        err = capsys.readouterr().err
        assert said in err
        assert len(err.splitlines()) == 1
    (place / os.fsdecode(b"at\xff")).mkdir()
    (place / os.fsdecode(b"at\xff/strange.toml")).write_text(STUDY, encoding="utf-8")
    assert run.main([os.fsdecode(os.fsencode(place) + b"/at\xff/strange.toml"), "--dry-run"]) == run.BAD_INPUT
    assert "at\\udcff" in capsys.readouterr().err


def test_without_a_compiler_the_definition_computes_and_that_is_said(place, here, monkeypatch, caplog):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    cache._say_interpreted.cache_clear()
    options = [str(place / "strange.toml"), "--quiet", "--jobs", "1", "--set", "figure=none"]
    assert run.main([*options, "--out", str(place / "slow")]) == 0
    assert "NUMBA_DISABLE_JIT=1: backend 'reference'" in caplog.text
    (folder,) = (place / "slow").glob("*/[0-9a-f]*")
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["provenance"]["backend"] == "reference"
    for one, other in zip(Workspace(here).trajectories(), Workspace(folder).trajectories(), strict=True):
        with wgflow.Trajectory(one) as mine, wgflow.Trajectory(other) as theirs:
            np.testing.assert_allclose(mine[-1].theta, theirs[-1].theta, rtol=1e-12)
    assert run.main([*options, "--set", "dtype=float32", "--out", str(place / "never")]) == run.BAD_INPUT
    assert not (place / "never").exists()
    assert type(Network(np.eye(3), np.ones(3)).parts) is Plain


def test_settings_of_matplotlib_that_cannot_be_read_are_left_out(tmp_path):
    """Matplotlib reads the one in the working folder before any that it is told of."""
    (tmp_path / "matplotlibrc").write_bytes(b"garbage\xff\xfe")
    code = "import os; from wgflow.report import style; print(os.getcwd())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}\n"), done.stderr
    assert "both are ignored" in done.stderr


def test_a_number_of_threads_that_numba_refuses_is_one_line(monkeypatch):
    original = builtins.__import__

    def refused(name, *arguments):
        if name == "numba":
            raise ValueError("Number of threads specified must be > 0.")
        return original(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", refused)
    with pytest.raises(BackendError, match="NUMBA_NUM_THREADS: expected a number >= 1"):
        cache.compiles()
