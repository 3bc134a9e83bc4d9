"""The command as a user meets it: what it writes, what it says, how it ends."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

import wgflow
import wgflow.base.errors
from wgflow.base.exit_codes import INTERNAL
from wgflow.sims import run
from wgflow.study.workspace import Workspace
from wgflow.systems import problem

STUDY = """
name = "small"
question = "Does it run?"
observables = ["heldout", "second_moment"]
[problem]
name = "sine"
samples = 40
heldout = 0.25
[particles]
tau = "uniform"
[flow]
until = 1.0
every = 0.5
[grid]
"particles.count" = [3, 6]
seed = [0, 1]
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(STUDY)
    return "small.toml"


def folder(tmp_path, name="small"):
    (found,) = (tmp_path / "runs" / name).glob("[0-9a-f]*")
    return found


def lines(capsys):
    return capsys.readouterr().err.splitlines()


def test_a_study_from_file_to_figure(study, tmp_path, capsys):
    assert run.main([study]) == 0
    out, err = capsys.readouterr()
    assert err == ""  # no terminal, no progress
    assert "Does it run?" in out
    assert max(map(len, out[: out.index("At N = ")].splitlines())) <= 80  # the table; findings are sentences
    place = folder(tmp_path)
    assert {path.name for path in place.iterdir()} == {
        ".lock", "events.jsonl", "study.json", "members", "summary.json", "summary.csv", "verdicts.csv", "report.html",
        "loss_and_particles.png", "loss_and_particles.pdf",
    }  # fmt: skip
    assert (place / "loss_and_particles.png").read_bytes().startswith(b"\x89PNG")
    summary = json.loads((place / "summary.json").read_text())
    assert [row["status"] for row in summary["members"]] == ["finished"] * 4
    assert summary["provenance"]["backend"] == "cpu"
    with wgflow.Trajectory(place / "members" / "count-6_seed-1.h5") as trajectory:
        assert len(trajectory) == 3
        assert summary["members"][3]["energy_last"] == trajectory[-1].energy
        assert summary["members"][3]["heldout_last"] == trajectory[-1].observables["heldout"]
        frame = trajectory[-1]
        rho = wgflow.Particles(frame.theta, frame.tau)
        assert trajectory.energy("heldout")(rho) == frame.observables["heldout"]
        moment = trajectory.energy().weights(rho) @ (rho.theta**2).sum(axis=1)
        assert frame.observables["second_moment"] == pytest.approx(moment)
        assert trajectory.parameters["study"]["particles"]["count"] == 6
    rows = (place / "summary.csv").read_text().splitlines()
    assert len(rows) == 5
    assert rows[0].startswith("particles.count,seed,N,steps,s,energy_first")


def test_the_same_command_again_changes_nothing_but_provenance(study, tmp_path):
    assert run.main([study, "--quiet"]) == 0
    kept = {path: path.read_bytes() for path in folder(tmp_path).glob("members/*.h5")}
    before = json.loads((folder(tmp_path) / "summary.json").read_text())
    assert run.main([study, "--quiet"]) == 0
    assert {path: path.read_bytes() for path in folder(tmp_path).glob("members/*.h5")} == kept
    after = json.loads((folder(tmp_path) / "summary.json").read_text())
    assert after["members"] == before["members"]


def content(path):
    with wgflow.Trajectory(path) as trajectory:
        return [
            (f.step, f.s, f.theta.tobytes(), f.tau.tobytes(), f.energy, f.switches, dict(f.observables))
            for f in trajectory
        ]


