"""The sizing study, reduced: what was observed, targets changed without running again, targets that are none."""

import json

import numpy as np
import pytest
from verdict_checks import made_false, made_true

import wgflow
from wgflow.report import style
from wgflow.sims import run
from wgflow.studies.registry import figures
from wgflow.studies.sizing.figure import verdict
from wgflow.studies.sizing.reduce import summarise
from wgflow.study.workspace import Workspace

STUDY = """
name = "size"
figure = "sizing"
record = "numbers"
[target]
eps = 0.068
eta = 0.2
[problem]
name = "sine"
samples = 24
[depth]
name = "layers"
layers = 1
[flow]
step = 0.5
until = 20.0
every = 20.0
[grid]
"depth.layers" = [1, 2, 4]
"particles.per_layer" = [1, 4, 16]
seed = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sizing")
    (folder / "size.toml").write_text(STUDY)
    assert command(folder) == 0
    return folder


def command(folder, *changes):
    changes = [part for change in changes for part in ("--set", change)]
    return run.main([str(folder / "size.toml"), "--out", str(folder / "runs"), "--quiet", "--jobs", "1", *changes])


def made(folder):
    (found,) = (folder / "runs" / "size").glob("[0-9a-f]*")
    return Workspace(found)


def test_counts_are_those_of_the_files(folder):
    assert command(folder) == 0
    rows = json.loads((made(folder).folder / "summary.json").read_text())["sizing"]
    assert [(row["layers"], row["per_layer"]) for row in rows] == [
        (layers, width) for layers in (1, 2, 4) for width in (1, 4, 16)
    ]
    last = {}
    for member in made(folder).members():
        with wgflow.Trajectory(member.path) as trajectory:
            assert trajectory.particles == 0
            last.setdefault(tuple(member.values[key] for key in ("depth.layers", "particles.per_layer")), []).append(
                trajectory[-1].energy
            )
    for row in rows:
        energies = np.array(last[row["layers"], row["per_layer"]])
        assert row["failed"] == (energies > 0.068).sum()
        assert row["seeds"] == 14
        assert row["mean_energy"] == pytest.approx(energies.mean())
    assert rows[0]["verdict"] == "fails"
    assert rows[-1]["verdict"] == "meets"


def test_another_target_runs_nothing_again(folder, capsys):
    before = {path: path.stat().st_mtime_ns for path in made(folder).folder.glob("members/*.h5")}
    assert command(folder, "target.eps=0.5", "target.eta=0.25") == 0
    summary = json.loads((made(folder).folder / "summary.json").read_text())
    assert "P(E > 0.5) ≤ 0.25 at s = 20" in summary["findings"][1]
    assert {path: path.stat().st_mtime_ns for path in made(folder).folder.glob("members/*.h5")} == before
    assert command(folder, "target.eps=1e-9") == 0
    summary = json.loads((made(folder).folder / "summary.json").read_text())
    assert "No network on the grid is shown to meet" in summary["findings"][1]
    assert "no size meets it at this s" in summary["findings"][1]
    said = made_false([verdict(summarise(made(folder)))], "target_met")
    assert said.endswith("(p-value = 1 > level = 0.05)")


def test_the_smallest_is_the_last_of_the_sequence(folder):
    assert command(folder) == 0
    found = summarise(made(folder))
    meets, smallest = found.phase.verdict == "meets", None
    for layers, width in ((4, 16), (2, 16), (2, 4), (1, 4), (1, 1)):
        if not meets[found.sizes.depths.index(layers), found.sizes.widths.index(width)]:
            break
        smallest = layers, width
    assert found.phase.smallest == smallest is not None
    drawing = figures()["sizing"](made(folder))
    assert f"has L = {smallest[0]}, M_l = {smallest[1]}, " in made_true(drawing.verdicts, "target_met")
    assert f"has L = {smallest[0]}, M_l = {smallest[1]}, " in drawing.finding
    assert "at most 5% of studies name a size that does not meet it" in drawing.finding
    assert f"if P(E > ε) is {1 - 0.8 ** (1 / 14):.2g}." in drawing.finding
    table = json.loads((made(folder).folder / "summary.json").read_text())["sizing"]
    passed = [row for row in sorted(table, key=lambda row: row["order"] or 99) if row["passed"]]
    assert (passed[-1]["layers"], passed[-1]["per_layer"]) == smallest
    figure = style.draw_styled(drawing)
    assert figure.axes[0].get_title(loc="left").startswith("Which sizes meet")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["target.eps=0.0"], "target.eps: expected a number greater than 0, got 0.0"),
        (["target.eps=-1.0"], "target.eps: expected a number greater than 0"),
        (["target.eps=nan"], "target.eps: expected"),
        (["target.eta=0.0"], "target.eta: expected a number greater than 0"),
        (["target.eta=1.0"], "target.eta: expected a number less than 1"),
        (["target.eta=0.1"], "grid.seed: expected at least 29 seeds for target.eta = 0.1, got 14"),
        (["grid.depth.layers=[2]"], "grid.depth.layers: expected at least two depths"),
        (["grid.particles.per_layer=[2]"], "grid.particles.per_layer: expected at least two widths"),
        (["grid.particles.per_layer=[2,4]"], "grid.particles.per_layer: expected at least 3 widths"),
        (["grid.depth.layers=[2,4]"], "grid.depth.layers: expected at least 3 depths"),
        (["grid.particles.coupling=['path','independent']"], "expected one coupling"),
        (["grid.problem.samples=[10,20]"], "grid.problem.samples: expected sizes, seeds and couplings alone"),
        (["target.delta=1.0"], "target.delta: unknown key"),
    ],
)
def test_bad_targets_write_nothing(tmp_path, capsys, changes, message):
    (tmp_path / "size.toml").write_text(STUDY)
    assert command(tmp_path, *changes) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_study_without_a_target_says_so(tmp_path, capsys):
    (tmp_path / "size.toml").write_text(STUDY.replace("[target]\neps = 0.068\neta = 0.2\n", ""))
    assert command(tmp_path) == 2
    assert "target: expected eps and eta" in capsys.readouterr().err
