"""Population Gram matrices against closed forms, ideal particles and epsilon_1 against explicit sums, rates in m."""

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import inv, sqrtm

from wgflow.base.errors import InputError
from wgflow.systems.neural_feature_flow.coupling import epsilon, ideal, noise
from wgflow.systems.neural_feature_flow.initial import minimum_norm
from wgflow.systems.neural_feature_flow.low_rank import dense
from wgflow.systems.neural_feature_flow.network import Network
from wgflow.systems.neural_feature_flow.population import Population, gaussian_gram, population


def make(kind="resnet", points=4, inputs=6, seed=0, **options):
    rng = np.random.default_rng(seed)
    options = {"layers": 3, "backend": "reference"} | options
    return Network(1.5 * rng.normal(size=(points, inputs)), rng.normal(size=points), kind=kind, **options)


def covariance(points=5, seed=0):
    a = np.random.default_rng(seed).normal(size=(points, points + 2))
    return a @ a.T / points


def test_quadrature_of_a_sine_is_exact():
    c = covariance()
    scale = np.exp(-0.5 * (np.diag(c)[:, None] + np.diag(c)))
    assert np.allclose(gaussian_gram(make(h1="sin"), c), scale * np.sinh(c), rtol=1e-12, atol=1e-14)


def test_quadrature_of_a_relu_is_the_arc_cosine_kernel():
    c = covariance()
    size = np.sqrt(np.outer(np.diag(c), np.diag(c)))
    angle = np.arccos(np.clip(c / size, -1, 1))
    expected = size * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    assert np.allclose(gaussian_gram(make(h1="relu"), c, 401), expected, rtol=2e-3)


def test_quadrature_of_a_singular_covariance():
    c = np.outer([1.0, -2.0, 0.0], [1.0, -2.0, 0.0])
    assert np.allclose(gaussian_gram(make(h1="linear"), c), c, atol=1e-12)


def test_tanh_needs_the_nodes_it_has():
    """Eight times the nodes change nothing; an eighth of them do, which is what the error reports."""
    c = 4 * covariance()
    network = make()
    fine, found, crude = (gaussian_gram(network, c, nodes) for nodes in (1280, 160, 20))
    assert np.abs(found - fine).max() < 1e-10
    assert np.abs(crude - fine).max() > 1e-3


def test_population_of_a_dnn_is_that_of_its_sample():
    # Error rate: the largest of 10 entries of each of 2 matrices beyond 6 standard errors, below 1e-7 for a right one.
    network = make("dnn")
    limit = population(network, sigma=1.2)
    assert limit.sampled == (False, False)
    assert max(limit.error) < 1e-6
    begin = minimum_norm(network, 20_000, seed=4, sigma=1.2)
    for k, gram in enumerate(limit.grams):
        h = np.tanh(begin.features.beta[k])
        products = h[:, :, None] * h[:, None, :]
        assert np.all(np.abs(products.mean(0) - gram) < 6 * products.std(0) / np.sqrt(len(h)) * (1 + 2 * k))


def test_population_of_a_linear_resnet():
    # Error rate: 10 entries beyond 8 reported standard errors (16 batches, Student), below 1e-4 in all; fixed seed.
    network = make(h1="linear", h2="linear", layers=4)
    limit = population(network, sigma=0.9, count=2**14)
    k = 0.81 * network.x @ network.x.T / 6  # K_1, then K_(l+1) = (1 + sigma^2) K_l
    assert limit.sampled == (False, True, True)
    for factor, gram, error in zip((1, 1.81, 1.81**2), limit.grams, limit.error, strict=True):
        assert np.abs(gram - factor * k).max() < max(8 * error, 1e-12)
    assert np.abs(limit.grams[1] - k).max() > 20 * limit.error[1]  # a lost layer would be seen


@pytest.mark.parametrize("draw", ["features", "weights"])
def test_ideal_particles_are_the_paper_s(kind, draw):
    network = make(kind)
    begin = minimum_norm(network, 60, seed=2, sigma=1.3, draw=draw)
    limit = population(network, sigma=1.3, count=2**12)
    particles = ideal(network, begin, limit)
    beta = begin.features.beta[0]
    for k, gram in enumerate(limit.grams):
        h = np.tanh(begin.features.beta[k])
        alpha = begin.features.alpha[k] @ inv(sqrtm(h.T @ h / 60)) @ sqrtm(gram)
        assert np.allclose(particles.features.alpha[k], alpha, atol=1e-9)
        weights = np.tanh(beta) @ inv(gram) @ alpha.T
        assert np.allclose(dense(particles.weights.middle[k]), weights, atol=1e-8)
        beta = beta + np.tanh(alpha) if kind == "resnet" else alpha
    assert np.array_equal(particles.weights.inner, begin.weights.inner)


