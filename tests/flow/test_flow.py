import dataclasses
import itertools

import numpy as np
import pytest

import wgflow
from wgflow.base.errors import DivergenceError, InputError
from wgflow.model.particles import confine, project


def flow_of(case, depth="gaps", backend="reference", **options):
    problem, rho = case(particles=6)
    return wgflow.Flow(wgflow.Energy(problem, depth, backend), **options), rho


def test_frames_come_at_multiples_and_at_the_end(case):
    flow, rho = flow_of(case, step=0.1)
    frames = list(flow.run(rho, until=1.1, every=0.3))
    assert [frame.step for frame in frames] == [0, 3, 6, 9, 11]
    assert [frame.s for frame in frames] == [0.0, 3 * 0.1, 6 * 0.1, 9 * 0.1, 11 * 0.1]


def test_euler_is_gradient_descent(case):
    flow, rho = flow_of(case, step=0.05)
    frames = list(flow.run(rho, until=0.05))
    velocity = flow.energy.velocity(rho)
    np.testing.assert_array_equal(frames[1].theta, rho.theta + 0.05 * velocity.theta)
    np.testing.assert_array_equal(frames[1].tau, np.clip(rho.tau + 0.05 * velocity.tau, 0, 1))
    assert frames[0].energy == velocity.energy


@pytest.mark.parametrize("mobility", [{}, {"a": 0.5, "w": 2.0, "tau": 0.0}, {"tau": 3.0}])
@pytest.mark.parametrize("depth", ["gaps", "shallow"])
def test_energy_falls_at_the_rate_of_dissipation(case, depth, mobility):
    """(E(0) - E(h)) / h = dissipation + O(h): the defect halves with h (no order switches in so short a time)."""
    problem, rho = case(particles=6)
    energy = wgflow.Energy(problem, depth, "reference")
    defects = []
    for h in (1e-3, 5e-4, 2.5e-4):
        first, second = wgflow.Flow(energy, step=h, mobility=mobility).run(rho, until=h)
        assert second.switches == 0
        defects.append((first.energy - second.energy) / h - first.dissipation)
    np.testing.assert_allclose(np.array(defects[:-1]) / np.array(defects[1:]), 2.0, rtol=0.05)


def test_a_run_taken_up_again_is_the_same_run(case):
    flow, rho = flow_of(case, step=0.1, backend="cpu")
    whole = list(flow.run(rho, until=3.0, every=0.5))
    half = list(flow.run(rho, until=1.5, every=0.5))
    rest = list(flow.run(half[-1], until=3.0, every=0.5))
    for a, b in zip(whole, half + rest[1:], strict=True):
        assert (a.step, a.s, a.energy, a.dissipation, a.switches) == (b.step, b.s, b.energy, b.dissipation, b.switches)
        assert np.array_equal(a.theta, b.theta)
        assert np.array_equal(a.tau, b.tau)


def test_a_frame_warm_starts_another_flow(case):
    flow, rho = flow_of(case, step=0.1)
    *_, last = flow.run(rho, until=1.0)
    finer = wgflow.Flow(flow.energy, step=0.025)
    frames = list(finer.run(last, until=1.1))
    assert [frame.step for frame in frames] == [10, 11, 12, 13, 14]
    np.testing.assert_allclose([frame.s for frame in frames], [1.0, 1.025, 1.05, 1.075, 1.1])


