"""Forecasts: sizes are exact, times add up; how well times are met is measured by running studies, not here."""

import pytest

from wgflow.sims import forecast, run, trial
from wgflow.study import grid, schema

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
    frames = 5 * (3 * (5 + 2) + 1) * 8  # N, theta with tau and mass; heldout
    beside = sizes[0].disk - frames  # samples and structure
    assert sizes[1].disk - sizes[0].disk in (0, 5 * 3 * (5 + 2) * 8)
    assert 40 * 1024 < beside < 60 * 1024
    assert seconds[0] < seconds[-1]
    assert sizes[0].memory < sizes[-1].memory


def test_the_longest_go_first_to_the_process_that_is_free():
    seconds, sizes = [1.0, 4.0, 2.0, 3.0], [forecast.Size(1.0, 1, 10, 100, 1)] * 4
    one, two = (forecast.total(seconds, sizes, jobs, []) for jobs in (1, 2))
    assert one[0] - two[0] == pytest.approx(10.0 - 5.0 - forecast._START)
    assert two[1] > one[1]
    assert one[2] == two[2] == 40


def test_dry_run_says_time_memory_and_disk(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(STUDY)
    assert run.main(["small.toml", "--dry-run", "--jobs", "2", "--threads", "1"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
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
    assert said().startswith("8 members, 1 thread each: 8 of them there in whole or in part, about ")
    assert " h " not in said()


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "1 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations_in_words(seconds, words):
    assert forecast._duration_in_words(seconds) == words


def test_schema_for_editors(capsys):
    import json

    assert run.main(["--print-schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"problem", "particles", "depth", "flow", "grid", "reference"} <= set(schema["properties"])
    assert schema["required"] == ["name"]
    assert schema["additionalProperties"] is False
