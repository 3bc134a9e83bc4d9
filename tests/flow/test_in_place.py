"""Steps taken in place: those of the other stepper to rounding, whatever is recorded, and the same errors."""

import copy
import pickle

import numpy as np
import pytest

import wgflow
from wgflow.flow import stepper_in_place


def problem_and_start(layers=5, units=64, width=3, samples=7):
    rng = np.random.default_rng(0)
    problem = wgflow.Problem(rng.normal(size=(samples, width)), rng.normal(size=(samples, 2)), readout=np.eye(2, width))
    count = layers * units
    theta, tau = rng.normal(size=(count, problem.shape[3])), (np.arange(count) + 0.5) / count
    return problem, wgflow.Particles(theta, tau)


@pytest.fixture
def out_of_place(monkeypatch):
    def switch():
        monkeypatch.setattr(stepper_in_place, "suits", lambda dynamics, rho: False)

    return switch


@pytest.fixture
def used(monkeypatch):
    """Number of steps taken in place."""
    count, moved = [0], stepper_in_place.InPlaceStepper._moved

    def counted(self, steps):
        count[0] += steps
        return moved(self, steps)

    monkeypatch.setattr(stepper_in_place.InPlaceStepper, "_moved", counted)
    return count


@pytest.mark.parametrize("depth", ["layers", "shallow"])
@pytest.mark.parametrize("mobility", [None, {"a": 0.5, "w": 0.0, "tau": 3.0}])
def test_equals_steps_out_of_place(depth, mobility, out_of_place, used):
    problem, rho = problem_and_start()
    energy = wgflow.Energy(problem, wgflow.Layers(5) if depth == "layers" else wgflow.Shallow())
    flow = wgflow.Flow(energy, step=0.5, mobility=mobility)
    here = list(flow.run(rho, until=20.0, every=5.0))
    assert used[0] == 41
    out_of_place()
    there = list(flow.run(rho, until=20.0, every=5.0))
    assert used[0] == 41
    assert here[-1].energy < here[0].energy
    for a, b in zip(here, there, strict=True):
        np.testing.assert_allclose(a.theta, b.theta, rtol=0, atol=1e-12)
        assert (a.step, a.s, a.switches, a.h) == (b.step, b.s, b.switches, b.h)
        assert a.energy == pytest.approx(b.energy, rel=1e-12)
        assert a.dissipation == pytest.approx(b.dissipation, rel=1e-12)
        np.testing.assert_allclose(a.balance, b.balance, rtol=1e-9, atol=1e-12)


def test_what_is_recorded_changes_no_bit_and_a_frame_is_a_start():
    problem, rho = problem_and_start()
    flow = wgflow.Flow(wgflow.Energy(problem, wgflow.Layers(5)), step=0.5)
    few, many = list(flow.run(rho, until=20.0, every=10.0)), list(flow.run(rho, until=20.0, every=2.5))
    assert few == many[::4]
    assert list(flow.run(many[4], until=20.0, every=10.0))[-1] == few[-1]
    assert not few[0].theta.flags.writeable
    np.testing.assert_array_equal(few[0].theta, rho.theta)


@pytest.mark.parametrize("every", [1000.0, 7000.0, 1e6])
def test_a_divergence_gives_the_last_good_state(every, out_of_place):
    problem, rho = problem_and_start()
    flow = wgflow.Flow(wgflow.Energy(problem, wgflow.Layers(5)), step=1000.0)
    errors = []
    for _ in range(2):
        with pytest.raises(wgflow.base.errors.DivergenceError) as caught:
            list(flow.run(rho, until=1e6, every=every))
        errors.append(caught.value)
        out_of_place()
    here, there = errors
    assert str(here) == str(there)
    assert here.frame.step == there.frame.step
    assert np.isfinite(here.frame.theta).all()


@pytest.mark.parametrize(
    "change",
    [
        {"integrator": "heun"},
        {"step": {"name": "descent", "length": 0.1}},
        {"batch": 3},
        {"ingredients": [lambda rho, move: rho]},
    ],
)
def test_everything_else_is_left_to_the_other_stepper(change, used):
    problem, rho = problem_and_start()
    flow = wgflow.Flow(wgflow.Energy(problem, wgflow.Layers(5)), **{"step": 0.1} | change)
    list(flow.run(rho, until=0.2))
    assert used[0] == 0


def test_an_energy_of_the_users_is_left_to_the_other_stepper(used):
    class Decayed(wgflow.Energy):
        def field(self, rho, batch=None, s=0.0):
            energy, v_theta, v_tau = super().field(rho, batch, s)
            return energy + 0.5 * float((rho.theta**2).sum()), v_theta - rho.theta, v_tau

    problem, rho = problem_and_start()
    energy = Decayed(problem, wgflow.Layers(5))
    first = next(iter(wgflow.Flow(energy, step=0.1).run(rho, until=0.1)))
    assert first.energy == energy.velocity(rho).energy
    assert used[0] == 0


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda flow: pickle.loads(pickle.dumps(flow))])
def test_a_copy_of_a_flow_takes_the_same_steps(copied, used):
    problem, rho = problem_and_start()
    flow = wgflow.Flow(wgflow.Energy(problem, wgflow.Layers(5)), step=0.5)
    assert list(flow.run(rho, until=2.0)) == list(copied(flow).run(rho, until=2.0))
    assert used[0] == 10


def test_another_depth_scheme_is_noticed():
    problem, rho = problem_and_start()
    energy = wgflow.Energy(problem, wgflow.Layers(5))
    energy.velocity(rho)
    energy.depth = wgflow.Layers(1)
    assert energy.velocity(rho).energy == energy(rho)