def test_clip_holds_particles_in_depth_and_they_dissipate_nothing_there(case):
    problem, rho = case(particles=6)
    flow = wgflow.Flow(wgflow.Energy(problem, backend="reference"), step=0.1)
    at_walls = wgflow.Particles(rho.theta, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    velocity = flow.energy.velocity(at_walls)
    frame, after = flow.run(at_walls, until=0.1)
    assert ((after.tau >= 0) & (after.tau <= 1)).all()
    inward = np.where(at_walls.tau == 0, velocity.tau > 0, velocity.tau < 0)
    assert 0 < inward.sum() < 6  # the case shows both
    in_theta = np.sum(at_walls.mass * np.sum(velocity.theta**2, axis=1))
    in_tau = np.sum(velocity.tau[inward] ** 2 / at_walls.mass[inward])
    assert frame.dissipation == pytest.approx(in_theta + in_tau, rel=1e-13)


def test_ends_of_depth_differ(case):
    problem, rho = case(particles=6)
    energy = wgflow.Energy(problem, backend="reference")
    ends = {}
    for boundary in ("clip", "reflect", "free"):
        flow = wgflow.Flow(energy, step=0.5, boundary=boundary, mobility={"tau": 50.0})
        ends[boundary] = list(flow.run(rho, until=0.5))[-1].tau
    assert (ends["clip"] >= 0).all()
    assert (ends["clip"] <= 1).all()
    assert (ends["reflect"] > 0).all()
    assert (ends["reflect"] < 1).all()
    outside = (ends["free"] < 0) | (ends["free"] > 1)
    assert outside.any()
    assert np.isin(ends["clip"][outside], [0.0, 1.0]).all()


def test_free_depths_can_be_taken_up_again(case):
    problem, rho = case(particles=6)
    flow = wgflow.Flow(wgflow.Energy(problem), step=0.1, boundary="free", mobility={"tau": 50.0})
    *_, last = flow.run(rho, until=0.2)
    assert ((last.tau > 1) | (last.tau < 0)).any()
    assert next(flow.run(last, until=0.3)).energy == last.energy


def test_switches_are_counted(case):
    problem, rho = case(particles=6)
    flow = wgflow.Flow(wgflow.Energy(problem, backend="reference"), step=0.1, mobility={"tau": 3.0})
    frames = list(flow.run(rho, until=5.0))
    expected = [0]
    for before, after in itertools.pairwise(frame.tau for frame in frames):
        pairs = itertools.combinations(range(6), 2)  # i < j, so that a tie leaves i in front
        expected.append(expected[-1] + sum((before[i] <= before[j]) != (after[i] <= after[j]) for i, j in pairs))
    assert expected[-1] > 3
    assert [frame.switches for frame in frames] == expected


def test_divergence_carries_the_last_good_state(case):
    problem, rho = case(particles=6, activation="linear")
    flow = wgflow.Flow(wgflow.Energy(problem), step=50.0, boundary="clip")
    seen = []
    with pytest.raises(DivergenceError, match="try a smaller step than 50") as caught:
        seen.extend(flow.run(rho, until=50.0 * 1000))
    frame = caught.value.frame
    assert np.isfinite(frame.energy)
    assert np.isfinite(frame.theta).all()
    with pytest.raises(DivergenceError) as again:
        list(flow.run(frame, until=frame.s + 500.0))
    assert again.value.frame.step == frame.step


def test_divergence_in_a_stage_carries_the_last_good_state_too(case):
    problem, rho = case(particles=6, activation="linear")
    flow = wgflow.Flow(wgflow.Energy(problem, wgflow.Deposit(3)), "rk4", step=50.0)
    with pytest.raises(DivergenceError) as caught:
        list(flow.run(rho, until=5000.0))
    assert np.isfinite(caught.value.frame.energy)


@pytest.mark.parametrize("boundary", ["clip", "reflect", "free"])
def test_stages_respect_the_ends_of_depth_and_the_batch(case, boundary):
    """One step of Heun by hand: both stages with the same rows, the second at a state brought back into [0, 1]."""
    problem, rho = case(particles=6)
    energy = wgflow.Energy(problem, backend="reference")
    flow = wgflow.Flow(energy, "heun", step=0.5, boundary=boundary, mobility={"tau": 50.0}, batch=3, seed=2)
    *_, last = flow.run(rho, until=0.5)
    rows = flow._rows(0)

    def drift(theta, tau):
        at = wgflow.Particles(theta, confine(tau, boundary), rho.mass, free=True)
        velocity = energy.velocity(at, rows)
        return velocity.theta, 50.0 * project(at.tau, velocity.tau, boundary)

    a, b = drift(rho.theta, rho.tau)
    c, d = drift(rho.theta + 0.5 * a, rho.tau + 0.5 * b)
    assert ((rho.tau + 0.5 * b < 0) | (rho.tau + 0.5 * b > 1)).any()
    np.testing.assert_allclose(last.theta, rho.theta + 0.25 * (a + c), rtol=1e-12)
    np.testing.assert_allclose(last.tau, confine(rho.tau + 0.25 * (b + d), boundary), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"step": 0.0}, "step: expected a finite number > 0, got 0.0"),
        ({"step": True}, "step: expected a finite number > 0, got True"),
        ({"boundary": "wall"}, "unknown boundary 'wall'"),
        ({"integrator": "eular"}, "did you mean 'euler'"),
        ({"mobility": {"tua": 1.0}}, "did you mean 'tau'"),
        ({"mobility": {"a": -1.0}}, "mobility of a: expected a finite number >= 0, got -1.0"),
    ],
)
def test_bad_options(case, options, words):
    with pytest.raises(InputError, match=words):
        flow_of(case, **options)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ({"until": 0.25}, "until: expected a whole number of steps of 0.1, got 0.25"),
        ({"until": -1.0}, "until: expected a flow time ahead from s = 0, got -1"),
        ({"until": 1.0, "every": 0.15}, "every: expected a whole number of steps"),
        ({"until": 1.0, "every": {"name": "at", "s": [0.1, 0.25]}}, "every.s: expected a whole number of steps of 0.1"),
        ({"until": 1.0, "every": {"name": "at", "s": [0.5, 0.1]}}, "every.s: expected increasing flow times > 0"),
        ({"until": 1.0, "every": {"name": "at", "s": []}}, "every.s: expected a list of flow times"),
        ({"until": 1.0, "every": {"name": "log", "per_decade": 0}}, "every.per_decade: expected a whole number >= 1"),
        ({"until": 1.0, "every": {"name": "steps", "n": 0.5}}, "every.n: expected a whole number >= 1"),
        ({"until": 1.0, "every": {"name": "lin", "n": 3}}, "unknown every 'lin'"),
        ({"until": 1.0, "every": {"name": "steps"}}, "every 'steps': expected the option 'n', got none"),
        ({"until": 1.0, "every": True}, "every: expected a name, a table"),
        ({"until": 1.0, "every": 0.0}, "every: expected a finite number > 0, got 0.0"),
        ({"until": float("nan")}, "until: expected a finite number, got nan"),
    ],
)
def test_bad_times_are_refused_before_anything_runs(case, times, words):
    flow, rho = flow_of(case)
    with pytest.raises(InputError, match=words):
        flow.run(rho, **times)


