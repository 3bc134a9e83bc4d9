"""Studies with transport of mass and degenerate starts, and the two bundled ones that use them."""

import csv
import json

import numpy as np
import pytest

from wgflow.base.errors import InputError
from wgflow.sims import run
from wgflow.studies.escape.figure import EPSILON
from wgflow.studies.registry import figures
from wgflow.study import schema
from wgflow.study.workspace import Workspace
from wgflow.systems import members
from wgflow.theory.transport import Birth, BirthDeath
from wgflow.trajectory import Trajectory

SMALL = {"problem": {"name": "sine", "samples": 10}, "particles": {"count": 6}, "flow": {"until": 1.0}}
BOTH = [{"name": "birth_death", "rate": 2.0}, {"name": "birth", "every": 5, "radius": 3.0}]


def member(**tables):
    return schema.check_member(SMALL | tables, "test")


@pytest.mark.parametrize("support", ["full", "point", "origin"])
@pytest.mark.parametrize("depth", [{"name": "deposit", "layers": 3}, {"name": "layers", "layers": 3}, {"name": "gaps"}])
def test_starts_have_the_support_asked_for(support, depth):
    start = members.build(member(depth=depth, particles={"count": 6, "support": support})).start
    full = members.build(member(depth=depth)).start
    kinds = {"full": 6, "point": 1, "origin": 1}[support]
    assert len(np.unique(start.theta, axis=0)) == kinds
    assert (start.theta == 0).all() == (support == "origin")
    if support == "point":
        np.testing.assert_array_equal(start.theta[0], full.theta[0])
        assert len(np.unique(start.tau)) == (3 if depth["name"] == "layers" else 1)
    else:
        np.testing.assert_array_equal(start.tau, full.tau)


def test_a_table_becomes_the_theorys_ingredient_with_the_members_seed():
    made = members.build(member(seed=7, depth={"name": "shallow"}, flow={"until": 1.0, "ingredients": BOTH})).flow
    assert made.ingredients == (BirthDeath(2.0, seed=7), Birth(5, 3.0, seed=7))
    assert made.spec()["ingredients"][1]["name"] == "birth"


@pytest.mark.parametrize("depth", ["gaps", "layers"])
def test_schemes_without_moving_mass_are_refused_before_a_run(depth):
    table = {"name": depth} | ({"layers": 3} if depth == "layers" else {})
    with pytest.raises(InputError, match=r"flow\.ingredients: expected depth deposit or shallow for 'birth_death'"):
        members.build(member(depth=table, flow={"until": 1.0, "ingredients": BOTH}))


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([{"name": "birth_death"}], "rate"), ([{"name": "birth", "every": 0, "radius": 1.0}], "every"),
        ([{"name": "birth", "every": 2}], "radius"), ([{"name": "rebirth"}], "birth_death"),
    ],
)  # fmt: skip
def test_bad_tables_are_refused(tables, message):
    with pytest.raises(InputError, match=message):
        member(flow={"until": 1.0, "ingredients": tables})


