"""The experiments of arXiv:2509.10167: its update rule taken literally, its measures, and its study killed half-way."""

import csv
import json
import signal

import numpy as np
import pytest
from scipy.optimize import minimize

import wgflow
from wgflow.sims import run
from wgflow.sims.bundled import study_path
from wgflow.studies.hidden_width import reduce as hidden_width
from wgflow.studies.hidden_width_scales import reduce as hidden_width_scales
from wgflow.studies.registry import figures
from wgflow.study import grid, schema
from wgflow.study.workspace import Workspace
from wgflow.systems import members


def literal(x, y, u, v, alpha, rate_u, rate_v, steps):
    """Outputs (N, D) and weights after full-batch steps of the paper's code, unit by unit.

    h_(l+1) = h_l + alpha/(L M) sum_m v tanh(u . h_l / D); loss 1/2 mean over samples and outputs; the updates
    u <- u - rate_u / alpha G, with G the gradient of the loss over the factor alpha/(L M) of the block, as for v.
    """
    layers, units, dimension = u.shape
    factor, u, v = alpha / (layers * units), u.copy(), v.copy()

    def states():
        out = [x]
        for k in range(layers):
            step = np.zeros_like(x)
            for m in range(units):
                step += np.outer(np.tanh(out[-1] @ u[k, m] / dimension), v[k, m])
            out.append(out[-1] + factor * step)
        return out

    for _ in range(steps):
        h = states()
        back = (h[-1] - y) / y.size
        grad_u, grad_v = np.zeros_like(u), np.zeros_like(v)
        for k in reversed(range(layers)):
            before = back.copy()
            for m in range(units):
                active = np.tanh(h[k] @ u[k, m] / dimension)
                inner = (1 - active**2) * (back @ v[k, m])
                grad_v[k, m], grad_u[k, m] = back.T @ active, h[k].T @ inner / dimension
                before += factor * np.outer(inner, u[k, m]) / dimension
            back = before
        u -= rate_u / alpha * grad_u
        v -= rate_v / alpha * grad_v
    return states()[-1], u, v


def ours(name, changes, index=0):
    """Problem, first and last measure of a member of a bundled study."""
    loaded, _ = schema.load(study_path(name), changes)
    planned = grid.expand(loaded)[index]
    setup = members.build(planned.member)
    *_, last = setup.flow.run(setup.start, planned.member.flow.until, planned.member.flow.every)
    return setup.energy, setup.start, last


def compare(energy, start, last, alpha, rate_u, steps, layers):
    """Largest difference of outputs and weights to the literal rule, relative to their sizes."""
    dimension = energy.problem.shape[1]
    a, w = (start.theta[:, place].reshape(layers, -1, dimension) for place in energy.problem.groups.values())
    x, y = energy.problem.x, energy.problem.y
    outputs, u, v = literal(x, y, dimension * w, a / alpha, alpha, rate_u, dimension, steps)
    theta = np.concatenate([alpha * v, u / dimension], axis=2).reshape(len(start), -1)
    predicted = energy.predict(wgflow.Particles(last.theta, last.tau), x)
    assert np.abs(last.theta - start.theta).max() > 1e-3
    return max(np.abs(predicted - outputs).max(), np.abs(last.theta - theta).max() / np.abs(theta).max())


SMALL = {
    "grid.depth.layers": [3], "grid.particles.per_layer": [4], "problem.samples": 5, "flow.until": 12.0,
    "flow.every": 12.0,
}  # fmt: skip


def test_the_study_takes_the_papers_steps():
    for width in (2, 7):
        found = ours("hidden_width", SMALL | {"problem.width": width})
        assert compare(*found, alpha=1.0, rate_u=width, steps=12, layers=3) < 1e-10


@pytest.mark.parametrize("alpha", [0.25, 3.0])
def test_a_scale_of_the_blocks_is_a_scale_of_a_and_a_mobility_of_w(alpha):
    there = {"particles.scale": {"a": f"{alpha} * sqrt(D)"}}
    found = ours("hidden_width", SMALL | there | {"flow.mobility": {"w": f"1 / (D * {alpha})**2"}})
    assert compare(*found, alpha=alpha, rate_u=10, steps=12, layers=3) < 1e-10
    wrong = ours("hidden_width", SMALL | there | {"flow.mobility": {"a": alpha, "w": f"1 / ({alpha} * D**2)"}})
    assert compare(*wrong, alpha=alpha, rate_u=10, steps=12, layers=3) > 1e-3