def test_free_is_for_gaps_only(case):
    with pytest.raises(InputError, match="boundary: expected one of clip under shallow, got 'free'"):
        flow_of(case, "shallow", boundary="free")


def test_tau_outside_needs_free(case):
    flow, rho = flow_of(case)
    outside = wgflow.Particles(rho.theta, rho.tau + 1, free=True)
    with pytest.raises(InputError, match=r"tau: expected depths in \[0, 1\]"):
        flow.run(outside, until=1.0)
    frame = next(iter(flow.run(rho, until=1.0)))
    with pytest.raises(InputError, match=r"tau: expected depths in \[0, 1\]"):
        flow.run(dataclasses.replace(frame, tau=frame.tau + 1), until=1.0)


def test_spec_rebuilds_the_flow(case):
    flow, _ = flow_of(case, step=0.2, boundary="reflect", mobility={"a": 0.5})
    assert wgflow.Flow.from_spec(flow.spec(), flow.energy).spec() == flow.spec()


@pytest.mark.parametrize("integrator", ["euler", "heun"])
@pytest.mark.parametrize(
    ("depth", "mobility"), [("shallow", None), ({"name": "layers", "layers": 2}, None), ("gaps", {"tau": 0.0})]
)
def test_depths_that_do_not_move_stay_the_same_array(integrator, depth, mobility):
    problem = wgflow.Problem.padded([[-1.0], [0.5], [1.0]], [1.0, 0.0, 1.0])
    for backend in ("cpu", "reference"):
        energy, rho = wgflow.Energy(problem, depth, backend), wgflow.Particles.draw_layers(problem, 2, 4)
        flow = wgflow.Flow(energy, integrator, 0.125, mobility=mobility)
        first, last = flow.run(rho, 0.5, 0.5)
        assert last.tau is first.tau is rho.tau
        assert not np.array_equal(last.theta, rho.theta)
