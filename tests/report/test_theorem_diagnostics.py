"""The theorems along a trajectory, and the page that shows them."""

import dataclasses
import html
import importlib.util
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from verdict_checks import made_false, made_true

import wgflow
from wgflow.base.errors import InputError, TrajectoryError
from wgflow.cli import runs
from wgflow.report import style
from wgflow.report.decay_diagnostics import decay_diagnostics, decay_table
from wgflow.report.member_selection import evenly_spaced
from wgflow.report.theorem_diagnostics import theorem_diagnostics
from wgflow.report.wording import typeset
from wgflow.sims import run
from wgflow.studies.theorems.figure import panel, rows, theorems
from wgflow.study.workspace import Workspace
from wgflow.theory.certificate import certificate
from wgflow.theory.envelope import adjoint_envelope
from wgflow.theory.stationarity import residual
from wgflow.theory.tangent_kernel import conditional_kernels, tangent_kernel
from wgflow.theory.transport import BirthDeath
from wgflow.trajectory import TrajectoryWriter

SCHEMES = [
    {"name": "gaps"}, {"name": "deposit", "layers": 4}, {"name": "intervals", "layers": 8},
    {"name": "layers", "layers": 3}, {"name": "shallow"},
]  # fmt: skip
STUDY = """
name = "theorems"
figure = "loss_and_particles"
[problem]
name = "sine"
samples = 30
[particles]
tau = "uniform"
[flow]
until = 1.0
[grid]
"particles.count" = [6, 12]
"""


def written(path, frames, energy, **options):
    with TrajectoryWriter.create(path, energy, len(frames[0].tau), **options) as writer:
        for frame in frames:
            writer.append(frame)
    return path


@pytest.fixture(params=SCHEMES, ids=lambda spec: spec["name"])
def short(request, rng, tmp_path):
    problem = wgflow.Problem.padded(rng.normal(size=(25, 2)), rng.normal(size=25))
    energy = wgflow.Energy(problem, request.param)
    frames = list(wgflow.Flow(energy, step=0.05).run(wgflow.Particles.draw_layers(problem, 3, 4, seed=0), until=1.0))
    return written(tmp_path / "run.h5", frames, energy), frames, energy


def test_numbers_are_those_of_the_theory_at_each_frame(short):
    path, frames, energy = short
    told = []
    with wgflow.Trajectory(path) as trajectory:
        found = theorem_diagnostics(trajectory, lambda what, share: told.append(share), starts=9)
    measures = {frame.s: wgflow.Particles(frame.theta, frame.tau, frame.mass) for frame in frames}
    for s, each in zip(found.s.tolist(), found.residual, strict=True):
        assert each == residual(energy, measures[s], s)
    for s, each in zip(found.certified.tolist(), found.certificates, strict=True):
        steps = 300 if s == 1.0 else 100
        assert each.value == certificate(energy, measures[s], found.radius, starts=9, steps=steps, s=s).value
    for frame, envelope in zip((frames[0], frames[-1]), found.envelopes.values(), strict=True):
        np.testing.assert_array_equal(envelope.ratio, adjoint_envelope(energy, measures[frame.s]).ratio)
    np.testing.assert_allclose(found.balance.drop, [frames[0].energy - frame.energy for frame in frames])
    assert found.distance[0] == pytest.approx(0.0, abs=1e-6)
    assert found.distance[-1] > 0
    assert (found.certified[0], found.certified[-1], len(found.certified)) == (0.0, 1.0, 9)
    assert len(found.assumptions) == 8
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0.0, 1.0)
    rest = found.residual[-1]
    assert found.verdict.startswith(f"At s = 1 the stationarity residual is {rest.total:.1e}")
    assert ("Algorithm 1's own force" in found.verdict) == (energy.depth.name == "gaps")
    assert f"the support score is {100 * found.support[-1].ratio:.0f}% compared with" in found.verdict
    assert f"E = {frames[-1].energy:.3g}" in found.verdict
    drawn = theorems.present((found, "run"))
    assert drawn.finding.endswith(typeset(found.verdict))
    assert len(drawn.draw().axes) == 8
    table = rows(found)
    assert [row["s"] for row in table] == found.s.tolist()
    assert [row["certificate"] for row in table if "certificate" in row]
    assert {row["verdict"] for row in panel(found)} <= {"pass", "fail", "unknown"}