def test_ideal_particles_are_independent_gaussians(kind):
    # Error rate: each Kolmogorov test fails a right law with probability 1e-6; the seed is fixed.
    network = make(kind)
    begin = minimum_norm(network, 3000, seed=3)
    limit = population(network, count=2**12)
    particles = ideal(network, begin, limit)
    for gram, alpha in zip(limit.grams, particles.features.alpha, strict=True):
        white = np.linalg.solve(np.linalg.cholesky(gram), alpha.T)
        assert stats.kstest(white.ravel(), "norm").pvalue > 1e-6


def test_epsilon_by_explicit_loops(kind):
    network = make(kind)
    begin = minimum_norm(network, 7, seed=1)
    particles = ideal(network, begin, population(network, count=2**10))
    size = [
        np.sqrt((particles.weights.inner[:, i] ** 2).sum() + sum((a[i] ** 2).sum() for a in particles.features.alpha))
        for i in range(7)
    ]
    expected = [
        max(abs(v[i, j] - w[i, j]) / (1 + size[i] + size[j]) for i in range(7) for j in range(7))
        for v, w in zip(map(dense, begin.weights.middle), map(dense, particles.weights.middle), strict=True)
    ]
    found = epsilon(begin.weights, particles)
    assert found.middle == pytest.approx(expected)
    assert found.largest == max(expected)
    assert (found.inner, found.outer) == (0.0, 0.0)
    moved = begin.weights._replace(outer=begin.weights.outer + 50.0)
    assert epsilon(moved, particles).largest == pytest.approx(50 / (1 + min(size)))


SIZES = [100, 200, 400, 800]


def fitted(values):
    return np.polyfit(np.log(SIZES), np.log(values), 1)[0]


def rms_gap(a, b):
    return np.sqrt(np.mean((dense(a) - dense(b)) ** 2))


def test_networks_approach_their_ideal_particles_at_the_rate_of_theorem_7(kind):
    """Root mean squares fall as m^(-1/2); to particles of another seed they do not fall.

    Means over 16 seeds, others for every m, which leave the exponent a standard error of about 0.04; fixed.
    """
    network = make(kind)
    limit = population(network)
    rms, top, other = np.zeros((3, len(SIZES)))
    for k, m in enumerate(SIZES):
        for seed in range(16 * k, 16 * k + 16):
            begin = minimum_norm(network, m, seed=seed)
            particles = ideal(network, begin, limit)
            rms[k] += rms_gap(begin.features.alpha[1], particles.features.alpha[1])
            for layer in range(2):
                rms[k] += rms_gap(begin.weights.middle[layer], particles.weights.middle[layer])
            if seed % 4 == 0:
                top[k] += epsilon(begin.weights, particles).largest
                stranger = ideal(network, minimum_norm(network, m, seed=seed + 99), limit)
                other[k] += epsilon(begin.weights, stranger).largest
    assert fitted(rms) == pytest.approx(-0.5, abs=0.1)
    assert -0.6 < fitted(top) < -0.2  # a maximum, with its logarithm
    assert abs(fitted(other)) < 0.2


def test_a_larger_network_stands_in_for_the_population(kind):
    network = make(kind)
    large = minimum_norm(network, 3000, seed=1)
    rms = []
    for m in SIZES:
        small = minimum_norm(network, m, seed=1)
        rms.append(rms_gap(small.features.alpha[0], large.features.alpha[0][:m]))
        assert np.array_equal(small.weights.inner, large.weights.inner[:, :m])
    assert fitted(rms) == pytest.approx(-0.5, abs=0.3)


def test_noise_cannot_be_had_from_singular_features():
    network = make(points=9)
    with pytest.raises(InputError, match="begin: expected Gram matrices of full rank"):
        noise(network, minimum_norm(network, 5, draw="weights"))
    with pytest.raises(InputError, match="and no ridge"):
        noise(network, minimum_norm(network, 30, draw="weights", ridge=0.1))


def test_bad_arguments():
    network = make()
    begin = minimum_norm(network, 5)
    limit = population(network, count=64)
    with pytest.raises(InputError, match="limit: expected the population of sigma"):
        ideal(network, begin, Population(limit.grams, limit.error, limit.sampled, 2.0))
    with pytest.raises(InputError, match="particles: expected 5"):
        epsilon(begin.weights, ideal(network, minimum_norm(network, 6), limit))
    with pytest.raises(InputError, match="begin: expected a constant last layer, got one that is regressed"):
        ideal(network, minimum_norm(network, 5, last="regressed"), limit)
