"""NumPy twins of the benchmarks take wgflow's steps, and a target that is missed is shown as missed."""

import copy
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import wgflow

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("block", [1000, 5])
@pytest.mark.parametrize(
    ("scheme", "sizes"), [("layers", (12, 13, 3, 4)), ("gaps", (12, 13, 3)), ("shallow", (12, 13, 3))]
)
def test_numpy_twin_takes_the_steps_of_the_flow(monkeypatch, scheme, sizes, block, plain):
    import cases
    import twins

    for network in (twins.Wide, twins.Deep):
        monkeypatch.setattr(network, "block", block)
    case, h = cases.Case(scheme, *sizes, plain=plain), 0.5  # long steps: particles change places under Gaps
    problem, rho, depth = cases.measure(case)
    frames = list(wgflow.Flow(wgflow.Energy(problem, depth), step=h).run(rho, 6 * h))
    assert scheme != "gaps" or frames[-1].switches > 0
    flow = twins.twin(case, cases.arrays(case))
    for before, after in pairwise(frames):
        assert flow.step(h) == pytest.approx(before.energy, rel=1e-10)
        # Rows may be in another order: by depth under Gaps.
        np.testing.assert_allclose(np.sort(flow.theta(), axis=0), np.sort(after.theta, axis=0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["flow_step", "numpy_step", "own_activation"])
def test_programs_agree_with_an_evaluation(name):
    import cases
    import programs

    case = cases.Case("gaps", 20, 9, 2)
    mine, other = programs.own(case), programs.PROGRAMS[name][1](case)
    energy, by_theta, _ = mine.result(mine.run())
    found, moved, _ = other.result(other.run())
    assert found == pytest.approx(energy)
    expected = by_theta if name == "own_activation" else -len(by_theta) * by_theta  # a step gives the velocity
    np.testing.assert_allclose(moved, expected, atol=1e-9 * np.abs(expected).max())
    assert len(other.clock(3)) == 3


def test_a_step_is_timed_with_its_work_where_several_are_taken_at_once(monkeypatch):
    """By a clock that counts steps and evaluations, of which a step has one."""
    import cases
    import programs

    from wgflow.flow.stepper_several import SeveralStepper

    now, several = [0], SeveralStepper.several

    def counted(*given):
        taken = several(*given)
        now[0] += taken
        return taken

    monkeypatch.setattr(SeveralStepper, "several", counted)
    monkeypatch.setattr(programs, "CLOCK", lambda: now[0])
    spent = programs.flow_step(cases.Case("gaps", 16, 32, 1)).clock(100)
    assert np.median(spent) == pytest.approx(1.0, abs=0.05)


def timings(**medians):
    return {
        name: {"median": median, "low": median, "high": median, "first": 1.0} | {"calls": 3}
        for name, median in medians.items()
    }


@pytest.fixture
def results():
    import run
    import targets

    step = timings(flow_step=1e-5, numpy_step=1e-4, dgemm=0.1, tanh=4e-3)
    steps = [{"case": case._asdict(), "threads": 1, "timings": copy.deepcopy(step)} for case in targets.STEPS]
    activation = [{"case": case._asdict(), "threads": 1, "timings": timings(wgflow=1e-3, own_activation=1.1e-3)}
                  for case in targets.ACTIVATIONS]  # fmt: skip
    samples = {name: [{"case": case._asdict(), "threads": 1, "timings": timings(flow_step=1e-3, numpy_step=2e-3)}
                      for case in cases] for name, cases in run.SAMPLES.items()}  # fmt: skip
    flow = {"threads": 1, "kernel": 1.0, "evaluation": 1.01, "step": 1.04, "frame": 1.04, "recorded": 1.05}
    return {"steps": steps, "activation": activation, "samples": samples, "flow": [flow]}


def test_targets_that_are_missed_are_shown_as_missed(results):
    import page
    import targets

    assert all(bar.met for bar in targets.bars(results))
    assert "**no**" not in targets.section(results)
    results["steps"][0]["timings"]["flow_step"]["median"] = 1.0
    results["samples"]["gaps"][3]["timings"]["flow_step"]["median"] = 1.0
    results["activation"][0]["timings"]["own_activation"]["median"] = 2e-3
    results["flow"][0]["recorded"] = 1.2
    missed = [bar for bar in targets.bars(results) if not bar.met]
    assert [bar.quantity.split(":")[0] for bar in missed] == ["step", "step", "own activation", "step"]
    assert "slowest at 1,000" in missed[1].case
    assert targets.section(results).count("**no**") == len(missed) == 4
    for name, part in results.items():
        assert page.SECTIONS[name](part).startswith("## ")


def test_arithmetic_of_a_step(results):
    """12 N M D flops at 2 2048^3 / 0.1 s, and N M tanh at 2^22 / 4 ms: 3.49 and 4.77 ms for N M = 5e6, D = 10."""
    import cases
    import step_page

    case = cases.Case("layers", 5000, 1000, 10, layers=50, plain=True)
    times = results["steps"][0]["timings"]
    products, tanh = 6e8 / (2 * 2048**3 / 0.1), 5e6 / 2**22 * 4e-3
    assert step_page.arithmetic(case, times, 1) == pytest.approx(products + tanh)
    assert step_page.arithmetic(case, times, 2) == pytest.approx(products + tanh / 2)
    row = next(line for line in step_page.steps(results["steps"]).splitlines() if "50 of 100" in line)
    assert row.endswith(f"| {1e3 * (products + tanh):.3g} ms | {1e-4 / (products + tanh):.2g}× |")


def test_tanh_is_of_as_many_numbers_as_is_said():
    import cases
    import programs

    timed = programs.tanh(cases.Case("gaps", 2, 2, 2))
    timed.run()
    _, row, _ = timed.result(None)
    expected = np.linspace(-3.0, 3.0, row.size)
    for _ in range(programs.VALUES // row.size):
        expected = np.tanh(expected)
    np.testing.assert_allclose(row, expected, rtol=1e-12)


def test_figure_of_sample_curves(results):
    import step_page

    from wgflow.report import style

    with style.styled():
        time, times = step_page.figure(results["samples"], style).axes
    assert [len(panel.lines) for panel in (time, times)] == [4, 3]
    np.testing.assert_allclose(times.lines[0].get_ydata(), 2.0)


def test_page_is_the_one_of_its_results():
    import page

    docs = ROOT / "docs"
    results = json.loads((docs / "benchmarks.json").read_text(encoding="utf-8"))
    assert page.markdown(results) == (docs / "benchmarks.md").read_text(encoding="utf-8")
