"""Studies of feature networks, reduced: rates that are known, what degenerates and what does not."""

import json

import numpy as np
import pytest

import wgflow
from wgflow.report import style
from wgflow.sims import run
from wgflow.studies.degeneracy.figure import falls, spreads
from wgflow.studies.feature_convergence import reduce as theorem_8
from wgflow.studies.feature_rate import reduce as features
from wgflow.studies.registry import figures
from wgflow.study.workspace import Workspace
from wgflow.systems.neural_feature_flow import coupling
from wgflow.systems.neural_feature_flow.system import from_trajectory, state_of

RATE = """
name = "rate"
figure = "feature_rate"
record = "numbers"
observables = ["units", "outputs", "eigenvalues"]
[problem]
name = "gaussian"
samples = 8
width = 12
outputs = 1
[network]
layers = 3
method = "descent"
[particles]
count = 32
[flow]
step = 0.125
until = 2.0
every = 1.0
[grid]
"particles.count" = [32, 64, 128, 256, 512]
seed = [0, 1, 2, 3, 4, 5]
[[also]]
"particles.count" = 64
"flow.step" = [0.03125, 0.0625, 0.25, 0.5]
[[also]]
"particles.count" = 64
"network.method" = "flow"
"flow.integrator" = "rk4"
[reference]
"particles.count" = 1024
"network.method" = "flow"
"network.start" = "ideal"
"flow.integrator" = "rk4"
"flow.step" = 0.25
"""

DEGENERATE = """
name = "spread"
figure = "degeneracy"
record = "numbers"
observables = ["unit_spread"]
[problem]
name = "sine"
samples = 12
[network]
layers = 4
kind = "dnn"
[particles]
count = 32
[flow]
step = 0.1
until = 1.0
every = 1.0
[grid]
"network.start" = ["standard", "minimum_norm"]
"particles.count" = [32, 64, 128, 512]
seed = [0, 1, 2, 3]
"""


CONVERGE = """
name = "settle"
figure = "feature_convergence"
record = "numbers"
observables = ["top", "outputs", "eigenvalues"]
[problem]
name = "digits"
parity = true
heldout = 0.995
standardise = false
[network]
layers = 2
method = "descent"
[particles]
count = 24
[flow]
step = 0.25
until = 32.0
every = 1.0
[grid]
"problem.loss" = ["squared", "logistic"]
"""


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    def make(text, *changes):
        folder = tmp_path_factory.mktemp("features")
        (folder / "study.toml").write_text(text)
        changes = [part for change in changes for part in ("--set", change)]
        command = [str(folder / "study.toml"), "--quiet", "--jobs", "1", "--out", str(folder / "runs"), *changes]
        assert run.main(command) == 0
        (place,) = (folder / "runs").glob("*/[0-9a-f]*")
        return Workspace(place)

    return make


@pytest.fixture(scope="module")
def rated(make):
    return make(RATE)


@pytest.fixture(scope="module")
def gaps(rated):
    return features.gaps(rated)


def test_exponents_in_the_number_of_units(rated, gaps):
    """-1/2 +- 0.1 in weights and features, with Gram matrices that are not singular; seeded, so always the same."""
    for each in gaps:
        for quantity in ("weights", "features"):
            assert each.by_units[quantity].rate.exponent == pytest.approx(0.5, abs=0.1), (each.s, quantity)
    assert gaps[-1].by_units["outputs"].value[-1] < 0.5 * gaps[-1].by_units["outputs"].value[0]
    for member in rated.members():
        if member.reference:
            with wgflow.Trajectory(member.path) as trajectory:
                assert trajectory.series("eigenvalues").min() > 1e-3


def test_exponents_in_the_learning_rate(gaps):
    assert gaps[0].by_rate == {}
    for each in gaps[1:]:
        assert each.m == 64
        assert each.by_rate["weights"].sizes == (2, 4, 8, 16, 32)
        for quantity, found in each.by_rate.items():
            if quantity == "loss" and each is not gaps[-1]:
                continue  # on the way the loss's term of first order is small beside that of second
            assert found.rate.exponent == pytest.approx(1.0, abs=0.1), (each.s, quantity)


