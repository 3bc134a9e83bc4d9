"""The descent rule: what decreases in every step it takes, and what it does where nothing decreases."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import wgflow
from wgflow.base.errors import DescentError, InputError
from wgflow.flow.stepsize import Descent, Trial
from wgflow.model import datasets
from wgflow.model.depth import switches

GAPS, DEPOSIT = {"name": "gaps"}, {"name": "deposit", "layers": 4}


class Watched(Descent):
    """The rule, writing down the length and the dissipation of each step."""

    def advance(self, trial, energy, dissipation, h):
        taken = super().advance(trial, energy, dissipation, h)
        self.log.append((taken.h, dissipation))
        return taken


def steps_of(flow, start, most):
    """Frames of so many steps."""
    frames = flow.run(start, 1e6, {"name": "steps", "n": 1})
    return list(itertools.islice(frames, most + 1))


def energy_by_hand(problem, theta, tau, order):
    """E of ridge blocks with tanh under Gaps, in a given order, in plain NumPy."""
    state = problem.start(problem.x)
    width, before = state.shape[1], 0.0
    for i in order:
        a, w, b = theta[i, :width], theta[i, width : 2 * width], theta[i, -1]
        state = state + (tau[i] - before) * np.tanh(state @ w + b)[:, None] * a
        before = tau[i]
    return 0.5 * np.mean(np.sum((state @ problem.readout.T - problem.y) ** 2, axis=1))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    particles=st.integers(2, 24),
    length=st.floats(-1, 4).map(lambda exponent: 10.0**exponent),
    integrator=st.sampled_from(["euler", "heun", "rk4"]),
    boundary=st.sampled_from(["clip", "free"]),
    mobility=st.sampled_from([None, {"tau": 20.0}]),
)
@example(seed=0, particles=24, length=100.0, integrator="euler", boundary="free", mobility=None)
def test_e_in_the_order_before_a_step_falls_in_every_step(seed, particles, length, integrator, boundary, mobility):
    """Armijo's inequality, order switches or not: no step of a run may break it."""
    rng = np.random.default_rng(seed)
    problem = wgflow.Problem.padded(rng.normal(size=(8, 2)), rng.normal(size=8))
    tau = rng.choice([0.0, 1.0, *rng.uniform(size=particles)], particles)  # ties at the boundary
    start = wgflow.Particles(rng.normal(size=(particles, problem.shape[3])), tau)
    rule = Watched(length)
    object.__setattr__(rule, "log", [])
    flow = wgflow.Flow(wgflow.Energy(problem), integrator, rule, boundary, mobility)
    frames = steps_of(flow, start, 25)
    for a, b, (h, dissipation) in zip(frames[:-1], frames[1:], rule.log, strict=True):
        found = energy_by_hand(problem, b.theta, b.tau, a.tau.argsort(kind="stable"))
        if h > 1e-9:
            assert found <= a.energy - 0.1 * h * dissipation + 1e-13 * (1 + a.energy)
        assert found <= a.energy + 1e-13 * (1 + a.energy)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32),
    depth=st.sampled_from([DEPOSIT, {"name": "layers", "layers": 4}, {"name": "shallow"}]),
    length=st.floats(-1, 4).map(lambda exponent: 10.0**exponent),
    integrator=st.sampled_from(["euler", "heun", "rk4"]),
    decay=st.sampled_from([None, 0.5]),
)
def test_e_itself_falls_where_the_order_does_not_matter(seed, depth, length, integrator, decay):
    """With a regulariser that fades, E at the s of the step's start."""
    rng = np.random.default_rng(seed)
    problem = wgflow.Problem.padded(rng.normal(size=(8, 2)), rng.normal(size=8))
    term = None if decay is None else {"name": "quadratic", "strength": 0.3, "decay": decay}
    energy = wgflow.Energy(problem, depth, regulariser=term)
    start = wgflow.Particles.draw_layers(problem, 4, 3, seed=seed)
    frames = steps_of(wgflow.Flow(energy, integrator, {"name": "descent", "length": length}), start, 25)
    for a, b in itertools.pairwise(frames):
        assert energy(b.particles, s=a.s) <= a.energy * (1 + 1e-12)


