"""Runs of the command that are killed, stopped, starved of disk: nothing lost, and the same bits in the end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

import wgflow
from wgflow.sims import run
from wgflow.study import grid
from wgflow.study.workspace import Workspace

STUDY = """
name = "killed"
figure = "none"
observables = ["heldout"]
[problem]
name = "sine"
samples = 60
heldout = 0.25
[particles]
count = 24
[flow]
until = 400.0
step = 0.1
[grid]
seed = [0, 1]
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "killed.toml").write_text(STUDY)
    return "killed.toml"


def command(study, *options):
    return [sys.executable, "-m", "wgflow.sims.run", study, "--quiet", *options]


def datasets(path):
    """Bytes of every dataset as h5py reads it."""
    out = {}
    with h5py.File(path, "r", locking=False) as file:
        file.visititems(
            lambda name, item: out.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
        )
    return out


def committed(folder):
    """Frames in all members, as far as they can be read now."""
    total = 0
    for path in folder.glob("killed/[0-9a-f]*/members/*.h5"):
        with wgflow.Trajectory(path) as trajectory:
            total += len(trajectory)
    return total


@pytest.fixture
def begin(study):
    """Start commands, none of which outlives its test."""
    begun = []

    def start(*options):
        begun.append(subprocess.Popen(command(study, *options), stderr=subprocess.PIPE, text=True))
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize("kills", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_kills_at_random_moments(study, tmp_path, begin, kills):
    """Kill -9 in the middle of the run, again and again: the end is that of a run that was left alone."""
    rng = np.random.default_rng(kills)
    steps = "400.0" if kills == 4 else "4000.0"
    options = ["--set", f"flow.until={steps}", "--jobs", "1", "--threads", "1"]
    subprocess.run(command(study, *options, "--out", "whole"), check=True)
    folder, share = tmp_path / "runs", committed(tmp_path / "whole") // (2 * kills)
    for _ in range(kills):  # at moments counted in frames: the program reaches them however fast the machine is
        before, process = committed(folder), begin(*options, "--out", "runs")
        frames = before + int(rng.integers(1, share))
        while process.poll() is None and committed(folder) < frames:  # it reads while the other writes
            time.sleep(0.001)
        process.kill()
        process.wait()
        assert committed(folder) > before or process.returncode == 0
    assert run.main([study, "--quiet", *options, "--out", "runs"]) == 0
    (whole,), (resumed,) = (tmp_path / "whole/killed").glob("[0-9a-f]*"), (tmp_path / "runs/killed").glob("[0-9a-f]*")
    assert [path.name for path in sorted(resumed.glob("members/.*"))] == []
    names = sorted(path.name for path in whole.glob("members/*.h5"))
    assert len(names) == 2
    for name in names:
        expected, got = datasets(whole / "members" / name), datasets(resumed / "members" / name)
        assert expected.pop("parameters/provenance")
        assert got.pop("parameters/provenance")
        assert got == expected
    assert (resumed / "summary.csv").read_bytes() == (whole / "summary.csv").read_bytes()


def test_a_full_disk_ends_with_4_and_what_is_committed_is_intact(study, tmp_path, capsys):
    """A real disk of one megabyte, where the machine lets us make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    try:
        made = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("no right to mount a small disk here")
    try:
        options = [study, "--quiet", "--out", str(disk), "--jobs", "1"]
        assert run.main(options) == run.DISK
        assert capsys.readouterr().err.splitlines() == [
            "wgflow: No space left on device; committed frames are intact, free space or choose another --out"
        ]
        count = committed(disk)
        assert count > 100
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert run.main(options) == 0
        assert committed(disk) == 2 * 4001
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_file_that_may_not_grow_ends_with_4(study, tmp_path):
    """The system's limit on the size of a file, which stops the summary or a trajectory that outgrows its file."""
    limited = (
        "import resource, sys\nfrom wgflow.sims.run import main\n"
        "from wgflow.study.grid import RunPlan\nRunPlan.frames = property(lambda self: 500)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2 * 2**20, 2 * 2**20))\nsys.exit(main(sys.argv[1:]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", limited, study, "--quiet", "--jobs", "1"], capture_output=True, text=True, check=False
    )
    assert found.returncode == run.DISK
    assert "File too large; committed frames are intact" in found.stderr
    (path,) = tmp_path.glob("runs/killed/[0-9a-f]*/members/*.h5")
    before = datasets(path)
    assert committed(tmp_path / "runs") == 1000
    assert not list(path.parent.glob("*.new"))
    assert run.main([study, "--quiet"]) == 0
    assert committed(tmp_path / "runs") == 2 * 4001
    now = datasets(path)["observables/energy/value"]
    assert now.startswith(before["observables/energy/value"])


