"""Networks of features as frames: what is written comes back, and a run taken up takes the same steps."""

import numpy as np
import pytest

import wgflow
from wgflow.base.errors import DivergenceError, InputError
from wgflow.systems.neural_feature_flow import flow
from wgflow.systems.neural_feature_flow.frames import Motion, rate
from wgflow.systems.neural_feature_flow.initial import minimum_norm
from wgflow.systems.neural_feature_flow.system import PackedNetwork, from_trajectory, state_of
from wgflow.trajectory import Trajectory, TrajectoryWriter

UNITS = 6


@pytest.fixture
def system(twin, kind):
    rng = np.random.default_rng(5)
    return PackedNetwork(twin.make_network(rng, points=4, layers=3, kind=kind, backend="cpu"), UNITS)


@pytest.fixture
def begin(system):
    made = minimum_norm(system.network, UNITS, seed=2)
    return flow.State(made.weights, made.features)


def same(a, b):
    return all(np.array_equal(p, q) for p, q in zip(leaves(a), leaves(b), strict=True))


def leaves(state):
    weights, features = state
    return [weights.inner, *map(np.asarray, weights.middle), weights.outer, *features.alpha, *features.beta]


def test_units_are_the_state(system, begin):
    units = system.pack(begin)
    assert units.shape == (UNITS, system.problem.shape[3])
    back = system.unpack(units)
    assert np.array_equal(system.pack(back), units)
    first, points = system.network.inputs, system.network.points
    np.testing.assert_array_equal(units[2, :first], begin.weights.inner[:, 2])
    np.testing.assert_array_equal(units[2, first + points :][:points], begin.features.alpha[1][2])
    np.testing.assert_array_equal(units[2, first + 5 * points :][:UNITS], begin.weights.middle[0].dense()[:, 2])
    np.testing.assert_array_equal(units[:, -1], begin.weights.outer)
    with pytest.raises(InputError, match="theta: expected"):
        system.unpack(units[1:])


