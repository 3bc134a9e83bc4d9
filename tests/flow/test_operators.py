"""Noise, batches and terms that depend on s. Each statistical test states its error rate."""

import numpy as np
import pytest
from scipy import stats

import wgflow
from wgflow.base.errors import DivergenceError, InputError
from wgflow.flow.operators import OPERATORS, Langevin, operator
from wgflow.model.particles import project
from wgflow.model.regularisers import REGULARISERS, Quadratic, regulariser

PINNED = {"a": 0.0, "w": 0.0, "b": 0.0, "tau": 0.0}


@pytest.fixture
def problem(rng):
    return wgflow.Problem(rng.normal(size=(20, 2)), rng.normal(size=20))


def noisy(problem, count, until, noise, boundary="clip", step=0.1):
    """A flow of noise alone: every particle's own velocity is pinned."""
    energy = wgflow.Energy(problem, {"name": "deposit", "layers": 4})
    flow = wgflow.Flow(energy, step=step, boundary=boundary, mobility=PINNED, ingredients=[noise])
    *_, last = flow.run(wgflow.Particles(np.zeros((count, 5)), np.full(count, 0.5)), until=until, every=until)
    return last


def test_increments_are_gaussian_with_the_right_variance(problem):
    """Error rate 1e-6 for each of the two tests of a right sampler; the seed is fixed."""
    last = noisy(problem, 4000, 0.1, Langevin(0.3, seed=7))
    x = last.theta.ravel() / np.sqrt(2 * 0.3 * 0.1)
    assert stats.kstest(x, "norm").pvalue > 1e-6
    chi = np.sum(x**2)
    assert stats.chi2.ppf(5e-7, x.size) < chi < stats.chi2.isf(5e-7, x.size)


def test_increments_of_different_parameters_are_independent(problem):
    """Largest of the ten correlations of 4000 increments; error rate 1e-6."""
    last = noisy(problem, 4000, 0.1, Langevin(0.3, seed=7))
    correlation = np.corrcoef(last.theta.T)[np.triu_indices(5, 1)]
    assert np.abs(correlation).max() < stats.norm.isf(1e-6 / 20) / np.sqrt(4000)


def test_noise_in_depth_has_its_temperature(problem):
    """One short step far from the walls; error rate 1e-6."""
    last = noisy(problem, 4000, 0.01, Langevin(0.0, tau_temperature=0.05, seed=9), "reflect", step=0.01)
    chi = np.sum((last.tau - 0.5) ** 2) / (2 * 0.05 * 0.01)
    assert stats.chi2.ppf(5e-7, 4000) < chi < stats.chi2.isf(5e-7, 4000)


def test_decay_and_noise_balance(problem):
    """The discrete Ornstein-Uhlenbeck process has variance lambda / (gamma (1 - h gamma / 2)); error rate 1e-6."""
    last = noisy(problem, 4000, 10.0, Langevin(0.3, decay=1.0, seed=8))
    variance = 0.3 / (1.0 - 0.05)
    chi = np.sum(last.theta**2) / variance
    assert stats.chi2.ppf(5e-7, last.theta.size) < chi < stats.chi2.isf(5e-7, last.theta.size)
    assert abs(chi / last.theta.size * variance / 0.3 - 1) > 0.01  # and the discretisation is seen


def test_reflected_noise_fills_depth_evenly(problem):
    """Error rate 1e-6."""
    last = noisy(problem, 4000, 5.0, Langevin(0.0, tau_temperature=0.5, seed=9), "reflect")
    assert stats.kstest(last.tau, "uniform").pvalue > 1e-6


def test_a_wrong_variance_would_be_noticed(problem):
    """Negative control for the tests above: 10% more noise fails them."""
    last = noisy(problem, 4000, 0.1, Langevin(0.33, seed=7))
    x = last.theta.ravel() / np.sqrt(2 * 0.3 * 0.1)
    assert np.sum(x**2) > stats.chi2.isf(5e-7, x.size)


def test_noise_belongs_to_seed_step_and_particle(problem):
    small, large = (noisy(problem, n, 0.3, Langevin(0.3, seed=7)) for n in (5, 9))
    assert np.array_equal(small.theta, large.theta[:5])
    assert not np.array_equal(small.theta, noisy(problem, 5, 0.3, Langevin(0.3, seed=8)).theta)