@pytest.mark.parametrize("place", [0, 9, 10, 19])
def test_the_study_of_scales_takes_the_papers_steps(place):
    changes = {"depth.layers": 3, "particles.per_layer": 4, "flow.until": 6.0, "flow.every": 6.0, "grid.seed": [0]}
    found = ours("hidden_width_scales", changes | {"grid.problem.width": [7]}, place)
    s = 10 ** np.linspace(-2, 2, 20)[place]
    a, w = found[0].problem.groups.values()
    assert np.std(found[1].theta[:, a]) == pytest.approx(s * np.sqrt(7), rel=0.3)
    assert np.std(found[1].theta[:, w]) == pytest.approx(1 / np.sqrt(7), rel=0.3)
    rate = 7 * min(1.0, 1 / s**2)
    assert compare(*found, alpha=1.0, rate_u=rate, steps=6, layers=3) < 1e-10
    assert compare(*found, alpha=1.0, rate_u=1.1 * rate, steps=6, layers=3) > 1e-8


def test_grids_are_the_published_ones():
    planned = grid.expand(schema.load(study_path("hidden_width"), {})[0])
    published = sorted({int(np.floor(10**x)) for x in np.linspace(0, 2.5, 10)})
    fitted = [each for each in planned if not each.reference]
    assert len(planned) == 12 * (len(published) - 1) ** 2 + 12
    for key, largest in (("depth.layers", 1000), ("particles.per_layer", 316)):
        assert sorted({each.values[key] for each in fitted}) == published[:-1]
        assert {each.values[key] for each in planned if each.reference} == {largest}
    drawn = {(each.member.problem.seed, each.member.seed) for each in fitted}
    assert drawn == {(k, k) for k in range(12)}  # no two draws of the data share initial weights
    assert {each.member.problem.seed for each in planned if each.reference} == set(range(12))
    planned = grid.expand(schema.load(study_path("hidden_width_scales"), {})[0])
    assert len(planned) == 600
    assert {each.values["problem.width"] for each in planned} == {int(np.floor(10**x)) for x in (1, 1.5, 2)}
    names = {"D": 31.0}
    found = sorted({wgflow.study.formulas.number(each.values["particles.scale.a"], names, "a") for each in planned})
    np.testing.assert_allclose(found, 10 ** np.linspace(-2, 2, 20) * np.sqrt(31), rtol=1e-12)


REDUCED = [
    "hidden_width", "--quiet", "--jobs", "1", "--set", "grid.depth.layers=[1, 2, 4, 8]", "--set",
    "grid.particles.per_layer=[1, 2, 4, 8]", "--set", "flow.until=20.0", "--set", "flow.every=20.0", "--set",
    "reference.depth.layers=32", "--set", "reference.particles.per_layer=32", "--set",
    "reference.problem.seed=[0, 1, 2, 3]", "--set",
    'also=[{seed=1, "problem.seed"=1}, {seed=2, "problem.seed"=2}, {seed=[3, 4], "problem.seed"=3}]',
]  # fmt: skip


def files(place):
    return {path.name: path for path in place.glob("*/[0-9a-f]*/members/*.h5")}


def content(path):
    with wgflow.Trajectory(path) as trajectory:
        return [trajectory.series(name).tobytes() for name in ("s", *trajectory.observables)]


@pytest.fixture(scope="module")
def killed(tmp_path_factory, struck):
    """Folder of the reduced study, killed half-way and taken up again."""
    place = tmp_path_factory.mktemp("killed")
    assert struck(signal.SIGKILL, 2 * 25 + 1, *REDUCED, "--out", place).wait() == -signal.SIGKILL
    assert len(files(place)) == 26
    assert run.main([*REDUCED, "--out", str(place)]) == 0
    (folder,) = place.glob("*/[0-9a-f]*")
    return folder


def test_a_killed_study_ends_as_if_it_had_not_been(killed, tmp_path):
    assert run.main([*REDUCED, "--out", str(tmp_path), "--set", "figure=none"]) == 0
    mended, whole = files(killed.parents[1]), files(tmp_path)
    assert len(whole) == 84
    assert {name: content(path) for name, path in mended.items()} == {
        name: content(path) for name, path in whole.items()
    }