def test_walltime_stops_and_the_next_command_goes_on(study, tmp_path, capsys):
    assert run.main([study, "--quiet", "--out", "whole"]) == 0
    (whole,) = (tmp_path / "whole" / "small").glob("[0-9a-f]*")
    codes = []
    while not codes or codes[-1] == run.REQUEUE:
        codes.append(run.main([study, "--quiet", "--walltime", "0"]))
        assert len(codes) < 50
    assert codes.count(run.REQUEUE) >= 4
    assert codes[-1] == 0
    assert "resumes from the last committed frame" in capsys.readouterr().err
    for path in (whole / "members").iterdir():
        assert content(path) == content(folder(tmp_path) / "members" / path.name)
    for name in ("summary.csv", "loss_and_particles.png", "loss_and_particles.pdf"):
        assert (whole / name).read_bytes() == (folder(tmp_path) / name).read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_signals_leave_a_run_that_resumes(study, tmp_path, number, code, struck):
    """After the signal the run gets to the end of its step; then the same command goes on."""
    options = [study, "--set", "flow.until=20", "--set", "flow.every=0.1", "--jobs", "1", "--quiet"]
    process = struck(number, 50, *options, stderr=subprocess.PIPE, text=True)
    _, err = process.communicate()
    assert process.returncode == code, err
    assert err.splitlines() == ["wgflow: stopped; the same command resumes from the last committed frame"]
    (found,) = tmp_path.glob("runs/small/[0-9a-f]*/members/*.h5")
    with wgflow.Trajectory(found) as trajectory:
        committed = trajectory.series("energy").tolist()
    assert 50 <= len(committed) < 201
    assert run.main(options) == 0
    with wgflow.Trajectory(found) as trajectory:
        assert trajectory.series("energy")[: len(committed)].tolist() == committed
        assert len(trajectory) == 201


def test_a_diverging_member_keeps_its_last_good_frame_and_the_others_finish(study, tmp_path, capsys):
    changes = ["problem.activation=linear", "grid.flow.step=[0.5, 500.0]", "flow.until=5000.0", "flow.every=500.0"]
    changes += ["grid.seed=[0]", "particles.count=3", "flow.mobility={tau=0.0}"]
    options = [part for change in changes for part in ("--set", change)]
    assert run.main([study, *options]) == run.DIVERGED
    out, err = capsys.readouterr()
    assert re.search(r"step=500.0, seed=0|seed=0, step=500.0", err)
    assert "try a smaller step than 500" in err
    assert "diverged" in out
    summary = json.loads((folder(tmp_path) / "summary.json").read_text())
    assert {row["flow.step"]: row["status"] for row in summary["members"]} == {0.5: "finished", 500.0: "diverged"}
    (path,) = folder(tmp_path).glob("members/*500.0*")
    frames = len(wgflow.Trajectory(path))
    with wgflow.Trajectory(path) as trajectory:
        assert np.isfinite(trajectory[-1].theta).all()
        assert trajectory[-1].step > 0
    assert run.main([study, *options, "--quiet"]) == run.DIVERGED
    with wgflow.Trajectory(path) as trajectory:
        assert len(trajectory) == frames