def test_suprema_are_over_all_units_and_times(rated, gaps):
    """By hand for one network; and m = 512, of which half the units are on file, has no supremum."""
    found = gaps[-1].largest
    assert set(found) == {"weights", "features", "loss"}
    assert {one.sizes for one in found.values()} == {(32, 64, 128, 256)}
    ended = {(each.seed, each.units): each for each in features._runs(rated) if each.step == 0.125}
    limits = {each.seed: each for each in features._runs(rated) if each.start == "ideal"}
    weights, values, losses = [], [], []
    for seed in range(6):
        one, limit = ended[seed, 32], limits[seed]
        for a, b in zip(one.parts, limit.parts, strict=True):
            weights.append(np.abs(a.among - b.among[:, :32, :32]).max())
            weights += [np.abs(a.inner - b.inner[:32]).max(), np.abs(a.outer - b.outer[:32]).max()]
            values += [np.abs(a.alpha - b.alpha[:32]).max(), np.abs(a.beta - b.beta[:32]).max()]
        losses.append(np.abs(one.energy - limit.energy).max())
    weights, values = (np.reshape(each, (6, -1)).max(axis=1).mean() for each in (weights, values))
    assert found["weights"].value[0] == pytest.approx(weights, rel=1e-12)
    assert found["features"].value[0] == pytest.approx(values, rel=1e-12)
    factor = (1 - 32 / 1024) ** (found["loss"].rate.exponent if found["loss"].rate else 0.5)
    assert found["loss"].value[0] == pytest.approx(np.mean(losses) / factor, rel=1e-12)


def test_exponents_of_suprema(gaps):
    """Within 0.1 of log m / sqrt(m), 0.27, for weights and features; seeded, so always the same."""
    sizes = (32, 64, 128, 256)
    assert features.envelope(sizes, 0.0) == pytest.approx(0.5)
    assert features.envelope(sizes, 0.5) == pytest.approx(0.5 - 0.5 * np.log(8 / 5) / np.log(8), abs=0.01)
    for quantity in ("weights", "features"):
        rate = gaps[-1].largest[quantity].rate
        assert rate.exponent == pytest.approx(features.envelope(sizes, 1.0), abs=0.1), quantity
        assert rate.low < rate.exponent < rate.high


def test_an_uncoupled_flow_is_no_limit(rated):
    """Negative control: beside the ideal particles of another seed descent stays as far away, whatever m is."""
    ended = features._runs(rated)
    usual = [each for each in ended if each.method == "descent" and each.step == 0.125]
    other = {each.seed: each for each in ended if each.start == "ideal"}
    far = {
        m: np.sqrt(np.mean([np.mean(features._difference(each, other[(each.seed + 1) % 6], 2).alpha ** 2)
                            for each in usual if each.units == m]))
        for m in (32, 256)
    }  # fmt: skip
    assert far[256] > 0.7 * far[32]


def test_parts_are_those_of_the_state(make):
    work = make(RATE.replace('record = "numbers"\n', ""), "figure=none", "also=[]", "reference={}", "grid.seed=[0,1]")
    for member, ended in zip(work.members()[:2], features._runs(work), strict=False):
        with wgflow.Trajectory(member.path) as trajectory:
            system = from_trajectory(trajectory)
            state = state_of(system, trajectory[-1])
        part = ended.parts[-1]
        np.testing.assert_array_equal(part.alpha, np.hstack(state.features.alpha))
        np.testing.assert_array_equal(part.beta, np.hstack(state.features.beta))
        np.testing.assert_array_equal(part.among[1], state.weights.middle[1].T)
        np.testing.assert_allclose(ended.outputs[-1], system.network.output(*state))


def test_a_distance_is_that_of_the_library(make):
    """Descent and flow of the same units, from the states of all of them."""
    text = RATE.replace('record = "numbers"\n', "")
    work = make(text, "figure=none", "also=[]", "reference={}", "grid={'network.method'=['descent','flow'],seed=[3]}")
    states = []
    for member in work.members():
        with wgflow.Trajectory(member.path) as trajectory:
            states.append(state_of(from_trajectory(trajectory), trajectory[-1]))
    one, other = features._runs(work)
    mine = features._difference(one, other, -1)
    alphas, (v, w) = [np.hstack(each.features.alpha) for each in states], [each.weights.middle[0] for each in states]
    assert np.abs(mine.alpha).max() == pytest.approx(np.abs(alphas[0] - alphas[1]).max())
    assert np.mean(mine.among[0] ** 2) == pytest.approx(np.mean((v - w) ** 2))


def test_units_become_one_and_minimum_norm_prevents_it(make):
    work = make(DEGENERATE)
    found = {each.start: each for each in spreads(work)}
    powers = {start: [falls(each, 2, at) for at in (False, True)] for start, each in found.items()}
    assert all(each.rate.exponent > 0.8 for each in powers["standard"])  # layer 4: m**(-3/2) in the limit
    assert not any(each.rate for each in powers["minimum_norm"])  # the negative control
    assert found["standard"].first.shape == (4, 4, 3)
    finding = json.loads((work.folder / "summary.json").read_text())["findings"][-1]
    assert "DNN from weights of variance 1" in finding


