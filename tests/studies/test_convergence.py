"""A convergence study of a teacher from the command to its page, where the rate of the outputs is known."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import wgflow
from wgflow.sims import run
from wgflow.studies.convergence import reduce as convergence
from wgflow.study.workspace import Workspace

ROOT = Path(__file__).parents[2]
STUDY = """
name = "rates"
question = "At what rate? <b>&"
figure = ["convergence_rates", "convergence_loss", "convergence_models"]
observables = ["heldout"]
[problem]
name = "teacher"
samples = 80
heldout = 0.25
[particles]
tau = "uniform"
[depth]
name = "deposit"
layers = 4
shape = "clipped"
[flow]
step = 0.25
until = 2.0
every = 0.5
[grid]
"particles.count" = [8, 16, 32, 64, 128]
seed = [0, 1, 2, 3, 4, 5, 6, 7]
"particles.part" = [0, 1]
[reference]
"particles.count" = 1024
seed = 100
"particles.part" = 0
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The run's folder, and what the command printed."""
    place = tmp_path_factory.mktemp("rates")
    (place / "rates.toml").write_text(STUDY)
    command = [sys.executable, "-m", "wgflow.sims.run", "rates.toml", "--jobs", "2", "--threads", "1"]
    result = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
    (folder,) = (place / "runs" / "rates").glob("[0-9a-f]*")
    return folder, result.stdout


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def test_outputs_of_independent_particles_approach_their_limit_like_one_over_root_n(done):
    """The central limit theorem's rate, at the start and along the flow; the interval's half width is about 0.03."""
    rates = [row for row in summary(done[0])["rates"] if row["quantity"] == "rms_outputs"]
    assert [row["s"] for row in rates] == [0.0, 0.5, 1.0, 1.5, 2.0]
    for row in rates:
        assert row["exponent"] == pytest.approx(0.5, abs=0.1)
        assert row["low"] < 0.55
        assert row["high"] > 0.45
        assert not row["no_rate"]


def test_the_bias_of_e_is_of_second_order_where_it_is_told_from_zero(done):
    """At the start E's bias is half the variance of the outputs and of order 1/N; later this teacher hides it."""
    start, *later = [row for row in summary(done[0])["rates"] if row["quantity"] == "bias_energy"]
    assert (start["N_least"], start["N_most"]) == (8, 64)  # a cloud of N and one of 2 N for each
    assert start["low"] <= 1.0 <= start["high"]
    assert all("significantly from 0" in row["no_rate"] or row["low"] <= 1.0 <= row["high"] for row in later)


def test_estimates_are_what_they_say(done):
    """Root mean square, spread and coupled bias at the last s, computed once more from the files."""
    folder, _ = done
    (group,) = convergence.groups(Workspace(folder))
    energies, outputs = {}, {}
    for member in Workspace(folder).members():
        with wgflow.Trajectory(member.path) as trajectory:
            frame, energy = trajectory[-1], trajectory.energy()
        key = tuple(member.values[key] for key in ("particles.count", "seed", "particles.part"))
        energies[key] = frame.energy
        outputs[key] = energy.predict(wgflow.Particles(frame.theta, frame.tau), energy.problem.x)
    last = {name: found[-1] for name, found in group.estimates.items()}
    n = 16
    mine = [key for key in energies if key[0] == n]
    distance = np.sqrt(np.mean([(outputs[key] - outputs[1024, 100, 0]) ** 2 for key in mine]))
    correction = np.sqrt(1 + (n / 1024) ** (2 * last["rms_outputs"].rate.exponent))
    assert last["rms_outputs"].value[1] == pytest.approx(distance / correction, rel=1e-10)
    spread = np.std([energies[key] for key in mine], ddof=1)
    assert last["spread_energy"].value[1] == pytest.approx(spread, rel=1e-10)
    gaps = [(energies[n, s, 0] + energies[n, s, 1]) / 2 - energies[2 * n, s, 0] for s in range(8)]
    assert last["bias_energy"].value[1] == pytest.approx(np.mean(gaps), rel=1e-10)
    assert group.coupled


def test_two_parts_are_together_the_larger_cloud(done):
    folder, _ = done

    def start(label):
        with wgflow.Trajectory(folder / "members" / f"{label}.h5") as trajectory:
            return trajectory[0].theta, trajectory[0].tau

    halves = [start(f"count-16_seed-3_part-{part}") for part in (0, 1)]
    whole = start("count-32_seed-3_part-0")
    for k in range(2):
        np.testing.assert_array_equal(np.concatenate([half[k] for half in halves]), whole[k])


def test_the_command_says_what_was_found(done):
    folder, out = done
    assert re.search(r"rms of the outputs +2 +N\^−0\.[45]\d", out)
    assert "At s = 2 the outputs' distance to those of N = 1024 falls like N^−0." in out
    assert "perceptron" in out
    assert (folder / "rates.csv").read_text().count("\n") == 1 + 5 * 5
    assert (folder / "models.csv").read_text().count("\n") == 1 + 5


def test_the_page_stands_alone(done):
    page = (done[0] / "report.html").read_text()
    assert "At what rate? &lt;b&gt;&amp;" in page
    assert page.count("<svg") == 4 + 3  # figures once more, for a narrow page
    assert "prefers-color-scheme: dark" in page
    addresses = set(re.findall(r"https?://[^\"'<> )]+", page))
    assert all(each.startswith("http://www.w3.org/") for each in addresses), addresses  # names, never fetched
    assert not re.search(r"<(link(?! rel=\"icon\")|img|iframe)|<script[^>]* src", page)
    used, declared = set(re.findall(r"var\((--[0-9a-f]{6})\)", page)), set(re.findall(r"(--[0-9a-f]{6}):", page))
    assert used
    assert used <= declared
    assert "python -m wgflow.sims.run rates.toml" in page


