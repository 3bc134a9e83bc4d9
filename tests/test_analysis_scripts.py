"""The scripts in ``analysis/``: each runs as a command, and its numbers are computed again in another way."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import wgflow
from wgflow.sims import run

SCRIPTS = sorted((Path(__file__).parents[1] / "analysis").glob("*.py"))
OPTIONS = [
    *("--set", "flow.until=4.0", "--set", "grid.seed=[0, 1]", "--set", "grid.particles.count=[4, 8, 16]"),
    *("--set", "observables=['outputs']", "--set", "figure=none", "--jobs", "1", "--quiet"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    assert run.main(["quickstart", "--out", str(place), *OPTIONS]) == 0
    return next((place / "quickstart").glob("*/study.json")).parent


@pytest.fixture(scope="module")
def path(folder):
    return next(folder.glob("members/count-16_seed-0.h5"))


def analyse(name, place):
    return runpy.run_path(str(SCRIPTS[0].with_name(f"{name}.py")))["analyse"](place)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_it_runs_as_a_command(script, folder, path, tmp_path):
    place = folder if script.stem == "convergence_in_N" else path
    picture = tmp_path / "picture.png"
    done = subprocess.run([sys.executable, str(script), str(place), str(picture)], capture_output=True, text=True,
                          check=False, env={"MPLBACKEND": "agg", "PATH": ""})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 1 <= len(done.stdout.splitlines()) <= 2
    assert picture.stat().st_size > 10_000


def test_stationarity_is_the_squared_gradient_of_the_first_variation(path):
    """By central differences of the first variation in every parameter, at the first frame."""
    _, values = analyse("stationarity", path)
    with wgflow.Trajectory(path) as trajectory:
        energy, rho = trajectory.energy(), trajectory[0].particles
    squared, step = np.zeros(len(rho)), 1e-5
    for k in range(rho.theta.shape[1]):
        above, below = rho.theta.copy(), rho.theta.copy()
        above[:, k] += step
        below[:, k] -= step
        slope = energy.first_variation(rho, above, rho.tau) - energy.first_variation(rho, below, rho.tau)
        squared += (slope / (2 * step)) ** 2
    assert values[0] == pytest.approx(float(energy.weights(rho) @ squared), rel=1e-6)


def test_coverage_at_the_start_is_that_of_iid_samples(path):
    s, coverage, iid = analyse("full_support", path)
    assert s[0] == 0
    assert iid == pytest.approx(0.95, abs=0.01)  # by definition of the radius
    assert abs(coverage[0] - iid) < 0.15


def test_the_signed_direction_descends(path):
    t, values, found, signed = analyse("landscape", path)
    with wgflow.Trajectory(path) as trajectory:
        energy, rho = trajectory.energy(), trajectory[-1].particles
    assert values.shape == (len(t), len(rho))
    assert found.value < 0
    variation = energy.first_variation(rho, signed.theta, np.full(len(signed.theta), 0.5))
    assert signed.value == pytest.approx(float(signed.weight @ variation))
    assert signed.value < 0
    assert abs(signed.weight.sum()) < 1e-9 * signed.variation


def test_paths_switches_balance_and_outputs_are_those_of_the_file(path):
    s, tau, norm = analyse("particle_paths", path)
    times, switches, energy = analyse("order_switching", path)
    found = analyse("energy_balance", path)
    flow, away = analyse("outputs", path)
    with wgflow.Trajectory(path) as trajectory:
        frames = list(trajectory)
        last = frames[-1].observables["outputs"]
    for k, frame in enumerate(frames):
        assert s[k] == times[k] == flow[k] == frame.s
        np.testing.assert_array_equal(tau[k], frame.tau)
        np.testing.assert_allclose(norm[k] ** 2, (frame.theta**2).sum(axis=1))
        assert (switches[k], energy[k]) == (frame.switches, frame.energy)
        assert found.drop[k] == frames[0].energy - frame.energy
        assert away[k] == pytest.approx(np.sqrt(np.mean((frame.observables["outputs"] - last) ** 2)))


def test_the_exponent_is_that_of_two_sizes(folder):
    """Two sizes are left beside the reference, so that the line goes through both."""
    n, rms, exponent = analyse("convergence_in_N", folder)
    assert n.tolist() == [4, 8]
    assert exponent == pytest.approx(np.log(rms[0] / rms[1]) / np.log(2))
