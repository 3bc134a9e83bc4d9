"""The study of zero loss: its starts, what it says of them, and what it refuses."""

import csv
import json
import tomllib

import numpy as np
import pytest
from verdict_checks import made_false, made_true

from wgflow.base.errors import InputError
from wgflow.sims import run
from wgflow.sims.bundled import study_path
from wgflow.studies.registry import figures
from wgflow.studies.zero_loss.reduce import RESTING, assumptions, runs
from wgflow.study import schema
from wgflow.study.workspace import Workspace
from wgflow.systems import members
from wgflow.theory.one_signed_floor import one_signed_floor
from wgflow.trajectory import Trajectory

LINE = {"name": "sine", "samples": 12, "frequency": 0.4, "standardise": False, "state": "identity"}
SMALL = {"problem": LINE, "particles": {"count": 24}, "flow": {"until": 1.0}, "depth": {"name": "layers", "layers": 4}}


def start(**particles):
    """Initial parameters by layer, (4, 6, P)."""
    member = schema.check_member(SMALL | {"particles": {"count": 24, **particles}}, "test")
    return members.build(member).start.theta.reshape(4, 6, -1)


@pytest.mark.parametrize(("t0", "layer"), [(None, 2), (0.0, 0), (0.3, 1), (1.0, 3)])
def test_one_layer_is_as_drawn_and_the_others_are_a_point(t0, layer):
    full, one = start(), start(support="one_layer", **({} if t0 is None else {"t0": t0}))
    np.testing.assert_array_equal(one[layer], full[layer])
    others = np.delete(one, layer, axis=0).reshape(-1, 3)
    assert (others == full[0, 0]).all()
    assert len(np.unique(one[layer], axis=0)) == 6


def test_one_sided_is_a_cone():
    full, cone = start(), start(support="one_sided")
    np.testing.assert_array_equal(cone[..., 1:], full[..., 1:])
    np.testing.assert_allclose(cone[..., 0], np.sqrt(2) * np.linalg.norm(full, axis=-1))
    assert (cone[..., 0] ** 2 >= 2 * (cone[..., 1:] ** 2).sum(axis=-1)).all()


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"particles": {"support": "one_layer"}, "depth": {"name": "deposit", "layers": 4}},
            "expected depth layers for",
        ),
        ({"particles": {"count": 24, "t0": 0.5}}, "particles.t0: expected support one_layer, got full"),
        ({"particles": {"count": 24, "support": "one_layer", "t0": 1.5}}, "t0"),
        ({"problem": LINE | {"block": "matrix"}, "particles": {"count": 24, "support": "one_sided"}}, "a group 'a'"),
    ],
)
def test_starts_that_cannot_be_are_refused(tables, message):
    with pytest.raises(InputError, match=message):
        members.build(schema.check_member(SMALL | tables, "test"))


def small(place, *changes):
    """The study with changes, in a folder."""
    options = [part for each in ("grid.seed=[0]", "problem.samples=20", *changes) for part in ("--set", each)]
    assert run.main(["zero_loss", "--out", str(place), "--quiet", *options]) == 0
    (folder,) = place.glob("*/[0-9a-f]*")
    return Workspace(folder)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """The ridge blocks alone."""
    return small(tmp_path_factory.mktemp("runs"), "flow.until=40.0", "particles.per_layer=16", "also=[]")


@pytest.fixture(scope="module")
def qualifying(tmp_path_factory):
    """The two other blocks as the study has them, for a short time, beside one ridge block."""
    study = tomllib.loads(study_path("zero_loss").read_text())
    short = [
        {**table, "seed": 0, "flow.until": 4.0, "particles.support": ["full", "one_sided"]} for table in study["also"]
    ]
    written = ", ".join(
        "{" + ", ".join(f"'{key}'={_toml(value)}" for key, value in table.items()) + "}" for table in short
    )
    return small(
        tmp_path_factory.mktemp("runs"), "grid.problem.activation=['relu']", "grid.particles.support=['full']",
        "flow.until=4.0", "particles.per_layer=16", f"also=[{written}]",
    )  # fmt: skip


