"""Errors a user meets: one line each, with what came and what to do; NumPy's numbers are numbers."""

import json
import re
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import wgflow
from wgflow.base import extras
from wgflow.base.errors import InputError, describe
from wgflow.base.registry import unknown
from wgflow.base.validate import real, scalar, whole
from wgflow.cli import doctor
from wgflow.flow.operators import Langevin
from wgflow.flow.schedule import At, Every, Log, Steps, schedule
from wgflow.flow.stepsize import Adaptive, Constant, Descent
from wgflow.model.activations import Activation
from wgflow.model.blocks import Matrix, TwoLayer
from wgflow.model.losses import Squared
from wgflow.model.regularisers import Quadratic
from wgflow.systems.neural_feature_flow.flow import run
from wgflow.systems.neural_feature_flow.frames import Motion
from wgflow.systems.neural_feature_flow.initial import minimum_norm
from wgflow.systems.neural_feature_flow.network import Network
from wgflow.systems.neural_feature_flow.system import PackedNetwork, from_trajectory
from wgflow.theory.distances import between
from wgflow.theory.transport import Birth, BirthDeath
from wgflow.trajectory import TrajectoryWriter

X = np.random.default_rng(0).normal(size=(9, 3))
PROBLEM = wgflow.Problem(X, X[:, 0])
ONE = np.float32(0.1)


def said(make, *arguments, **options):
    """Message of the error of a call: one line."""
    with pytest.raises(InputError) as caught:
        make(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- NumPy's numbers


@pytest.mark.parametrize(
    "made",
    [
        Constant(ONE), Descent(ONE, np.float64(0.2)), Adaptive(ONE, np.float32(1e-3)), Every(np.float16(0.5)),
        Steps(np.int32(3)), Log(np.uint8(8), ONE), At([ONE, np.int64(2)]), Quadratic(ONE, np.int64(1)),
        Langevin(ONE, seed=np.uint64(3)), BirthDeath(ONE), Birth(np.int8(2), ONE), TwoLayer(np.uint8(200), np.True_),
        Matrix(np.False_), wgflow.Deposit(np.int64(4)), wgflow.Layers(np.array(4)),
    ],
    ids=lambda made: type(made).__name__,
)  # fmt: skip
def test_objects_made_of_numpys_numbers_are_those_made_of_pythons(made):
    plain = json.loads(json.dumps(made.spec()))
    assert type(made)(**{key: value for key, value in plain.items() if key != "name"}) == made


def test_numbers_in_single_precision_are_the_decimals_they_stand_for():
    assert real("h", ONE) == real("h", np.array(ONE)) == scalar(np.float16(0.1)) == 0.1
    assert whole("n", np.int8(3)) == whole("n", np.array(3)) == 3
    assert type(scalar(np.float64(0.1))) is float
    assert schedule(ONE) == Every(0.1)
    for bad in (np.True_, np.float32("nan"), np.array([1.0]), "1", None, 1j):
        assert "expected a finite number" in said(real, "h", bad)
        assert "expected a whole number" in said(whole, "n", bad)


def test_a_flow_of_numpys_numbers():
    energy = wgflow.Energy(PROBLEM)
    rho = wgflow.Particles.draw(PROBLEM, np.uint8(200), part=np.uint8(1))
    assert len(rho) == 200
    flow = wgflow.Flow(energy, step=ONE, batch=np.int64(4), seed=np.uint32(1), mobility={"a": ONE})
    frames = list(flow.run(rho, until=np.float32(0.3), every=ONE))
    assert [frame.s for frame in frames] == pytest.approx([0.0, 0.1, 0.2, 0.3], abs=1e-15)
    assert wgflow.Flow.from_spec(json.loads(json.dumps(flow.spec())), energy).spec() == flow.spec()
    assert "batch: expected 1 to 9 samples, got 10 (int)" in said(wgflow.Flow, energy, batch=np.int64(10))
    assert Motion(PackedNetwork(Network(X, X[:, 0]), np.int64(3)), "flow", "euler", ONE).h == 0.1


def test_weights_in_single_precision():
    third = np.full(3, 1 / 3, np.float32)
    points = np.zeros((3, 1))
    a, b = (np.asarray(each, np.float64) for each in (third, [0.5, 0.25, 0.25]))
    assert between(points, points, a, b).value == 0
    rho = wgflow.Particles(np.zeros((3, 7)), [0.1, 0.5, 0.9], third)
    assert wgflow.Energy(PROBLEM, wgflow.Layers(3))(rho) > 0
    soft = np.random.default_rng(1).dirichlet(np.ones(10), 9).astype(np.float32)
    wgflow.Problem(X, soft, readout=np.ones((10, 3)), loss="cross_entropy")
    message = said(between, points, points, a, 1.00001 * b)
    got = re.search(r"got (\S+) and (\S+);", message)
    assert got[1] != got[2]


# --- tables


def test_a_data_frame_names_its_column():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"age": range(9), "city": list("abcdefghi"), "tall": [True] * 9})
    assert "got 'city' of type" in said(wgflow.Problem, table, X[:, 0])
    assert "got 'when' of type datetime" in said(
        wgflow.Problem, table.assign(when=pandas.Timestamp(0))[["when"]], X[:, 0]
    )
    mixed = table[["age", "tall"]].astype({"age": float})
    assert np.array_equal(wgflow.Problem(mixed, X[:, 0]).x, np.column_stack([np.arange(9.0), np.ones(9)]))
    mixed.loc[3, "age"] = np.nan
    assert "the first nan at row 3, column 0 ('age')" in said(wgflow.Problem, mixed, X[:, 0])
    assert "got 'city' of type" in said(wgflow.Problem, X, table[["city"]])
    assert "y: expected an array of real numbers" in said(wgflow.Problem, X, table["city"])


