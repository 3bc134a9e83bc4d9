"""Pickling and copying: the same bits, still read-only, and one line where it cannot be done."""

import copy
import dataclasses
import itertools
import pickle
import sys
import threading

import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError
from wgflow.model.activations import ACTIVATIONS, Activation, regularised_relu
from wgflow.model.blocks import Ridge
from wgflow.systems.neural_feature_flow.flow import run, start
from wgflow.systems.neural_feature_flow.initial import minimum_norm
from wgflow.systems.neural_feature_flow.network import Network
from wgflow.systems.neural_feature_flow.system import PackedNetwork
from wgflow.theory import reference_laws
from wgflow.theory.transport import BirthDeath
from wgflow.trajectory import TrajectoryWriter

X = np.random.default_rng(0).normal(size=(9, 3))
PROBLEM = wgflow.Problem(X, X[:, 0], activation="gelu")
RHO = wgflow.Particles.draw(PROBLEM, 6, seed=1)
WAYS = {"copy": copy.copy, "deepcopy": copy.deepcopy}
WAYS |= {f"pickle {k}": lambda thing, k=k: pickle.loads(pickle.dumps(thing, k)) for k in range(2, 6)}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def again(request):
    return request.param


def flow(**options):
    energy = wgflow.Energy(PROBLEM, wgflow.Deposit(3), threads=1, regulariser="quadratic")
    noise = {"name": "langevin", "temperature": 0.1}
    return wgflow.Flow(energy, mobility={"a": 0.5}, ingredients=[noise, BirthDeath(0.1)], batch=4, **options)


def frozen(thing):
    return [value.flags.writeable for value in vars(thing).values() if isinstance(value, np.ndarray)]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_energies_and_flows_compute_the_same_bits(again, backend):
    energy = wgflow.Energy(PROBLEM, wgflow.Deposit(3), backend, threads=1)
    other = again(energy)
    assert type(other.kernel) is type(energy.kernel)
    assert other.kernel.threads == energy.kernel.threads
    one, two = energy.velocity(RHO), other.velocity(again(RHO))
    assert one.energy == two.energy
    assert np.array_equal(one.theta, two.theta)
    assert again(energy.network(RHO)).first.tolist() == energy.network(RHO).first.tolist()
    ended = [list(each.run(RHO, until=0.3))[-1] for each in (flow(), again(flow()))]
    assert ended[0].energy == ended[1].energy
    assert np.array_equal(ended[0].theta, ended[1].theta)


def test_what_was_read_only_stays_read_only_and_caches_stay_right(again):
    rho = wgflow.Particles(RHO.theta, RHO.tau[::-1])
    order = rho.order
    frame = next(flow().run(RHO, until=0.3))
    network = Network(X, X[:, 0])
    for thing in (rho, PROBLEM, frame, network):
        found = again(thing)
        assert type(found) is type(thing)
        assert frozen(found) == frozen(thing)
        assert not any(frozen(thing))
    found = again(rho)
    assert np.array_equal(found.order, order)
    for array in (found.theta, found.tau, found.mass, found.order):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    found = again(next(flow().run(RHO, until=0.3)))
    assert vars(found).keys() == vars(frame).keys()
    assert found.s == frame.s


def test_activations(again):
    z = np.linspace(-3, 3, 50)
    for each in (*ACTIVATIONS.values(), regularised_relu(0.2)):
        other = again(each)
        assert other == each
        assert np.array_equal(other.value(z), each.value(z))
        assert np.array_equal(other.slope(z), each.slope(z))
        assert type(wgflow.Energy(wgflow.Problem(X, X[:, 0], activation=other)).kernel).__name__ == "Cpu"


def test_networks_of_features_laws_and_the_rest(again):
    network = Network(X, X[:, 0], kind="resnet")
    begin = minimum_norm(network, 4)
    state = start(network, begin.weights)
    *_, last = run(network, state, 2, 0.1)
    *_, other = run(again(network), again(state), 2, 0.1)
    assert other.loss == last.loss
    assert again(last).loss == last.loss
    system = again(PackedNetwork(network, 4))
    assert np.array_equal(system.pack(state), PackedNetwork(network, 4).pack(state))
    law = reference_laws.initial_law(PROBLEM)
    assert np.array_equal(again(law)(5, 1)[0], law(5, 1)[0])


def test_a_trajectory_opens_its_file_again(again, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = flow()
    with TrajectoryWriter.create("run.h5", made.energy, len(RHO), flow=made.spec()) as writer:
        for frame in made.run(RHO, until=0.3):
            writer.append(frame)
        writer.finish()
        with pytest.raises(InputError, match=r"run.h5: expected something that can be pickled .* one writer"):
            again(writer)
    with wgflow.Trajectory("run.h5") as trajectory:
        monkeypatch.chdir("/")
        with again(trajectory) as other:
            assert len(other) == len(trajectory)
            assert np.array_equal(other[-1].theta, trajectory[-1].theta)
            assert other.path.is_absolute()
        assert trajectory[-1].energy == frame.energy  # closing one leaves the other open


class Locked(Ridge):
    def __post_init__(self):
        object.__setattr__(self, "lock", threading.Lock())


def test_an_object_that_cannot_be_pickled_is_named():
    problem = wgflow.Problem(X, X[:, 0], Locked())
    for way, thing in itertools.product((pickle.dumps, copy.deepcopy), (problem, wgflow.Energy(problem))):
        with pytest.raises(InputError, match=r"^block of Problem: expected .* Locked.*lock.* objects$"):
            way(thing)
    assert copy.copy(problem).block is problem.block


def test_functions_without_a_name_are_pickled_by_value_where_cloudpickle_is_there(monkeypatch):
    softplus = Activation("softplus", lambda z: np.logaddexp(0, z), lambda z: 1 / (1 + np.exp(-z)))
    problem = wgflow.Problem(X, X[:, 0], activation=softplus)
    assert wgflow.Energy(copy.deepcopy(problem))(RHO) == wgflow.Energy(problem)(RHO)
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(InputError, match=r"^value of Activation 'softplus': expected .* at the top") as caught:
        pickle.dumps(problem)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    pytest.importorskip("cloudpickle")
    assert wgflow.Energy(pickle.loads(pickle.dumps(problem)))(RHO) == wgflow.Energy(problem)(RHO)


def test_frames_are_equal_if_all_their_numbers_are(case):
    problem, rho = case()
    frame = list(wgflow.Flow(wgflow.Energy(problem), step=0.1).run(rho, until=0.2))[-1]
    assert frame == copy.deepcopy(frame) == pickle.loads(pickle.dumps(frame))
    for change in ({"s": 9.0}, {"theta": frame.theta + 1e-9}, {"observables": {"a": 1.0}}, {"balance": None}):
        assert frame != dataclasses.replace(frame, **change)
    assert dataclasses.replace(frame, h=np.nan) == dataclasses.replace(frame, h=np.nan)
    assert frame != 3
