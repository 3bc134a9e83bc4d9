"""Bounds of the rate of decay along runs: true of flows, false of doctored ones and of wrong kernels."""

import numpy as np
import pytest
from verdict_checks import made_false, made_true

import wgflow
from wgflow.base.errors import InputError
from wgflow.theory.decay_bound import decay_bound
from wgflow.theory.tangent_kernel import conditional_kernels, tangent_kernel

NAME = "2 λ_min(Θ)/M"
CLAIMS = "decay_rate_above_bound", "decay_bound_positive", "energy_below_predicted_decay"


def series(frames, **changed):
    return [changed.get(name, np.array([getattr(each, name) for each in frames])) for name in NUMBERS]


NUMBERS = "s", "energy", "dissipation"


@pytest.fixture(scope="module")
def line():
    """One sample, w pinned: Theta = 1, so dissipation = 2 E = (2/M) lambda_min E and E = E(0) exp(-2 s)."""
    problem = wgflow.Problem([[1.0]], [[2.0]], {"name": "ridge", "bias": False}, "linear", readout=[[1.0]])
    start = wgflow.Particles(np.column_stack([np.linspace(0, 1, 5), np.ones(5)]), np.linspace(0.1, 0.9, 5))
    energy = wgflow.Energy(problem, "shallow")
    frames = list(wgflow.Flow(energy, "rk4", 0.01, mobility={"w": 0}).run(start, 3.0, 0.1))
    return frames, [tangent_kernel(energy, frame.particles, {"w": 0}).rate for frame in frames]


def made(case, scheme, samples=3, until=2.0, **options):
    """Frames of a run and its bounds by the whole kernel."""
    problem, rho = case(particles=24, samples=samples, scheme=scheme)
    energy = wgflow.Energy(problem, scheme)
    frames = list(wgflow.Flow(energy, step=0.01, **options).run(rho, until, every=0.1))
    return energy, frames, [tangent_kernel(energy, frame.particles).rate for frame in frames]


def test_the_bound_is_exact_on_the_linear_flow(line):
    frames, rates = line
    np.testing.assert_allclose(rates, 2.0, rtol=1e-12)
    found = decay_bound(NAME, *series(frames), rates)
    np.testing.assert_allclose(found.measured, 2.0, rtol=1e-9)
    np.testing.assert_allclose(found.predicted, found.energy[0] * np.exp(-2.0 * found.s), rtol=1e-12)
    np.testing.assert_allclose(found.energy, found.predicted, rtol=1e-7)
    assert "at all 31 frames" in made_true(found.verdicts, "decay_rate_above_bound")
    made_true(found.verdicts, "decay_bound_positive")
    made_true(found.verdicts, "energy_below_predicted_decay")


def test_one_part_in_a_thousand_is_seen(line):
    """A dissipation, a bound or an energy that is wrong by 0.1% makes the sentence about it false."""
    frames, rates = line
    s, energy, dissipation = series(frames)
    slow = decay_bound(NAME, s, energy, 0.999 * dissipation, rates)
    assert made_false(slow.verdicts, "decay_rate_above_bound").startswith(
        "dissipation/E is below 2 λ_min(Θ)/M at 31 of 31 frames (dissipation/E where nearest to its bound = 1.998 <"
    )
    wrong = decay_bound(NAME, s, energy, dissipation, np.multiply(rates, 1.001))
    assert wrong.violated.all()
    made_false(wrong.verdicts, "decay_rate_above_bound")
    late = np.where(s > 1.55, 1.001 * energy, energy)
    above = decay_bound(NAME, s, late, dissipation * late / energy, rates)
    assert "at 15 of 30 frames after the first (E(s) where" in made_false(
        above.verdicts, "energy_below_predicted_decay"
    )
    made_true(above.verdicts, "decay_rate_above_bound")