@pytest.mark.parametrize("length", [1.0, 10.0, 100.0])
def test_e_stays_below_its_start_on_diabetes(length):
    """Where switching steps were taken unchecked, E rose from 0.5 to 1e100 for the longer two."""
    pytest.importorskip("sklearn")
    x, y = ((table - table.mean(axis=0)) / table.std(axis=0) for table in datasets.diabetes())
    problem = wgflow.Problem.padded(x, y)
    flow = wgflow.Flow(wgflow.Energy(problem), step={"name": "descent", "length": length})
    frames = steps_of(flow, wgflow.Particles.draw(problem, 64), 60)
    energies = np.array([frame.energy for frame in frames])
    assert frames[-1].switches > 50
    assert energies.max() == energies[0]
    assert energies[-1] < 0.5 * energies[0]


def jumping():
    """A run whose E rises above its start by jumps."""
    rng = np.random.default_rng(31)
    problem = wgflow.Problem.padded(rng.normal(size=(12, 1)), rng.normal(size=12), activation="gelu")
    energy = wgflow.Energy(problem)
    flow = wgflow.Flow(energy, step={"name": "descent", "length": 100.0})
    return energy, steps_of(flow, wgflow.Particles.draw(problem, 48, seed=31), 100)


def test_what_e_rises_by_is_its_jumps_and_counted():
    """E(s_n) <= E(0) + the sum of the jumps; only the balance's steps with a switch rise."""
    energy, frames = jumping()
    jumps, switched, rises = 0.0, 0, []
    for a, b in itertools.pairwise(frames):
        jump = b.energy - energy.continued(b.particles, a.particles.order)
        count = switches(a.particles.order, b.particles.order)
        assert count or jump == 0.0
        jumps, switched = jumps + jump, switched + (count > 0)
        assert b.energy <= frames[0].energy + jumps + 1e-12
        if b.energy > a.energy:
            assert count
            rises.append(b.energy - a.energy)
    assert rises
    balance = frames[-1].balance
    assert (balance.rises, balance.switched) == (0, switched)
    assert balance.risen_at_switches == pytest.approx(sum(rises), rel=1e-12)


@pytest.mark.parametrize("integrator", ["heun", "ssp3", "rk4", "cash_karp"])
def test_stages_keep_the_order_of_the_step_s_start(integrator):
    """Of two particles at one depth any motion changes the order: a short step is still one along the velocity."""
    rng = np.random.default_rng(8)
    problem = wgflow.Problem.padded(rng.normal(size=(8, 2)), rng.normal(size=8))
    energy, h = wgflow.Energy(problem), 1e-7
    start = wgflow.Particles(rng.normal(size=(4, problem.shape[3])), [0.5] * 4)
    velocity = energy.velocity(start)
    for rule, near in (({"name": "descent", "length": h}, True), (h, False)):
        frame = steps_of(wgflow.Flow(energy, integrator, rule), start, 1)[-1]
        assert frame.switches
        moved = (frame.theta - start.theta) / h
        assert np.allclose(moved, velocity.theta, rtol=0, atol=1e-4 * np.abs(velocity.theta).max()) == near


def test_a_small_problem_falls_like_a_large_one():
    """What counts as rounding scales with the loss: an absolute error of 1e-15 let this one rise a hundredfold."""
    x, y = datasets.sine(20, 1.5)
    for scale in (1.0, 1e-8):
        problem = wgflow.Problem.padded(x, y * scale)
        start = wgflow.Particles.draw(problem, 16, scale={"a": scale}, tau="uniform")
        flow = wgflow.Flow(wgflow.Energy(problem, DEPOSIT), step={"name": "descent", "length": 100.0})
        energies = np.array([frame.energy for frame in steps_of(flow, start, 100)])
        assert (np.diff(energies) <= 0).all()
        assert energies[-1] < 0.1 * energies[0]


