"""What is said of a run that left the gradient flow, and the step length it is told to try."""

import json

import numpy as np
import pytest
from verdict_checks import made_false, made_true

from wgflow.base.energy_balance import EMPTY
from wgflow.cli import runs
from wgflow.report import gradient_flow_check
from wgflow.sims import run
from wgflow.study.workspace import Workspace

STUDY = """
name = "coarse"
figure = "loss_and_particles"
[problem]
name = "sine"
samples = 30
[particles]
count = 16
tau = "uniform"
[depth]
name = "shallow"
[flow]
until = 24.0
every = 2.0
[grid]
"flow.step" = [2.0, 0.1]
"""


def test_a_coarse_run_is_said_on_the_terminal_in_the_summary_and_on_the_page(tmp_path, monkeypatch, capsys):
    """And the step it is told to try is one of which nothing is said."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coarse.toml").write_text(STUDY)
    assert run.main(["coarse.toml"]) == 0
    (folder,) = tmp_path.glob("runs/coarse/[0-9a-f]*")
    summary = json.loads((folder / "summary.json").read_text())
    coarse, fine = summary["members"]
    said = (
        f"step=2.0: {100 * coarse['balance_defect']:.2g}% of the change in E is not explained by dissipation; "
        "try flow.step = 0.2."
    )
    assert summary["warnings"] == [said]
    assert summary["findings"][0].startswith("1 of 2 runs left the gradient flow")  # before what was found
    assert len(summary["findings"]) == 2
    checked = [row for row in summary["verdicts"] if row["claim"] == "gradient_flow_followed"]
    assert [row["holds"] for row in checked] == [False]
    assert coarse["balance_defect"] > 0.05 > fine["balance_defect"] > 0
    assert said in capsys.readouterr().out.splitlines()
    page = (folder / "report.html").read_text()
    assert page.index(said) < page.index("<figure")
    assert runs.watch([str(folder), "--once"]) == 0
    assert said in " ".join(capsys.readouterr().out.split())
    work = Workspace(folder)
    verdict, said_of_them = gradient_flow_check.check(work, dict.fromkeys(("step=2.0", "step=0.1"), "diverged"))
    assert (verdict.holds, said_of_them) == (None, [])
    monkeypatch.setattr(gradient_flow_check, "_TOLERANCE", 1e-9)
    monkeypatch.setattr(gradient_flow_check, "_SHOWN", 1)
    statuses = dict.fromkeys(("step=2.0", "step=0.1"), "finished")
    verdict, (worst, rest) = gradient_flow_check.check(work, statuses)
    assert made_false(verdict, "gradient_flow_followed").startswith("2 of 2 runs")
    assert worst == said
    assert rest == "1 more of 2 runs likewise; see balance_defect in summary.csv."
    monkeypatch.setattr(gradient_flow_check, "_TOLERANCE", 1.0)
    assert made_true(gradient_flow_check.check(work, statuses)[0], "gradient_flow_followed")


class Told:
    """A trajectory as far as it is asked."""

    def __init__(self, energy=(1.0, 0.5), flow=None, study=None, depth=None, steps=100, **balance):
        self.balance = EMPTY._replace(steps=float(steps), descent=0.5, **balance)
        flow = {"step": {"name": "constant", "length": 0.2}, "integrator": "euler", "boundary": "clip"} | (flow or {})
        self.parameters = {"flow": flow, "study": {"flow": study or {}}, "energy": {"depth": depth or {"name": "x"}}}
        self._series = {"energy": energy, "s": (0.0, 20.0), "step": (0, steps)}

    def series(self, name):
        return self._series[name]


RISES = {"rises": 3.0, "rise": 0.031, "rise_s": 4.2, "risen": 0.05}


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (Told(), ""),
        (Told(defect=0.024), ""),
        (Told(defect=float("nan")), ""),
        (Told(at_switches=0.7, switched=90.0, risen_at_switches=0.2), ""),
        (Told(defect=0.03), "6% of the change in E is not explained by dissipation; try flow.step = 0.03."),
        (
            Told(defect=0.265, **RISES),
            (
                "53% of the change in E is not explained by dissipation; E rose in 3 of 100 steps (by up to 0.031, at "
                "s = 4.2); try flow.step = 0.02."
            ),
        ),
        (
            Told(defect=float("nan"), **RISES),
            "E rose in 3 of 100 steps (by up to 0.031, at s = 4.2); try flow.step = 0.05.",
        ),
        (Told(defect=1.2), "dissipation differs from the change in E by 240%; try flow.step = 0.02."),
        (
            Told(at_switches=1.0, switched=90.0, risen_at_switches=0.2, energy=(0.5, 2.1)),
            (
                "dissipation differs from the change in E by 200% in the 90 of 100 steps with order switches, more "
                "than jumps of E account for; E ended at 2.1, above its start at 0.5; try flow.step = 0.05."
            ),
        ),
        (
            Told(switched=90.0, risen_at_switches=1.7, energy=(0.5, 2.1)),
            "E ended at 2.1, above its start at 0.5; try flow.step = 0.05.",
        ),
        (
            Told(defect=0.1, flow={"integrator": "heun"}, study={"every": 0.2, "until": 20.0}),
            "20% of the change in E is not explained by dissipation; try flow.step = 0.04.",
        ),
        (
            Told(defect=0.1, flow={"step": {"name": "adaptive", "rtol": 1e-3, "atol": 2e-6}}),
            "20% of the change in E is not explained by dissipation; try flow.rtol = 0.0001 and flow.atol = 2e-07.",
        ),
        (
            Told(defect=0.1, flow={"step": {"name": "descent", "length": 3.0}}),
            "20% of the change in E is not explained by dissipation; try flow.rule = 'constant' with flow.step = 0.02.",
        ),
        (
            Told(defect=0.1, flow={"boundary": "reflect"}),
            (
                "20% of the change in E is not explained by dissipation; try flow.step = 0.02, or "
                "flow.boundary = 'clip', since particles bounce off a reflecting boundary."
            ),
        ),
        (
            Told(defect=0.1, depth={"name": "deposit", "shape": "hat"}),
            (
                "20% of the change in E is not explained by dissipation; the hat function has no gradient flow, try "
                "depth.shape = 'spline'."
            ),
        ),
        (
            Told(defect=0.1, flow={"method": "flow", "step": 0.2, "boundary": None}),
            "20% of the change in E is not explained by dissipation; try flow.step = 0.02.",
        ),
    ],
)
def test_sentences(told, said):
    assert gradient_flow_check.diagnosis(told) == said


@pytest.mark.parametrize(
    ("h", "factor", "times", "expected"),
    [
        (0.2, 0.25, [1.0, 20.0], 0.05),
        (0.1, 0.3, [0.5], 0.02),  # 0.03 is no whole part of 0.5
        (0.1, 0.25, [0.3, 0.9], 0.02),
        (0.8, 0.5, [4.0, 32.0], 0.4),
        (1 / 3, 0.25, [1.0, 7.0], 0.05),
        (1 / 7, 0.25, [3 / 7], 1 / 28),  # no length of one digit would do
        (0.1, 0.11, [], 0.01),
        (1e-7, 0.25, [1e-6], 2e-8),
        (5.0, 0.5, [10.0], 2.0),
        (12.0, 0.5, [36.0], 6.0),
    ],
)
def test_step_to_try(h, factor, times, expected):
    found = gradient_flow_check.suggested_step(h, factor, times)
    assert found == pytest.approx(expected, rel=1e-14)
    assert 0 < found <= factor * h * (1 + 1e-9)
    assert all(abs(time / found - round(time / found)) < 1e-6 for time in times)


def test_an_error_where_little_is_left_of_the_loss_is_seen():
    """10% of the second halving is below 5% of the descent since the start."""
    told = Told((1.0, 0.8, 0.45, 0.3, 0.2, 0.15), defect=0.041)
    told.balance = told.balance._replace(descent=0.85)
    descent, defect = (0.0, 0.2, 0.55, 0.7, 0.8, 0.85), (0.0, 0.01, 0.011, 0.011, 0.041, 0.041)
    rows = [EMPTY._replace(descent=part, defect=off) for part, off in zip(descent, defect, strict=True)]
    told._series["balance"] = np.array(rows)
    assert gradient_flow_check.diagnosis(told) == ""
    assert gradient_flow_check.unexplained_by_halving(told) == pytest.approx(0.1)
    told._series["energy"] = (1.0, 0.8, 0.7, 0.6, 0.55, 0.51)  # no halving: the whole run
    assert gradient_flow_check.unexplained_by_halving(told) == pytest.approx(0.041 / 0.85)
    told.balance = told.balance._replace(descent=1e-14, defect=2e-14)  # at rest
    assert gradient_flow_check.diagnosis(told) == ""
    assert gradient_flow_check.unexplained_by_halving(told) == 0.0
    told.balance = None
    assert np.isnan(gradient_flow_check.unexplained_by_halving(told))