def test_a_second_command_for_one_run_is_refused_and_changes_nothing(study, tmp_path, begin, capsys, wait_until):
    """Not even what does not count for the result: the question of the study."""
    options = ["--set", "flow.until=1e6", "--set", "flow.every=10"]
    first = begin(*options)
    wait_until(lambda: committed(tmp_path / "runs"), first)
    (path,) = tmp_path.glob("runs/killed/[0-9a-f]*/study.json")
    before = path.read_bytes()
    assert run.main([study, "--quiet", *options, "--set", "question=Which?"]) == run.BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert "another process is running this study" in line
    first.send_signal(signal.SIGTERM)
    first.communicate()
    assert first.returncode == run.REQUEUE
    assert path.read_bytes() == before


def test_damage_is_said_and_computed_again(study, tmp_path, capsys):
    options = [study, "--quiet", "--set", "flow.until=4.0"]
    assert run.main(options) == 0
    path, _ = sorted(tmp_path.glob("runs/killed/[0-9a-f]*/members/*.h5"))
    whole = path.read_bytes()
    with h5py.File(path, "r+") as file:
        file["particles/rho/position/value"][7, 3, 1] += 1e-12
    assert run.main(options) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"{path.name}: frame 7 is damaged; it and 33 after it are computed again")
    assert path.read_bytes() == whole
    path.write_bytes(whole[:300] + b"?" + whole[301:])
    assert run.main(options) == run.BAD_INPUT
    assert "or delete it: the same command then runs this member again" in capsys.readouterr().err
    path.unlink()
    assert run.main(options) == 0
    again = datasets(path)
    path.write_bytes(whole)
    assert {name for name, value in datasets(path).items() if again[name] != value} <= {"parameters/provenance"}


def test_time_spent_goes_on_counting(study, tmp_path):
    options = ["--set", "flow.until=4.0"]
    assert run.main([study, "--quiet", "--walltime", "0", *options]) == run.REQUEUE
    (folder,) = tmp_path.glob("runs/killed/[0-9a-f]*")
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [each["event"] for each in events] == ["started", "stopped"]
    for each, seconds in zip(events, (10, 52), strict=True):
        each["time"] = f"2026-01-01T00:00:{seconds}+00:00"
    torn = '{"time": "2026-'
    (folder / "events.jsonl").write_text("".join(json.dumps(each) + "\n" for each in events) + torn)
    assert Workspace(folder).seconds_spent() == 42


@pytest.mark.parametrize("depth", ["gaps", "deposit", "intervals", "layers", "shallow"])
@pytest.mark.parametrize(
    ("integrator", "step", "chance"),
    [
        *(
            (integrator, 0.1, chance)
            for integrator in ("euler", "heun", "rk4")
            for chance in ("", "batch", "noise", "both")
        ),
        *((name, {"name": "descent", "length": 0.1}, "") for name in ("euler", "heun", "rk4")),
        *((name, {"name": "adaptive", "length": 0.1}, "") for name in ("heun", "ssp3", "cash_karp")),
    ],
)
def test_n_steps_and_n_more_are_2n_steps(tmp_path, depth, integrator, step, chance):
    """Through the file, bit for bit, whatever the number of threads, before and after."""
    from wgflow.trajectory import TrajectoryWriter

    rng = np.random.default_rng(3)
    problem = wgflow.Problem.padded(rng.normal(size=(150, 2)), rng.normal(size=150), activation="gelu")
    spec = {"name": depth} | ({"layers": 3} if depth in ("deposit", "intervals", "layers") else {})
    noise = {"name": "langevin", "temperature": 0.01, "decay": 0.1, "seed": 5}
    rho = wgflow.Particles.draw_layers(problem, 3, 4, seed=1)
    path, monotone = tmp_path / "run.h5", step != 0.1 and step["name"] == "descent"  # which refuses to reflect

    def flow(threads):
        return wgflow.Flow(
            wgflow.Energy(problem, spec, threads=threads),
            integrator,
            step,
            boundary="reflect" if depth in ("gaps", "deposit", "intervals") and not monotone else "clip",
            ingredients=[noise] if chance in ("noise", "both") else [],
            batch=40 if chance in ("batch", "both") else None,
            seed=7,
        )

    whole = list(flow(1).run(rho, until=2.0, every=0.5))
    with TrajectoryWriter.create(path, flow(2).energy, len(rho)) as writer:
        for frame in flow(2).run(rho, until=1.0, every=0.5):
            writer.append(frame)
    with TrajectoryWriter.resume(path) as writer:
        last = writer.last()
        assert last.s == 1.0
        for frame in flow(3).run(last, until=2.0, every=0.5):
            if frame.step > last.step:
                writer.append(frame)
    with wgflow.Trajectory(path) as trajectory:
        assert len(trajectory) == 5
        for got, expected in zip(trajectory, whole, strict=True):
            assert (got.step, got.s, got.energy, got.dissipation, got.switches, got.h) == (
                expected.step, expected.s, expected.energy, expected.dissipation, expected.switches, expected.h,
            )  # fmt: skip
            for name in ("theta", "tau", "mass"):
                assert getattr(got, name).tobytes() == getattr(expected, name).tobytes()


