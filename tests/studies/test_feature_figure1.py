"""Figure 1 of Fang et al. on its own protocol: the algorithms, the paper's units of time and loss, the verdicts."""

import json

import numpy as np
import pytest
from verdict_checks import made_false, made_true

from wgflow.base import rng
from wgflow.base.errors import InputError
from wgflow.report import style
from wgflow.sims import run
from wgflow.studies.feature_figure1 import reduce
from wgflow.studies.feature_figure1.figure import figure_1, said
from wgflow.studies.feature_figure1.reduce import Run, Setting, compared, factors, nearest
from wgflow.studies.registry import figures
from wgflow.study.workspace import Workspace

STUDY = """
name = "small"
figure = "feature_figure1"
record = "numbers"
[problem]
name = "sine"
samples = 5
spacing = "random"
seed = 3
standardise = false
[network]
layers = 4
method = "descent"
draw = "weights"
sigma = 0.8
outer = 1.5
[particles]
count = 6
[flow]
step = 0.4
until = 8.0
every = 0.8
[grid]
"network.kind" = ["dnn", "resnet"]
seed = [2]
"""


@pytest.fixture
def made(tmp_path):
    def made(text, *changes):
        (tmp_path / "study.toml").write_text(text)
        changes = [part for change in changes for part in ("--set", change)]
        assert run.main([str(tmp_path / "study.toml"), "--quiet", "--jobs", "1", "--out", str(tmp_path), *changes]) == 0
        (place,) = tmp_path.glob("*/[0-9a-f]*")
        return Workspace(place)

    return made


def outputs(skip, x, weights):
    """Equations (2) to (6) for one input a point, m units a layer; weights (d, m), (m, m).., (m, 1), source first."""
    beta = np.outer(x, weights[0])
    for v in weights[1:-1]:
        alpha = np.tanh(beta) @ v / len(v)
        beta = np.tanh(alpha) + beta if skip else alpha
    return (np.tanh(beta) @ weights[-1] / len(weights[-1]))[:, 0]


def algorithm_2(skip, x, m, layers, sigma, outer, seed):
    """Algorithm 2 (4 without skips), its regression solved by Khat^-1 as in the paper's closed form."""
    weights = [sigma * rng.normal(seed, "inner weights", (m, 1)).T]
    beta = np.outer(x, weights[0])
    for layer in range(2, layers + 1):
        drawn = sigma * np.sqrt(m) * np.vstack([rng.normal(seed, f"weights {layer}", (1, m), step=j) for j in range(m)])
        h = np.tanh(beta).T
        alpha = drawn @ h / m
        weights.append(h @ np.linalg.solve(h.T @ h / m, alpha.T))
        beta = np.tanh(alpha.T) + beta if skip else alpha.T
    return [*weights, np.full((m, 1), outer)]


def algorithm_1(skip, x, y, weights, eta, steps):
    """Losses (1/N) sum |y' - y|^2 along v_l - eta m_(l-1) m_l dL/dv_l, gradients by complex steps of the loss."""

    def loss(weights):
        return ((outputs(skip, x, weights) - y) ** 2).mean()

    out = [loss(weights)]
    for _ in range(steps):
        moved = [v.copy() for v in weights]
        for k, v in enumerate(weights):
            for where in np.ndindex(v.shape):
                tilted = [each.astype(complex) for each in weights]
                tilted[k][where] += 1e-30j
                moved[k][where] -= eta * v.shape[0] * v.shape[1] * loss(tilted).imag / 1e-30
        weights = moved
        out.append(loss(weights))
    return np.array(out)


def test_runs_follow_the_paper_s_algorithms_in_its_time_and_loss(made):
    found = {run.kind: run for run in reduce.runs(made(STUDY))}
    assert set(found) == {"dnn", "resnet"}
    x = np.pi * (2 * rng.uniform(3, "sine inputs", (5, 1))[:, 0] - 1)
    for kind, one in found.items():
        skip = kind == "resnet"
        weights = algorithm_2(skip, x, 6, 4, 0.8, 1.5, 2)
        losses = algorithm_1(skip, x, np.sin(x), weights, one.setting.eta, 20)
        assert one.setting == Setting(0.8, 1.5, 0.2)
        np.testing.assert_allclose(one.t, one.setting.eta * np.arange(0, 21, 2))
        np.testing.assert_allclose(one.loss, losses[::2], rtol=1e-6)  # Khat^-1 loses half the digits
        assert losses[0] > 2 * losses[-1]  # it moves


def test_a_regressed_last_layer_is_a_setting_of_its_own(made):
    found = reduce.runs(made(STUDY, "network.outer=1.0", "network.last=regressed", "flow.until=0.8"))
    assert {run.setting for run in found} == {Setting(0.8, None, 0.2)}
    assert str(found[0].setting) == "σ₁ = 0.8, v_(L+1) regressed, η = 0.2"


def curve(units, setting, *losses, kind="dnn"):
    """A run with these losses at t = 0, 150 and 1000."""
    return Run(kind, units, setting, np.array([0.0, 150.0, 1000.0]), np.array(losses))