def test_frames_far_apart_decide_nothing_where_the_trapezoid_rule_errs():
    """E = 1/(1 + s) has exactly m = 1/(1 + s), whose integral the rule overestimates; five times E is refuted."""
    s = np.arange(0.0, 10.0, 2.0)
    exact = decay_bound(NAME, s, 1 / (1 + s), 1 / (1 + s) ** 2, 1 / (1 + s))
    assert (exact.energy[1:] > exact.predicted[1:]).all()
    assert not exact.exceeded.any()
    assert [verdict.holds for verdict in exact.verdicts] == [True, True, None]
    far = decay_bound(NAME, s, np.append(1.0, 5 / (1 + s[1:])), 5 / (1 + s) ** 2, 1 / (1 + s))
    made_false(far.verdicts, "energy_below_predicted_decay")


@pytest.mark.parametrize("scheme", [{"name": "layers", "layers": 3}, {"name": "deposit", "layers": 4}])
def test_flows_decay_at_least_as_fast_as_predicted(case, scheme):
    """With motion in depth (Deposit) and without (Layers); ten times the bound is a claim that fails."""
    _, frames, rates = made(case, scheme)
    found = decay_bound(NAME, *series(frames), rates)
    for claim in CLAIMS:
        assert [one.holds for one in found.verdicts if one.inequalities[0].claim == claim] == [True]
    assert not found.violated.any() | found.exceeded.any()
    assert found.energy[-1] < found.predicted[-1] < 0.99 * found.energy[0]
    tenfold = decay_bound(NAME, *series(frames), np.multiply(10, rates))
    made_false(tenfold.verdicts, "decay_rate_above_bound")


def test_a_kernel_that_sums_over_particles_without_their_mass_is_refuted(case):
    _, frames, rates = made(case, {"name": "layers", "layers": 3})
    wrong = np.multiply(rates, len(frames[0].tau))
    found = decay_bound(NAME, *series(frames), wrong)
    made_false(found.verdicts, "decay_rate_above_bound")
    made_false(found.verdicts, "energy_below_predicted_decay")


def test_bounds_by_depth_hold_along_a_run(case):
    energy, frames, rates = made(case, {"name": "layers", "layers": 2}, samples=2)
    for name in ("by_depth", "conditional"):
        lower = [getattr(conditional_kernels(energy, frame.particles), name) for frame in frames]
        assert 0 < min(lower)
        assert (np.array(lower) <= np.multiply(rates, 1 + 1e-12)).all()
        made_true(decay_bound(name, *series(frames), lower).verdicts, "decay_rate_above_bound")


def test_a_run_with_fewer_parameters_than_samples_has_a_vacuous_bound(case):
    _, frames, rates = made(case, {"name": "shallow"}, samples=200, until=0.3)
    found = decay_bound(NAME, *series(frames), rates)
    assert max(rates) == 0
    said = made_false(found.verdicts, "decay_bound_positive")
    assert said == (
        "the bound 2 λ_min(Θ)/M is vacuous at 4 of 4 frames: a kernel is singular up to rounding "
        "(least 2 λ_min(Θ)/M = 0 ≤ 0)"
    )
    np.testing.assert_array_equal(found.predicted, found.energy[0])
    assert [one.holds for one in found.verdicts] == [None, False, None]


def test_unknown_bounds_and_vanishing_energies_decide_nothing(line):
    frames, rates = line
    s, energy, dissipation = series(frames)
    unknown = decay_bound(NAME, s, energy, dissipation, np.full(len(s), np.nan))
    assert [one.holds for one in unknown.verdicts] == [None] * 3
    assert not unknown.violated.any() | unknown.exceeded.any()
    some = decay_bound(NAME, s, energy, dissipation, np.where(s < 1.05, rates, np.nan))
    assert "at all 11 frames" in str(some.verdicts[0])
    assert np.isnan(some.predicted[11:]).all()
    zero = decay_bound(NAME, s, 0 * energy, 0 * dissipation, rates)
    assert [one.holds for one in zero.verdicts] == [None, True, True]


def test_arguments_are_checked(line):
    s, energy, dissipation = series(line[0])
    for bound in (-np.ones(len(s)), np.ones(3)):
        with pytest.raises(InputError, match="expected 31 numbers >= 0 or NaN"):
            decay_bound(NAME, s, energy, dissipation, bound)
    with pytest.raises(InputError, match="increase"):
        decay_bound(NAME, s[::-1], energy, dissipation, np.ones(len(s)))