@pytest.mark.parametrize("method", ["flow", "descent"])
@pytest.mark.parametrize("integrator", ["euler", "rk4"])
def test_frames_are_the_snapshots_of_the_library(system, begin, method, integrator):
    frames = list(Motion(system, method, integrator, 0.05).run(begin, 0.5, 0.25))
    dense = system.unpack(system.pack(begin))
    found = list(flow.run(system.network, dense, 10, 0.05, integrator, 5, flow=method == "flow"))
    assert [frame.s for frame in frames] == pytest.approx([each.s for each in found])
    for frame, each in zip(frames, found, strict=True):
        assert frame.energy == pytest.approx(each.loss, rel=1e-12)
        np.testing.assert_allclose(frame.theta, system.pack(each.state), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", ["flow", "descent"])
@pytest.mark.parametrize("stop", [1, 4])
def test_a_run_through_a_file_takes_the_same_steps(system, begin, method, stop, tmp_path):
    motion, path = Motion(system, method, "heun", 0.05), tmp_path / "run.h5"
    whole = list(motion.run(begin, 0.5))
    with TrajectoryWriter.create(path, system, UNITS) as writer:
        for frame in whole[: stop + 1]:
            writer.append(frame)
    with Trajectory(path) as trajectory:
        with pytest.raises(InputError, match="unknown kind of object in own 'block': expected one of h1, h2, loss"):
            from_trajectory(trajectory, own={"block": None})
        assert from_trajectory(trajectory, "reference").backend == "reference"
        again = from_trajectory(trajectory)
        assert again.backend == "cpu"
        assert again.spec() == system.spec()
        rest = list(Motion(again, method, "heun", 0.05).run(trajectory[-1], 0.5))
        assert same(state_of(again, trajectory[-1]), state_of(system, whole[stop]))
    assert [frame.step for frame in rest] == [frame.step for frame in whole[stop:]]
    for one, other in zip(rest, whole[stop:], strict=True):
        assert one.theta.tobytes() == other.theta.tobytes()
        assert (one.energy, one.dissipation) == (other.energy, other.dissipation)
        np.testing.assert_array_equal(one.balance, other.balance)


def test_dissipation_is_minus_the_slope_of_the_loss(system, begin):
    drift = system.network.gradient(system.unpack(system.pack(begin)).weights)
    h = 1e-4
    losses = [frame.energy for frame in Motion(system, "descent", "rk4", h).run(begin, 2 * h)]
    slope = (-3 * losses[0] + 4 * losses[1] - losses[2]) / (2 * h)
    assert -slope == pytest.approx(rate(drift, system.network.inputs, UNITS), rel=1e-6)
    frame = next(Motion(system, "flow").run(begin, 1.0))
    assert frame.dissipation == pytest.approx(rate(drift, system.network.inputs, UNITS), rel=1e-10)


@pytest.mark.parametrize(("integrator", "order"), [("euler", 1), ("heun", 2), ("rk4", 4)])
def test_the_balance_of_the_flow_closes_with_the_order_of_the_method(system, begin, integrator, order):
    found = [list(Motion(system, "flow", integrator, h).run(begin, 1.0, 1.0))[-1].balance for h in (0.05, 0.025)]
    assert found[0].steps == 20
    assert found[1].relative < 1.4 * found[0].relative / 2**order
    assert found[1].relative > 0


def test_the_balance_of_scaled_descent_knows_the_loss_alone(system, begin):
    frames = list(Motion(system, "descent", step=0.1).run(begin, 1.0, 0.5))
    found = frames[-1].balance
    assert np.isnan([found.dissipated, found.defect, found.relative]).all()
    assert found.descent == pytest.approx(frames[0].energy - frames[-1].energy, rel=1e-12)
    assert (found.steps, found.rises) == (10, 0)
    for step in (8.0, 16.0, 32.0, 64.0):  # until it is too long
        every = list(Motion(system, "descent", step=step).run(begin, 20 * step, step))
        change = np.diff([frame.energy for frame in every])
        assert every[-1].balance.rises == (change > 1e-12).sum()
        if (change > 1e-12).any():
            break
    assert every[-1].balance.rise == pytest.approx(change.max(), rel=1e-9)


def test_a_divergence_keeps_the_last_good_frame(system, begin):
    frames = []
    with pytest.raises(DivergenceError) as caught:
        frames.extend(Motion(system, "descent", "euler", 1e6).run(begin, 1e9, 1e8))
    assert caught.value.frame is not None
    assert np.isfinite(caught.value.frame.energy)


def test_a_network_is_not_a_measure_of_blocks(system, begin, tmp_path):
    path = tmp_path / "run.h5"
    with TrajectoryWriter.create(path, system, UNITS) as writer:
        for frame in Motion(system).run(begin, 0.2):
            writer.append(frame)
        writer.finish()
    with Trajectory(path) as trajectory:
        assert trajectory.particle(3).theta.shape == (3, system.problem.shape[3])
        with pytest.raises(InputError, match="got a feature network"):
            trajectory.energy()
    problem = wgflow.Problem.padded([[0.0], [1.0]], [0.0, 1.0])
    energy = wgflow.Energy(problem, backend="reference")
    other = tmp_path / "other.h5"
    with TrajectoryWriter.create(other, energy, 2) as writer:
        writer.append(next(wgflow.Flow(energy).run(wgflow.Particles.draw(problem, 2), 1.0)))
    with Trajectory(other) as trajectory, pytest.raises(InputError, match="expected a run of a feature network"):
        from_trajectory(trajectory)


@pytest.mark.parametrize(
    ("options", "message"), [(("flows",), "method"), (("flow", "eule"), "integrator"), (("flow", "euler", 0.0), "step")]
)
def test_options_that_are_none(system, options, message):
    with pytest.raises(InputError, match=message):
        Motion(system, *options)
