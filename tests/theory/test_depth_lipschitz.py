"""Lipschitz continuity in depth: distances against their definition, and what lower bounds of the constant say."""

import numpy as np
import pytest
from scipy.optimize import linprog

import wgflow
from wgflow.base.errors import InputError
from wgflow.theory.depth_lipschitz import _parts, lipschitz, refinement
from wgflow.theory.distances import bounded_lipschitz

PROBLEM = wgflow.Problem.padded(np.linspace(-1, 1, 9)[:, None], np.linspace(-1, 1, 9))
DEPOSIT = wgflow.Energy(PROBLEM, wgflow.Deposit(8))


def by_linear_programme(x, y, a, b):
    """The largest int f d(mu - nu) over |f| <= 1 with Lipschitz constant 1, over all values of f at the points."""
    points = np.concatenate([x, y])
    count, gaps = len(points), np.linalg.norm(points[:, None] - points, axis=2)
    rows, limits = [], []
    for i in range(count):
        for j in range(count):
            if i != j:
                rows.append(np.eye(count)[i] - np.eye(count)[j])
                limits.append(gaps[i, j])
    return -linprog(-np.append(a, -b), rows, limits, bounds=(-1, 1)).fun


@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("equal", [True, False])
def test_the_distance_is_that_of_the_definition(scale, equal, rng):
    pytest.importorskip("ot")
    x, y = scale * rng.normal(size=(6, 2)), scale * (rng.normal(size=(6 if equal else 4, 2)) + 0.5)
    a, b = (np.full(len(z), 1 / len(z)) if equal else rng.dirichlet(np.ones(len(z))) for z in (x, y))
    assert bounded_lipschitz(x, y, a, b) == pytest.approx(by_linear_programme(x, y, a, b), rel=1e-6, abs=1e-9)


def moving(shift, seed, count=1200):
    """Blocks whose first parameter moves with depth by a function of it."""
    rho = wgflow.Particles.draw(PROBLEM, count, seed, tau="uniform")
    theta = rho.theta.copy()
    theta[:, 0] += shift(rho.tau)
    return rho.moved(theta, rho.tau)


def test_a_jump_refutes_every_bound_in_the_end():
    """The lower bound grows like the number of slices."""
    rho = moving(lambda t: 3.0 * (t > 0.5), seed=1, count=4000)
    least = refinement(DEPOSIT, rho).least
    assert least[3] > 3 * least[1] > 3.0
    found = lipschitz(DEPOSIT, rho, bound=3.0)
    assert (found.verdict, found.conditions[1].finding) == ("fail", "refuted")
    assert found.number == least.max() > 3.0
    assert f"{found.number:.4g} > 3" in found.sentence
    other = lipschitz(DEPOSIT, rho, bound=1.01 * found.number)
    assert (other.verdict, other.conditions[1].finding) == ("unknown", "not checked")


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_the_lower_bound_is_one(noise):
    """A shift by c t has C <= c; at an error rate of 5% more than 4 of 20 seeds fail by chance with P = 0.3%."""
    failed, best = 0, 0.0
    for seed in range(20):
        rho = moving(lambda t: 0.0 * t, seed, 400)
        theta = noise * rho.theta
        theta[:, 0] += 6.0 * rho.tau
        energy = wgflow.Energy(PROBLEM) if seed % 2 else DEPOSIT
        least = refinement(energy, rho.moved(theta, rho.tau), seed=seed).least.max()
        failed, best = failed + (least > 6.0), max(best, least)
    assert failed <= 4
    assert best > 1.0


@pytest.mark.parametrize("coupling", ["path", "independent"])
def test_the_same_law_at_every_depth_is_not_refuted_and_nothing_is_proved(coupling):
    """Independent layers differ by their finitely many blocks, which a distance alone takes for a slope."""
    rho = wgflow.Particles.draw_layers(PROBLEM, 16, 100, coupling=coupling)
    energy = wgflow.Energy(PROBLEM, {"name": "layers", "layers": 16})
    for bound in (None, 0.1, 1e6):
        found = lipschitz(energy, rho, bound)
        assert (found.verdict, found.number) == ("unknown", 0.0)
        assert all(one.finding == "not checked" for one in found.conditions)
    made = refinement(energy, rho)
    growth = made.quotient[-1] / made.quotient[1]
    assert growth < 1.3 if coupling == "path" else growth > 3.5
    assert made.permuted[-1] > 3.5 * made.permuted[1]


def test_blocks_that_follow_one_path_count_once():
    """A hundred layers of one path each are no hundred independent blocks: the bound of few paths is weak."""
    theta = np.repeat(wgflow.Particles.draw(PROBLEM, 4, 3).theta[None], 100, axis=0)
    theta[50:, :, 0] += 3.0
    rho = wgflow.Particles(theta.reshape(400, -1), np.repeat((np.arange(100) + 0.5) / 100, 4))
    assert refinement(wgflow.Energy(PROBLEM, wgflow.model.depth.Layers(100)), rho).least.max() == 0.0
    assert refinement(DEPOSIT, rho).least.max() > 1.0


def test_the_shallow_model_has_no_depth():
    found = lipschitz(wgflow.Energy(PROBLEM, "shallow"), moving(np.square, 0))
    assert (found.verdict, found.number, found.conditions[0].finding) == ("pass", 0.0, "proved")


def test_slices_of_algorithm_1_are_parts_of_intervals(rng):
    rho = wgflow.Particles(rng.normal(size=(7, PROBLEM.shape[3])), rng.uniform(size=7))
    part = _parts(wgflow.Energy(PROBLEM), rho, 3)
    t = (np.arange(300000) + 0.5) / 300000
    order = rho.tau.argsort()
    block = np.append(order, -1)[np.searchsorted(rho.tau[order], t)]
    wanted = [[np.mean((block == i) & (np.floor(3 * t) == k)) for i in range(7)] for k in range(3)]
    np.testing.assert_allclose(part, wanted, atol=1e-5)


def test_few_blocks_and_bad_options():
    rho = wgflow.Particles.draw(PROBLEM, 6)
    assert "Fewer than 8 blocks" in lipschitz(wgflow.Energy(PROBLEM), rho).sentence
    assert len(refinement(DEPOSIT, rho.moved(rho.theta, np.full(6, 0.9))).slices) == 0
    with pytest.raises(InputError, match="error: expected an error rate"):
        refinement(DEPOSIT, rho, error=1.0)