def test_theorem_8_along_runs(make):
    """Windows, gaps and verdicts against particles of the same runs."""
    work = make(CONVERGE)
    squared, logistic = theorem_8.runs(work)
    other = make(CONVERGE, "record=particles", "figure=none", "observables=[]")
    with wgflow.Trajectory(next(each.path for each in other.members() if "logistic" in each.label)) as trajectory:
        network = from_trajectory(trajectory).network
        states = [state_of(from_trajectory(trajectory), frame) for frame in trajectory]
    late = [state for s, state in zip(logistic.s, states, strict=True) if s >= 16]
    beta = max(np.abs(state.features.beta[-1] - late[-1].features.beta[-1]).max() for state in late)
    outer = max(np.abs(state.weights.outer - late[-1].weights.outer).mean() for state in late)
    assert logistic.windows[-1].beta == pytest.approx(beta)
    assert logistic.windows[-1].outer == pytest.approx(outer)
    margin = network.y * network.output(*states[-1])
    assert logistic.gap[-1] == pytest.approx(np.log1p(np.exp(-margin)).mean())
    least = np.linalg.eigvalsh(np.tanh(states[3].features.beta[-1]).T @ np.tanh(states[3].features.beta[-1]) / 24)[0]
    assert logistic.eigenvalue[3] == pytest.approx(least, rel=1e-6)
    refuted = [[c.name for one in run.verdicts[:4] for c in one.conditions if c.finding == "refuted"]
               for run in (squared, logistic)]  # fmt: skip
    assert refuted == [["|phi'| <= L4"], []]
    finding = json.loads((work.folder / "summary.json").read_text())["findings"][-1]
    said = finding.split("loss=logistic")
    assert "|φ'| ≤ L4 (Assumption 1)" in said[0]
    assert "|φ'|" not in said[1]
    rows = list(theorem_8.panel([squared, logistic]))
    assert {row["runs"] for row in rows} == {"all", "loss=squared", "loss=logistic"}


def test_theorem_8_is_about_resnets(tmp_path, capsys):
    (tmp_path / "settle.toml").write_text(CONVERGE)
    command = [str(tmp_path / "settle.toml"), "--out", str(tmp_path / "runs"), "--set", "network.kind=dnn"]
    assert run.main(command) == 2
    assert "network.kind: expected resnet to draw 'feature_convergence', got dnn" in capsys.readouterr().err


def test_rates_of_a_dnn(make):
    """Theorem 33: 1/2 in m for weights and features, within 0.1 by this seed; and its own sentence."""
    work = make(RATE, "network.kind=dnn", "also=[]")
    last = features.gaps(work)[-1]
    for quantity in ("weights", "features"):
        assert last.by_units[quantity].rate.exponent == pytest.approx(0.5, abs=0.1), quantity
    assert last.kind == "dnn"
    result = figures()["feature_rate"](work)
    assert result.finding.startswith("DNN: at s = 2 ")
    assert "Theorem 33" in result.caption
    assert "do not hold: |φ'| ≤ L4 (sup |φ'| = ∞ for squared)" in result.finding
    assert "do not hold" not in figures()["feature_rate"].present([last._replace(refuted=())]).finding


def test_a_huber_loss_refutes_nothing(make):
    short = ("network.kind=dnn", "also=[]", "problem.loss=huber", "grid.seed=[0,1,2,3]", "flow.until=1.0")
    assert features.gaps(make(RATE, *short))[-1].refuted == ()


@pytest.mark.parametrize("name", ["feature_rate", "loss_and_particles"])
def test_figures(rated, make, name, tmp_path):
    work = (
        rated
        if name == "feature_rate"
        else make(RATE.replace('record = "numbers"\n', ""), "figure=none", "also=[]", "reference={}", "grid.seed=[0]")
    )
    drawing = figures()[name](work)
    assert drawing.finding
    figure = style.draw_styled(drawing)
    style.save(figure, tmp_path / name)


def test_the_flow_and_descent_in_one_figure(make):
    text = RATE.replace('["units", "outputs", "eigenvalues"]', '["defect", "loss_of_weights", "unit_spread"]')
    text = text.replace('figure = "feature_rate"', 'figure = "feature_flow"')
    work = make(
        text, "also=[]", "reference={}", "record=particles",
        "grid={'network.method'=['descent','flow'],'network.kind'=['resnet','dnn']}",
    )  # fmt: skip
    finding = json.loads((work.folder / "summary.json").read_text())["findings"][-1]
    assert "gradient descent and the flow" in finding