def rows(folder, name):
    with (folder / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def test_errors_are_those_of_networks_run_by_themselves(killed):
    found = hidden_width.errors(Workspace(killed))
    assert (found.sizes.depths, found.sizes.reference, found.sizes.dimension) == ((1, 2, 4, 8), (32.0, 32.0), 10)
    assert (found.data, found.initialisations, found.squares.shape) == (4, 2, (4, 4, 4))
    grown = {"flow.until": 20.0, "flow.every": 20.0, "reference.depth.layers": 32, "reference.particles.per_layer": 32}
    for data, seeds, layers, width in ((0, [0], 1, 1), (2, [2], 8, 4), (3, [3, 4], 4, 8)):
        of_data = grown | {"grid.problem.seed": [data], "reference.problem.seed": [data], "also": []}
        energy, _, reference = ours("hidden_width", of_data, -1)
        assert len(reference.tau) == 32**2
        squares = []
        for seed in seeds:
            sizes = {"grid.depth.layers": [layers], "grid.particles.per_layer": [width], "grid.seed": [seed]}
            _, _, last = ours("hidden_width", of_data | sizes)
            rho = [wgflow.Particles(each.theta, each.tau) for each in (last, reference)]
            alone = wgflow.Energy(energy.problem, {"name": "layers", "layers": layers})
            gap = alone.predict(rho[0], energy.problem.x) - energy.predict(rho[1], energy.problem.x)
            squares.append(np.mean(gap**2))
        place = found.sizes.depths.index(layers), found.sizes.widths.index(width)
        assert found.squares[data, *place] == pytest.approx(np.mean(squares), rel=1e-12)
        assert found.letter.rms[place] == pytest.approx(np.sqrt(found.squares[:, *place].mean()), rel=1e-12)


def test_the_law_is_the_nearest_in_logarithms(killed):
    found = hidden_width.errors(Workspace(killed))
    depth, width = np.meshgrid(found.sizes.depths, found.sizes.widths, indexing="ij")
    rms = np.sqrt(found.squares.mean(axis=0))

    def distance(logs, least=0):
        c1, c2 = np.exp(logs)
        return np.sum(np.log((c1 * np.sqrt(10 / (depth * width)) + c2 / depth) / rms)[least:] ** 2)

    best = minimize(distance, [-1.0, -1.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14})
    letter = found.letter
    np.testing.assert_allclose(np.exp(best.x), [letter.width.value, letter.depth.value], rtol=1e-6)
    np.testing.assert_allclose(found.law(depth, width), letter.predicted, rtol=1e-12)
    assert letter.width.low > 0  # c1: more blocks bring the outputs nearer
    assert rms[-1, -1] < 0.5 * rms[0, 0]
    squared = found.squared
    np.testing.assert_allclose(
        squared.predicted**2, squared.width.value**2 / (depth * width) + (squared.depth.value / depth) ** 2, rtol=1e-12
    )
    np.testing.assert_allclose(found.in_squares(depth, width), squared.predicted, rtol=1e-12)
    c1 = [letter.width.value, found.finite.width.value, squared.width.value / np.sqrt(10)]
    c1.insert(1, found.deeper.width.value)
    assert [float(row["c1"]) for row in rows(killed, "law")] == c1
    best = minimize(lambda p: distance(p, 1), best.x, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14})
    np.testing.assert_allclose(np.exp(best.x), [found.deeper.width.value, found.deeper.depth.value], rtol=1e-6)
    assert len(rows(killed, "errors")) == 16


def test_the_page_says_what_was_found(killed):
    said = json.loads((killed / "summary.json").read_text())["findings"][1:]  # after the doubt
    found = hidden_width.errors(Workspace(killed))
    assert f"c1 = {found.letter.width.value:.3g}" in said[0]
    assert f"c1 = {min(found.single[:, 0]):.2g} to {max(found.single[:, 0]):.2g} and c2 = " in said[0]
    assert "Intervals cover the draw of the data and of initial weights (4 draws, 2 of each)" in said[0]
    assert "c1 = 0.22 is " in said[0]
    assert [row["data"] for row in rows(killed, "data")] == [*(f"draw {k}" for k in range(4)), "the paper's, by hand"]
    assert (killed / "hidden_width.png").stat().st_size > 10_000
    assert "hidden_width" in (killed / "report.html").read_text()


@pytest.fixture(scope="module")
def scaled(tmp_path_factory):
    place = tmp_path_factory.mktemp("scaled")
    changes = ["depth.layers=30", "particles.per_layer=4", "grid.problem.width=[3, 6]", "grid.seed=[0, 1, 2]"]
    scales = [f"10**({k}/2 - 1) * sqrt(D)" for k in (0, 1, 2, 3, 5)]
    changes += [f"grid.particles.scale.a={json.dumps(scales)}", "flow.until=10.0"]
    arguments = [part for each in changes for part in ("--set", each)]
    assert run.main(["hidden_width_scales", "--quiet", "--out", str(place), *arguments]) == 0
    (folder,) = place.glob("*/[0-9a-f]*")
    return folder