def _toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_toml(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


def test_what_is_said_of_a_member_is_in_its_trajectory(work):
    found = runs(work)
    assert len(found) == 15
    for each, path in zip(found, work.trajectories(), strict=True):
        with Trajectory(path) as trajectory:
            energy, last = trajectory.energy(), trajectory[-1]
            x, y = energy.problem.x, energy.problem.y
            assert each.empty == pytest.approx(0.5 * np.mean((x - y) ** 2), rel=1e-12)
            assert each.energy[-1] == last.energy
            assert each.rate == pytest.approx(last.s * last.dissipation / last.energy)
            assert each.one_sided[-1] == (len(np.unique(np.sign(last.theta[last.theta[:, 0] != 0, 0]))) < 2)
            if each.block == "tanh":
                assert np.isnan(each.floor)
            else:
                assert each.floor == one_signed_floor(energy.problem)
                assert (each.energy[each.one_sided] >= each.floor * (1 - 1e-12)).all()  # the bound, at every frame


def test_the_cone_fails_whatever_its_block(work):
    """The negative control, for partially homogeneous blocks too, whose theta_1 = a is beyond r0 there."""
    for each in runs(work):
        assert each.separated == (each.support in ("full", "one_layer"))
        assert (each.separation[0].verdict == "fail") == (not each.separated)
        assert np.isfinite(each.separation[0].r0) == (each.kind == "partially 1-homogeneous")
        if np.isfinite(each.separation[0].r0):
            assert each.separation[-1].r0 >= each.separation[0].r0


def test_separated_starts_go_on_to_zero_and_relu_needs_one(work):
    ends = {(each.block, each.support): each for each in runs(work)}
    for (block, support), each in ends.items():
        if support in ("full", "one_layer"):
            assert each.separated
            assert each.energy[-1] < 0.02 * each.empty  # at a twelfth of the study's flow time, and on its way
            assert each.rate > 5 * RESTING
            assert each.separates.verdict == "pass"  # of the law; of its particles nothing is proved
            assert each.separation[0].verdict == "unknown"
        if block == "relu" and support in ("point", "one_sided"):
            assert each.on_floor
            assert each.rate < RESTING
            assert each.energy[-1] > 0.4 * each.empty
            assert {one.verdict for one in each.separation} == {"fail"}
            assert not each.zero
    for block in ("relu", "regularised_relu", "tanh"):  # stationary, of regularised_relu because y is odd
        assert ends[block, "origin"].energy[-1] == pytest.approx(ends[block, "origin"].empty, rel=1e-12)
    assert ends["tanh", "point"].energy[-1] < 0.05 * ends["tanh", "point"].empty  # other ways there are


def test_the_assumptions_that_can_be_assumptions(work):
    panel = assumptions(work)
    assert set(panel) == {"relu", "regularised_relu", "tanh"}
    for block, lines in panel.items():
        verdicts = {line.name: line.verdict for line in lines}
        assert (verdicts["separation of the law"], verdicts["separation"]) == ("pass", "unknown")
        assert verdicts["support in Q_r"] == "fail"  # of a Gaussian
        assert verdicts["limit-admissible"] == "fail"  # of independent layers
        assert verdicts["universal kernel"] == "pass"
        assert verdicts["homogeneity"] == "fail"  # relu has no Lipschitz slope, the others no bounded d_x fhat
        names = {"homogeneity", "universal kernel", "separation", "isolated critical values"}
        names |= {"support in Q_r", "limit-admissible", "separation of the law"}
        assert set(verdicts) == (names if block == "relu" else names | {"C^1 limit of H_r"})
        assert verdicts.get("C^1 limit of H_r", "fail") == "fail"


def test_what_a_proof_needs_is_refuted_for_no_qualifying_block(qualifying):
    panel = {block: {line.name: line for line in lines} for block, lines in assumptions(qualifying).items()}
    assert set(panel) == {"relu", "saturated_matrix with gelu", "gaussian_matrix with squared_relu"}
    for block, lines in panel.items():
        assert lines["separation of the law"].verdict == "pass"
        proved = {name for name in ("homogeneity", "support in Q_r") if lines[name].verdict == "pass"}
        assert proved == (set() if block == "relu" else {"homogeneity", "support in Q_r"})
        assert any(line.verdict == "fail" for line in lines.values()) == (block == "relu")
        assert lines["limit-admissible"].verdict == ("fail" if block == "relu" else "pass")
    found = {(each.block, each.support): each for each in runs(qualifying)}
    for block in set(panel) - {"relu"}:
        assert found[block, "full"].separated
        assert not found[block, "one_sided"].separated
        assert found[block, "full"].energy[-1] < 0.5 * found[block, "full"].energy[0]
    one_sided = found["gaussian_matrix with squared_relu", "one_sided"]
    assert one_sided.one_sided.all()  # the flow keeps its second term 0
    assert (one_sided.energy >= one_sided.floor).all()
    finding = figures()["zero_loss"](qualifying).finding
    assert (
        "Where one is refuted, relu (homogeneity, support in Q_r, limit-admissible), it is zero in 0 of 1." in finding
    )
    assert "Where no hypothesis that was checked is refuted, saturated_matrix with gelu; gaussian_matrix" in finding


def test_the_starts_of_qualifying_blocks_are_within_their_bounds(qualifying):
    for path in qualifying.trajectories():
        with Trajectory(path) as trajectory:
            theta, block = trajectory[0].theta, trajectory.energy().problem.block.name
            support = trajectory.parameters["study"]["particles"]["support"]
        if (block, support) == ("saturated_matrix", "full"):
            assert np.abs(theta[:, 0]).max() <= 2.0
        if block == "gaussian_matrix":
            assert np.linalg.norm(theta, axis=1).max() <= 2.0


def test_the_figure_states_its_finding(work):
    drawing = figures()["zero_loss"](work)
    assert "From starts whose separation at t0 = 0.5 is proved, E is" in drawing.finding
    assert "of 3 runs with relu 2 at" in drawing.finding
    assert drawing.finding.endswith(".")
    with (work.folder / "zero_loss.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["energy_end"]) for row in rows] == [each.energy[-1] for each in runs(work)]
    assert (work.folder / "zero_loss.png").stat().st_size > 10_000


def test_under_error_control_all_runs_follow_the_flow(work):
    drawing = figures()["zero_loss"](work)
    made_true(drawing.verdicts, "zero_loss_runs_follow_the_flow")
    assert drawing.finding.endswith("within 5% in all 15 runs, so they follow the gradient flow.")
    assert max(each.unexplained for each in runs(work)) > 0


def test_runs_that_do_not_follow_the_flow_are_said(tmp_path):
    """Steps of 0.1 from relu's cone do not, by halvings of E and by all of its descent; the origin is at rest."""
    coarse = small(
        tmp_path, "also=[]", "grid.problem.activation=['relu']", "grid.particles.support=['one_sided', 'origin']",
        "particles.per_layer=4", "flow={step=0.1, until=8.0, every=0.8}",
    )  # fmt: skip
    drawing = figures()["zero_loss"](coarse)
    made_false(drawing.verdicts, "zero_loss_runs_follow_the_flow")
    assert drawing.finding.startswith("1 of 2 runs (relu) do not follow the gradient flow: dissipation differs")
    summary = json.loads((coarse.folder / "summary.json").read_text())
    assert summary["findings"][0].startswith("1 of 2 runs left the gradient flow")
    assert len(summary["warnings"]) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("particles.support=full", "grid.particles.support: expected several values"),
        ("depth={name='deposit', layers=4}", "depth: expected layers or shallow"),
        ("problem.block=matrix", "block"),
    ],
)
def test_a_study_that_cannot_be_drawn_is_refused(change, message, capsys, tmp_path):
    extra = ["--set", "particles.per_layer=4"] if "deposit" not in change else ["--set", "particles={count=16}"]
    assert run.main(["zero_loss", "--out", str(tmp_path), "--set", change, *extra]) == run.BAD_INPUT
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*/[0-9a-f]*/members/*.h5"))