def decays(path, **options):
    with wgflow.Trajectory(path) as trajectory:
        return theorem_diagnostics(trajectory, starts=3, **options)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda spec: spec["name"])
def test_bounds_of_the_decay_are_those_of_the_kernels(case, tmp_path, scheme):
    problem, rho = case(particles=24, samples=3, scheme=scheme)
    energy = wgflow.Energy(problem, scheme)
    flow = wgflow.Flow(energy, step=0.02, mobility={"a": 0.5})
    frames = list(flow.run(rho, until=1.0))
    found = decays(written(tmp_path / "run.h5", frames, energy, flow=flow.spec())).decay
    by_time = {frame.s: frame for frame in frames}
    for s, bound, predicted in zip(found.whole.s.tolist(), found.whole.bound, found.frozen, strict=True):
        assert bound == tangent_kernel(energy, by_time[s].particles, {"a": 0.5}).rate > 0
        assert predicted == pytest.approx(tangent_kernel(energy, frames[0].particles, {"a": 0.5}).frozen(s), rel=1e-12)
    made_true(found.verdicts, "decay_rate_above_bound")
    made_true(found.whole.verdicts, "decay_bound_positive")
    assert all(one.holds is not None for one in found.verdicts)
    table = decay_table(found)
    if (name := scheme["name"]) in ("deposit", "intervals"):
        assert not found.depths
        assert table[-1]["on this run"].startswith(f"not checked: {name} spreads a particle over several layers")
    else:
        assert [len(bound.s) for bound in found.depths] == [9, 9]
        last = conditional_kernels(energy, frames[-1].particles, {"a": 0.5})
        assert [bound.bound[-1] for bound in found.depths] == [last.by_depth, last.conditional]
    integrated = [row["proved"] for row in table if row["inequality"].startswith("E(s)")]
    jumps = "not proved, as E jumps where particles change places in depth"
    assert set(integrated) == {jumps if scheme["name"] == "gaps" else "for the continuous flow"}
    singular = [row["on this run"] for row in table if row["inequality"].startswith("rank")]
    assert ("Kₖ has rank at most Nₖ P = 7 < 9 in 24 of 24 layers" in "".join(singular)) == (scheme["name"] == "gaps")


def test_a_doctored_run_violates_its_bounds(case, tmp_path):
    """A file whose recorded dissipation is too small, or whose energy stops falling, is found out, page and title."""
    scheme = {"name": "layers", "layers": 2}
    problem, rho = case(particles=24, samples=2, scheme=scheme)
    energy = wgflow.Energy(problem, scheme)
    frames = list(wgflow.Flow(energy, step=0.05).run(rho, until=1.0))
    small = [dataclasses.replace(frame, dissipation=1e-3 * frame.dissipation) for frame in frames]
    flat = [dataclasses.replace(frame, energy=frames[0].energy, dissipation=10.0) for frame in frames]
    for name, changed, claim, place in (
        ("small", small, "decay_rate_above_bound", 2), ("flat", flat, "energy_below_predicted_decay", 3),
    ):  # fmt: skip
        found = decays(written(tmp_path / f"{name}.h5", changed, energy))
        said = made_false(found.decay.verdicts, claim)
        assert said in [row["on this run"] for row in decay_table(found.decay)]
        title = style.draw_styled(theorems.present((found, "run"))).axes[place].get_title("left")
        assert re.search(r"below a bound at 21 frames|exceeds its bound at 20 frames", title)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "for the continuous flow"),
        ({"activation": "relu"}, "not proved, as E has kinks, like the activation"),
        ({"activation": "squared_relu"}, "for the continuous flow"),
        ({"depth": {"name": "deposit", "layers": 3, "shape": "hat"}}, "not proved, as E has kinks in depth"),
        ({"others": ["noise", "batches"]}, "not proved, as noise, batches change the measure as well"),
    ],
)
def test_what_the_integrated_bound_needs(rng, changes, why):
    problem = wgflow.Problem.padded(
        rng.normal(size=(3, 2)), rng.normal(size=3), activation=changes.get("activation", "tanh")
    )
    energy = wgflow.Energy(problem, changes.get("depth", "shallow"))
    frames = list(wgflow.Flow(energy, step=0.1).run(wgflow.Particles.draw(problem, 12), until=0.3))
    found = decay_diagnostics(energy, frames, 2, {}, changes.get("others", []))
    assert next(row["proved"] for row in decay_table(found) if row["inequality"].startswith("E(s)")) == why