BAD = [
    (["observables=['units']"], "observables: expected 'outputs' among them"),
    (["grid.seed=[0,1]"], "expected at least 4 m and 4 seeds"),
    (["network.start=standard"], "network: expected start = minimum_norm"),
    (["network.draw=weights"], "network: expected start = minimum_norm, draw = features"),
    (["flow.integrator=rk4"], "descent by euler"),
    (["network.method=flow", "flow.integrator=rk4", "also=[]"], "network.method: expected descent"),
    (["reference.flow.until=1.0"], "grid.flow.until: expected flow.integrator, flow.step"),
    (["reference.problem.seed=1"], "grid.problem.seed: expected flow.integrator"),
    (["network.sigma=2.0", "reference.network.sigma=1.0"], "grid.network.sigma: expected flow.integrator"),
    (["grid.network.kind=['resnet','dnn']"], "grid.network.kind: expected"),
    (["reference.particles.count=128"], "reference: expected for every seed one of more than 512 units"),
    (["reference.network.start=standard"], "with network.start = ideal"),
    (["network.last=regressed"], "network.last: expected constant for ideal particles"),
    (["reference.seed=99"], "reference: expected for every seed"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[" ".join(changes) for changes, _ in BAD])
def test_what_is_refused(tmp_path, capsys, changes, message):
    (tmp_path / "rate.toml").write_text(RATE)
    changes = [part for change in changes for part in ("--set", change)]
    assert run.main([str(tmp_path / "rate.toml"), "--out", str(tmp_path / "runs"), *changes]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_learning_rate_is_not_rounded(make):
    """Rates whose inverses are no whole numbers: the exponent is still 1."""
    flow_too = "{'particles.count'=64,'network.method'='flow','flow.integrator'='rk4'}"
    steps = f"also=[{{'particles.count'=64,'flow.step'=[0.8,0.4,0.2,0.1]}},{flow_too}]"
    work = make(RATE.replace("until = 2.0\nevery = 1.0", "until = 4.0\nevery = 4.0"), steps, "figure=none")
    found = features.gaps(work)[-1].by_rate
    assert found["features"].sizes == (1.25, 2.5, 5.0, 8.0, 10.0)
    assert found["features"].rate.exponent == pytest.approx(1.0, abs=0.05)


def test_epsilon_of_definition_five(rated, gaps):
    """Against the library's, which has all units; the study's first units are all of them up to m = 256."""
    from wgflow.systems.neural_feature_flow.initial import minimum_norm
    from wgflow.systems.neural_feature_flow.population import population

    found = gaps[0].largest["epsilon"]
    assert found.rate.exponent == pytest.approx(features.envelope(found.sizes, 1.0), abs=0.1)
    (member,) = [each for each in rated.members() if each.reference and each.values["seed"] == 0]
    with wgflow.Trajectory(member.path) as trajectory:
        network = from_trajectory(trajectory).network
    begin = minimum_norm(network, 32, 0)
    own = coupling.epsilon(begin.weights, coupling.ideal(network, begin, population(network, 1.0, 2**15)))
    ended = {(each.seed, each.units): each for each in features._runs(rated) if each.step == 0.125}
    (limit,) = [each for each in features._runs(rated) if each.start == "ideal" and each.seed == 0]
    assert features._epsilon(ended[0, 32], limit) == pytest.approx(max(own.middle), rel=1e-9)


def test_a_flow_that_leaves_its_weights_is_said(make):
    """A step too large for the flow: its loss is no loss of a network then, and the finding says from when on."""
    text = RATE.replace('["units", "outputs", "eigenvalues"]', '["defect", "loss_of_weights", "unit_spread"]')
    text = text.replace('figure = "feature_rate"', 'figure = "feature_flow"')
    grid = "grid={'network.method'=['descent','flow']}"
    work = make(text, "also=[]", "reference={}", grid, "flow.step=1.0", "flow.until=40.0", "flow.every=1.0")
    finding = json.loads((work.folder / "summary.json").read_text())["findings"][-1]
    assert finding.startswith("The flow of the ")
    assert "is resolved until s = " in finding
    small = make(text, "also=[]", "reference={}", grid, "flow.step=0.03125", "flow.until=2.0", "flow.every=1.0")
    checked = json.loads((small.folder / "summary.json").read_text())["verdicts"]
    assert [row["holds"] for row in checked if row["claim"] == "flow_resolved"] == [True]


def test_a_divergence_is_no_internal_error(tmp_path, capsys):
    text = RATE.replace('["units", "outputs", "eigenvalues"]', '["defect", "loss_of_weights", "unit_spread"]')
    text = text.replace('figure = "feature_rate"', 'figure = "feature_flow"')
    (tmp_path / "study.toml").write_text(text)
    changes = ["also=[]", "reference={}", "grid={'network.method'=['descent','flow']}", "flow.step=8.0"]
    changes += ["flow.until=800.0", "flow.every=8.0", "network.h1=relu", "network.h2=relu"]
    command = [str(tmp_path / "study.toml"), "--quiet", "--jobs", "1", "--out", str(tmp_path / "runs")]
    code = run.main([*command, *(part for change in changes for part in ("--set", change))])
    err = capsys.readouterr().err
    assert code in (0, run.DIVERGED)
    assert "internal error" not in err
    assert "Warning" not in err
