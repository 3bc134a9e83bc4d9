"""Forecasts: sizes are exact, times add up; how well times are met is measured by running studies, not here."""

import os
import tracemalloc

import numpy as np
import pytest

from wgflow.sims import dry_run, forecast, run, sweep_scaling, trial
from wgflow.study import grid, schema
from wgflow.systems import members

STUDY = """
name = "small"
observables = ["heldout"]
[problem]
name = "sine"
samples = 40
heldout = 0.25
[flow]
until = 2.0
every = 0.5
[grid]
"particles.count" = [3, 300]
seed = [0, 1, 2, 3]
"""


@pytest.fixture
def planned(tmp_path):
    (tmp_path / "small.toml").write_text(STUDY)
    return grid.expand(schema.load(tmp_path / "small.toml", {})[0])


def test_loads(planned):
    sizes = trial.each(planned, "cpu", 1, lambda one, setup: forecast.size(one, setup, 1))
    seconds = forecast.member_seconds(planned, sizes, 1, "cpu")
    assert len(seconds) == 8
    frames = 5 * ((3 * (5 + 2) + 1) * 8 + forecast._ROW)  # N, theta with tau and mass; heldout
    beside = sizes[0].disk - frames  # samples and structure
    assert sizes[1].disk - sizes[0].disk in (0, 5 * 3 * (5 + 2) * 8)
    assert 48 * 1024 < beside < 60 * 1024
    assert seconds[0] < seconds[-1]
    assert sizes[0].memory < sizes[-1].memory


def test_the_longest_go_first_to_the_process_that_is_free():
    seconds, sizes = [1.0, 4.0, 2.0, 3.0], [forecast.Size(1.0, 1, 10, 100, 1)] * 4
    one, two = (forecast.total(seconds, sizes, jobs, []) for jobs in (1, 2))
    assert one[0] - two[0] == pytest.approx(10.0 - 5.0 - sweep_scaling.START)
    assert two[1] > one[1]
    assert one[2] == two[2] == 40


def test_dry_run_says_time_memory_and_disk(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(STUDY)
    assert run.main(["small.toml", "--dry-run", "--jobs", "2", "--threads", "1"]) == 0
    *_, workers, ranks, last = capsys.readouterr().out.splitlines()
    assert workers.startswith("Workers (--cluster): ")
    assert ranks.startswith("Ranks (--mpi) for the longest member, ")
    assert last.startswith("8 members, 2 side by side, 1 thread each: about ")
    assert "MiB of memory" in last
    assert "MiB on disk" in last
    assert not (tmp_path / "runs").exists()


def test_dry_run_of_a_run_that_was_begun_forecasts_what_is_left(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(STUDY)
    monkeypatch.setattr(forecast, "member_seconds", lambda planned, *rest: [3600.0] * len(planned))
    options = ["small.toml", "--jobs", "1", "--threads", "1", "--set", "flow.every=0.1"]

    def said(*more):
        assert run.main([*options, "--dry-run", *more]) == 0
        return capsys.readouterr().out.splitlines()[-1]

    assert said().startswith("8 members, 1 thread each: about 8 h 0 min")
    for _ in range(2):  # the start, and one of twenty steps
        assert run.main([*options, "--quiet", "--walltime", "0"]) == run.REQUEUE
    (path,) = tmp_path.glob("runs/*/[0-9a-f]*/members/*.h5")
    begun = "8 members, 1 thread each: 1 of them there in whole or in part, about 7 h 57 min"
    assert said().startswith(begun)
    assert said("--fresh").startswith("8 members, 1 thread each: about 8 h 0 min")
    path.write_bytes(path.read_bytes()[:-10])
    assert said().startswith("8 members, 1 thread each: about 8 h 0 min")  # damaged: the run will say so
    path.unlink()
    assert run.main([*options, "--quiet"]) == 0
    assert run.main([*options, "--dry-run"]) == 0
    *_, workers, last = capsys.readouterr().out.splitlines()
    assert workers == "Workers (--cluster): none; all members are there"  # and no ranks
    assert last.startswith("8 members, 1 thread each: 8 of them there in whole or in part, about ")
    assert " h " not in last


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "1 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations_in_words(seconds, words):
    assert dry_run.in_words(seconds) == words


def test_schema_for_editors(capsys):
    import json

    assert run.main(["--print-schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"problem", "particles", "depth", "flow", "grid", "reference"} <= set(schema["properties"])
    assert schema["required"] == ["name"]
    assert schema["additionalProperties"] is False


def test_disk_is_that_of_the_files_written(tmp_path, monkeypatch, planned):
    monkeypatch.chdir(tmp_path)
    options = ["small.toml", "--jobs", "1", "--threads", "1", "--set", "flow.every=0.1", "--quiet"]
    planned = grid.expand(schema.load(tmp_path / "small.toml", {"flow.every": 0.1})[0])
    sizes = trial.each(planned, "cpu", 1, lambda one, setup: forecast.size(one, setup, 1))
    assert run.main([*options, "--out", str(tmp_path)]) == 0
    written = sorted(path.stat().st_size for path in (tmp_path / "small" / "latest").glob("members/*.h5"))
    assert sorted(size.disk for size in sizes) == pytest.approx(written, rel=0.05)


@pytest.mark.parametrize(("particles", "samples", "width"), [(1000, 20_000, 16), (4000, 500, 48)])
def test_memory_is_that_of_the_arrays_of_a_run(tmp_path, particles, samples, width):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=rng.normal(size=(samples, width)), y=rng.normal(size=samples))
    text = STUDY.replace('name = "sine"\nsamples = 40\nheldout = 0.25', 'name = "file"\npath = "data.npz"')
    text = text.replace('observables = ["heldout"]', "").replace("[3, 300]", f"[{particles}]").replace("1, 2, 3]", "]")
    (tmp_path / "large.toml").write_text(
        text.replace("until = 2.0\nevery = 0.5", "until = 0.03\nevery = 0.01\nstep = 0.01")
    )
    (plan,) = grid.expand(schema.load(tmp_path / "large.toml", {})[0])
    first = members.build(plan.member, "cpu", 1)  # compiles
    expected = forecast.size(plan, first, 1).memory
    list(first.run(None, plan.member))
    del first
    tracemalloc.start()
    try:
        setup = members.build(plan.member, "cpu", 1)
        frames = list(setup.run(None, plan.member))[-1:]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert frames[0].step == 3
    assert 0.6 * expected < peak < 1.1 * expected


def test_more_memory_than_the_machine_has_is_said(monkeypatch):
    page = os.sysconf("SC_PAGE_SIZE")
    monkeypatch.setattr(os, "sysconf", lambda name: page if name == "SC_PAGE_SIZE" else 2**30 // page)
    assert dry_run._too_much(2**30 + 1) == " (this machine has 1024 MiB)"
    assert dry_run._too_much(2**30) == ""
