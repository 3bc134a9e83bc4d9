"""Moments and smoothness along depth against closed forms."""

import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError
from wgflow.theory.regularity import moments, regularity

L, M = 256, 400
TAU = np.repeat((np.arange(L) + 0.5) / L, M)


def ensemble(paths):
    """Particles from paths (L, M, P), in a random order of their indices within the whole."""
    return wgflow.Particles(paths.reshape(L * M, -1), TAU)


@pytest.fixture
def random():
    return np.random.default_rng(3)


def test_straight_lines(random):
    slope = random.normal(size=(M, 3))
    t = (np.arange(L) + 0.5) / L
    found = regularity(ensemble(t[:, None, None] * slope), L)
    assert found.lipschitz == pytest.approx(np.sqrt(np.mean(np.sum(slope**2, axis=1))), rel=1e-12)
    assert found.holder == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(found.lags * L, 2 ** np.arange(7))
    np.testing.assert_allclose(found.structure, found.lipschitz**2 * found.lags**2, rtol=1e-10)


def test_brownian_paths(random):
    """400 paths of 3 components: the estimate of H is within 0.02 of 1/2 (five of its standard errors)."""
    paths = np.cumsum(random.normal(size=(L, M, 3)), axis=0)
    assert regularity(ensemble(paths), L).holder == pytest.approx(0.5, abs=0.02)


def test_independent_layers(random):
    found = regularity(ensemble(random.normal(size=(L, M, 3))), L)
    assert found.holder == pytest.approx(0.0, abs=0.01)
    assert found.lipschitz == pytest.approx(L * np.sqrt(6), rel=0.02)


@pytest.mark.parametrize(("coupling", "holder"), [("path", 1.0), ("independent", 0.0)])
def test_the_two_starts(coupling, holder):
    problem = wgflow.Problem.padded([[0.0], [1.0]], [0.0, 1.0])
    found = {
        layers: regularity(wgflow.Particles.draw_layers(problem, layers, 500, 1, coupling=coupling), layers)
        for layers in (16, 64, 256)
    }
    assert found[256].holder == pytest.approx(holder, abs=0.03)
    growth = found[256].lipschitz / found[64].lipschitz
    assert growth == pytest.approx(1.0 if coupling == "path" else 4.0, rel=0.05)


def test_equal_layers_have_no_exponent():
    assert np.isnan(regularity(ensemble(np.zeros((L, M, 1))), L).holder)


def test_moments(random):
    paths = random.normal(size=(L, M, 2))
    paths[7] *= 3
    found = moments(ensemble(paths), L)
    squares = np.sum(paths**2, axis=2)
    assert found.mean == pytest.approx(squares.mean())
    assert found.largest == pytest.approx(squares[7].mean())
    assert found.radius == np.abs(paths).max()


def test_unequal_layers_are_refused():
    rho = wgflow.Particles(np.zeros((3, 1)), [0.1, 0.2, 0.8])
    with pytest.raises(InputError, match="equally many particles in each of 2 layers"):
        regularity(rho, 2)
    with pytest.raises(InputError, match="layers: expected a whole number >= 2"):
        regularity(rho, 1)


@pytest.mark.parametrize("size", [1e-170, 1e170])
def test_paths_of_any_size(size, random):
    rho = wgflow.Particles(np.cumsum(random.normal(size=(48, 2)), axis=0), np.repeat((np.arange(16) + 0.5) / 16, 3))
    one, found = (regularity(each, 16) for each in (rho, rho.moved(size * rho.theta, rho.tau)))
    assert found.lipschitz / size == pytest.approx(one.lipschitz)
    assert found.holder == pytest.approx(one.holder)


def test_paths_of_unequal_mass_are_refused_and_those_without_are_no_support():
    with pytest.raises(InputError, match="mass: expected equal weights"):
        regularity(wgflow.Particles([[1.0], [2.0]], [0.2, 0.8], [0.3, 0.7]), 2)
    gone = wgflow.Particles([[1.0], [2.0], [50.0]], [0.1, 0.6, 0.7], [0.5, 0.5, 0.0])
    assert moments(gone, 2) == (2.5, 4.0, 2.0)
