import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError
from wgflow.report.switch_jumps import order_switching
from wgflow.trajectory import TrajectoryWriter


def record(path, flow, rho, until, every=None):
    with TrajectoryWriter.create(path, flow.energy, len(rho), flow=flow.spec(), capacity=1000) as writer:
        for frame in flow.run(rho, until=until, every=every):
            writer.append(frame)
        writer.finish()
    return wgflow.Trajectory(path)


def test_jump_of_one_pair_has_its_closed_form(tmp_path):
    """Two linear blocks without w change places: X gains tau_A a_A + (tau_B - tau_A) a_B, known on both sides.

    With w = 0 and sigma linear, f = a b. In the order A, B: X = x + tau_A a_A b_A + (tau_B - tau_A) a_B b_B.
    """
    problem = wgflow.Problem([[1.0]], [1.0], activation="linear")
    theta, before, after = [[0.3, 0.0, 1.0], [-0.2, 0.0, 1.0]], np.array([0.5, 0.51]), np.array([0.52, 0.49])

    def energy(first, second, tau):
        x = 1 + tau[first] * theta[first][0] + (tau[second] - tau[first]) * theta[second][0]
        return (x - 1) ** 2 / 2

    flow = wgflow.Flow(wgflow.Energy(problem), step=0.1)
    with TrajectoryWriter.create(tmp_path / "a.h5", flow.energy, 2) as writer:
        for step, tau in enumerate((before, after)):
            rho = wgflow.Particles(theta, tau)
            writer.append(wgflow.Frame(step, 0.1 * step, rho.theta, rho.tau, rho.mass, flow.energy(rho), 0.0, step))
        writer.finish()
    with wgflow.Trajectory(tmp_path / "a.h5") as trajectory:
        found = order_switching(trajectory)
    assert found.pairs.tolist() == [1]
    assert found.step.tolist() == [1]
    np.testing.assert_allclose(found.jump, [energy(1, 0, after) - energy(0, 1, after)], rtol=1e-13)
    assert abs(found.jump[0]) > 1e-3


def test_pairs_add_up_to_the_flows_own_count(case, tmp_path):
    problem, rho = case(particles=6)
    flow = wgflow.Flow(wgflow.Energy(problem), step=0.1, mobility={"tau": 3.0})
    with record(tmp_path / "a.h5", flow, rho, 5.0) as trajectory:
        found = order_switching(trajectory)
        assert found.pairs.sum() == trajectory[-1].switches > 0


def test_a_run_without_switches_has_no_jumps(case, tmp_path):
    problem, rho = case(particles=4)
    flow = wgflow.Flow(wgflow.Energy(problem), step=0.1, mobility={"tau": 0.0})
    with record(tmp_path / "a.h5", flow, rho, 1.0) as trajectory:
        assert len(order_switching(trajectory).jump) == 0


def test_runs_it_cannot_speak_of(case, tmp_path):
    problem, rho = case(particles=4)
    sparse = wgflow.Flow(wgflow.Energy(problem), step=0.1)
    with (
        record(tmp_path / "a.h5", sparse, rho, 1.0, every=0.5) as trajectory,
        pytest.raises(InputError, match="expected a frame at every step"),
    ):
        order_switching(trajectory)
    shallow = wgflow.Flow(wgflow.Energy(problem, "shallow"), step=0.1)
    with (
        record(tmp_path / "b.h5", shallow, rho, 1.0) as trajectory,
        pytest.raises(InputError, match="expected a run under gaps, got shallow"),
    ):
        order_switching(trajectory)
