import itertools

import numpy as np
import pytest

import wgflow
from wgflow.errors import InputError
from wgflow.problems.regression import sine
from wgflow.stepsize import STEP_RULES, Constant, step_rule

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


def test_armijo_holds_at_every_step(flow):
    """Frames so close that each step ends at one: E falls by a tenth of what the dissipation promises, or more."""
    run, rho = flow()
    states = list(run.run(rho, until=3.0, every=0.01))
    for a, b in itertools.pairwise(states):
        assert b.step == a.step + 1
        assert b.energy <= a.energy - 0.1 * (b.s - a.s) * a.dissipation * (1 - 1e-6)


def test_energies_are_not_compared_across_a_switch(flow):
    """Under Gaps a step that changes the order is taken as it is, even where E jumps up."""
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
            from wgflow.stepsize import Taken

            return Taken(trial(h), h, 1 / (1 / h + 1))

        def spec(self):
            return {"name": self.name}

    run, rho = flow(step=Harmonic())
    times = [0.0]
    list(run.run(rho, until=0.5, every=0.5, on_step=lambda step, s: times.append(s)))
    np.testing.assert_allclose(np.diff(times)[:5], [1 / 10, 1 / 11, 1 / 12, 1 / 13, 1 / 14])
