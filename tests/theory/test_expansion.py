"""The ensemble expansion against Taylor coefficients by Cauchy's integral, explicit sums over paths, and slopes."""

import itertools

import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError
from wgflow.kernels.reference import adjoints, states
from wgflow.model.activations import ACTIVATIONS, Activation
from wgflow.model.depth import Network
from wgflow.theory.expansion import expand, gradient_similarity, remainders, shallow_network
from wgflow.theory.layer_jacobians import layers

SCHEMES = [
    {"name": "gaps"},
    {"name": "layers", "layers": 4},
    {"name": "deposit", "layers": 5},
    {"name": "shallow"},
]
scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda each: each["name"])
ANALYTIC = ["linear", "tanh", "gelu", "sin"]


def build(block="ridge", activation="tanh", outputs=2, particles=8, seed=3, scale=0.7):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(9, 3)), rng.normal(size=(9, outputs))
    problem = wgflow.Problem(x, y, block, activation, readout=rng.normal(size=(outputs, 3)))
    theta = scale * rng.normal(size=(particles, problem.shape[3]))
    return problem, wgflow.Particles(theta, (rng.permutation(particles) + 0.5) / particles)


def taylor(problem, net, theta, radius=0.25, points=32):
    """Coefficients of X(1) in alpha by Cauchy's integral over the definition with complex weights."""
    circle = radius * np.exp(2j * np.pi * np.arange(points) / points)
    ends = [states(problem, problem.start(), net._replace(weight=a * net.weight), theta)[-1] for a in circle]
    return np.fft.fft(np.array(ends), axis=0)[:4].real / points / radius ** np.arange(4.0)[:, None, None]


