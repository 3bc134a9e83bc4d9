"""The theorems along a trajectory, and the page that shows them."""

import json
import re

import numpy as np
import pytest

import wgflow
from wgflow.analysis import report
from wgflow.analysis.along import along, spread
from wgflow.analysis.figures.theorems import drawing, panel, rows
from wgflow.errors import InputError, TrajectoryError
from wgflow.sims import run
from wgflow.theory.certificate import certificate
from wgflow.theory.envelope import adjoint_envelope
from wgflow.theory.stationarity import residual
from wgflow.trajectory import TrajectoryWriter

SCHEMES = [{"name": "gaps"}, {"name": "deposit", "layers": 4}, {"name": "layers", "layers": 3}, {"name": "shallow"}]
STUDY = """
name = "theorems"
figure = "loss_and_particles"
[problem]
name = "sine"
samples = 30
[particles]
tau = "uniform"
[flow]
until = 1.0
[grid]
"particles.count" = [6, 12]
"""


def written(path, frames, energy, **options):
    with TrajectoryWriter.create(path, energy, len(frames[0].tau), **options) as writer:
        for frame in frames:
            writer.append(frame)
    return path


@pytest.fixture(params=SCHEMES, ids=lambda spec: spec["name"])
def short(request, rng, tmp_path):
    problem = wgflow.Problem.padded(rng.normal(size=(25, 2)), rng.normal(size=25))
    energy = wgflow.Energy(problem, request.param)
    frames = list(wgflow.Flow(energy, step=0.05).run(wgflow.Particles.draw_layers(problem, 3, 4, seed=0), until=1.0))
    return written(tmp_path / "run.h5", frames, energy), frames, energy


def test_numbers_are_those_of_the_theory_at_each_frame(short):
    path, frames, energy = short
    told = []
    with wgflow.Trajectory(path) as trajectory:
        found = along(trajectory, lambda what, share: told.append(share), starts=9)
    measures = {frame.s: wgflow.Particles(frame.theta, frame.tau, frame.mass) for frame in frames}
    for s, each in zip(found.s.tolist(), found.residual, strict=True):
        assert each == residual(energy, measures[s], s)
    for s, each in zip(found.certified.tolist(), found.certificates, strict=True):
        steps = 300 if s == 1.0 else 100
        assert each.value == certificate(energy, measures[s], starts=9, steps=steps, s=s).value
    for frame, envelope in zip((frames[0], frames[-1]), found.envelopes.values(), strict=True):
        np.testing.assert_array_equal(envelope.ratio, adjoint_envelope(energy, measures[frame.s]).ratio)
    np.testing.assert_allclose(found.balance.drop, [frames[0].energy - frame.energy for frame in frames])
    assert found.travelled[0] == pytest.approx(0.0, abs=1e-6)
    assert found.travelled[-1] > 0
    assert (found.certified[0], found.certified[-1], len(found.certified)) == (0.0, 1.0, 9)
    assert len(found.assumptions) == 6
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0.0, 1.0)
    said = f"At s = 1 the measure is stationary to {found.residual[-1].total:.1e}; its support is like "
    assert found.verdict.startswith(said)
    assert f"E = {frames[-1].energy:.3g}" in found.verdict
    drawn = drawing(found, "run")
    assert drawn.finding == found.verdict
    assert len(drawn.draw().axes) == 6
    table = rows(found)
    assert [row["s"] for row in table] == found.s.tolist()
    assert [row["certificate"] for row in table if "certificate" in row]
    assert {row["verdict"] for row in panel(found)} <= {"pass", "fail", "unknown"}


def test_runs_that_cannot_be_analysed(short, tmp_path):
    _, frames, energy = short
    for count in (0, 1):
        path = tmp_path / f"{count}.h5"
        with TrajectoryWriter.create(path, energy, len(frames[0].tau)) as writer:
            for frame in frames[:count]:
                writer.append(frame)
        with (
            wgflow.Trajectory(path) as trajectory,
            pytest.raises(InputError, match=f"at least two frames, got {count}"),
        ):
            along(trajectory)
    with wgflow.Trajectory(short[0]) as trajectory:
        trajectory.close()
        with pytest.raises(TrajectoryError, match="has been closed"):
            along(trajectory)


@pytest.mark.parametrize(("count", "most", "expected"), [(1, 3, [0]), (3, 9, [0, 1, 2]), (11, 3, [0, 5, 10])])
def test_frames_are_spread_evenly(count, most, expected):
    assert spread(count, most).tolist() == expected


def test_the_page_with_the_theorems(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theorems.toml").write_text(STUDY)
    assert run.main(["theorems.toml", "--quiet"]) == 0
    (folder,) = tmp_path.glob("runs/theorems/*")
    before = json.loads((folder / "summary.json").read_text())
    assert report.main([str(folder), "--starts", "6"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == str((folder / "report.html").relative_to(tmp_path)) or out[-1] == str(folder / "report.html")
    page = (folder / "report.html").read_text()
    assert out[0] in page.replace("&#x27;", "'")
    assert "The theorems along count-12" in page
    assert page.count("<svg") >= 3  # the theorems, the study's own figure, the moving particles
    assert "Loss along flow time" in page
    assert not re.search(r"(src|href)=.(https?:)?//", page)
    after = json.loads((folder / "summary.json").read_text())
    assert after["members"] == before["members"]
    assert after["assumptions"][0]["assumption"] == "universal kernel"
    assert (folder / "theorems.csv").is_file()
    assert report.main([str(folder), "--member", "count=6", "--starts", "6", "--quiet"]) == 0
    assert "The theorems along count-6" in (folder / "report.html").read_text()
    for arguments, words in (
        ([str(folder), "--member", "count=7"], "unknown member 'count=7' (str): did you mean 'count"),
        ([str(tmp_path)], "expected the folder of a run"),
        ([str(folder), "--starts", "x"], "invalid int value"),
        ([str(folder), "--starts", "0"], "starts: expected a whole number >= 3"),
    ):
        capsys.readouterr()
        assert report.main(arguments) == 2
        err = capsys.readouterr().err
        assert words in err
        assert len(err.splitlines()) == 1
