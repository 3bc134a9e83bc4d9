"""Each file of a run is the one it is taken for: one run a file, and no file of another run or data without a word."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

import wgflow
from wgflow.base.errors import TrajectoryError, WorkspaceError
from wgflow.cli import runs
from wgflow.report.publish import recorded_outcome
from wgflow.sims import run, run_member
from wgflow.study.grid import expand
from wgflow.study.schema import load
from wgflow.study.workspace import Workspace
from wgflow.trajectory import TrajectoryWriter, identity

STUDY = """
name = "mine"
figure = "none"
[problem]
name = "sine"
samples = 8
[particles]
count = 3
[flow]
until = 1.0
every = 0.5
[grid]
"flow.step" = [0.1, 0.05]
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(STUDY)
    return ["mine.toml", "--quiet"]


def place(tmp_path, **values):
    """Folder of the run in which all files have these values of the flow."""
    for path in tmp_path.glob("runs/mine/[0-9a-f]*"):
        with wgflow.Trajectory(next(path.glob("members/*.h5"))) as trajectory:
            if values.items() <= trajectory.parameters["study"]["flow"].items():
                return path
    raise AssertionError(values)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tables(path, *changes):
    """Members of a study by label."""
    study, _ = load(path, dict(changes))
    return {each.label: each for each in expand(study)}


@pytest.mark.parametrize("formulas", [["2*D", "2/D"], ["1", 1]], ids=str)
def test_values_that_look_alike_have_files_of_their_own(study, tmp_path, capsys, formulas):
    assert run.main([*study, "--set", "flow.step=0.1", "--set", f"grid.particles.scale.a={formulas}"]) == 0
    (folder,) = tmp_path.glob("runs/mine/[0-9a-f]*")
    files = list(folder.glob("members/*.h5"))
    found = {}
    for path in files:
        with wgflow.Trajectory(path) as trajectory:
            found[trajectory.parameters["study"]["particles"]["scale"]["a"]] = trajectory[0].energy
    assert set(found) == set(formulas)
    rows = json.loads((folder / "summary.json").read_text())["members"]
    assert [row["energy_first"] for row in rows] == [found[formula] for formula in formulas]


def test_data_whose_paths_look_alike_have_files_of_their_own(study, tmp_path):
    names = ["é.npz", "è.npz", "e\u0301.npz", "a b.npz", "a-b.npz", "A-b.npz", "a=1, step=0.1.npz"]
    for k, name in enumerate(names):
        x = np.random.default_rng(k).normal(size=(6, 2))
        np.savez(tmp_path / name, x=x, y=x[:, :1])
    paths = "[" + ", ".join(f"{{name='file', path={json.dumps(name)}}}" for name in names) + "]"
    options = ["--set", "flow.step=0.1", "--set", f"grid.problem={paths}"]
    assert run.main([*study, *options]) == 0
    (folder,) = tmp_path.glob("runs/mine/[0-9a-f]*")
    files = {path.name.casefold(): path for path in folder.glob("members/*.h5")}
    assert len(files) == len(names)
    a, b = list(files.values())[:2]
    shutil.copy(a, b)  # the data alone tell them apart
    with pytest.raises(TrajectoryError, match=r"problem\.path = 'sha256:"):
        Workspace(folder).members()
    assert run.main([*study, *options]) == run.BAD_INPUT


def test_values_that_words_make_alike_have_labels_of_their_own(study, tmp_path):
    one, other = "{name='deposit', layers=4}", "{name='deposit', layers=8}"
    (tmp_path / "mine.toml").write_text(f"{STUDY}depth = [{one}]\n[[also]]\ndepth = {other}\n")
    labels = tables(tmp_path / "mine.toml")
    assert len(labels) == 4
    assert sorted(each.member.depth.layers for each in labels.values()) == [4, 4, 8, 8]
    assert all(label.startswith("step=0.1, depth=deposit") or label.startswith("step=0.05, ") for label in labels)


