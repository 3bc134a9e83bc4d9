import itertools

import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError
from wgflow.flow.stepsize import STEP_RULES, Constant, Descent, step_rule
from wgflow.model.datasets import sine

DESCENT = {"name": "descent", "length": 5.0}


@pytest.fixture
def flow():
    problem = wgflow.Problem.padded(*sine(40, 1.5))

    def build(spec="deposit", step=DESCENT, **options):
        depth = {"name": spec, "layers": 6} if spec == "deposit" else spec
        rho = wgflow.Particles.draw(problem, 16, seed=2, tau="uniform")
        return wgflow.Flow(wgflow.Energy(problem, depth), step=step, **options), rho

    return build


@pytest.mark.parametrize("spec", ["deposit", "shallow"])
def test_energy_never_rises_and_frames_are_where_they_should(flow, spec):
    run, rho = flow(spec)
    frames = list(run.run(rho, until=10.0, every=0.7))
    energies = [frame.energy for frame in frames]
    assert all(b < a for a, b in itertools.pairwise(energies))
    assert [frame.s for frame in frames] == [*(k * 0.7 for k in range(15)), 10.0]


def test_too_long_a_step_would_rise_without_the_rule(flow):
    """Negative control: constant steps of the same length do not descend."""
    run, rho = flow(step=5.0)
    energies = [frame.energy for frame in run.run(rho, until=100.0)]
    assert any(b > a for a, b in itertools.pairwise(energies))


class Watched(Descent):
    """The rule, writing down what it decided on."""

    def advance(self, trial, energy, dissipation, h):
        taken = super().advance(trial, energy, dissipation, h)
        self.log.append((energy, dissipation, h, taken))
        return taken


def watched(flow, length=5.0, **options):
    rule = Watched(length, **options)
    object.__setattr__(rule, "log", [])
    return flow(step=rule), rule.log


def test_armijo_holds_at_every_step_and_h_goes_down_and_up(flow):
    (run, rho), log = watched(flow)
    list(run.run(rho, until=60.0, every=60.0))
    for energy, dissipation, _, taken in log:
        assert taken.trial.energy <= energy - 0.1 * taken.h * dissipation * (1 - 1e-12) + 1e-14
    halved = [h / taken.h for _, _, h, taken in log if taken.h < h]
    assert halved
    assert all(np.log2(ratio) == round(np.log2(ratio)) for ratio in halved)
    assert any(taken.then == 1.25 * taken.h for *_, taken in log)
    tried = [h for _, _, h, _ in log]
    assert any(b > a for a, b in itertools.pairwise(tried))


def test_a_stricter_fraction_takes_shorter_steps(flow):
    steps = []
    for fraction in (0.1, 0.9):
        (run, rho), log = watched(flow, fraction=fraction)
        list(run.run(rho, until=20.0, every=20.0))
        steps.append(len(log))
    assert steps[1] > steps[0]


def test_a_frame_in_the_way_does_not_shorten_the_steps_after_it(flow):
    """A step cut short by a frame leaves the length to try next as it was."""
    run, rho = flow(step={"name": "descent", "length": 0.5})
    frames = list(run.run(rho, until=1.0, every=0.01))
    assert frames[-1].h >= 0.5


def at_most(steps):
    """Fail a run that would go on for ever."""

    def check(step, s):
        assert step <= steps, f"still at s = {s} after {step} steps"

    return check


def test_it_ends_at_a_minimum():
    """Where no fall is left to see, rounding must not freeze the run."""
    problem = wgflow.Problem([[1.0], [2.0]], [1.0, -1.0], {"name": "ridge", "bias": False}, "linear", readout=[[1.0]])
    energy = wgflow.Energy(problem, "shallow")
    flow = wgflow.Flow(energy, step={"name": "descent", "length": 1.0}, mobility={"w": 0.0})
    start = wgflow.Particles([[0.3, 1.0], [0.1, 1.0]], [0.2, 0.7])
    *_, last = flow.run(start, until=500.0, every=500.0, on_step=at_most(5000))
    assert last.s == 500.0


def test_a_term_that_grows_with_s_is_not_mistaken_for_an_ascent(flow):
    class Rising:
        name = "rising"

        def value(self, theta, s):
            return np.full(len(theta), 1.0 + 10.0 * s)

        def gradient(self, theta, s):
            return np.zeros_like(theta)

        def rate(self, theta, s):
            return np.full(len(theta), 10.0)

        def spec(self):
            return {"name": self.name}

    run, rho = flow()
    energy = wgflow.Energy(run.energy.problem, run.energy.depth, regulariser=Rising())
    *_, last = wgflow.Flow(energy, step=DESCENT).run(rho, until=10.0, every=10.0, on_step=at_most(200))
    assert last.s == 10.0


def test_a_step_that_diverges_is_halved(flow):
    run, rho = flow(step={"name": "descent", "length": 1e200}, integrator="rk4")
    frames = list(run.run(rho, until=2.0, every=1.0))
    assert frames[-1].energy < frames[0].energy


def test_energies_are_not_compared_across_a_switch(flow):
    """Under Gaps a step that changes the order may leave E higher, where it jumps up; no other step does."""
    run, rho = flow("gaps", step={"name": "descent", "length": 0.2})
    frames = list(run.run(rho, until=20.0, every=0.05))
    rose = [(a, b) for a, b in itertools.pairwise(frames) if b.energy > a.energy]
    assert rose
    assert all(b.switches > a.switches for a, b in rose)


def test_a_run_taken_up_again_is_the_same_run(flow):
    run, rho = flow()
    whole = list(run.run(rho, until=6.0, every=0.7))
    half = list(run.run(rho, until=6.0, every=0.7))[:4]
    rest = list(run.run(half[-1], until=6.0, every=0.7))
    for a, b in zip(whole, half + rest[1:], strict=True):
        assert (a.step, a.s, a.h, a.energy) == (b.step, b.s, b.h, b.energy)
        assert np.array_equal(a.theta, b.theta)


def test_registry_and_specs():
    assert step_rule(0.2) == Constant(0.2)
    for name, kind in STEP_RULES.items():
        assert step_rule(kind().spec()) == kind()
        assert kind.name == name


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"name": "desent"}, "did you mean 'descent'"),
        ({"name": "descent", "lenght": 1.0}, "did you mean 'length'"),
        ({"name": "descent", "fraction": 1.0}, "fraction of the descent rule: expected 0 < fraction < 1"),
        ("fast", "step: expected a finite number > 0, got 'fast'"),
    ],
)
def test_bad_rules(choice, words):
    with pytest.raises(InputError, match=words):
        step_rule(choice)


def test_a_rule_of_your_own(flow):
    class Harmonic:
        """Steps 1/(n + 10)."""

        name, adaptive, first = "harmonic", True, 0.1

        def advance(self, trial, energy, dissipation, h):
            from wgflow.flow.stepsize import Taken

            return Taken(trial(h), h, 1 / (1 / h + 1))

        def spec(self):
            return {"name": self.name}

    run, rho = flow(step=Harmonic())
    times = [0.0]
    list(run.run(rho, until=0.5, every=0.5, on_step=lambda step, s: times.append(s)))
    np.testing.assert_allclose(np.diff(times)[:5], [1 / 10, 1 / 11, 1 / 12, 1 / 13, 1 / 14])
