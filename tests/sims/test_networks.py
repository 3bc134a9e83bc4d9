"""Networks of features as members of studies."""

import hashlib
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError, StudyError
from wgflow.sims import run
from wgflow.study import grid, schema
from wgflow.systems import members
from wgflow.systems.neural_feature_flow import flow, initial
from wgflow.systems.neural_feature_flow.system import from_trajectory, state_of

STUDY = """
name = "net"
figure = "loss_and_particles"
observables = ["heldout", "outputs", "defect", "unit_spread", "eigenvalues", "units"]
[problem]
name = "sine"
samples = 20
heldout = 0.25
[network]
layers = 3
[particles]
count = 8
[flow]
step = 0.1
until = 2.0
every = 0.5
[grid]
"network.kind" = ["resnet", "dnn"]
"network.method" = ["flow", "descent"]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.toml").write_text(STUDY)
    return tmp_path


def files(folder, out="runs"):
    return {path.name: path for path in folder.glob(f"{out}/net/[0-9a-f]*/members/*.h5")}


def content(path):
    with wgflow.Trajectory(path) as trajectory:
        frames = [(f.step, f.s, digest(f.theta), f.energy, f.dissipation) for f in trajectory]
        return frames, {name: digest(trajectory.series(name)) for name in trajectory.observables}


def digest(array):
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]  # a difference is then one that can be read


def test_a_study_of_networks(folder, capsys):
    assert run.main(["net.toml", "--jobs", "1"]) == 0
    (place,) = (folder / "runs" / "net").glob("[0-9a-f]*")
    rows = json.loads((place / "summary.json").read_text())["members"]
    assert [row["N"] for row in rows] == [8] * 4
    assert all(row["energy_last"] < row["energy_first"] for row in rows)
    assert (place / "report.html").read_text().count("particles") > 0
    for path in files(folder).values():
        with wgflow.Trajectory(path) as trajectory:
            system = from_trajectory(trajectory)
            frame, last = trajectory[-1], -1
            state = state_of(system, frame)
            network = system.network
            assert network.loss_of(network.output(*state)) == pytest.approx(frame.energy, rel=1e-12)
            assert trajectory.series("defect")[last] == flow.defect(network, state).largest
            np.testing.assert_array_equal(trajectory.series("unit_spread")[last], initial.spread(state.features))
            held = trajectory.samples("heldout")
            loss = np.mean((network.predict(state.weights, held["x"]) - held["y"][:, 0]) ** 2) / 2
            assert trajectory.series("heldout")[last] == pytest.approx(loss)
            units = trajectory.series("units")[last]
            np.testing.assert_array_equal(units, frame.theta)  # fewer than 256: all of them
            assert frame.observables["outputs"].shape == (15, 1)


def test_the_same_again_and_after_a_kill(folder, struck):
    assert run.main(["net.toml", "--quiet", "--jobs", "1", "--out", "whole", "--set", "flow.until=20.0"]) == 0
    arguments = ["net.toml", "--quiet", "--jobs", "1", "--set", "flow.until=20.0"]
    assert struck(signal.SIGKILL, 41 + 20, *arguments).wait() == -signal.SIGKILL
    assert len(files(folder)) == 2
    assert run.main(arguments) == 0
    twins = files(folder, "whole")
    assert {name: content(path) for name, path in files(folder).items()} == {
        name: content(path) for name, path in twins.items()
    }


def member(**changes):
    raw = {
        "name": "x", "problem": {"name": "sine", "samples": 8}, "flow": {"until": 1.0}, "network": {"layers": 2},
    }  # fmt: skip
    for key, value in changes.items():
        raw[key] = raw.get(key, {}) | value if isinstance(value, dict) else value
    return grid.expand(schema.validate(schema.Study, raw, "x"))[0].member


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": {"layers": 1}}, "network.layers"),
        ({"network": {"kind": "cnn"}}, "network.kind: expected 'resnet' or 'dnn'"),
        ({"network": {"h1": "tnah"}}, "did you mean 'tanh'"),
        ({"network": {"start": "ideal", "ridge": 0.1}}, "network.ridge: expected 0 for ideal particles"),
        ({"network": {"sigma": 0.0}}, "network.sigma"),
        ({"particles": {"tau": "uniform"}}, "particles.tau: a feature network has no use for it"),
        ({"particles": {"part": 1}}, "particles.part: a feature network has no use for it"),
        ({"flow": {"boundary": "reflect"}}, "flow.boundary: a feature network has no use for it"),
        ({"flow": {"rule": "descent"}}, "flow.rule: a feature network has no use for it"),
        ({"flow": {"step": 0.3}}, "until: expected a whole number of steps"),
        ({"depth": {"name": "shallow"}}, "depth: a feature network has no use for it"),
        ({"dtype": "float32"}, "dtype: a feature network has no use for it"),
        ({"observables": ["second_moment"]}, "unknown observable"),
        ({"problem": {"block": "matrix"}}, "problem.block: a feature network has no use for it"),
        ({"problem": {"activation": "relu"}}, "problem.activation: a feature network has no use for it"),
        ({"network": {"start": "standard", "ridge": 0.1}}, "network.ridge: has no effect"),
        ({"network": {"kind": "dnn", "h2": "sin"}}, "network.h2: has no effect"),
        ({"observables": ["heldout"]}, "'heldout' needs samples held out"),
        ({"problem": {"name": "digits", "samples": 1}}, "unknown key"),
    ],
)
def test_what_a_network_has_no_use_for(changes, message):
    with pytest.raises((InputError, StudyError), match=message):
        members.build(member(**changes))


def test_one_target():
    raw = {"problem": {"name": "digits"}, "flow": {"until": 1.0}, "network": {}}
    with pytest.raises(InputError, match="expected one target for a feature network, got 10 columns"):
        members.build(schema.check_member(raw, "x"))
    raw["problem"] |= {"parity": True, "loss": "squared", "standardise": False}
    system = members.build(schema.check_member(raw, "x")).energy
    assert set(np.unique(system.network.y)) == {-1.0, 1.0}
    assert system.network.y[:4].tolist() == [1.0, -1.0, 1.0, -1.0]  # digits 0, 1, 2, 3


@pytest.mark.parametrize("start", ["minimum_norm", "standard", "ideal"])
def test_starts(start):
    setup = members.build(member(network={"start": start, "kind": "dnn"}, particles={"count": 12}))
    state = setup.start()
    network = setup.energy.network
    expected = {
        "minimum_norm": lambda: initial.minimum_norm(network, 12, 0).weights,
        "standard": lambda: initial.standard(network, 12, 0),
    }
    if start in expected:
        np.testing.assert_array_equal(np.asarray(state.weights.inner), expected[start]().inner)
    assert (flow.defect(network, state).largest > 1e-6) == (start == "ideal")
    assert len(setup.start) == 12
    assert members.build(member(network={"start": start, "kind": "dnn"}), "reference").energy.backend == "reference"
    assert setup.energy.pack(state).shape == (12, setup.energy.problem.shape[3])


def test_figures_of_blocks_and_of_networks_are_not_mixed(folder, capsys):
    assert run.main(["net.toml", "--set", "figure=switching"]) == 2
    assert "network: expected residual blocks to draw 'switching'" in capsys.readouterr().err
    assert run.main(["quickstart", "--set", "figure=degeneracy"]) == 2
    assert "network: expected members with one to draw 'degeneracy'" in capsys.readouterr().err
    assert run.main(["net.toml", "--backend", "gpu"]) == 2


def test_a_forecast_of_networks(folder, capsys):
    assert run.main(["net.toml", "--dry-run", "--set", "grid.particles.count=[8,64,512]"]) == 0
    out = capsys.readouterr().out
    assert "12 members" in out


def test_the_same_bits_for_any_number_of_threads(folder):
    """Products of matrices large enough for a second thread of BLAS."""
    changes = ["--set", "grid.particles.count=[300]", "--set", "problem.samples=200", "--set", "flow.until=0.5"]
    found = []
    for threads in ("1", "2"):
        out = f"out{threads}"
        command = [
            sys.executable,
            "-m",
            "wgflow.sims.run",
            "net.toml",
            "--quiet",
            "--jobs",
            "1",
            "--out",
            out,
            *changes,
        ]
        subprocess.run(command, check=True, env=os.environ | {"OPENBLAS_NUM_THREADS": threads})
        found.append({name: content(path) for name, path in files(folder, out).items()})
    assert len(found[0]) == 4
    assert found[0] == found[1]