@pytest.mark.parametrize(("dtype", "most"), [("float64", 1000), ("float32", 1000)])
def test_it_ends_at_a_minimum_in_either_precision(dtype, most):
    """Where no decrease is left to see, steps must not become so short that the run never ends."""
    x, y = np.arange(1.0, 5.0)[:, None], [0.3, -1.0, 2.0, 0.1]
    problem = wgflow.Problem(x, y, {"name": "ridge", "bias": False}, "linear", readout=[[1.0]])
    energy = wgflow.Energy(problem, "shallow", dtype=dtype)
    flow = wgflow.Flow(energy, step={"name": "descent", "length": 1.0}, mobility={"w": 0.0})
    start, count = wgflow.Particles([[0.3, 1.0], [0.1, 1.0]], [0.2, 0.7]), []
    *_, last = flow.run(start, 100.0, 100.0, on_step=lambda step, s: count.append(s) or 1 / (step < most))
    assert last.s == 100.0
    assert last.dissipation < 1e-6


def test_a_reflecting_boundary_is_refused_unless_nothing_moves_there():
    problem = wgflow.Problem.padded(*datasets.sine(10))
    energy = wgflow.Energy(problem)
    with pytest.raises(InputError, match="expected 'clip' with step rule 'descent', got 'reflect'"):
        wgflow.Flow(energy, step={"name": "descent"}, boundary="reflect")
    wgflow.Flow(energy, step={"name": "descent"}, boundary="reflect", mobility={"tau": 0.0})


def at_a_kink():
    """Under the hat function, particles at a kink of E: whichever side they move to, E rises."""
    problem = wgflow.Problem.padded(*datasets.sine(10))
    energy = wgflow.Energy(problem, DEPOSIT | {"shape": "hat"})
    theta = wgflow.Particles.draw(problem, 1, seed=3).theta
    return energy, theta


def test_a_kink_ends_the_run_with_the_state_there():
    energy, theta = at_a_kink()
    for middle in np.array([0.5, 1.5, 2.5, 3.5]) / 4:
        for sign in (1.0, -1.0):
            start = wgflow.Particles(sign * theta, [middle])
            sides = [energy(wgflow.Particles(sign * theta, [middle + side])) for side in (-1e-3, 1e-3)]
            if min(sides) <= energy(start):
                continue
            flow = wgflow.Flow(energy, step={"name": "descent"}, mobility=dict.fromkeys(energy.problem.groups, 0.0))
            with pytest.raises(DescentError, match=r"step 0 .*does not raise E: E has a kink here") as caught:
                list(flow.run(start, 1.0))
            assert caught.value.frame.energy == energy(start)
            return
    pytest.fail("no kink that is a minimum")


def test_an_operator_that_raises_e_ends_the_run():
    problem = wgflow.Problem.padded(*datasets.sine(10))

    def kick(rho, move):
        return rho.moved(rho.theta + 5.0, rho.tau)

    flow = wgflow.Flow(wgflow.Energy(problem, DEPOSIT), step={"name": "descent"}, ingredients=[kick])
    with pytest.raises(DescentError, match="an operator raises it"):
        list(flow.run(wgflow.Particles.draw(problem, 8), 1.0))


def trials(rises, tried):
    """Trials whose E is 1 plus what a function gives for their length."""

    def trial(h):
        tried.append(h)
        return Trial(None, 0, lambda: 1.0 + rises(h), None)

    return trial


def test_without_enough_descent_the_longest_step_that_does_not_rise_is_taken():
    """As where rounding hides the decrease; the trial is repeated, since a device keeps the last one only."""
    tried = []
    taken = Descent().advance(trials(lambda h: 0.0 if h == 0.125 else 1e-9 * (h > 1e-6), tried), 1.0, 1.0, 1.0)
    assert (taken.h, taken.then, tried[-1]) == (0.125, 0.125, 0.125)
    with pytest.raises(DescentError):
        Descent().advance(trials(lambda h: 1e-9, tried), 1.0, 1.0, 1.0)