def test_runs_of_which_nothing_is_proved_say_so(rng, tmp_path):
    problem = wgflow.Problem.padded(rng.normal(size=(20, 2)), rng.normal(size=20), loss="huber")
    energy = wgflow.Energy(problem, "shallow")
    flow = wgflow.Flow(energy, step=0.1)
    frames = list(flow.run(wgflow.Particles.draw(problem, 12), until=0.3))
    found = decays(written(tmp_path / "run.h5", frames, energy, flow=flow.spec()))
    assert found.decay.verdicts == []
    assert decay_table(found.decay) == [
        {
            "m": "all bounds",
            "inequality": "",
            "proved": "",
            "on this run": "not checked: the loss is huber, not squared",
        }
    ]
    titles = [axes.get_title("left") for axes in style.draw_styled(theorems.present((found, "run"))).axes]
    assert titles[2:4] == ["Rate, no bound computed", "Decay of E, no bound computed"]


def test_an_energy_that_depends_on_flow_time_balances(rng, tmp_path):
    """dE/ds = -dissipation + dE/ds at a fixed measure; without the second the defect is most of the descent."""
    problem = wgflow.Problem.padded(rng.normal(size=(20, 2)), rng.normal(size=20))
    term = {"name": "quadratic", "strength": 0.3, "decay": 1.0}
    energy = wgflow.Energy(problem, {"name": "deposit", "layers": 3}, regulariser=term)
    flow = wgflow.Flow(energy, step=0.01)
    frames = list(flow.run(wgflow.Particles.draw(problem, 12, tau="uniform"), until=1.0))
    with wgflow.Trajectory(written(tmp_path / "run.h5", frames, energy, flow=flow.spec())) as trajectory:
        found = theorem_diagnostics(trajectory, starts=3)
        assert found.balance.relative < 0.02
        plain = wgflow.theory.stationarity.balance(
            *(trajectory.series(name) for name in ("s", "energy", "dissipation"))
        )
        assert plain.relative > 0.2


def test_scales_of_the_start_may_be_formulas(rng, tmp_path):
    problem = wgflow.Problem.padded(rng.normal(size=(20, 3)), rng.normal(size=20))
    energy, found = wgflow.Energy(problem, "shallow"), []
    frames = list(wgflow.Flow(energy, step=0.1).run(wgflow.Particles.draw(problem, 12), until=0.2))
    for scale in ("sqrt(4 * D)", 2 * problem.shape[1] ** 0.5, 1.0):
        path = tmp_path / f"{scale}.h5"
        written(path, frames, energy, study={"particles": {"count": 12, "scale": {"a": scale}}})
        with wgflow.Trajectory(path) as trajectory:
            found.append(theorem_diagnostics(trajectory, starts=3).support[-1].ratio)
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_masses_that_move_are_compared_in_one_way(rng, tmp_path):
    problem = wgflow.Problem.padded(rng.normal(size=(20, 2)), rng.normal(size=20))
    energy = wgflow.Energy(problem, "shallow")
    mover = BirthDeath(0.5)
    flow = wgflow.Flow(energy, step=0.1, ingredients=[mover])
    frames = list(flow.run(wgflow.Particles.draw(problem, 12), until=1.0))
    with wgflow.Trajectory(written(tmp_path / "run.h5", frames, energy, flow=flow.spec())) as trajectory:
        found = theorem_diagnostics(trajectory, starts=3, radius=7.0)
    assert found.distance_method == ("exact" if importlib.util.find_spec("ot") else "sliced")
    assert found.other_terms == ["birth_death"]
    assert {each.radius for each in found.certificates} == {7.0}
    drawing = style.draw_styled(theorems.present((found, "run")))
    assert "without birth_death" in drawing.axes[0].get_title("left")