def escape_options(*changes):
    """Options of a small version of the study, in which all transports are run for the same time."""
    transports = "[], [{name='birth_death', rate=1.0}], [{name='birth', period=5.0, radius=4.0, starts=16}]"
    both = "[{name='birth_death', rate=1.0}, {name='birth', period=5.0, radius=4.0, starts=16}]"
    small = ("also=[]", "particles.count=8", f"grid.flow.ingredients=[{transports}, {both}]")
    return [part for each in (*small, *changes) for part in ("--set", each)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    small = ["--out", str(place), "--quiet", "--set", "grid.seed=[0]", "--set", "problem.samples=20"]
    assert run.main(["landscape", *small, "--set", "flow.until=20.0", "--set", "particles.count=16"]) == 0
    assert run.main(["escape", *small, *escape_options("flow.until=30.0")]) == 0
    return {path.parent.name: path for path in place.glob("*/[0-9a-f]*")}


def rows(runs, name):
    with (runs[name] / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def test_landscape_tells_the_supports_apart(runs):
    found = {(row["depth"], row["support"]): row for row in rows(runs, "landscape")}
    assert len(found) == 6
    for (_, support), row in found.items():
        number = {key: float(value) for key, value in row.items() if key not in ("depth", "support", "seed")}
        assert number["certificate_start"] < -1
        if support == "origin":
            assert number["dissipation_end"] == 0
            assert number["energy_end"] == number["energy_start"]
            assert number["certificate_end"] == pytest.approx(number["certificate_start"], rel=1e-6)
        else:
            assert number["energy_end"] < 0.5 * number["energy_start"]


def test_escape_times_are_those_of_the_trajectories(runs):
    found = rows(runs, "escape")
    assert {row["transport"] for row in found} == {"motion alone", "birth-death", "births", "both"}
    for row, path in zip(found, Workspace(runs["escape"]).trajectories(), strict=True):
        with Trajectory(path) as trajectory:
            below = [frame.s for frame in trajectory if frame.energy <= EPSILON]
            assert [frame.mass.sum() for frame in trajectory] == pytest.approx([1.0] * len(trajectory))
        assert float(row["time_to_epsilon"] or "inf") == (below[0] if below else np.inf)
    end = {row["transport"]: float(row["energy_end"]) for row in found if row["support"] == "point"}
    assert end["birth-death"] == pytest.approx(end["motion alone"], rel=1e-6)  # equal particles: no masses to move
    assert end["births"] < 0.95 * end["motion alone"]
    assert end["both"] < 0.5 * end["motion alone"]


def test_rises_are_seen_whatever_moves_the_masses(tmp_path):
    """Too long a step is said of runs with births and birth-death too, and the summary has their balance."""
    options = escape_options("flow={step=0.5, until=12.0, every=2.0}", "grid.seed=[0]", "problem.samples=10")
    assert run.main(["escape", "--out", str(tmp_path), "--quiet", *options]) == 0
    (place,) = tmp_path.glob("escape/[0-9a-f]*")
    summary = json.loads((place / "summary.json").read_text())
    acted = [row for row in summary["members"] if row["flow.ingredients"]]
    assert len(acted) == 6
    assert all(row["balance_defect"] > 0 for row in acted)
    assert any(row["energy_rises"] > 0 for row in acted)
    assert any("birth" in line and "E rose in" in line for line in summary["warnings"])
    assert "of 8 runs left the gradient flow" in summary["findings"][0]


@pytest.mark.parametrize("name", ["landscape", "escape"])
def test_figures_state_their_finding(runs, name):
    drawing = figures()[name](Workspace(runs[name]))
    assert drawing.finding.endswith(".")
    assert (runs[name] / f"{name}.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["landscape", "escape"])
def test_a_study_without_the_grid_they_need_is_refused(name, capsys, tmp_path):
    assert run.main(["teacher", "--out", str(tmp_path), "--set", f"figure={name}"]) == run.BAD_INPUT
    assert "expected several values to draw" in capsys.readouterr().err


@pytest.mark.parametrize(
    "ingredients",
    ["[{name='birth_death', rate=1.0}]", "[{name='birth', every=2, radius=3.0}]"],
)
def test_a_divergence_with_transport_is_a_divergence(tmp_path, monkeypatch, capsys, ingredients):
    """Its last good frame is kept and the other members finish."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "far.toml").write_text(
        'name = "far"\nfigure = "none"\n[problem]\nname = "sine"\nsamples = 20\nactivation = "relu"\n'
        '[particles]\ncount = 8\n[depth]\nname = "shallow"\n[flow]\nuntil = 120.0\n'
        f'every = 60.0\ningredients = {ingredients}\n[grid]\n"flow.step" = [0.5, 20.0]\n'
    )
    assert run.main(["far.toml", "--quiet"]) == run.DIVERGED
    assert "diverged" in capsys.readouterr().err
    (folder,) = tmp_path.glob("runs/far/[0-9a-f]*")
    rows = json.loads((folder / "summary.json").read_text())["members"]
    assert {row["flow.step"]: row["status"] for row in rows} == {0.5: "finished", 20.0: "diverged"}
    assert len(list(folder.glob("members/*.h5"))) == 2