@scheme
@pytest.mark.parametrize("activation", ANALYTIC)
@pytest.mark.parametrize("block", ["ridge", "matrix", {"name": "two_layer", "hidden": 2}])
def test_terms_are_the_taylor_coefficients(scheme, activation, block):
    problem, rho = build(block, activation)
    net = wgflow.Energy(problem, scheme).depth.network(rho)
    expected = taylor(problem, net, rho.theta)
    found = expand(problem, net, rho.theta)
    np.testing.assert_allclose(found.terms(), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    if activation == "linear":
        np.testing.assert_array_equal(found.hessian, 0.0)
    elif scheme["name"] != "shallow":  # negative control
        assert np.abs(found.chain - expected[3]).max() > 1e-4 * np.abs(expected[3]).max()


def test_third_order_is_the_sum_over_paths_and_pairs():
    """The chain over a < b < c, and 1/2 F_b''[F_a, F_a'] over all pairs a, a' < b, added up one by one."""
    problem, rho = build(particles=6)
    net = wgflow.Energy(problem).depth.network(rho)
    x = problem.start()
    theta = rho.theta[net.particle]
    a, w, b = net.weight[:, None] * theta[:, :3], theta[:, 3:6], theta[:, 6]
    z = np.tanh(x @ w.T + b)  # (M, L)
    value = z[:, :, None] * a
    jacobian = np.einsum("ml,li,lj->lmij", 1 - z**2, a, w)
    bend = np.einsum("ml,li,lj,lk->lmijk", -2 * z * (1 - z**2), a, w, w)
    chain = sum(
        np.einsum("mij,mjk,mk->mi", jacobian[c], jacobian[b_], value[:, a_])
        for a_, b_, c in itertools.combinations(range(6), 3)
    )
    hessian = sum(
        0.5 * np.einsum("mijk,mj,mk->mi", bend[c], value[:, a_], value[:, b_])
        for c in range(6)
        for a_, b_ in itertools.product(range(c), repeat=2)
    )
    second = sum(np.einsum("mij,mj->mi", jacobian[b_], value[:, a_]) for a_, b_ in itertools.combinations(range(6), 2))
    found = expand(problem, net, rho.theta)
    np.testing.assert_allclose(found.first, value.sum(axis=1), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.second, second, rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(found.chain, chain, rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(found.hessian, hessian, rtol=1e-11, atol=1e-15)


@scheme
@pytest.mark.parametrize(("block", "activation"), [("ridge", "tanh"), ("matrix", "sin"), ("two_layer", "gelu")])
def test_remainders_fall_like_their_order(scheme, block, activation):
    """Order q leaves alpha**(q + 1) for alpha in 0.4..0.05; without the Hessian term alpha**3 remains."""
    problem, rho = build(block, activation, particles=16, scale=0.5)
    found = remainders(wgflow.Energy(problem, scheme), rho)
    if scheme["name"] == "shallow":  # one layer: the first order is all there is
        assert found.slope[0] == pytest.approx(1.0)
        assert np.isnan(found.slope[1:]).all()
        return
    np.testing.assert_allclose(found.slope, [1, 2, 3, 4], atol=0.05)
    assert found.slope_without == pytest.approx(3.0, abs=0.05)


def test_sizes_are_those_of_the_definition():
    problem, rho = build()
    energy = wgflow.Energy(problem, {"name": "layers", "layers": 4}, dtype="float32", regulariser="quadratic")
    net = energy.depth.network(rho)
    found = remainders(energy, rho, [0.1, 0.3])
    expansion = expand(problem, net, rho.theta)
    np.testing.assert_array_equal(found.alpha, [0.3, 0.1])
    for i, alpha in enumerate(found.alpha):
        end = states(problem, problem.start(), net._replace(weight=alpha * net.weight), rho.theta)[-1]
        for order in range(4):
            left = (end - expansion.truncated(alpha, order)) @ problem.readout.T
            assert found.size[order, i] == pytest.approx(np.sqrt(np.mean(left**2)), rel=1e-6)


def test_kinks_cost_half_an_order():
    """relu: a fraction of order alpha of the samples crosses a kink, each leaves alpha**2: in rms alpha**2.5."""
    rng = np.random.default_rng(0)
    problem = wgflow.Problem(rng.normal(size=(4000, 3)), rng.normal(size=4000), activation="relu")
    found = remainders(wgflow.Energy(problem), wgflow.Particles.draw(problem, 64))
    assert found.slope[1] == pytest.approx(2.0, abs=0.05)
    assert found.slope[2] == pytest.approx(2.5, abs=0.15)


def test_linear_blocks_have_their_closed_form():
    """prod (I + alpha W_k) expands into elementary symmetric products, to the third order all of them for L = 3."""
    problem, rho = build({"name": "matrix", "bias": False}, "linear", particles=3)
    net = wgflow.Energy(problem).depth.network(rho)
    one, two, three = (weight * rho.theta[i].reshape(3, 3) for i, weight in zip(net.particle, net.weight, strict=True))
    x = problem.start()
    found = expand(problem, net, rho.theta)
    np.testing.assert_allclose(found.second, x @ (two @ one + three @ one + three @ two).T, rtol=1e-12)
    np.testing.assert_allclose(found.chain, x @ (three @ two @ one).T, rtol=1e-12)


SECOND = {
    "linear": lambda z: 0 * z,
    "tanh": lambda z: -2 * np.tanh(z) / np.cosh(z) ** 2,
    "relu": lambda z: 0 * z,
    "squared_relu": lambda z: 2.0 * (z > 0),
    "regularised_relu": lambda z: 1.0 * (np.abs(z) < 0.5),
    "gelu": lambda z: (2 - z**2) * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi),
    "sin": lambda z: -np.sin(z),
}


def test_second_derivative_of_every_activation(activation):
    z = np.linspace(-3.01, 2.99, 41)[:, None]
    problem = wgflow.Problem(z, z[:, 0], activation=activation)
    layer = layers(problem, Network(np.array([0, 1]), np.array([0]), np.array([1.0])), np.array([[1.0, 1.0, 0.0]]))[0]
    found = layer.second_derivative(z, np.ones_like(z))
    np.testing.assert_allclose(found, SECOND[activation](z), rtol=1e-12, atol=1e-14)
    assert set(SECOND) == set(ACTIVATIONS)


class Tilted:
    """A block that no ridge units make: f = a * x * tanh(w . x), elementwise in a * x."""

    name = "tilted"

    def groups(self, width):
        return {"a": slice(0, width), "w": slice(width, 2 * width)}

    def forward(self, x, theta, activation):
        return x * theta[: x.shape[1]] * np.tanh(x @ theta[x.shape[1] :])[:, None]

    def backward(self, x, theta, p, activation):
        a, w = theta[: x.shape[1]], theta[x.shape[1] :]
        z = np.tanh(x @ w)
        r = ((p * a * x).sum(axis=1)) * (1 - z**2)
        return p * a * z[:, None] + r[:, None] * w, np.concatenate([(p * x * z[:, None]).sum(axis=0), r @ x])

    def degree(self, activation):
        return None

    def spec(self):
        return {"name": self.name}


@scheme
def test_a_block_of_your_own(scheme):
    problem, rho = build(Tilted())
    wgflow.check_block(Tilted())
    net = wgflow.Energy(problem, scheme).depth.network(rho)
    expected = taylor(problem, net, rho.theta)
    np.testing.assert_allclose(
        expand(problem, net, rho.theta).terms(), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max()
    )


def test_own_functions_that_drop_imaginary_parts_are_refused():
    soft = Activation("softsign", lambda z: z / (1 + np.abs(z)), lambda z: (1 + np.abs(z)) ** -2)
    problem, rho = build(activation=soft)
    with pytest.raises(InputError, match=r"'softsign': expected functions whose derivative a complex step gives"):
        expand(problem, wgflow.Energy(problem).depth.network(rho), rho.theta)
    good = Activation("cosine", np.cos, lambda z: -np.sin(z))
    problem, rho = build(activation=good)
    net = wgflow.Energy(problem).depth.network(rho)
    np.testing.assert_allclose(
        expand(problem, net, rho.theta).terms(), taylor(problem, net, rho.theta), rtol=1e-8, atol=1e-9
    )


def test_samples_in_pieces_change_nothing(monkeypatch):
    problem, rho = build()
    net = wgflow.Energy(problem).depth.network(rho)
    whole = expand(problem, net, rho.theta)
    monkeypatch.setattr("wgflow.theory.layer_jacobians._NUMBERS", 150)
    for one, other in zip(whole, expand(problem, net, rho.theta), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("alphas", [[0.1], [0.1, 0.1], [0.1, 0.0], [-0.1, 0.1], [], [np.nan, 1.0]])
def test_scales_that_give_no_slope_are_refused(alphas):
    problem, rho = build()
    with pytest.raises(InputError, match="alphas"):
        remainders(wgflow.Energy(problem), rho, alphas)


def test_an_order_that_there_is_not():
    problem, rho = build()
    found = expand(problem, wgflow.Energy(problem).depth.network(rho), rho.theta)
    with pytest.raises(InputError, match="order: expected 0, 1, 2 or 3, got 4"):
        found.truncated(0.1, 4)


# Shallow against deep gradients


def similarity_by_hand(energy, rho, points, layer):
    """Flattened gradients at one layer and of both shallow networks, from the definition, one query at a time."""
    problem, net = energy.problem, energy.depth.network(rho)
    tape = states(problem, problem.start(), net, rho.theta)
    p = adjoints(problem, tape, problem.y, net, rho.theta)
    flat = states(problem, problem.start(), shallow_network(net), rho.theta)
    own = adjoints(problem, flat, problem.y, shallow_network(net), rho.theta)[-1]

    def gradient(x, p):
        each = [problem.block.backward(x, row, p, problem.activation)[1] for row in points]
        return np.concatenate(each) / len(x)

    return gradient(tape[layer], p[layer + 1]), gradient(tape[0], own), gradient(tape[0], p[-1])


@pytest.mark.parametrize("block", ["ridge", "matrix"])
def test_similarity_is_that_of_the_definition(block, rng):
    problem, rho = build(block, scale=1.5)
    energy = wgflow.Energy(problem, {"name": "layers", "layers": 4}, regulariser="quadratic")
    points, t = rng.normal(size=(5, problem.shape[3])), np.array([0.1, 0.4, 0.6, 0.9])
    found = gradient_similarity(energy, rho, points, t)
    for k in range(4):
        deep, *shallow = similarity_by_hand(energy, rho, points, k)
        for row, each in enumerate(shallow):
            cosine = deep @ each / np.linalg.norm(deep) / np.linalg.norm(each)
            assert found.cosine[row, k] == pytest.approx(cosine, rel=1e-9)
            distance = np.linalg.norm(deep - each) / np.linalg.norm(deep)
            assert found.distance[row, k] == pytest.approx(distance, rel=1e-9)
    assert np.abs(found.distance[0] - found.distance[1]).min() > 1e-3  # the two residuals are told apart


def test_a_shallow_network_is_like_itself():
    problem, rho = build()
    found = gradient_similarity(wgflow.Energy(problem, "shallow"), rho, rho.theta, [0.0, 0.5, 1.0])
    np.testing.assert_allclose(found.cosine, 1.0, rtol=1e-12)
    np.testing.assert_allclose(found.distance, 0.0, atol=1e-12)


def test_small_blocks_are_like_a_shallow_network_to_first_order():
    """distance = O(alpha) with both residuals: halving the outer weights halves it."""
    problem, rho = build(particles=16)
    t, sizes = np.linspace(0, 1, 9), []
    for power in (6, 7):
        theta = rho.theta.copy()
        theta[:, :3] *= 2.0**-power
        small = wgflow.Particles(theta, rho.tau)
        sizes.append(gradient_similarity(wgflow.Energy(problem), small, rho.theta, t).distance)
    np.testing.assert_allclose(sizes[0] / sizes[1], 2.0, rtol=0.05)


def test_nothing_to_compare_is_nan():
    problem = wgflow.Problem([[1.0], [2.0]], [1.0, 2.0])
    rho = wgflow.Particles([[0.0, 1.0, 0.0]], [1.0])  # E = 0: no residual, no gradient
    assert np.isnan(gradient_similarity(wgflow.Energy(problem), rho, [[1.0, 1.0, 0.0]], [0.5]).cosine).all()


@pytest.mark.parametrize(("theta", "t"), [([[1.0]], [0.5]), (None, [1.5]), (None, [])])
def test_queries_that_do_not_fit_are_refused(theta, t):
    problem, rho = build()
    with pytest.raises(InputError):
        gradient_similarity(wgflow.Energy(problem), rho, rho.theta if theta is None else theta, t)