def test_parameters_that_are_all_zero_have_a_ball(rng, tmp_path):
    problem = wgflow.Problem.padded(rng.normal(size=(20, 2)), rng.normal(size=20))
    energy = wgflow.Energy(problem, "shallow")
    still = wgflow.Particles(np.zeros((5, problem.shape[3])), np.linspace(0, 1, 5))
    frames = list(wgflow.Flow(energy, step=0.1).run(still, until=0.3))
    with wgflow.Trajectory(written(tmp_path / "run.h5", frames, energy)) as trajectory:
        assert theorem_diagnostics(trajectory, starts=3).radius == 1.0


def test_runs_that_cannot_be_analysed(short, tmp_path):
    _, frames, energy = short
    for count in (0, 1):
        path = tmp_path / f"{count}.h5"
        with TrajectoryWriter.create(path, energy, len(frames[0].tau)) as writer:
            for frame in frames[:count]:
                writer.append(frame)
        with (
            wgflow.Trajectory(path) as trajectory,
            pytest.raises(InputError, match=f"at least two frames, got {count}"),
        ):
            theorem_diagnostics(trajectory)
    outside = [dataclasses.replace(frame, tau=frame.tau + 0.5) for frame in frames[:3]]
    with wgflow.Trajectory(written(tmp_path / "free.h5", outside, energy)) as trajectory:
        with pytest.raises(InputError, match=r"expected depths in \[0, 1\], as the theorems require, got"):
            theorem_diagnostics(trajectory)
    with wgflow.Trajectory(short[0]) as trajectory:
        trajectory.close()
        with pytest.raises(TrajectoryError, match="has been closed"):
            theorem_diagnostics(trajectory)


@pytest.mark.parametrize(("count", "most", "expected"), [(1, 3, [0]), (3, 9, [0, 1, 2]), (11, 3, [0, 5, 10])])
def test_frames_are_spread_evenly(count, most, expected):
    assert evenly_spaced(count, most) == expected


def test_the_page_with_the_theorems(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theorems.toml").write_text(STUDY)
    assert run.main(["theorems.toml", "--quiet"]) == 0
    (folder,) = tmp_path.glob("runs/theorems/[0-9a-f]*")
    before = json.loads((folder / "summary.json").read_text())
    assert runs.report([str(folder), "--starts", "6"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == str((folder / "report.html").relative_to(tmp_path)) or out[-1] == str(folder / "report.html")
    page = (folder / "report.html").read_text()
    assert out[0] in html.unescape(page)
    assert "Claims and the inequalities that decided them" in page
    assert "&lt; minus the tolerance = " in page
    assert (
        (folder / "verdicts.csv").read_text().startswith("figure,claim,sentence,inequality,left,relation,right,holds")
    )
    assert "The theorems along count-12" in page
    assert page.count("<svg") >= 3  # the theorems, the study's own figure, the moving particles
    assert "Loss along flow time" in page
    assert not re.search(r"(src|href)=.(https?:)?//", page)
    after = json.loads((folder / "summary.json").read_text())
    assert after["members"] == before["members"]
    assert after["assumptions"][0]["assumption"] == "universal kernel"
    assert (folder / "theorems.csv").is_file()
    assert run.main(["theorems.toml", "--quiet"]) == 0
    assert "were on this page before the study was run again" in (folder / "report.html").read_text()
    with Workspace(folder).locked():
        script = "import sys; from wgflow.cli.runs import report as main; sys.exit(main(sys.argv[1:]))"
        refused = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "another process is running this study" in refused.stderr
    assert runs.report([str(folder), "--member", "count=6", "--starts", "6", "--quiet"]) == 0
    assert "The theorems along count-6" in (folder / "report.html").read_text()
    for arguments, words in (
        ([str(folder), "--member", "count=7"], "unknown member 'count=7': did you mean 'count"),
        ([str(tmp_path)], "expected the folder of a run"),
        ([str(folder), "--starts", "x"], "invalid int value"),
        ([str(folder), "--radius", "-1"], "radius: expected a finite number > 0, got -1.0"),
        ([str(folder), "--starts", "0"], "starts: expected a whole number >= 3"),
    ):
        capsys.readouterr()
        assert runs.report(arguments) == 2
        err = capsys.readouterr().err
        assert words in err
        assert len(err.splitlines()) == 1
