"""Members that record numbers along s and no particles; layers given by width; a target that changes no result."""

import json
import os
import re
import signal

import h5py
import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError, StudyError
from wgflow.sims import run
from wgflow.study import grid, schema
from wgflow.systems import members
from wgflow.systems.protocol import Setup
from wgflow.systems.residual import ResidualMeasure, displacement
from wgflow.trajectory import TrajectoryWriter

STUDY = """
name = "numbers"
record = "numbers"
observables = ["outputs", "displacement", "second_moment"]
figure = "none"
[problem]
name = "gaussian"
samples = 6
width = 3
state = "whole"
standardise = false
[particles]
per_layer = 4
[depth]
name = "layers"
layers = 2
[flow]
until = 20.0
every = 5.0
step = 0.5
[grid]
"depth.layers" = [2, 3]
seed = [0, 1, 2]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "numbers.toml").write_text(STUDY)
    return tmp_path


def files(folder):
    return {path.name: path for path in folder.glob("runs/numbers/[0-9a-f]*/members/*.h5")}


def datasets(path):
    with wgflow.Trajectory(path) as trajectory:
        return [trajectory.series(name).tobytes() for name in ("s", *trajectory.observables)]


def test_numbers_are_those_of_a_run_with_particles(folder):
    assert run.main(["numbers.toml", "--quiet"]) == 0
    assert run.main(["numbers.toml", "--quiet", "--set", "record=particles", "--out", "other"]) == 0
    for name, path in files(folder).items():
        (twin,) = folder.glob(f"other/numbers/[0-9a-f]*/members/{name}")
        assert datasets(path) == datasets(twin)
        with wgflow.Trajectory(path) as numbers, wgflow.Trajectory(twin) as whole:
            assert (numbers.particles, numbers.finished) == (0, True)
            rho = wgflow.Particles(whole[-1].theta, whole[-1].tau)
            predicted = whole.energy().predict(rho, whole.energy().problem.x)
            np.testing.assert_array_equal(numbers.series("outputs")[-1], predicted)
            moved = (whole[-1].theta - whole[0].theta)[:, :3]
            assert numbers.series("displacement")[-1, 0] == pytest.approx(np.sqrt(np.mean(moved**2)))
        assert path.stat().st_size < twin.stat().st_size
    (place,) = (folder / "runs" / "numbers").glob("[0-9a-f]*")
    rows = json.loads((place / "summary.json").read_text())["members"]
    assert [row["N"] for row in rows] == [8, 8, 8, 12, 12, 12]


def test_a_walltime_ends_after_a_member(folder):
    codes = []
    while not codes or codes[-1] == run.REQUEUE:
        codes.append(run.main(["numbers.toml", "--quiet", "--walltime", "0", "--jobs", "1"]))
        assert len(codes) < 20
    assert codes == [run.REQUEUE] * 5 + [0]


def test_a_stopped_member_starts_again_and_says_so(folder, capsys, monkeypatch):
    arguments = ["numbers.toml", "--quiet", "--jobs", "1"]
    append, written = TrajectoryWriter.append, []

    def stopped(writer, frame):
        append(writer, frame)
        written.append(frame.s)
        if len(written) == 8:  # of five each
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(TrajectoryWriter, "append", stopped)
    assert run.main(arguments) == run.REQUEUE
    assert written[-3:] == [0.0, 5.0, 10.0]
    monkeypatch.setattr(TrajectoryWriter, "append", append)
    capsys.readouterr()
    assert run.main(arguments) == 0
    assert re.fullmatch(
        r"wgflow: runs/numbers/\w+/members/layers-3_seed-1.h5: has numbers up to s = 10 and no particles to go on "
        r"from; it starts again from s = 0\n",
        capsys.readouterr().err,
    )
    assert run.main([*arguments, "--out", "whole"]) == 0
    twins = {path.name: path for path in folder.glob("whole/numbers/[0-9a-f]*/members/*.h5")}
    assert len(twins) == 6
    assert {name: datasets(path) for name, path in files(folder).items()} == {
        name: datasets(path) for name, path in twins.items()
    }


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (2, "frame 2 is damaged; there are no particles to go on from; it starts again from s = 0"),
        (-1, "its last frame is damaged and no particles to go on from; it starts again from s = 0"),
    ],
)
def test_a_damaged_number_is_computed_again_and_said(folder, capsys, frame, words):
    arguments = ["numbers.toml", "--quiet", "--jobs", "1", "--set", "grid.seed=[0]", "--set", "depth.layers=2"]
    assert run.main(arguments) == 0
    (path, *_) = files(folder).values()
    before = datasets(path)
    with h5py.File(path, "r+") as file:
        file["observables/energy/value"][frame] += 1e-12
    assert run.main(arguments) == 0
    assert capsys.readouterr().err == f"wgflow: {path.relative_to(folder)}: {words}\n"
    assert datasets(path) == before


def planned(**changes):
    raw = {
        "name": "x", "problem": {"name": "sine", "samples": 8}, "depth": {"name": "layers", "layers": 4},
        "flow": {"until": 1.0}, "particles": {},
    }  # fmt: skip
    for key, value in changes.items():
        raw[key] = raw.get(key, {}) | value if isinstance(value, dict) else value
    return grid.expand(schema.validate(schema.Study, raw, "x"))[0]


def test_width_of_a_layer():
    one = planned(particles={"per_layer": 5})
    assert one.member.count == 20
    assert len(members.build(one.member).start) == 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": {"name": "gaps", "layers": None}}, "unknown key"),
        ({"particles": {"within": 3, "per_layer": 2}}, "particles.within: expected at least the 4 layers, got 3"),
        ({"target": {"eps": 0.0, "eta": 0.1}}, "target.eps"),
        ({"target": {"eps": 1.0, "eta": 1.0}}, "target.eta"),
        ({"target": {"eps": 1.0, "eta": 0.0}}, "target.eta"),
        ({"target": {"eps": 1.0}}, "target.eta: expected a value"),
        ({"problem": {"state": "whole", "name": "diabetes", "samples": None}}, "unknown key"),
        ({"record": "nothing"}, "record: expected 'particles' or 'numbers'"),
    ],
)
def test_bad_tables(changes, message):
    with pytest.raises((InputError, StudyError), match=message):
        members.build(planned(**changes).member)


def test_width_of_a_layer_needs_layers():
    raw = {"problem": {"name": "sine"}, "particles": {"per_layer": 3}, "flow": {"until": 1.0}}
    with pytest.raises(InputError, match=r"particles.per_layer: expected depth layers, got gaps"):
        members.build(schema.check_member(raw, "x"))


def test_the_whole_state_as_output_needs_as_many_targets():
    raw = {"problem": {"name": "diabetes", "state": "whole"}, "flow": {"until": 1.0}}
    with pytest.raises(InputError, match="expected as many targets as inputs for 'whole', got 1 and 10"):
        members.build(schema.check_member(raw, "x"))


def test_a_target_changes_no_result(folder):
    path = folder / "numbers.toml"
    plain, content = schema.load(path, {})
    aimed, same = schema.load(path, {"target.eps": 0.1, "target.eta": 0.05})
    assert content == same
    assert (plain.target, aimed.target.eps) == (None, 0.1)


def test_a_figure_that_needs_particles_says_so(folder, capsys):
    assert run.main(["numbers.toml", "--set", "figure=loss_and_particles"]) == 2
    assert "record: expected 'particles' to draw 'loss_and_particles', got 'numbers'" in capsys.readouterr().err


def test_members_beside_the_grid():
    raw = {
        "name": "x", "problem": {"name": "sine", "samples": 8}, "depth": {"name": "layers", "layers": 2},
        "flow": {"until": 1.0}, "grid": {"particles.per_layer": [1, 2], "seed": [0, 1]},
        "also": [{"particles.per_layer": 8, "depth.layers": [2, 4]}],
        "reference": {"particles.per_layer": 64, "seed": 9},
    }  # fmt: skip
    found = grid.expand(schema.validate(schema.Study, raw, "x"))
    assert [(each.member.count, each.member.seed, each.reference) for each in found] == [
        (2, 0, False), (2, 1, False), (4, 0, False), (4, 1, False), (16, 0, False), (32, 0, False), (16, 1, False),
        (32, 1, False), (128, 9, True),
    ]  # fmt: skip
    raw["also"] = [{"seed": [1, 2]}]
    with pytest.raises(StudyError, match="also: expected members that the grid has not, got per_layer=1, seed=1 again"):
        grid.expand(schema.validate(schema.Study, raw, "x"))


def test_displacement_counts_by_mass(case):
    """Birth-death leaves particles of little mass far away, which hardly belong to the measure."""
    problem, rho = case(particles=3)
    start = wgflow.Particles(rho.theta, rho.tau)
    shift = np.array([[1.0], [2.0], [1e3]]) * np.ones(rho.theta.shape)

    def measured(mass, size=1.0):
        setup = Setup(ResidualMeasure(), wgflow.Energy(problem, "shallow"), None, None, start)
        theta = start.theta + shift if size == 1.0 else size * shift
        setup = setup if size == 1.0 else setup._replace(start=start.moved(0 * theta, start.tau))
        return displacement(wgflow.Frame(1, 0.1, theta, rho.tau, np.array(mass), 0.0, 0.0), setup)

    assert measured([0.75, 0.25, 0.0]) == pytest.approx(np.full(3, np.sqrt(0.75 + 0.25 * 4)))
    assert measured([1.0, 1.0, 2.0]) == pytest.approx(np.full(3, np.sqrt((1 + 4 + 2e6) / 4)))
    assert measured([0.2, 0.2, 0.2]) == pytest.approx(np.full(3, np.sqrt((1 + 4 + 1e6) / 3)))
    for size in (1e-200, 1e200):
        assert measured([0.75, 0.25, 0.0], size) / size == pytest.approx(np.full(3, np.sqrt(0.75 + 0.25 * 4)))
