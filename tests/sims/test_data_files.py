"""Data files of a study: what is computed with is what the run's hash stands for, whatever happens to the files."""

import hashlib
import json
import os
import pickle

import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError
from wgflow.model import data_files
from wgflow.sims import pool, run
from wgflow.sims.bundled import study_path
from wgflow.study import grid, schema
from wgflow.study.provenance import digest
from wgflow.systems import members, problem

STUDY = """
name = "own"
figure = "none"
[problem]
name = "file"
path = "own.npz"
heldout = 0.25
standardise = false
[flow]
until = 0.2
[grid]
seed = [0, 1]
"""
COMMAND = ["own.toml", "--quiet", "--jobs", "1", "--threads", "1"]


def data(path, y):
    np.savez(path, x=np.eye(4), y=[float(y)] * 4)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(STUDY)
    data("own.npz", 1)
    return tmp_path


def targets(place):
    """Targets in the trajectories of each run folder."""
    found = {}
    for folder in place.glob("runs/own/[0-9a-f]*"):
        for path in folder.glob("members/*.h5"):
            with wgflow.Trajectory(path) as trajectory:
                for which in ("data", "heldout"):
                    found.setdefault(folder.name, set()).update(trajectory.samples(which)["y"].ravel().tolist())
    return found


def named():
    """Name that the folder of the study is to have now."""
    _, content = schema.load(study_path("own.toml"), {})
    with open("own.npz", "rb") as file:
        assert content["problem"]["path"] == f"sha256:{hashlib.sha256(file.read()).hexdigest()}"
    return digest(content)


@pytest.mark.parametrize("first", [[], ["--dry-run"]], ids=["run", "dry run"])
@pytest.mark.parametrize("then", [[], ["--fresh"]], ids=["run", "fresh"])
def test_a_file_rewritten_between_two_commands_is_read_again(place, first, then):
    assert run.main([*COMMAND, *first]) == 0
    expected = {} if first else {named(): {1.0}}
    data("own.npz", 2)
    assert run.main([*COMMAND, *then]) == 0
    assert targets(place) == expected | {named(): {2.0}}
    data("own.npz", 1)
    assert run.main(COMMAND) == 0
    assert targets(place) == {named(): {1.0}} | {name: {2.0} for name in targets(place) if name != named()}


def test_a_link_pointed_elsewhere_between_two_commands(place):
    data("other.npz", 2)
    (place / "own.npz").rename(place / "first.npz")
    (place / "own.npz").symlink_to("first.npz")
    assert run.main(COMMAND) == 0
    before = named()
    (place / "own.npz").unlink()
    (place / "own.npz").symlink_to("other.npz")
    assert run.main(COMMAND) == 0
    assert targets(place) == {before: {1.0}, named(): {2.0}}


def other(path):
    data(path, 2)


def same_size_and_times(path):
    stat = path.stat()
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def gone(path):
    path.unlink()


def folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("after", [1, 2], ids=["before a member starts", "before the summary"])
@pytest.mark.parametrize("change", [other, same_size_and_times, gone, folder])
def test_a_file_that_changes_while_the_study_runs_stops_it(place, capsys, monkeypatch, change, after):
    ended, real = [], pool.run_member

    def changing(*args, **options):
        outcome = real(*args, **options)
        ended.append(outcome)
        if len(ended) == after:
            change(place / "own.npz")
        return outcome

    monkeypatch.setattr(pool, "run_member", changing)
    name = named()
    assert run.main(COMMAND) == run.BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{place / 'own.npz'}: " in line
    assert ("changed while the study ran" if (place / "own.npz").is_file() else "expected a readable data file") in line
    assert len(ended) == after
    assert targets(place) == {name: {1.0}}
    assert not list(place.glob("runs/own/[0-9a-f]*/summary*"))
    (events,) = place.glob("runs/own/[0-9a-f]*/events.jsonl")
    assert [json.loads(each)["event"] for each in events.read_text().splitlines()][-1] == "stopped"
    monkeypatch.setattr(pool, "run_member", real)
    if change is folder:
        (place / "own.npz").rmdir()
    data("own.npz", 1)
    assert run.main(COMMAND) == 0  # once the file is back
    assert targets(place) == {name: {1.0}}