class Unspeakable:
    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    "value",
    [np.arange(30).reshape(10, 3), "a\nb" * 50, {k: "\n" for k in range(99)}, Unspeakable(), b"\n", "\x85\u2028"],
)
def test_whatever_came_is_described_in_one_short_line(value):
    assert len(describe(value).splitlines()) == 1
    assert len(describe(value)) < 90
    for make in (wgflow.Problem, wgflow.Particles, wgflow.Flow):
        with pytest.raises((InputError, AttributeError)):
            make(value, value)
    for option in ("block", "activation", "loss"):
        said(wgflow.Problem, X, X[:, 0], **{option: value})
    for make, option in ((wgflow.Energy, "depth"), (wgflow.Energy, "regulariser"), (wgflow.Energy, "backend")):
        said(make, PROBLEM, **{option: value})
    energy = wgflow.Energy(PROBLEM)
    for option in ("integrator", "step", "boundary", "batch", "ingredients"):
        said(wgflow.Flow, energy, **{option: value})


def test_of_many_names_the_nearest_are_shown():
    names = [f"N={n}, step={h}" for n in range(12) for h in (0.1, 0.2, 0.3)]
    message = str(unknown("member", "N=7, stp=0.2", names))
    assert "did you mean 'N=7, step=0.2'" in message
    assert "expected one of 36, such as" in message
    assert len(message) < 250
    assert message.count("step=") <= 5
    assert len(str(unknown("member", 3, names))) < 200
    assert (
        str(unknown("figure", "nope", ["envelope", "page"])) == "unknown figure 'nope': expected one of envelope, page"
    )
    assert str(unknown("block", "x", ["b", "a"])) == "unknown block 'x': expected one of a, b"


# --- where a callable or a class was given


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: wgflow.Problem(X, X[:, 0], activation=np.tanh),
            "a wgflow.model.activations.Activation(name, value, slope)",
        ),
        (lambda: wgflow.Problem(X, X[:, 0], loss=lambda o, y: o), "name, value, gradient, check"),
        (lambda: wgflow.Problem(X, X[:, 0], lambda x, t: x), "name, groups, forward, backward"),
        (lambda: wgflow.Energy(PROBLEM, lambda rho: rho), "a wgflow.model.depth.Depth"),
        (lambda: wgflow.Energy(PROBLEM, wgflow.Gaps), "make an object of it, Gaps(...)"),
        (lambda: wgflow.Energy(PROBLEM, regulariser=np.sum), "name, value, gradient, rate, spec"),
        (lambda: wgflow.Flow(wgflow.Energy(PROBLEM), np.sum), "a name or a wgflow.flow.integrators.Tableau"),
        (lambda: wgflow.Flow(wgflow.Energy(PROBLEM), step=np.sum), "step: expected a finite number > 0"),
        (lambda: wgflow.Flow(wgflow.Energy(PROBLEM), ingredients=[3]), "a function of a measure and a move, got 3"),
        (lambda: schedule(np.sum), "a flow time between frames"),
        (lambda: wgflow.Energy(X), "problem: expected Problem, got array("),
        (lambda: wgflow.Energy(PROBLEM)((X, X)), "rho: expected Particles, got (array("),
        (lambda: wgflow.Flow(PROBLEM), "energy: expected Energy, got Problem(M="),
        (lambda: next(wgflow.Flow(wgflow.Energy(PROBLEM)).run(X, 1.0)), "a Frame would do as well"),
        (lambda: wgflow.Flow(wgflow.Energy(PROBLEM), mobility=["a"]), "mobility: expected Mapping, got ['a']"),
        (lambda: wgflow.Particles.draw(PROBLEM, 3, scale=0.5), "scale: expected Mapping, got 0.5"),
        (lambda: wgflow.Particles.draw(PROBLEM, 3, tau=np.zeros(3)), "unknown tau law array("),
        (lambda: wgflow.Deposit(3, np.zeros(3)), "unknown shape of deposit array("),
        (lambda: wgflow.Problem(X, X[:, 0], loss={"name": "squared", "scale": 2}), "unknown option 'scale'"),
        (
            lambda: Network(X, X[:, 0], h1=np.tanh),
            "make a wgflow.model.activations.Activation(name, value, slope) of it",
        ),
    ],
)
def test_what_kind_of_object_would_do_is_said(make, words):
    message = said(make)
    assert words in message
    assert "object of its kind" not in message