def test_measures_of_scales_are_those_of_their_repeats(scaled):
    found = hidden_width_scales.scales(Workspace(scaled))
    assert [(each.dimension, each.blocks) for each in found] == [(3, 120), (6, 120)]
    for each in found:
        np.testing.assert_allclose(each.alpha, 10 ** (np.array([0, 1, 2, 3, 5]) / 2 - 1), rtol=1e-11)
        assert each.controlled.tolist() == [True, True, True, True, False]
    there = [file.path for file in Workspace(scaled).members() if file.values["problem.width"] == 6]
    series = [[], [], []]
    for path in there[6:9]:  # the third scale
        with wgflow.Trajectory(path) as trajectory:
            for kept, name in zip(series, ("outputs", "displacement", "energy"), strict=True):
                kept.append(trajectory.series(name))
    outputs, moved, energy = (np.array(each) for each in series)
    middle = outputs[:, -1].mean(axis=0)
    variance = ((outputs[:, -1] - middle) ** 2).sum() / (middle.size * 2)
    assert found[1].deviation[2] == pytest.approx(np.sqrt(variance), rel=1e-12)
    assert found[1].displacement[2] == pytest.approx(6 * np.sqrt(np.mean(moved[:, -1, 1] ** 2)), rel=1e-12)
    np.testing.assert_allclose(found[1].loss[2], energy.mean(axis=0) / 3, rtol=1e-12)
    assert len(rows(scaled, "scales")) == 10
    said = figures()["hidden_width_scales"](Workspace(scaled)).finding
    assert said.startswith("D = 3: ")
    assert f"At α = 3.2 it is {found[1].deviation[3] / found[0].deviation[3]:.2g} times as large for D = 6" in said


def test_guide_lines_are_found_again_and_only_where_controlled():
    def planted(dimension, spoilt):
        alpha = np.geomspace(0.01, 100, 20)
        deviation = (0.4 + (0.05 + 0.3 * alpha) * dimension**0.5) / 100
        beyond = alpha >= np.sqrt(1e4 / dimension)
        return hidden_width_scales.Scale(
            dimension, 10_000, alpha, np.where(beyond, spoilt, 1.0) * deviation,
            np.where(beyond, spoilt, 1.0) * 3 * np.minimum(1, 1 / alpha), np.zeros(1), np.zeros((20, 1)),
        )  # fmt: skip

    for spoilt in (1.0, 50.0):
        line = hidden_width_scales.guide([planted(each, spoilt) for each in (10, 31, 100)])
        np.testing.assert_allclose(line, [0.4, 0.05, 0.3, 3.0], rtol=1e-9)
    everywhere = planted(100, 50.0)._replace(blocks=10**8)  # all controlled: what spoils them counts
    assert abs(hidden_width_scales.guide([everywhere]).travel - 3.0) > 1.0


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("hidden_width", "grid.depth.layers=[4]", "grid.depth.layers: expected at least 2 values"),
        ("hidden_width", "grid.particles.per_layer=[4]", "grid.particles.per_layer: expected at least 2 values"),
        ("hidden_width", "particles.per_layer=4", "grid.particles.per_layer: expected at least 2 values"),
        ("hidden_width", "also=[]", "grid.seed: expected at least 4 values for one problem.seed"),
        ("hidden_width", 'also=[{seed=1, "problem.seed"=1}]', "grid.problem.seed: expected one value or at least 4"),
        ("hidden_width", "reference.problem.seed=[0]", "reference.problem.seed: expected those of the grid"),
        ("hidden_width", "reference.depth.layers=100", "reference.depth.layers: expected at least 166, got 100"),
        ("hidden_width", "reference.seed=3", "reference.seed: expected one that the grid has not"),
        ("hidden_width", "reference.seed=[70, 80]", "reference: expected one network for each problem.seed"),
        ("hidden_width", "grid.dtype=['float32', 'float64']", "grid.dtype: expected depth.layers"),
        ("hidden_width", "observables=[]", "observables: expected 'outputs'"),
        ("hidden_width", "particles.coupling=path", "particles.coupling: expected independent"),
        ("hidden_width", "problem.state=padded", "problem.state = whole"),
        ("hidden_width_scales", "grid.seed=[0]", "grid.seed: expected at least 2 values"),
        ("hidden_width_scales", "grid.particles.scale.a=[1.0]", "grid.particles.scale.a: expected at least 2 values"),
        ("hidden_width_scales", "observables=['outputs']", "observables: expected 'displacement'"),
        ("hidden_width_scales", "problem.block=matrix", "expected ridge to draw"),
    ],
)  # fmt: skip
def test_a_grid_too_small_is_refused_before_it_runs(name, change, message, tmp_path, capsys):
    assert run.main([name, "--out", str(tmp_path), "--set", change]) == run.BAD_INPUT
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
