"""The depth-and-width study, reduced: exponents that are known, controls, and what is refused."""

import itertools
import json

import numpy as np
import pytest
from verdict_checks import made_false, made_true

import wgflow
from wgflow.base.errors import InputError
from wgflow.report import style
from wgflow.sims import run
from wgflow.stats import fit
from wgflow.stats.convergence_rates import Interval
from wgflow.stats.fit import CrossValidation
from wgflow.studies.depth_width import particle_distances
from wgflow.studies.depth_width import reduce as depth_width
from wgflow.studies.depth_width.figure import verdicts
from wgflow.studies.registry import figures
from wgflow.study.workspace import Workspace

STUDY = """
name = "reduced"
figure = "none"
observables = ["outputs"]
[problem]
name = "teacher"
samples = 16
width = 3
[particles]
within = 256
[depth]
name = "layers"
layers = 2
[flow]
step = 0.5
until = 10.0
every = 10.0
[grid]
"particles.coupling" = ["path", "independent"]
"depth.layers" = [2, 4, 8, 16, 32]
"particles.per_layer" = [4, 8, 16, 32]
"particles.part" = [0, 1, 2, 3, 4, 5, 6, 7]
[[also]]
"particles.coupling" = "independent"
"depth.layers" = [2, 4, 8, 16]
"particles.per_layer" = 128
"particles.part" = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
[reference]
"depth.layers" = 256
"particles.per_layer" = 256
"particles.part" = 0
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("depth_width")
    (folder / "reduced.toml").write_text(STUDY)
    assert run.main([str(folder / "reduced.toml"), "--quiet", "--out", str(folder / "runs")]) == 0
    (made,) = (folder / "runs" / "reduced").glob("[0-9a-f]*")
    return Workspace(made)


@pytest.fixture(scope="module")
def families(work):
    return {family.coupling: family for family in depth_width.families(work)}


def test_what_was_read(families):
    for family in families.values():
        assert family.depths == (2, 4, 8, 16, 32)
        assert family.largest == (256, 256)
        assert len(family.draws) == 8
        np.testing.assert_array_equal(family.s, [0.0, 10.0])
    assert families["path"].widths == (4, 8, 16, 32)
    assert families["path"].nested
    assert not families["independent"].nested  # the wide ones take more particles than the reference has
    assert families["independent"].widths == (4, 8, 16, 32, 128)


def test_squares_are_those_of_the_outputs(work, families):
    """One cell again, from its particles."""
    squares = families["path"].squares(1)
    by_label = {member.label: member for member in work.members()}
    label = "coupling=path, layers=8, per_layer=16, part=3"
    (reference,) = [each for name, each in by_label.items() if each.reference and "path" in name]
    outputs = []
    for path in (by_label[label].path, reference.path):
        with wgflow.Trajectory(path) as trajectory:
            rho = wgflow.Particles(trajectory[-1].theta, trajectory[-1].tau)
            outputs.append(trajectory.energy().predict(rho, trajectory.energy().problem.x))
    assert squares[3, 2, 2] == pytest.approx(np.mean((outputs[0] - outputs[1]) ** 2), rel=1e-9)


@pytest.mark.parametrize("coupling", ["path", "independent"])
def test_exponents_of_width_and_depth(families, coupling):
    """Seeded, so the same at every run."""
    found = depth_width.fit_family(families[coupling], 1)
    assert found.fitted.exponents[1].value == pytest.approx(0.5, abs=0.1)
    assert found.depth.rate.exponent == pytest.approx(1.0, abs=0.15)
    assert found.chosen.laws[0] in ((coupling,) if coupling == "path" else (coupling, "additive"))


def test_depth_reduces_fluctuations_with_independent_layers_alone(families):
    """The negative control, and its own: with independent layers they fall."""
    path, independent = (depth_width.fit_family(families[each], 1).gain for each in ("path", "independent"))
    made_false(path.verdict, "depth_reduces_fluctuation")
    made_true(independent.verdict, "depth_reduces_fluctuation")
    assert independent.exponent.value == pytest.approx(0.5, abs=0.15)


def test_the_best_law_is_called_best_only_where_all_others_are_significantly_worse(families):
    """The interval nearest to 0 decides, whichever law it belongs to."""
    family = families["path"]
    found = depth_width.fit_family(family, 1)
    laws, margins = ("path", "independent", "additive"), (Interval(0, 0, 0), Interval(1, 0.5, 2), Interval(2, 0.1, 4))
    made_true(verdicts(family, found._replace(chosen=CrossValidation(laws, np.ones(3), margins, "size"))), "best_law")
    tied = CrossValidation(laws, np.ones(3), (*margins[:2], Interval(2, -0.1, 4)), "size")
    text = made_false(verdicts(family, found._replace(chosen=tied)), "best_law")
    assert "not significantly before 'additive'" in text


def test_shuffled_widths_have_no_exponent(families):
    """The exponent can fail: outputs that are not those of their size have none near 1/2."""
    family = families["path"]
    mixed = {size: family.runs[size[0], {4: 32, 8: 4, 16: 8, 32: 16}[size[1]]] for size in family.runs}
    found = depth_width.fit_family(family._replace(runs=mixed), 1)
    assert abs(found.fitted.exponents[1].value - 0.5) > 0.1


def test_clouds(work):
    rows = particle_distances.particle_distances(work)
    assert {row["coupling"] for row in rows} == {"path", "independent"}
    near = [row for row in rows if "coupled" in row]
    for row in near:
        assert 0 <= row["conditional"] <= row["coupled"] * (1 + 1e-12)
        assert row["conditional"] <= row["largest"] * (1 + 1e-12)
        assert row["largest_recorded"] >= row["largest"]
        assert row["frames"] > 1
    for coupling, most in (("path", 20.0), ("independent", 1e9)):
        mine = [row for row in near if row["coupling"] == coupling and row["layers"] == 32]
        by_width = {row["per_layer"]: row["coupled"] for row in mine}
        assert by_width[32] < 0.7 * by_width[4]
        assert max(row["lipschitz"] for row in rows if row["coupling"] == coupling) < most
    smooth = {row["coupling"]: row["holder"] for row in rows if row["per_layer"] == 256}
    assert smooth["path"] > 0.8
    assert abs(smooth["independent"]) < 0.05


def test_a_coupled_distance_by_hand(work):
    rows = [row for row in particle_distances.particle_distances(work) if "coupled" in row]
    row = next(r for r in rows if (r["coupling"], r["layers"], r["per_layer"], r["part"]) == ("path", 4, 8, 1))
    by_label = {member.label: member.path for member in work.members()}
    with wgflow.Trajectory(by_label["coupling=path, layers=4, per_layer=8, part=1"]) as trajectory:
        mine = trajectory[-1].theta.reshape(4, 8, -1)
    (path,) = [member.path for member in work.members() if member.reference and "path" in member.label]
    with wgflow.Trajectory(path) as trajectory:
        theirs = trajectory[-1].theta.reshape(256, 256, -1)[[32, 96, 160, 224], 8:16]
    assert row["coupled"] == pytest.approx(np.sqrt(np.mean((mine - theirs) ** 2)))


def test_the_largest_distance_over_recorded_times_by_hand(work):
    """Layers of four particles, by all permutations."""
    rows = [row for row in particle_distances.particle_distances(work) if "coupled" in row]
    row = next(r for r in rows if (r["coupling"], r["layers"], r["per_layer"], r["part"]) == ("path", 4, 4, 1))
    by_label = {member.label: member.path for member in work.members()}
    (path,) = [member.path for member in work.members() if member.reference and "path" in member.label]
    with (
        wgflow.Trajectory(by_label["coupling=path, layers=4, per_layer=4, part=1"]) as mine,
        wgflow.Trajectory(path) as theirs,
    ):
        assert row["frames"] == len(mine) == len(theirs)
        squares = []
        for one, other in zip(mine, theirs, strict=True):
            twins = other.theta.reshape(256, 256, -1)[[32, 96, 160, 224], 4:8]
            cost = (one.theta.reshape(4, 4, 1, -1) - twins[:, None]) ** 2
            for layer in cost.mean(axis=-1):
                best = min(np.mean(layer[range(4), order]) for order in itertools.permutations(range(4)))
                squares.append(best)
    assert row["largest_recorded"] == pytest.approx(np.sqrt(max(squares)))


@pytest.mark.parametrize("name", ["depth_width", "depth_width_clouds"])
def test_figures(work, name, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "RESAMPLES", 100)
    drawing = figures()[name](work)
    assert "independent layers" in drawing.finding
    assert not any("nan" in json.dumps(table) for table in drawing.tables.values())
    figure = style.draw_styled(drawing)
    style.save(figure, tmp_path / name)


BAD = [
    (["figure=depth_width", "observables=[]"], "observables: expected 'outputs' among them"),
    (["figure=depth_width", "grid.depth.layers=[2]"], "grid.depth.layers: expected at least two depths"),
    (["figure=depth_width", "grid.depth.layers=[2,4]", "also=[]"], "grid: expected 5 depths and 4 widths"),
    (["figure=depth_width", "reference.depth.layers=8"], "particles.within: expected|reference: expected L and M_l"),
    (["figure=depth_width", "grid.flow.step=[0.5,1.0]"], "grid.flow.step: expected sizes, seeds and couplings"),
    (["figure=depth_width", "depth={name='deposit',layers=4}"], "grid.depth.layers|depth: expected layers"),
    (["figure=depth_width_clouds", "record=numbers"], "record: expected 'particles'"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[" ".join(changes) for changes, _ in BAD])
def test_what_is_refused_before_anything_runs(tmp_path, capsys, monkeypatch, changes, message):
    import re

    monkeypatch.chdir(tmp_path)
    (tmp_path / "reduced.toml").write_text(STUDY)
    assert run.main(["reduced.toml", *(part for change in changes for part in ("--set", change))]) == 2
    err = capsys.readouterr().err
    assert re.search(message, err), err
    assert not (tmp_path / "runs").exists()


def test_missing_members_are_said(work, families):
    """Networks that diverged or were deleted leave too few draws in common: one clear error."""
    family = families["path"]
    few = family._replace(runs={size: dict(list(runs.items())[:2]) for size, runs in family.runs.items()})
    with pytest.raises(InputError, match="expected at least 4 draws that sizes have in common, got 2"):
        depth_width.fit_family(few, 1)
    torn = {
        size: {draw: run for draw, run in runs.items() if (draw[1] + place) % 2}
        for place, (size, runs) in enumerate(family.runs.items())
    }
    with pytest.raises(InputError, match="draws"):
        depth_width.fit_family(family._replace(runs=torn), 1)


def test_the_error_of_depth_alone(families):
    """Networks as wide as the reference differ from it by their depth: made up here from outputs that do so exactly."""
    family = families["path"]
    random = np.random.default_rng(0)
    shift = random.normal(size=family.reference.outputs.shape)
    made = {
        (depth, 256): {
            (0, 0): family.reference._replace(outputs=family.reference.outputs + (1 / depth - 1 / 256) * shift)
        }
        for depth in (2, 4, 8)
    }
    assert depth_width._alone(family._replace(runs=family.runs | made), 1) == pytest.approx(1.0)
    assert np.isnan(depth_width._alone(family, 1))


def test_with_a_fading_term_and_adaptive_steps(tmp_path):
    """E_s of the JMLR paper and steps by an error estimate: sizes still meet at the stated flow times."""
    (tmp_path / "reduced.toml").write_text(STUDY)
    changes = [
        "grid.depth.layers=[2,4]", "grid.particles.per_layer=[4,8]", "grid.particles.part=[0]", "also=[]",
        "regulariser={name='quadratic'}", "flow.rule=adaptive", "flow.integrator=ssp3", "flow.rtol=1e-3",
        "reference.depth.layers=32", "reference.particles.per_layer=32", "particles.within=32", "flow.until=2.0",
        "flow.every=1.0",
    ]  # fmt: skip
    command = [str(tmp_path / "reduced.toml"), "--quiet", "--jobs", "1", "--out", str(tmp_path / "runs")]
    assert run.main([*command, *(part for change in changes for part in ("--set", change))]) == 0
    (place,) = (tmp_path / "runs").glob("*/[0-9a-f]*")
    found = depth_width.families(Workspace(place))
    assert {family.coupling for family in found} == {"path", "independent"}
    for family in found:
        np.testing.assert_allclose(family.s, [0.0, 1.0, 2.0])
        assert len(family.runs) == 4