@pytest.mark.parametrize("place", [".", "members", ".lock"])
def test_a_run_that_may_not_be_written_any_more_ends_with_4(study, tmp_path, place):
    """As an ordinary user, or as root without the right to write anywhere."""
    options = ["--set", "flow.until=1.0"]
    assert run.main([study, "--quiet", "--walltime", "0", *options]) == run.REQUEUE
    (folder,) = tmp_path.glob("runs/killed/[0-9a-f]*")
    before = {path.name: path.read_bytes() for path in folder.glob("members/*.h5")}
    drop = []
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root may write anywhere, and there is no setpriv")
        drop = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
    (folder / place).chmod(0o400 if place == ".lock" else 0o500)
    try:
        found = subprocess.run([*drop, *command(study, *options)], capture_output=True, text=True, check=False)
    finally:
        (folder / place).chmod(0o700)
    assert found.returncode == run.DISK, found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert "Permission denied; committed frames are intact" in found.stderr
    assert {path.name: path.read_bytes() for path in folder.glob("members/*.h5")} == before
    assert run.main([study, "--quiet", *options]) == 0


def test_a_spoilt_log_of_events_stops_nothing(study, tmp_path, rng):
    options = ["--quiet", "--set", "flow.until=1.0"]
    assert run.main([study, *options, "--walltime", "0"]) == run.REQUEUE
    (path,) = tmp_path.glob("runs/killed/[0-9a-f]*/events.jsonl")
    whole = bytearray(path.read_bytes())
    work = Workspace(path.parent)
    for _ in range(300):
        spoilt = bytearray(whole)
        spoilt[rng.integers(len(spoilt))] ^= 1 << rng.integers(8)
        path.write_bytes(spoilt)
        assert np.isfinite(work.seconds_spent())
    path.write_bytes(whole + b"3\nnull\n[]\n{}\n" + b'{"time": 4, "event": 5}\n\xff\n')
    assert run.main([study, *options]) == 0


def test_a_repaired_file_without_provenance_goes_on_when_told_to(study, tmp_path, capsys):
    from wgflow.cli.trajectory import main

    options = [study, "--quiet", "--set", "flow.until=1.0"]
    assert run.main([*options, "--walltime", "0"]) == run.REQUEUE
    (path,) = tmp_path.glob("runs/killed/[0-9a-f]*/members/*.h5")
    content = path.read_bytes()
    at = content.index(b'{"backend"')
    path.write_bytes(content[:at] + b"!" + content[at + 1 :])
    assert run.main(options) == run.BAD_INPUT
    copy = path.with_name("copy.h5")
    assert main(["repair", str(path), str(copy)]) == 0
    copy.replace(path)
    assert run.main(options) == run.BAD_INPUT
    assert "its provenance was lost in a repair" in capsys.readouterr().err
    assert run.main([*options, "--keep", "--mixed"]) == 0


def test_sigterm_before_anything_is_written(study, tmp_path, monkeypatch, capsys):
    expand = grid.expand
    monkeypatch.setattr(grid, "expand", lambda found: os.kill(os.getpid(), signal.SIGTERM) or expand(found))
    assert run.main([study, "--quiet"]) == run.REQUEUE
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_sigterm_while_the_summary_is_made(study, tmp_path, monkeypatch):
    from wgflow.report import summary

    rows = summary.rows

    def late(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return rows(*arguments)

    monkeypatch.setattr(summary, "rows", late)
    options = [study, "--quiet", "--set", "flow.until=1.0", "--set", "figure=loss_and_particles"]
    assert run.main(options) == run.REQUEUE
    monkeypatch.setattr(summary, "rows", rows)
    assert run.main(options) == 0


def test_fresh_begins_a_new_history(study, tmp_path):
    options = [study, "--quiet", "--set", "flow.until=1.0"]
    assert run.main(options) == 0
    (folder,) = tmp_path.glob("runs/killed/[0-9a-f]*")
    assert run.main([*options, "--fresh"]) == 0
    assert [event["event"] for event in Workspace(folder).events()].count("started") == 1