def test_killed_and_run_again_it_is_the_same(done, tmp_path):
    """Some members lost, one cut short, everything derived lost: the same summary outside provenance."""
    folder, _ = done
    again = tmp_path / "runs" / "rates" / folder.name
    again.mkdir(parents=True)
    shutil.copytree(folder / "members", again / "members")
    shutil.copy(folder / "study.json", again)
    for k, path in enumerate(sorted((again / "members").iterdir())):
        if k % 3 == 0:
            path.unlink()
    (tmp_path / "rates.toml").write_text(STUDY)
    command = [sys.executable, "-m", "wgflow.sims.run", "rates.toml", "--quiet", "--jobs", "1"]
    subprocess.run([*command, "--walltime", "1"], cwd=tmp_path, capture_output=True, check=False)
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    first, second = summary(folder), summary(again)
    assert first.pop("provenance") != second.pop("provenance")
    assert json.dumps(first) == json.dumps(second)
    for name in ("summary.csv", "rates.csv", "models.csv", "convergence_rates.png", "convergence_loss.pdf"):
        assert (folder / name).read_bytes() == (again / name).read_bytes()


@pytest.mark.parametrize("figure", ["convergence_rates", "convergence_loss", "convergence_models"])
def test_the_command_redraws_the_figures_from_trajectories_alone(done, figure, tmp_path):
    folder, _ = done
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("*.png", "*.pdf", "*.csv", "summary.*", "*.html"))
    subprocess.run([sys.executable, "-m", "wgflow", "figure", figure, str(bare)], check=True, capture_output=True)
    assert (bare / f"{figure}.png").read_bytes() == (folder / f"{figure}.png").read_bytes()


def options(*changes):
    return [part for change in changes for part in ("--set", change)]


def test_a_study_with_too_little_says_no_rate(tmp_path, monkeypatch, capsys):
    """The negative control by command: three sizes and two seeds, without parts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rates.toml").write_text(STUDY)
    less = ("grid.particles.count=[4, 8, 16]", "grid.seed=[0, 1]", "particles.part=0", "reference.particles.count=128")
    assert run.main(["rates.toml", *options(*less, "figure=convergence_rates", "flow.until=0.5")]) == 0
    out = capsys.readouterr().out
    assert "has no rate (" in " ".join(out.split())
    (folder,) = (tmp_path / "runs" / "rates").glob("[0-9a-f]*")
    assert all(row["no_rate"] and row["exponent"] is None for row in summary(folder)["rates"])


def test_without_two_clouds_a_seed_the_bias_has_no_rate(tmp_path, monkeypatch):
    """Against one reference the bias would have the reference's own fluctuation in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rates.toml").write_text(STUDY)
    less = ("particles.part=0", "figure=convergence_rates", "flow.until=0.5", "grid.particles.count=[8, 16, 32, 64]")
    assert run.main(["rates.toml", "--quiet", *options(*less)]) == 0
    (folder,) = (tmp_path / "runs" / "rates").glob("[0-9a-f]*")
    reasons = {row["no_rate"] for row in summary(folder)["rates"] if row["quantity"].startswith("bias")}
    assert reasons == {"needs particles.part = [0, 1], N that double and tau = uniform"}


def test_a_figure_that_fails_leaves_the_summary(tmp_path, monkeypatch, capsys):
    """Three training samples are too few for the other models; members that diverge have no rates."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rates.toml").write_text(STUDY)
    less = ("grid.particles.count=[2, 4]", "grid.seed=[0, 1]", "reference.particles.count=32", "flow.until=0.5")
    assert run.main(["rates.toml", *options(*less, "problem.samples=4", "figure=convergence_models")]) == 0
    assert "convergence_models could not be drawn: models: expected samples that" in capsys.readouterr().out
    assert run.main(["rates.toml", *options(*less, "particles.scale={a=3e152}")]) == run.DIVERGED
    assert "convergence_rates could not be drawn" in capsys.readouterr().out
    for folder in (tmp_path / "runs" / "rates").glob("[0-9a-f]*"):
        assert len(summary(folder)["members"]) == 9
        assert (folder / "report.html").is_file()


BAD = [
    (["grid.particles.count=[64]"], "grid.particles.count: expected several N to draw 'convergence_rates', got 64"),
    (["grid.seed=[1]"], "grid.seed: expected several seeds"),
    (["reference.particles.count=512"], "reference: expected N of at least 1024, 8 times the largest of the grid, got"),
    (["reference={}"], "got no reference; set reference.particles.count = 1024"),
    (["problem.name=digit"], "did you mean 'digits'?"),
    (["problem.heldout=0.0", "observables=[]"], "problem.heldout: expected samples held out"),
    (["reference.particles.cuont=2048"], "unknown key; did you mean 'count'?"),
    (["reference.particles.count=[]"], "reference.particles.count: expected at least one value"),
    (["reference.particles.count=8", "reference.seed=0"], "expected members that the grid has not"),
    (["reference.seed=3"], "reference.seed: expected seeds that the grid has not"),
    (["reference.flow.step=0.125"], "differs from them in more than particles.count, seed, particles.part"),
]


@pytest.mark.parametrize(("changes", "words"), BAD)
def test_bad_grids_are_refused_before_anything_runs(tmp_path, monkeypatch, capsys, changes, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rates.toml").write_text(STUDY)
    assert run.main(["rates.toml", *options(*changes)]) == run.BAD_INPUT
    err = capsys.readouterr().err
    assert words in err
    assert all(line.startswith("wgflow: ") for line in err.splitlines())
    assert not (tmp_path / "runs").exists()