@pytest.mark.parametrize("options", [{"ingredients": [Langevin(0.01, 0.1, seed=3)]}, {"batch": 6, "seed": 4}])
def test_a_random_run_taken_up_again_is_the_same_run(problem, options):
    flow = wgflow.Flow(wgflow.Energy(problem, wgflow.Deposit(3)), step=0.1, **options)
    rho = wgflow.Particles.draw(problem, 6)
    whole = list(flow.run(rho, until=2.0, every=0.5))
    rest = list(flow.run(whole[2], until=2.0, every=0.5))
    for a, b in zip(whole[2:], rest, strict=True):
        assert (a.step, a.s, a.energy, a.dissipation) == (b.step, b.s, b.energy, b.dissipation)
        assert np.array_equal(a.theta, b.theta)
    again = wgflow.Flow.from_spec(flow.spec(), flow.energy)
    assert list(again.run(rho, until=2.0, every=0.5))[-1].energy == whole[-1].energy


def test_batches_are_drawn_without_replacement_and_each_sample_as_often(problem):
    """Counts over 4000 steps against the hypergeometric law's chi-square; error rate 1e-6."""
    flow = wgflow.Flow(wgflow.Energy(problem), batch=5)
    rows = np.array([flow._rows(step) for step in range(4000)])
    assert all(len(set(row)) == 5 for row in rows.tolist())
    counts = np.bincount(rows.ravel(), minlength=20)
    # Counts of one step are exchangeable with variance f (1 - f) and sum 5, so this scaled sum is chi-square.
    chi = np.sum((counts - 1000) ** 2) / (4000 * 0.25 * 0.75) * 19 / 20
    assert stats.chi2.ppf(5e-7, 19) < chi < stats.chi2.isf(5e-7, 19)


def test_batch_velocities_average_to_the_full_one(problem):
    """All batches of one sample, averaged, are the full velocity exactly."""
    energy, rho = wgflow.Energy(problem, wgflow.Deposit(3)), wgflow.Particles.draw(problem, 6)
    mean = np.mean([energy.velocity(rho, [row]).theta for row in range(20)], axis=0)
    np.testing.assert_allclose(mean, energy.velocity(rho).theta, rtol=1e-12, atol=1e-14)


def test_frames_of_a_batched_run_tell_the_full_energy(problem):
    energy, start = wgflow.Energy(problem, wgflow.Deposit(3)), wgflow.Particles.draw(problem, 6)
    frames = list(wgflow.Flow(energy, batch=4).run(start, until=0.5, every=0.2 + 0.3))
    for frame in frames:
        rho = wgflow.Particles(frame.theta, frame.tau)
        velocity = energy.velocity(rho)
        assert frame.energy == velocity.energy
        at_rest = project(rho.tau, velocity.tau, "clip")  # a particle stopped at the boundary dissipates nothing
        assert frame.dissipation == pytest.approx(energy.dissipation(rho, velocity.theta, at_rest))
    full = list(wgflow.Flow(energy, batch=20).run(start, until=0.5))
    np.testing.assert_allclose(full[-1].theta, list(wgflow.Flow(energy).run(start, until=0.5))[-1].theta, rtol=1e-12)


def test_own_operator(problem):
    """A callable that kills half the mass of particle 0 after step 1."""

    def halve(rho, move):
        mass = rho.mass * np.where((np.arange(len(rho)) == 0) & (move.step == 1), 0.5, 1.0)
        return wgflow.Particles(rho.theta, rho.tau, mass)

    flow = wgflow.Flow(wgflow.Energy(problem, wgflow.Deposit(3)), ingredients=[halve])
    frames = list(flow.run(wgflow.Particles.draw(problem, 4), until=0.4))
    assert [frame.mass[0] for frame in frames] == [0.25, 0.25, 0.125, 0.125, 0.125]
    assert flow.spec()["ingredients"] == [{"name": "halve"}]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ingredients": [{"name": "langevn", "temperature": 1.0}]}, "did you mean 'langevin'"),
        ({"ingredients": [{"name": "langevin", "temprature": 1.0}]}, "did you mean 'temperature'"),
        ({"ingredients": [Langevin(0.1, tau_temperature=0.1)]}, "boundary: expected 'reflect' where noise acts on tau"),
        ({"ingredients": [Langevin(0.1)], "step": {"name": "descent"}}, "neither batches nor noise"),
        ({"batch": 5, "step": {"name": "descent"}}, "neither batches nor noise"),
        ({"batch": 21}, "batch: expected 1 to 20 samples, got 21"),
        ({"batch": 5, "seed": -1}, "seed: expected an integer"),
    ],
)
def test_bad_options(problem, options, words):
    with pytest.raises(InputError, match=words):
        wgflow.Flow(wgflow.Energy(problem, wgflow.Deposit(3)), **options)