SMALL, LARGE = Setting(1.0, 1.0, 0.1), Setting(1.0, 1.0, 1.0)
AS_PRINTED = [curve(30, SMALL, 0.5, 0.2, 0.16), curve(1000, SMALL, 0.5, 0.055, 0.0065)]


def verdicts(found):
    return said(found, compared(found))


def test_a_setting_that_gives_the_figure_is_named():
    found = verdicts([*AS_PRINTED, curve(30, LARGE, 0.5, 0.3, 0.2), curve(1000, LARGE, 0.5, 0.2, 0.2)])
    made_true(found, "figure1_in_range")
    text = made_true(found, "figure1_one_setting")
    assert text.startswith("one setting gives the DNN all values of Figure 1 at m = 30 and m = 1000: σ₁ = 1, C₃ = 1")
    assert "= 1.1 ≤" in text


def test_values_that_two_settings_share_are_in_range_and_of_no_setting():
    mixed = [
        curve(30, SMALL, 0.5, 0.2, 0.01), curve(1000, SMALL, 0.5, 0.05, 0.006),
        curve(30, LARGE, 0.5, 0.2, 0.15), curve(1000, LARGE, 0.5, 0.05, 0.1),
    ]  # fmt: skip
    found = verdicts(mixed)
    made_true(found, "figure1_in_range")
    assert "η = 1 comes nearest" in made_false(found, "figure1_one_setting")  # off by 14, the other by 15


def test_values_outside_the_scan_are_said_to_be():
    found = verdicts([curve(30, SMALL, 0.5, 0.1, 0.05), curve(100, SMALL, 0.5, 0.05, 0.006)])
    text = made_false(found, "figure1_in_range")
    assert text.startswith(
        "Figure 1's 0.15 at m = 30, t = 1000 does not lie within the DNN's losses at m = 30, 0.05 (factor by which it "
        "lies outside = 3 >"
    )
    within = [each.sentence for each in found if each.inequalities[0].claim == "figure1_in_range" and each.holds]
    assert any("0.007 at m = 1000, t = 1000 lies within the DNN's losses at m = 100" in text for text in within)
    text = made_false(found, "figure1_one_setting")
    assert "m = 30 and m = 100 (for 1000)" in text


def test_runs_that_end_before_say_nothing():
    short = [Run("resnet", 30, SMALL, np.array([0.0, 2.0]), np.array([0.5, 0.4]), diverged=True)]
    found = verdicts(short)
    assert {each.holds for each in found} == {None}
    result = figure_1.present(short)
    assert "1 of 1 runs diverged" in result.finding
    style.draw_styled(result)


def test_what_decides_the_last_loss():
    ends = {SMALL: 0.01, LARGE: 0.08, Setting(2.0, 1.0, 0.1): 0.02, Setting(2.0, 1.0, 1.0): 0.08}
    assert factors(ends) == (pytest.approx(8.0), pytest.approx(2.0))
    assert np.isnan(factors({SMALL: 0.01})).all()
    assert factors({SMALL: 0.01, LARGE: 0.08}) == (pytest.approx(8.0), pytest.approx(np.nan, nan_ok=True))
    runs = [curve(30, setting, 0.5, 0.2, end) for setting, end in ends.items()]
    made_true(verdicts(runs), "figure1_rate_decides")
    runs[2:] = [curve(30, Setting(2.0, 1.0, 0.1), 0.5, 0.2, 0.2)]
    made_false(verdicts(runs), "figure1_rate_decides")


def test_the_nearest_setting_is_the_one_whose_worst_value_is_nearest():
    found = compared([*AS_PRINTED, curve(30, LARGE, 0.5, 0.15, 0.15), curve(1000, LARGE, 0.5, 0.05, 0.014)])
    assert nearest(found) == (SMALL, pytest.approx(1.1))
    only = compared([curve(30, SMALL, 0.5, 0.2, 0.15), curve(1000, LARGE, 0.5, 0.05, 0.007)])
    assert nearest(only)[0] is None


def test_losses_at_a_time_are_medians_over_recent_frames_and_seeds_are_averaged():
    t = np.arange(0.0, 1001.0, 10.0)
    one = Run("dnn", 30, SMALL, t, np.where(t >= 900, np.where(t == 1000, 9.0, 0.1), 0.5))
    assert one.at(1000.0) == 0.1
    assert np.isnan(one.at(1500.0))
    other = one._replace(loss=0.4 * np.ones(len(t)))
    assert reduce.losses([one, other], "dnn", 30, 1000.0) == {SMALL: pytest.approx(0.2)}


def test_page_and_table(made):
    work = made(STUDY)
    result = figures()["feature_figure1"](work)
    assert all(each.holds is None for each in result.verdicts)  # t = 4
    (table,) = result.tables.values()
    assert [row["kind"] for row in table] == ["dnn", "resnet"]
    json.dumps(table)
    style.draw_styled(result)


@pytest.mark.parametrize(
    "change", ["problem.spacing=even", "problem.standardise=true", "network.method=flow", "network.start=standard"]
)
def test_other_experiments_are_refused(made, change, capsys):
    other = STUDY.replace('draw = "weights"\n', "").replace("outer = 1.5\n", "")
    with pytest.raises((AssertionError, InputError)):
        made(other, change)
    assert "to draw 'feature_figure1'" in capsys.readouterr().err