def test_a_file_written_again_with_the_same_bytes_is_no_change(place, monkeypatch):
    real = pool.run_member
    monkeypatch.setattr(pool, "run_member", lambda *args, **options: (data("own.npz", 1), real(*args, **options))[1])
    assert run.main(COMMAND) == 0


def test_each_member_of_a_grid_of_files_answers_for_its_own(place, capsys, monkeypatch):
    real, ended = pool.run_member, []

    def changing(*args, **options):
        outcome = real(*args, **options)
        ended.append(outcome)
        if len(ended) == 1:
            data("b.npz", 7)
        return outcome

    data("b.npz", 3)
    monkeypatch.setattr(pool, "run_member", changing)
    assert run.main([*COMMAND, "--set", 'grid.problem.path=["own.npz", "b.npz"]', "--set", "grid.seed=[0]"]) == 2
    assert "b.npz: changed while the study ran" in capsys.readouterr().err
    assert list(targets(place).values()) == [{1.0}]


def test_a_process_that_reads_the_file_later_compares_it(place):
    """A worker is handed members alone: what it reads must be what they were planned with."""
    (first, _) = pickle.loads(pickle.dumps(grid.expand(schema.load(study_path("own.toml"), {})[0])))
    assert first.member.data == (
        (str(place / "own.npz"), hashlib.sha256((place / "own.npz").read_bytes()).hexdigest()),
    )
    assert members.build(first.member).energy.problem.y.max() == 1.0
    data("own.npz", 2)
    assert members.build(first.member).energy.problem.y.max() == 1.0  # kept by what it holds, not by where it lay
    problem._problems.cache_clear()
    with pytest.raises(InputError, match=r"own\.npz: changed while the study ran: expected the file with SHA-256"):
        members.build(first.member)


def test_a_member_of_no_study_reads_what_the_file_holds(place):
    table = {"name": "file", "path": str(place / "own.npz"), "standardise": False}
    raw = {"problem": table, "flow": {"until": 1.0}}
    for y in (1.0, 2.0):
        data("own.npz", y)
        assert members.build(schema.check_member(raw, "x")).energy.problem.y.max() == y


def test_files_of_images_are_known_one_by_one(place, monkeypatch):
    from wgflow.systems.images import data as images

    layout = images.LAYOUTS["cifar10"]
    few = layout._replace(train=dict.fromkeys(layout.train, 1), test=dict.fromkeys(layout.test, 1))
    monkeypatch.setitem(images.LAYOUTS, "cifar10", few)
    names = [*layout.train, *layout.test]
    for k, name in enumerate(names):
        (place / name).write_bytes(bytes([k]) * 3073)
    problem = {"name": "cifar10", "path": ".", "verify": False}
    changes = {"problem": problem, "training": {"network": "resnet20"}, "flow.step": 1.0, "grid": {}}
    checked, content = schema.load(study_path("own.toml"), changes)
    digests = [hashlib.sha256(bytes([k]) * 3073).hexdigest() for k in range(len(names))]
    lines = "".join(f"{name}:{each}\n" for name, each in zip(names, digests, strict=True))
    assert content["problem"]["path"] == f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
    (one,) = grid.expand(checked)
    assert one.member.data == tuple((str(place / name), each) for name, each in zip(names, digests, strict=True))
    data_files.check_unchanged(grid.data_files([one]))
    (place / "test_batch.bin").write_bytes(bytes(3073))
    with pytest.raises(InputError, match=r"test_batch\.bin: changed while the study ran"):
        data_files.check_unchanged(grid.data_files([one]))
    with pytest.raises(InputError, match=r"test_batch\.bin: changed while the study ran"):
        images.images("cifar10", one.member.problem.path, verify=False, known=one.member.data)


@pytest.mark.parametrize("path", ["a\0b.npz", "~nobody at all/own.npz", "loop.npz", "a" * 5000, ".", ""])
def test_paths_that_lead_nowhere_are_one_line(place, path):
    (place / "loop.npz").symlink_to("loop.npz")
    with pytest.raises(InputError, match=r"expected (where data lie, got|a readable data file)") as caught:
        schema.load(study_path("own.toml"), {"problem.path": path})
    assert "\n" not in str(caught.value)