# --- runs with objects of the user's own


def test_a_run_with_an_own_object_says_how_to_pass_it(tmp_path):
    mine = Activation("mine", np.sin, np.cos)
    squared = type("Own", (Squared,), {"name": "own"})()
    problem = wgflow.Problem(X, X[:, 0], activation=mine, loss=squared)
    shallow = type("Mine", (wgflow.Shallow,), {"name": "mine"})()
    term = type("Term", (Quadratic,), {"name": "term"})()
    energy = wgflow.Energy(problem, shallow, regulariser=term)
    rho = wgflow.Particles.draw(problem, 4)
    with TrajectoryWriter.create(tmp_path / "own.h5", energy, 4) as writer:
        for frame in wgflow.Flow(energy).run(rho, until=0.1):
            writer.append(frame)
        writer.finish()
    own = {}
    with wgflow.Trajectory(tmp_path / "own.h5") as trajectory:
        for kind, thing in {"depth": shallow, "regulariser": term, "activation": mine, "loss": squared}.items():
            assert f"own={{{kind!r}: ...}}" in said(trajectory.energy, own=own)
            own[kind] = thing
        assert trajectory.energy(own=own)(rho) == energy(rho)
        assert "did you mean 'activation'" in said(trajectory.energy, own=own | {"activaton": mine})


def test_a_network_of_features_with_own_objects_is_rebuilt(tmp_path):
    mine = Activation("mine", np.sin, np.cos)
    system = PackedNetwork(Network(X, X[:, 0], h1=mine), 3)
    state = minimum_norm(system.network, 3)
    *_, last = run(system.network, state.weights, 1, 0.1)
    units = system.pack(last.state)
    spec = system.spec()
    assert spec["network"]["h1"] == {"name": "mine"}

    class Stored:
        parameters, path = {"energy": spec}, Path("run.h5")

        @staticmethod
        def samples():
            return system.problem.arrays()

    assert "own={'h1': ...}" in said(from_trajectory, Stored())
    assert from_trajectory(Stored(), own={"h1": mine}).unpack(units).weights.outer.shape == (3,)


# --- what to install


def test_a_checkout_is_installed_from_its_folder(monkeypatch, tmp_path):
    root = Path(extras.__file__).parents[2]
    monkeypatch.chdir(root)
    assert extras.install("study") == "pip install '.[study]'"
    monkeypatch.chdir(tmp_path)
    assert extras.install("study") == f"pip install '{root}[study]'"


def test_an_installed_package_names_what_its_extra_brings(monkeypatch, tmp_path):
    """No index need have wgflow."""
    listed = [
        "numpy>=2.0",
        "matplotlib>=3.9; extra == 'study'",
        'torch>=2.6 ; extra == "cifar"',
        "cupy[ctk]; extra == 'gpu12'",
    ]
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "wgflow" / "extras.py"))
    monkeypatch.setattr(metadata, "requires", lambda name: listed)
    assert extras.install("study") == "pip install 'matplotlib>=3.9'"
    assert extras.install("cifar") == "pip install 'torch>=2.6'"
    assert extras.install("gpu12") == "pip install 'cupy[ctk]'"


def test_every_extra_that_a_message_names_exists_and_brings_the_package(monkeypatch):
    import tomllib

    root = Path(extras.__file__).parents[2]
    known = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for package, extra in doctor.OPTIONAL.items():
        assert any(re.match(rf"{package}\b", each, re.IGNORECASE) for each in known[extra])
    source = "".join(path.read_text() for path in (root / "wgflow").rglob("*.py"))
    named = set(re.findall(r"install\(['\"](\w+)['\"]\)", source))
    assert named >= {"study", "cifar", "xarray", "convex", "gpu12"}
    assert named <= set(known)
    assert not re.findall(r"wgflow\[(?!\{)", source)
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [each for each in sys.modules if each.startswith("wgflow.systems.images.")]:
        monkeypatch.delitem(sys.modules, name)
    from wgflow.systems import images as cifar

    message = said(lambda: cifar.build)
    assert extras.install(doctor.OPTIONAL["torch"]) in message


def test_objects_show_their_sizes_and_not_their_arrays():
    energy = wgflow.Energy(PROBLEM, backend="reference")
    rho = wgflow.Particles.draw(PROBLEM, 4)
    frame = next(iter(wgflow.Flow(energy).run(rho, until=0.1)))
    assert repr(frame) == f"Frame(step=0, s=0, N=4, E={frame.energy:.4g})"
    samples, width, outputs, parameters = PROBLEM.shape
    assert repr(energy) == f"Energy(M={samples}, D={width}, depth=Gaps(), backend=reference)"
    assert repr(PROBLEM).startswith(f"Problem(M={samples}, D={width}, K={outputs}, P={parameters}, block=ridge")
    assert repr(energy.velocity(rho)).startswith(f"Velocity(N=4, P={parameters}, E={frame.energy:.4g}, dissipation=")
    assert repr(wgflow.Flow(energy)).startswith("Flow(Energy(M=")