@pytest.mark.parametrize("made", [None, "fewer"])
def test_an_operator_that_changes_the_number_of_particles_is_refused(problem, made):
    def shrink(rho, move):
        return made and wgflow.Particles(rho.theta[:2], rho.tau[:2])

    flow = wgflow.Flow(wgflow.Energy(problem, wgflow.Deposit(3)), ingredients=[shrink])
    with pytest.raises(InputError, match=r"operator 'shrink': expected Particles with theta of shape \(4, 5\)"):
        list(flow.run(wgflow.Particles.draw(problem, 4), until=0.4))


def test_bad_seed_of_the_noise():
    with pytest.raises(InputError, match="seed: expected an integer"):
        Langevin(0.1, seed=-1)


@pytest.mark.parametrize("value", [-1.0, float("nan"), True])
def test_bad_temperature(value):
    with pytest.raises(InputError, match="temperature of langevin: expected a finite number >= 0"):
        Langevin(value)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_regulariser_adds_its_integral_and_its_gradient(case, scheme, backend, by_complex_step, defined_energy):
    problem, rho = case(scheme=scheme)
    plain = wgflow.Energy(problem, scheme, backend)
    energy = wgflow.Energy(problem, scheme, backend, regulariser=Quadratic(0.7, 2.0))
    factor, s = 0.7 * np.exp(-2.0 * 0.4), 0.4
    moment = plain.weights(rho) @ (rho.theta**2).sum(axis=1)
    assert energy(rho, s=s) == pytest.approx(plain(rho) + factor * moment, rel=1e-13)
    assert energy.rate_in_s(rho, s) == pytest.approx(-2.0 * factor * moment, rel=1e-13)
    velocity, bare = energy.velocity(rho, s=s), plain.velocity(rho)
    assert velocity.energy == pytest.approx(energy(rho, s=s), rel=1e-13)
    drift = -2 * factor * (plain.weights(rho) / rho.mass)[:, None] * rho.theta
    np.testing.assert_allclose(velocity.theta - bare.theta, drift, rtol=1e-11, atol=1e-12)
    if scheme["name"] == "gaps":  # the gaps are the weights, so the term pulls on tau as well
        order = np.argsort(rho.tau)
        norms = factor * (rho.theta[order] ** 2).sum(axis=1)
        np.testing.assert_allclose(
            (velocity.tau - bare.tau)[order], -rho.mass[order] * (norms - np.append(norms[1:], 0)), rtol=1e-10
        )
    else:  # the shape functions sum to one: no force in depth
        np.testing.assert_allclose(velocity.tau, bare.tau, rtol=1e-10, atol=1e-12)
    points, t = rho.theta[:2], [0.2, 0.8]
    added = energy.first_variation(rho, points, t, s) - plain.first_variation(rho, points, t)
    np.testing.assert_allclose(added, factor * (points**2).sum(axis=1), rtol=1e-11)


def test_registries():
    assert operator(Langevin(0.1, seed=4).spec()) == Langevin(0.1, seed=4)
    assert set(OPERATORS) == {"langevin"}
    for name, kind in REGULARISERS.items():
        assert regulariser(name) == kind()
        assert regulariser(kind().spec()) == kind()
    for choice, words in (
        ("quadratc", "did you mean 'quadratic'"),
        ({"name": "quadratic", "strenght": 1.0}, "did you mean 'strength'"),
        ({"name": "quadratic", "decay": -1.0}, "decay of the quadratic regulariser: expected a finite number >= 0"),
    ):
        with pytest.raises(InputError, match=words):
            regulariser(choice)


def test_energy_with_a_regulariser_is_rebuilt(problem):
    energy = wgflow.Energy(problem, wgflow.Deposit(3), regulariser="quadratic")
    again = wgflow.Energy.from_spec(energy.spec(), problem.arrays())
    rho = wgflow.Particles.draw(problem, 4)
    assert again(rho, s=0.3) == energy(rho, s=0.3)


def test_noise_that_overflows_is_a_divergence_not_a_bad_input(case):
    problem, rho = case()
    theta = rho.theta.copy()
    theta[:, -1] = 1e308  # a bias, out of tanh's sight
    flow = wgflow.Flow(
        wgflow.Energy(problem, backend="reference"),
        step=1.0,
        ingredients=[{"name": "langevin", "temperature": 0.0, "decay": 4.0}],
    )
    with pytest.raises(DivergenceError, match="a particle is no longer finite"):
        list(flow.run(wgflow.Particles(theta, rho.tau, rho.mass), until=3.0))