def test_a_file_of_another_member_is_refused_by_name(study, tmp_path, capsys):
    assert run.main(study) == 0
    (folder,) = tmp_path.glob("runs/mine/[0-9a-f]*")
    ours, theirs = folder / "members/step-0.1.h5", folder / "members/step-0.05.h5"
    whole = ours.read_bytes()
    shutil.copy(theirs, ours)
    before = contents(folder)
    for again in ([], ["--keep", "--mixed"], ["--jobs", "2"]):
        assert run.main([*study, *again]) == run.BAD_INPUT
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{ours.name}: expected the member it is named after, with flow.step = 0.1 (float)" in line
        assert "flow.step = 0.05 (float); move it away or delete it: the same command then runs this member" in line
    assert contents(folder) == before
    for redraw in (
        lambda: runs.report([str(folder), "--quiet"]),
        lambda: runs.export([str(folder), str(tmp_path / "out.nc")]),
        lambda: runs.figure(["loss_and_particles", str(folder)]),
    ):
        with pytest.raises(SystemExit) as ended:
            sys.exit(redraw())
        assert ended.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "got the file of another run, with flow.step = 0.05" in line
    assert runs.watch([str(folder)]) == 0
    assert "another run" in " ".join(capsys.readouterr().out.split())
    ours.unlink()
    assert run.main(study) == 0
    with wgflow.Trajectory(ours) as trajectory:
        assert len(trajectory) == 3
    assert run.main([*study, "--fresh"]) == 0
    assert len(ours.read_bytes()) == len(whole)


@pytest.mark.parametrize(
    "change",
    ["flow.until=2.0", "seed=1", "particles.count=4", "problem.noise=0.5", "record=numbers",
     "observables=[\"second_moment\"]", "depth={name='deposit', layers=4}", "flow.mobility={tau=0.0}",
     "particles.scale={a=2.0}", "regulariser={name='quadratic'}"],
)  # fmt: skip
def test_a_file_of_another_study_is_refused_by_name(study, tmp_path, capsys, change):
    one = ["--set", "flow.step=0.1"]
    assert run.main([*study, *one]) == 0
    (mine,) = tmp_path.glob("runs/mine/[0-9a-f]*/members/only.h5")
    assert run.main([*study, *one, "--set", change]) == 0
    (other,) = set(tmp_path.glob("runs/mine/[0-9a-f]*/members/only.h5")) - {mine}
    shutil.copy(other, mine)
    assert run.main([*study, *one]) == run.BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert f"with {change.split('=')[0]}" in line
    with pytest.raises(TrajectoryError, match="got the file of another run"):
        Workspace(mine.parents[1]).members()


def test_a_member_without_a_file_is_in_the_summary(study, tmp_path, capsys):
    assert run.main([*study, "--set", "figure=loss_and_particles"]) == 0
    (folder,) = tmp_path.glob("runs/mine/[0-9a-f]*")
    (folder / "members/step-0.05.h5").unlink()
    assert runs.report([str(folder), "--quiet", "--starts", "3"]) == 0
    first, second = json.loads((folder / "summary.json").read_text())["members"]
    assert first["status"] == "finished"
    assert second == {"flow.step": 0.05, "status": "no file"}
    assert "No file (not started, or removed): step=0.05." in (folder / "report.html").read_text()


def test_a_folder_under_another_run_s_name(study, tmp_path, capsys):
    assert run.main([*study, "--set", "flow.until=2.0"]) == 0
    (longer,) = tmp_path.glob("runs/mine/[0-9a-f]*")
    assert run.main([*study]) == 0
    (mine,) = set(tmp_path.glob("runs/mine/[0-9a-f]*")) - {longer}
    shutil.rmtree(mine)
    longer.rename(mine)
    before = contents(mine)
    assert run.main(study) == run.BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert f"expected the run {mine.name}, got the study.json of {longer.name}; rename the folder to" in line
    assert runs.watch([str(mine)]) == runs.report([str(mine)]) == 2
    assert contents(mine) == before
    with pytest.raises(WorkspaceError, match=r"got the study\.json of"):
        Workspace(mine).members()
    kept = mine.rename(tmp_path / "my best run")  # a name of one's own says nothing else
    assert len(Workspace(kept).members()) == 2
    kept.rename(mine)
    (mine / "study.json").unlink()  # the files still say whose they are
    assert run.main(study) == run.BAD_INPUT
    assert "flow.until = 1.0 (float), got the file of another run" in capsys.readouterr().err
    assert run.main([*study, "--fresh"]) == 0
    assert len(Workspace(mine).members()) == 2


