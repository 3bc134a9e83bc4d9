import json
import os
import pty
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pytest

import wgflow
from wgflow.cli import runs
from wgflow.report import progress
from wgflow.sims import run
from wgflow.study.workspace import Workspace
from wgflow.trajectory import TrajectoryWriter

STUDY = """
name = "watched"
figure = "none"
[problem]
name = "sine"
samples = 30
[flow]
until = 1.0
[grid]
"particles.count" = [3, 6]
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "watched.toml").write_text(STUDY)
    return "watched.toml"


def test_a_finished_run(study, capsys):
    assert run.main([study, "--quiet"]) == 0
    assert runs.watch(["runs"]) == 0
    out = capsys.readouterr().out
    assert "runs/watched/" in out
    assert "2 of 2 finished" in out
    assert "left" not in out
    for count in (3, 6):
        assert f"count={count}" in out
    rows = [line.split() for line in out.splitlines() if re.match(r"count=\d+ ", line)]  # not its sentences
    for label, frames, s, of, energy, first, state in rows:
        (path,) = Workspace("runs/watched").folder.glob(f"[0-9a-f]*/members/{label.replace('=', '-')}.h5")
        with wgflow.Trajectory(path) as trajectory:
            assert [frames, s, of, state] == ["11", "1", "1", "finished"]
            assert float(energy) == pytest.approx(trajectory[-1].energy, rel=1e-3)
            assert float(first) == pytest.approx(trajectory[0].energy, rel=1e-3)
    assert "E along s" in out


def test_a_stopped_run_and_a_single_file(study, tmp_path, capsys):
    for _ in range(2):
        assert run.main([study, "--quiet", "--walltime", "0"]) == run.REQUEUE
    (folder,) = tmp_path.glob("runs/watched/[0-9a-f]*")
    followed = progress.RunProgress(folder)
    (begun,) = followed.members()
    assert begun.state == "stopped"
    assert begun.frames == 2
    assert not followed.done()
    started = next(event for event in Workspace(folder).events() if event["event"] == "started")
    share = 0.1 * max(started["work"]) / sum(started["work"])  # of two members a tenth of the longer one
    spent, left = followed.seconds()
    assert left == pytest.approx(spent * (1 - share) / share)
    (path,) = folder.glob("members/*.h5")
    assert runs.watch([str(path)]) == 0
    assert "0 of 1 finished" in capsys.readouterr().out
    path.write_bytes(path.read_bytes()[:-10])
    assert runs.watch([str(path)]) == 0
    assert "damaged" in capsys.readouterr().out


def told(folder, *events):
    """Write what commands of a run told, each with its second after BEGUN."""
    lines = [
        json.dumps({"time": datetime.fromtimestamp(BEGUN + at, UTC).isoformat(), "event": kind} | details)
        for at, kind, details in events
    ]
    (folder / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))


BEGUN = 1_700_000_000
WORK = {"work": [1.0, 9.0]}


@pytest.fixture(scope="module")
def halfway(tmp_path_factory):
    """A run whose first member has ended and whose second, nine times as long, has come to a third."""
    folder = tmp_path_factory.mktemp("halfway")
    problem = wgflow.Problem.padded([[0.0], [1.0]], [0.0, 1.0])
    energy = wgflow.Energy(problem, backend="reference")
    work = Workspace(folder)
    members = [{"label": f"count={n}", "values": {"count": n}} for n in (2, 4)]
    work.create({"name": "halfway", "members": members})
    for count, until in ((2, 0.3), (4, 0.1)):
        flow, path = wgflow.Flow(energy), work.member(f"count={count}", {}).path
        with TrajectoryWriter.create(path, energy, count, study={"flow": {"until": 0.3}}) as writer:
            for frame in flow.run(wgflow.Particles.draw(problem, count), until):
                writer.append(frame)
            if count == 2:
                writer.finish()
        os.utime(path, (BEGUN + 40, BEGUN + 40))
    return folder


START, ENDED, STOPPED = (0, "started", WORK), (10, "finished", {"member": "count=2"}), (40, "stopped", {})


@pytest.mark.parametrize(
    ("events", "spent", "left"),
    [
        ((START, ENDED, STOPPED), 40, 60),  # a tenth and three tenths of the work are done
        ((START, ENDED), 40, 60),  # killed: its file was written to last after 40 seconds
        ((START,), 40, 60),
        ((START, ENDED, STOPPED, (9000, "started", WORK), (9000, "stopped", {})), 40, 60),
        ((START, ENDED, (9000, "started", WORK), (9000, "stopped", {})), 40, 60),  # killed, then taken up and stopped
        ((START, ENDED, (9000, "started", WORK), (9020, "stopped", {})), 60, 90),
        (((0, "started", {}), ENDED, STOPPED), 40, 20),  # by a version that did not tell the work: two of three thirds
        (((0, "started", {"work": [1.0, 0.0]}), ENDED, STOPPED), 40, 20),
        (((0, "started", {"work": [1.0]}), ENDED, STOPPED), 40, 20),
        ((START, ENDED, (20, "diverged", {"member": "count=4"}), (40, "done", {})), 40, 0),
        ((), 0, 0),
    ],
)
def test_time_left_is_that_of_the_work_left_at_the_speed_while_it_ran(halfway, events, spent, left):
    told(halfway, *events)
    assert progress.RunProgress(halfway).seconds() == pytest.approx((spent, left))


def test_a_member_of_numbers_alone_that_was_stopped_is_all_left():
    s = np.array([0.0, 0.5])
    followed = progress.MemberProgress("", 2, 1.0, s, s, "stopped", 0.0, resumable=False)
    assert [followed._replace(state=state).share() for state in ("stopped", "running", "finished")] == [0.0, 0.5, 1.0]
    assert followed._replace(resumable=True).share() == 0.5
    assert followed._replace(frames=0, s=s[:0], state="damaged").share() == 0.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: expected the folder of a run or a study that has a run in ./runs, found neither; run"),
        ([], "the following arguments are required: RUN"),
        (["runs", "--interval", "0"], "--interval: expected seconds > 0"),
        (["runs", "--interval", "1e12"], "--interval: expected seconds > 0, at most a day"),
    ],
)
def test_bad_input(study, capsys, arguments, words):
    assert runs.watch(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert words in err


@pytest.mark.parametrize("text", ["[]", "{}", '{"members": 3}', '{"members": [{"label": "x"}]}', "{", ""])
def test_a_spoilt_run_folder(tmp_path, capsys, text):
    (tmp_path / "members").mkdir()
    (tmp_path / "study.json").write_text(text)
    assert runs.watch([str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "expected the folder of a run (with study.json)" in err
    assert len(err.splitlines()) == 1


def test_files_that_did_not_change_are_not_read_again(study, tmp_path, monkeypatch):
    assert run.main([study, "--quiet", "--walltime", "0"]) == run.REQUEUE
    followed = progress.RunProgress(tmp_path / "runs")
    first = followed.members()
    monkeypatch.setattr(progress, "Trajectory", lambda path: pytest.fail("read again"))
    assert followed.members() == first


def test_it_follows_a_run_in_a_terminal_until_it_is_done(study, tmp_path, struck):
    """A real terminal, a real run, which stands still until the watcher has drawn it; the watcher ends by itself."""
    options = [study, "--quiet", "--jobs", "1", "--set", "flow.until=30.0"]
    runner = struck(signal.SIGSTOP, 50, *options)
    os.waitid(os.P_PID, runner.pid, os.WSTOPPED | os.WNOWAIT)
    ours, theirs = pty.openpty()
    watcher = subprocess.Popen(
        [sys.executable, "-m", "wgflow.analysis.watch", "runs", "--interval", "0.1"],
        stdout=theirs,
        env=os.environ | {"TERM": "xterm", "LINES": "40"},
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        seen += piece
        if b"E along s" in seen:
            runner.send_signal(signal.SIGCONT)
    os.close(ours)
    assert watcher.wait() == 0
    assert runner.wait() == 0
    shown = seen.decode()
    assert "2 of 2 finished" in shown
    assert shown.count("E along s") > 1  # it moved
    (folder,) = tmp_path.glob("runs/watched/[0-9a-f]*")
    assert json.loads((folder / "events.jsonl").read_text().splitlines()[-1])["event"] == "done"


def test_the_curve():
    x = np.linspace(0, 10, 200)
    lines = progress.curve(x, np.exp(-x), 60, 12)
    assert len(lines) == 12
    assert {len(line) for line in lines[:-1]} == {60}
    assert lines[0].startswith("       1 │")
    assert lines[9].startswith("4.54e-05 │")
    cells = [[ord(char) - 0x2800 for char in line.split("│")[1]] for line in lines[:10]]
    heights = [next(row for row in range(10) if cells[row][column]) for column in range(50)]
    assert heights[0] == 0
    assert heights[-1] == 9
    assert np.abs(np.array(heights) - np.linspace(0, 9.9, 50).astype(int)).max() <= 1  # a straight line in logarithms
    assert progress.curve(x[:1], x[:1], 60, 12) == []
    assert progress.curve(x, np.full(200, np.nan), 60, 12) == []
    assert len(progress.curve(x, np.zeros(200), 60, 12)) == 12