BAD = [
    (["quikstart"], "unknown study 'quikstart': did you mean 'quickstart'?"),
    (["no.toml"], "study no.toml: expected a TOML file, got no such file"),
    (["small.toml", "--set", "flow.stpe=1"], "small.toml: flow.stpe: unknown key; did you mean 'step'?"),
    (["small.toml", "--set", "flow.step"], "--set: expected KEY=VALUE"),
    (["small.toml", "--set", "problem.block=rigde"], "did you mean 'ridge'?"),
    (["small.toml", "--set", "grid.seed=[]"], "grid.seed: expected at least one value"),
    (["small.toml", "--set", "flow.step=[]"], "flow.step: expected a valid number, got [] (list)"),
    (["small.toml", "--set", "name.x=1"], "--set name.x: expected 'name' to be a table"),
    (["small.toml", "--backend", "tpu"], "unknown backend 'tpu'"),
    (["small.toml", "--threads", "0"], "--threads: expected a whole number >= 1, got '0'"),
    (["small.toml", "--walltime", "soon"], "--walltime: expected a duration such as 90s, 30m or 2h"),
    (["small.toml", "--set", "figure=los"], "unknown figure 'los'"),
    (
        ["small.toml", "--out", "small.toml"],
        "--out small.toml: cannot create this folder: not a directory; choose another",
    ),
    (["small.toml", "--frsh"], "unrecognized arguments: --frsh; see --help"),
    (["small.toml", "--fresh", "--keep"], "not allowed with argument"),
    (["nan.toml"], "x: expected finite numbers, got 1 that are not, the first nan at row 1, column 0"),
    (["shape.toml"], "x and y: expected as many rows in both, got 2 and 3"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD)
def test_bad_input_is_one_line_and_writes_nothing(study, tmp_path, capsys, arguments, words):
    for name, x, y in (("nan", [[1.0], [np.nan]], [0.0, 1.0]), ("shape", [[1.0], [2.0]], [0.0, 1.0, 2.0])):
        np.savez(tmp_path / f"{name}.npz", x=x, y=y)
        text = (
            f'name = "own"\n[problem]\nname = "file"\npath = "{name}.npz"\nstandardise = false\n[flow]\nuntil = 1.0\n'
        )
        (tmp_path / f"{name}.toml").write_text(text)
    before = sorted(tmp_path.rglob("*"))
    assert run.main(arguments) == run.BAD_INPUT
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("wgflow: ")
    assert words in err
    assert len(err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(study, tmp_path, capsys):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert run.main([study, "--out", "locked"]) == run.BAD_INPUT
    assert "cannot create this folder" in capsys.readouterr().err


def test_debug_shows_the_traceback(study, capsys):
    assert run.main([study, "--backend", "tpu", "--debug"]) == run.BAD_INPUT
    assert "Traceback" in capsys.readouterr().err


def test_internal_errors_are_one_line(study, monkeypatch, capsys):
    monkeypatch.setattr("wgflow.systems.members.build", lambda *args: 1 / 0)
    assert run.main([study]) == INTERNAL
    assert lines(capsys) == ["wgflow: internal error: ZeroDivisionError: division by zero; --debug shows where"]


def test_a_lost_disk_keeps_committed_frames(study, tmp_path, monkeypatch, capsys):
    from wgflow.trajectory import TrajectoryWriter

    append, count = TrajectoryWriter.append, []

    def full(self, frame):
        count.append(1)
        if len(count) == 5:
            raise OSError(28, "No space left on device", str(self.path))
        append(self, frame)

    monkeypatch.setattr(TrajectoryWriter, "append", full)
    assert run.main([study]) == run.DISK
    assert "No space left on device; committed frames are intact" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert run.main([study, "--quiet"]) == run.DONE


def test_other_backend_or_version_asks(study, tmp_path, monkeypatch, capsys):
    assert run.main([study, "--quiet", "--backend", "reference"]) == 0
    assert run.main([study, "--quiet"]) == run.BAD_INPUT
    assert "made by backend 'reference', now 'cpu'; use --backend reference, or --mixed" in capsys.readouterr().err
    assert run.main([study, "--quiet", "--mixed"]) == 0
    monkeypatch.setattr("wgflow.kernels.cache.fingerprint", lambda: "0" * 12)
    assert run.main([study, "--quiet", "--mixed"]) == run.BAD_INPUT
    assert "use --keep to go on with it or --fresh to start again" in capsys.readouterr().err
    assert run.main([study, "--quiet", "--mixed", "--keep"]) == 0
    assert run.main([study, "--quiet", "--fresh"]) == 0
    with wgflow.Trajectory(next(folder(tmp_path).glob("members/*.h5"))) as trajectory:
        assert trajectory.parameters["provenance"]["kernels"] == "0" * 12


def test_a_second_process_is_refused(study, tmp_path, capsys):
    assert run.main([study, "--quiet"]) == 0
    with Workspace(folder(tmp_path)).locked():
        script = f"from wgflow.sims.run import main; raise SystemExit(main([{study!r}]))"
        second = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert second.returncode == run.BAD_INPUT
    assert "another process is running this study" in second.stderr


def test_dry_run_writes_nothing(study, tmp_path, capsys):
    assert run.main([study, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "4 members" in out
    assert "nothing was written" in out
    assert not (tmp_path / "runs").exists()


def test_list_shows_the_bundled_studies(capsys):
    assert run.main(["--list"]) == 0
    out = capsys.readouterr().out
    assert "quickstart" in out
    assert "order_switching" in out


def test_help_is_light():
    """What --help must not import; its time is measured by benchmarks/startup.py."""
    script = (
        "import sys\nsys.argv = ['wgflow', '--help']\nfrom wgflow.sims import run\n"
        "try: run.main()\nexcept SystemExit: pass\n"
        "print([m for m in ('numpy', 'numba', 'matplotlib', 'pydantic', 'h5py') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def data(path, x=None, y=None):
    np.savez(path, x=np.eye(4) if x is None else x, y=np.arange(4.0) if y is None else y)


ONE_NAN = np.where(np.arange(16).reshape(4, 4) == 13, np.nan, 1.0)
OWN = 'name = "own"\n[problem]\nname = "file"\npath = "own.npz"\n[flow]\nuntil = 0.2\n'


def test_paths_in_a_grid_are_relative_to_the_study_and_known_by_content(tmp_path, monkeypatch):
    (tmp_path / "place").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "place" / "own.toml").write_text(OWN)
    for name in ("own", "b"):
        data(tmp_path / "place" / f"{name}.npz")
    options = ["place/own.toml", "--quiet", "--set", 'grid.problem.path=["own.npz", "b.npz"]']
    assert run.main(options) == 0
    first = folder(tmp_path, "own")
    data(tmp_path / "place" / "b.npz", y=np.ones(4))

    assert run.main(options) == 0
    assert len(list((tmp_path / "runs" / "own").glob("[0-9a-f]*"))) == 2
    assert first.is_dir()


def test_keys_that_only_the_grid_has_and_keys_without_quotes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data("own.npz")
    text = OWN.replace("until = 0.2", "step = 0.1") + "[grid]\nflow.until = [0.1, 0.2]\n"
    (tmp_path / "own.toml").write_text(text)
    assert run.main(["own.toml", "--quiet"]) == 0
    assert len(list(folder(tmp_path, "own").glob("members/*.h5"))) == 2


def test_not_finite_from_the_start_is_a_divergence_not_a_crash(study, tmp_path, capsys):
    assert run.main([study, "--set", "particles.scale={a=1e200}", "--set", "grid.seed=[0]"]) == run.DIVERGED
    assert "not finite at the start" in capsys.readouterr().err
    summary = json.loads((folder(tmp_path) / "summary.json").read_text())
    assert [row["status"] for row in summary["members"]] == ["diverged"] * 2


def test_a_summary_is_json_whatever_happened(study, tmp_path, capsys):
    changes = ["flow.step=50", "flow.until=50000", "flow.every=50", "problem.activation=relu", "grid.seed=[0]"]
    assert run.main([study, *[part for change in changes for part in ("--set", change)]]) == run.DIVERGED
    text = (folder(tmp_path) / "summary.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert not [line for line in capsys.readouterr().err.splitlines() if not line.startswith("wgflow: ")]


@pytest.mark.parametrize("change", ["depth.name=shallow", "flow.every=0.04", "flow.rule=descent"])
def test_a_figure_that_cannot_be_drawn_is_refused_before_anything_runs(tmp_path, monkeypatch, capsys, change):
    monkeypatch.chdir(tmp_path)
    assert run.main(["order_switching", "--set", change]) == run.BAD_INPUT
    assert "expected depth gaps and a frame at every step" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_study_in_which_nothing_switches_has_an_empty_figure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--set", "particles.count=1", "--set", "seed=0", "--set", "flow.until=0.2", "--quiet"]
    assert run.main(["order_switching", *options]) == 0
    assert (folder(tmp_path, "order_switching") / "switching.png").is_file()


def test_tables_with_the_same_name_are_different_values(study, tmp_path):
    relu = '[{name="regularised_relu", eta=0.1}, {name="regularised_relu", eta=0.5}]'
    options = ["--set", f"grid.problem.activation={relu}", "--set", "grid.seed=[0]", "--set", "particles.count=3"]
    assert run.main([study, *options, "--quiet"]) == 0
    assert len(list(folder(tmp_path).glob("members/*.h5"))) == 2
    assert "regularised_relu(eta=0.5)" in (folder(tmp_path) / "summary.csv").read_text()


def test_ambiguous_grid_keys_keep_their_columns(study, capsys):
    options = ["--set", "grid.problem.seed=[1, 2]", "--set", "grid.seed=[0]", "--set", "particles.count=3"]
    assert run.main([study, *options]) == 0
    assert "problem.seed" in capsys.readouterr().out


def test_data_too_large_to_store_still_run(study, tmp_path, monkeypatch):
    monkeypatch.setattr("wgflow.trajectory.schema.INLINE", 10)
    assert run.main([study, "--quiet", "--set", "flow.every=0.1"]) == 0
    with wgflow.Trajectory(next(folder(tmp_path).glob("members/*.h5"))) as trajectory:
        with pytest.raises(wgflow.base.errors.InputError, match="too large to"):
            trajectory.energy()


def test_a_closed_pipe_is_not_an_error(study, tmp_path):
    command = f"{sys.executable} -m wgflow.sims.run {study}; echo rc=$? >&2"
    result = subprocess.run(["bash", "-c", f"({command}) | true"], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == "rc=0"
    assert "done" in (folder(tmp_path) / "events.jsonl").read_text()


MORE_BAD = [
    (["--set", "problem.block={name=['x']}"], "unknown block ['x'] (list)"),
    (["--set", "problem.activation=[1]"], "problem.activation: activation: expected a name, a table with a name"),
    (["--set", "grid=5", "--set", "grid.seed=[0]"], "--set grid.seed: expected 'grid' to be a table, got 5"),
    (["--set", "observables=['heldout','heldout']"], "observables: expected each name once"),
    (["--set", "name=../x"], "name: expected letters, digits, - and _ only"),
    (["--set", "flow.batch=500"], "batch: expected 1 to 30 samples, got 500"),
    (["--set", "depth={name='deposit'}"], "depth.layers: expected a value, got none; add it"),
    (
        ["--set", "depth={name='layers',layers=4}"],
        "expected a multiple of the 4 layers, got 3; 4 would do",
    ),
    (["--set", "flow.ingredients=[{name='langevin',temprature=1.0}]"], "temprature: unknown key; did you mean"),
]


@pytest.mark.parametrize(("options", "words"), MORE_BAD)
def test_more_bad_input(study, tmp_path, capsys, options, words):
    assert run.main([study, *options]) == run.BAD_INPUT
    err = capsys.readouterr().err
    assert words in err
    assert all(line.startswith("wgflow: ") for line in err.splitlines())
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "expected a NumPy .npz file"),
        (lambda path: data(path, y=np.float64(1.0)), "y: expected a non-empty matrix"),
        (lambda path: data(path, x=np.array([["1", "2"]] * 4)), "x: expected an array of real numbers"),
        (lambda path: data(path, x=ONE_NAN), "got 1 that are not, the first nan at row 3, column 1"),
    ],
)
def test_bad_data_files(tmp_path, monkeypatch, capsys, spoil, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(OWN)
    data(tmp_path / "own.npz")
    spoil(tmp_path / "own.npz")
    assert run.main(["own.toml"]) == run.BAD_INPUT
    err = capsys.readouterr().err
    assert words in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "changes",
    [
        ["depth={name='deposit',layers=4}", "flow.integrator=heun"],
        ["depth={name='layers',layers=3}", "particles.coupling=path", "grid.particles.count=[3, 6]"],
        ["depth={name='shallow'}", "flow.rule=descent", "flow.every=0.3"],
        ["flow.rule=adaptive", "flow.integrator=ssp3", "flow.rtol=1e-5", "flow.smallest=0.01", "flow.every=0.3"],
        ["depth={name='deposit',layers=4}", "flow.batch=7", "flow.ingredients=[{name='langevin',temperature=0.01}]"],
        [
            "problem.block={name='two_layer',hidden=2}",
            "regulariser={name='quadratic',strength=0.1}",
            "flow.integrator=rk4",
        ],
        ["problem={name='teacher',samples=30,heldout=0.2,block='matrix'}", "flow.boundary=reflect"],
    ],
)
def test_every_option_stops_and_resumes_to_the_same_run(study, tmp_path, changes):
    options = [study, "--quiet", *[part for change in ["figure=none", *changes] for part in ("--set", change)]]
    assert run.main([*options, "--out", "whole"]) == 0
    codes = []
    while not codes or codes[-1] == run.REQUEUE:
        codes.append(run.main([*options, "--walltime", "0"]))
    assert codes[-1] == 0
    assert len(codes) > 2
    (whole,) = (tmp_path / "whole" / "small").glob("[0-9a-f]*")
    for path in (whole / "members").iterdir():
        assert content(path) == content(folder(tmp_path) / "members" / path.name)


def test_fresh_keeps_a_linked_folder_and_what_is_not_its_own(study, tmp_path):
    """Trajectories moved to another disk, whose folder they share, with the run's folder and --out linked as well."""
    options = [study, "--quiet", "--set", "figure=none", "--set", "flow.until=0.5"]
    assert run.main(options) == 0
    place, disk = folder(tmp_path), tmp_path / "disk"
    names = sorted(path.name for path in (place / "members").iterdir())
    (place / "members").rename(disk)
    (place / "members").symlink_to(disk)
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "runs").rename(tmp_path / "real")
    (tmp_path / "runs").symlink_to(tmp_path / "real")
    stem = names[0].removesuffix(".h5")
    (disk / "other.h5").write_text("of another study")
    leftovers = [disk / f".{names[0]}.1.new", disk / f"{stem}.checkpoint", disk / f".{stem}.checkpoint.1.new"]
    for path in [disk / names[0], *leftovers]:
        path.write_text("damaged")
    assert run.main(options) == run.BAD_INPUT
    assert run.main([*options, "--fresh"]) == 0
    assert (place / "members").is_symlink()
    assert sorted(path.name for path in disk.iterdir()) == sorted([*names, "other.h5"])
    assert (disk / "other.h5").read_text() == "of another study"


def test_fresh_removes_a_link_to_a_file_and_leaves_the_file(study, tmp_path):
    options = [study, "--quiet", "--set", "figure=none", "--set", "flow.until=0.5"]
    assert run.main(options) == 0
    member = next((folder(tmp_path) / "members").iterdir())
    member.rename(tmp_path / "kept.h5")
    member.symlink_to(tmp_path / "kept.h5")
    before = (tmp_path / "kept.h5").read_bytes()
    assert run.main([*options, "--fresh"]) == 0
    assert not member.is_symlink()
    assert (tmp_path / "kept.h5").read_bytes() == before


def test_a_folder_of_members_that_is_gone_is_named(study, tmp_path, capsys):
    options = [study, "--quiet", "--set", "figure=none", "--set", "flow.until=0.5"]
    assert run.main(options) == 0
    place = folder(tmp_path) / "members"
    place.rename(tmp_path / "disk")
    place.symlink_to(tmp_path / "gone")
    assert run.main(options) == run.BAD_INPUT
    assert lines(capsys)[-1].endswith(
        "members: expected a folder, got a file or a link that leads nowhere; make the folder that it leads to, or "
        "remove it"
    )


def test_constant_columns_are_said_once(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    problem._problems.cache_clear()
    np.savez("own.npz", x=np.column_stack([np.linspace(0, 1, 12), np.full(12, 7.0)]), y=np.linspace(1, 2, 12))
    table = (
        '[problem]\nname = "file"\npath = "own.npz"\n[flow]\nuntil = 1.0\n[grid]\n"problem.split_seed" = [0, 1, 2]\n'
    )
    (tmp_path / "own.toml").write_text('name = "own"\n' + table)
    assert run.main(["own.toml", "--dry-run"]) == 0
    said = "x: column 1 of 2 is constant over the training samples; standardised, it is 0"
    assert [record.getMessage() for record in caplog.records] == [said]
    caplog.clear()
    problem._problems.cache_clear()
    assert run.main(["own.toml", "--dry-run"]) == 0  # once a command
    assert [record.getMessage() for record in caplog.records] == [said]