def test_a_merged_folder(study, tmp_path, capsys):
    for change in ("grid.seed=[0, 1]", "flow.until=2.0"):
        assert run.main([*study, "--set", change]) == 0
    one, other = place(tmp_path, until=1.0), place(tmp_path, until=2.0)
    for path in other.glob("members/*"):
        shutil.copy(path, one / "members")
    assert run.main([*study, "--set", "grid.seed=[0, 1]"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("step-0.05.h5, step-0.1.h5: no member of this study has this name; not used")
    assert len(Workspace(one).members()) == 4
    log, theirs = one / "events.jsonl", (other / "events.jsonl").read_text()
    mine = Workspace(one).events()
    log.write_text(theirs + log.read_text() + theirs)
    assert Workspace(one).events() == mine
    shutil.copy(other / "study.json", one)
    with pytest.raises(WorkspaceError, match=r"got the study\.json of"):
        Workspace(one).members()


def test_damaged_files_beside_the_members(study, tmp_path, capsys):
    """Each flip or cut: the run goes on to the same files, a reader says one line or what is right."""
    assert run.main(study) == 0
    (folder,) = tmp_path.glob("runs/mine/[0-9a-f]*")
    rng = np.random.default_rng(0)
    rows = json.loads((folder / "summary.json").read_text())["members"]
    for name in ("study.json", "events.jsonl", "summary.json", "summary.csv", ".lock"):
        whole = (folder / name).read_bytes()
        spoilt = [whole[: rng.integers(len(whole) + 1)] for _ in range(3)] + [b"\xff", b"[]", b"null", b"{}"]
        for _ in range(40 if whole else 0):
            flipped = bytearray(whole)
            flipped[rng.integers(len(whole))] ^= 1 << rng.integers(8)
            spoilt.append(bytes(flipped))
        for content in spoilt:
            (folder / name).write_bytes(content)
            work = Workspace(folder)
            refused = contextlib.nullcontext()
            if name == "study.json" and content != whole:
                refused = pytest.raises(WorkspaceError, match=r"study\.json")
            elif name == "events.jsonl" and not any(event["event"] == "started" for event in work.events()):
                refused = pytest.raises(WorkspaceError, match=r"events\.jsonl")
            with refused:
                statuses, _, notes = recorded_outcome(work)
                assert set(statuses.values()) == {"finished"}
                assert notes == []
            assert runs.watch([str(folder), "--once"]) in (0, 2)
        capsys.readouterr()
        assert run.main(study) == 0
        assert capsys.readouterr().err == ""
        assert json.loads((folder / "summary.json").read_text())["members"] == rows
        assert len(Workspace(folder).members()) == 2


def test_files_of_older_versions_are_compared_by_what_they_have(study, tmp_path, capsys):
    """They keep the path of their data, lack options that came later, and have names that two members may share."""
    x = np.linspace(-1, 1, 6)[:, None]
    for name in ("a b.npz", "a-b.npz"):
        np.savez(tmp_path / name, x=x, y=x**2 if name == "a b.npz" else x)
    data = "[" + ", ".join(f"{{name='file', path='{name}'}}" for name in ("a b.npz", "a-b.npz")) + "]"
    options = [*study, "--set", "flow.step=0.1", "--set", f"grid.problem={data}"]
    assert run.main(options) == 0
    (folder,) = tmp_path.glob("runs/mine/[0-9a-f]*")
    work = Workspace(folder)
    first, _ = work.members()
    numbers = json.loads((folder / "summary.json").read_text())["members"]
    with wgflow.Trajectory(first.path) as trajectory:
        documents = trajectory.parameters
        documents["study"]["problem"]["path"] = str(tmp_path / "elsewhere" / "a b.npz")
        del documents["study"]["record"]
        frames, energy = list(trajectory), trajectory.energy()

    def write(energy, path):
        with TrajectoryWriter.create(
            path, energy, 3, flow=documents["flow"], study=documents["study"], provenance=documents["provenance"],
            capacity=len(frames),
        ) as writer:  # fmt: skip
            for frame in frames:
                writer.append(frame)
            writer.finish()

    write(energy, first.path)
    content = json.loads((folder / "study.json").read_text())
    for key in ("hash", "sha256"):
        del content[key]
    for entry in content["members"]:
        del entry["holds"]
    (folder / "study.json").write_text(json.dumps(content))
    assert len(work.members()) == 2
    assert run.main(options) == 0
    assert capsys.readouterr().err == ""
    assert json.loads((folder / "summary.json").read_text())["members"] == numbers
    write(wgflow.Energy(energy.problem.replace(x, x**3)), first.path)  # the arrays' digests are all that differs
    assert run.main(options) == run.BAD_INPUT
    assert "got a file with other data; move it away or delete it" in capsys.readouterr().err


def test_a_file_under_its_name_of_an_older_version_is_found(study, tmp_path):
    options = [*study, "--set", "flow.step=0.1", "--set", 'grid.particles.scale.a=["2*D", "2/D"]']
    assert run.main(options) == 0
    (folder,) = tmp_path.glob("runs/mine/[0-9a-f]*")
    first, second = Workspace(folder).members()
    old = first.path.rename(first.path.with_name("a-2-D.h5"))
    before = old.read_bytes()
    assert [each.path for each in Workspace(folder).members()] == [old, second.path]
    assert run.main(options) == 0
    assert old.read_bytes() == before
    assert not first.path.exists()


def test_a_file_that_does_not_say_whose_it_is_is_refused(study, tmp_path, capsys):
    assert run.main(study) == 0
    (path, _) = sorted(tmp_path.glob("runs/mine/[0-9a-f]*/members/*.h5"))
    with wgflow.Trajectory(path) as trajectory:
        energy, provenance = trajectory.energy(), trajectory.parameters["provenance"]
    TrajectoryWriter.create(path, energy, 3, provenance=provenance).close()
    assert run.main(study) == run.BAD_INPUT
    assert "got a file that does not say whose it is; move it away or delete it" in capsys.readouterr().err


def removed(path, others):
    path.unlink()


def moved_over(path, others):
    shutil.copy(others, path.with_name("x"))
    path.with_name("x").replace(path)


def copied_over(path, others):
    shutil.copy(others, path)


def cut_short(path, others):
    path.write_bytes(path.read_bytes()[:100])


NETWORK = ["--set", "network={layers=2, start='standard'}", "--set", "flow.step=0.1"]


@pytest.mark.parametrize("kind", [[], NETWORK, ["--set", "record=numbers"]], ids=["residual", "features", "numbers"])
@pytest.mark.parametrize("attack", [removed, moved_over, copied_over, cut_short])
def test_a_file_that_goes_while_its_member_runs(study, tmp_path, monkeypatch, capsys, kind, attack):
    if kind is NETWORK:
        study = [*study, "--set", "grid.seed=[0, 1]"]
    assert run.main([*study, *kind, "--out", "other", "--set", "flow.until=2.0"]) == 0
    others = sorted(tmp_path.glob("other/mine/[0-9a-f]*/members/*.h5"))[0]
    append = TrajectoryWriter.append
    with monkeypatch.context() as patch:

        def attacked(self, frame):
            append(self, frame)
            if self.frames == 2:
                attack(self.path, others)

        patch.setattr(TrajectoryWriter, "append", attacked)
        assert run.main([*study, *kind]) == run.DISK
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{'removed' if attack is removed else 'exchanged'} while it was written" in line
    (folder,) = tmp_path.glob("runs/mine/[0-9a-f]*")
    assert not (folder / "summary.json").exists()
    for path in folder.glob("members/*.h5"):
        path.unlink()
    assert run.main([*study, *kind]) == 0


def test_a_file_that_goes_after_its_member_has_run(study, tmp_path, monkeypatch, capsys):
    run_one = run_member.run_member
    assert run.main([*study, "--out", "other", "--set", "flow.until=2.0"]) == 0
    (other,) = tmp_path.glob("other/mine/[0-9a-f]*")

    def attacks(work):
        first, second = (work.member(f"step={step}", {}).path for step in (0.1, 0.05))
        yield lambda: shutil.copy(second, first), "it was exchanged while the study ran", 1  # before its turn
        yield lambda: first.unlink(), "step-0.1.h5: removed after it was written, while the study ran", 2
        yield lambda: shutil.copy(second, first), "it was exchanged while the study ran", 2
        yield lambda: (work.folder / "study.json").unlink(), "study.json: removed or exchanged while the study ran", 2
        yield lambda: shutil.copy(other / "study.json", work.folder), "study.json: removed or exchanged while", 2

    assert run.main([*study, "--walltime", "0"]) == run.REQUEUE
    capsys.readouterr()
    (folder,) = tmp_path.glob("runs/mine/[0-9a-f]*")
    for attack, words, when in attacks(Workspace(folder)):
        ended = []

        def attacked(*arguments, attack=attack, ended=ended, when=when, **options):
            outcome = run_one(*arguments, **options)
            ended.append(outcome)
            if len(ended) == when:
                attack()
            return outcome

        monkeypatch.setattr("wgflow.sims.pool.run_member", attacked)
        assert run.main(study) == run.DISK
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
        assert not (folder / "summary.json").exists()
        monkeypatch.setattr("wgflow.sims.pool.run_member", run_one)
        if "exchanged" in words:
            (folder / words.split(":")[0] if "study.json" in words else folder / "members/step-0.1.h5").unlink(True)
    assert run.main(study) == 0
    assert len(json.loads((folder / "summary.json").read_text())["members"]) == 2


def test_a_file_that_goes_while_several_processes_run(study, tmp_path, wait_until):
    command = [sys.executable, "-m", "wgflow.sims.run", *study, "--jobs", "2", "--set", "flow.until=20000.0"]
    process = subprocess.Popen([*command, "--set", "flow.every=1.0"], stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: list(tmp_path.glob("runs/mine/[0-9a-f]*/members/step-0.05.h5")), process)
        next(tmp_path.glob("runs/mine/[0-9a-f]*/members/step-0.05.h5")).unlink()
        _, err = process.communicate()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == run.DISK, err
    (line,) = err.splitlines()
    assert "step-0.05.h5: removed while it was written" in line


def test_differences_of_resolved_studies():
    study = {"seed": 0, "particles": {"count": 3, "scale": {}}, "flow": {"ingredients": [{"name": "noise", "x": 1}]}}
    changed = [("seed", 1), ("particles.count", 4), ("particles.scale", {"a": 1.0}), ("flow.ingredients", [])]
    changed += [("flow.ingredients", [{"name": "noise", "x": 2}]), ("seed", False), ("seed", "0"), ("seed", None)]
    for key, value in changed:
        for pair in ((study, identity.placed(study, {key: value})), (identity.placed(study, {key: value}), study)):
            found = identity.difference(*pair)
            assert found is not None
            assert found.key.startswith(key)
    assert identity.difference(study, identity.placed(study, {"flow.new": 1})) is None  # a later version's option
    assert identity.difference(study, identity.placed(study, {"flow.ingredients": [{"name": "noise"}]})) is None
    assert study["particles"] == {"count": 3, "scale": {}}
    with pytest.raises(TrajectoryError, match="with seed = 0"):
        identity.require("x", study, identity.placed(study, {"seed": 1}))
