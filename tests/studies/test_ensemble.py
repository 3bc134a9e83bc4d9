import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError
from wgflow.report import style
from wgflow.report.member_selection import evenly_spaced
from wgflow.sims import run
from wgflow.studies.ensemble.figure import _finding
from wgflow.studies.ensemble.reduce import Measured, _mean
from wgflow.studies.registry import figures
from wgflow.study.workspace import Workspace
from wgflow.theory.ablation import deletion
from wgflow.theory.envelope import adjoint_envelope
from wgflow.theory.expansion import remainders

SMALL = ["--set", "flow.until=1.0", "--set", "flow.every=1.0", "--set", "depth.layers=4", "--set", "particles.count=8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    seeds = ["--set", "grid.seed=[0, 1]", "--set", "grid.particles.scale.a=[1, 2]"]
    assert run.main(["ensemble", "--out", str(place), "--quiet", *SMALL, *seeds]) == 0
    return next((place / "ensemble").glob("[0-9a-f]*"))


@pytest.mark.parametrize("figure", ["ensemble", "envelope"])
def test_the_command_redraws_the_runners_figure(folder, tmp_path, figure):
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("*.png", "*.pdf", "*.csv", "events.jsonl"))
    subprocess.run([sys.executable, "-m", "wgflow", "figure", figure, str(bare)], check=True, capture_output=True)
    for suffix in ("png", "pdf"):
        assert (bare / f"{figure}.{suffix}").read_bytes() == (folder / f"{figure}.{suffix}").read_bytes()


def test_rows_are_means_over_seeds(folder):
    """Slopes, and what the first order leaves, once more from the trajectories."""
    rows = json.loads((folder / "summary.json").read_text())["ensemble"]
    assert [(row["members"], row["s"]) for row in rows] == [("a = 1", 0), ("a = 1", 1), ("a = 2", 0), ("a = 2", 1)]
    left, slope = [], []
    for path in sorted((folder / "members").glob("a-2*.h5")):
        with wgflow.Trajectory(path) as trajectory:
            energy, frame = trajectory.energy(), trajectory[-1]
            rho = wgflow.Particles(frame.theta, frame.tau, frame.mass)
            size = np.sqrt(np.mean(energy.predict(rho, energy.problem.x) ** 2))
            left.append(remainders(energy, rho, [1.0, 0.5]).size[1, 0] / size)
            slope.append(remainders(energy, rho).slope[3])
    assert len(left) == 2
    assert rows[3]["left 1"] == pytest.approx(np.mean(left), rel=1e-9)
    assert rows[3]["slope 3"] == pytest.approx(np.mean(slope), rel=1e-9)
    for row in rows:
        assert [row[f"slope {order}"] for order in (1, 2, 3)] == pytest.approx([2, 3, 4], abs=0.05)


def test_the_deletion_that_matters_most_is_that_of_each_run(folder):
    """The largest over layers of every member, then their range: no largest of means, which is below each of them."""
    rows = json.loads((folder / "summary.json").read_text())["ensemble"]
    worst = []
    for path in sorted((folder / "members").glob("a-2*.h5")):
        with wgflow.Trajectory(path) as trajectory:
            energy, frame = trajectory.energy(), trajectory[-1]
            found = deletion(energy, wgflow.Particles(frame.theta, frame.tau, frame.mass))
            worst.append((found.energy / found.base).max())
    assert (rows[3]["deleted least"], rows[3]["deleted most"]) == pytest.approx((min(worst), max(worst)), rel=1e-9)


def test_the_range_of_deletions_is_above_the_largest_of_means():
    """Two runs in which E rises by 4% and 5%, each without another layer; the means over them rise by 2% and 2.5%."""
    frame = {name: np.zeros(4) for name in Measured._fields} | {"left": np.ones((4, 9))}
    runs = [[Measured(**frame | {"deleted": np.array(each)})] for each in ([1.04, 1.0], [1.0, 1.05])]
    group = _mean("", [(1, frames) for frames in runs])
    np.testing.assert_allclose(group.worst, [[1.04, 1.05]])
    assert "raises it most E changes by +4.0% to +5.0% over 2 runs" in _finding([group])


def test_the_envelope_is_that_of_the_trajectories(folder):
    rows = json.loads((folder / "summary.json").read_text())["envelope"]
    with wgflow.Trajectory(folder / "members" / "a-1_seed-0.h5") as trajectory:
        energy, frame = trajectory.energy(), trajectory[-1]
    found = adjoint_envelope(energy, wgflow.Particles(frame.theta, frame.tau, frame.mass))
    assert rows[1]["member"] == "a=1, seed=0"
    assert (rows[1]["lower"], rows[1]["upper"]) == pytest.approx((found.lower[0], found.upper[0]), rel=1e-9)
    assert rows[1]["ratio"] == pytest.approx(found.ratio[0], rel=1e-9)
    assert len(rows) == 6  # start and end of three members


@pytest.mark.parametrize("figure", ["ensemble", "envelope"])
def test_a_run_without_frames_is_refused(folder, tmp_path, figure):
    (tmp_path / "study.json").write_text((folder / "study.json").read_text())
    with pytest.raises(InputError, match="expected members with frames, got none"):
        figures()[figure](Workspace(tmp_path))


def test_long_runs_are_sampled():
    assert evenly_spaced(1, 9) == [0]
    assert evenly_spaced(3, 9) == [0, 1, 2]
    assert evenly_spaced(101, 5) == [0, 25, 50, 75, 100]


@pytest.mark.parametrize("change", ["depth={name='shallow'}", "depth.layers=1", "depth={name='gaps'}"])
def test_one_layer_is_refused_before_anything_runs(tmp_path, monkeypatch, capsys, change):
    monkeypatch.chdir(tmp_path)
    count = "particles.count=1" if "gaps" in change else "particles.count=8"
    assert run.main(["ensemble", "--set", change, "--set", count]) == run.BAD_INPUT
    assert "expected several layers to draw 'ensemble'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("depth", ["{name='gaps'}", "{name='deposit', layers=4}"])
def test_other_schemes_without_a_grid_are_drawn(tmp_path, depth):
    options = ["--set", f"depth={depth}", "--set", "particles.count=6", "--set", "particles.scale.a=1.0"]
    options += ["--set", "seed=0", "--set", "flow.until=0.2", "--set", "figure=none"]
    assert run.main(["ensemble", "--out", str(tmp_path), "--quiet", *options]) == 0
    drawing = figures()["ensemble"](Workspace(next((tmp_path / "ensemble").glob("[0-9a-f]*"))))
    assert [row["members"] for row in drawing.tables["ensemble"]] == ["", ""]
    figure = style.draw_styled(drawing)
    assert len(figure.axes) == 6
