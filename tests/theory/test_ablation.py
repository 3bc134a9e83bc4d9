"""Path lengths, deletion and permutation against enumeration, closed forms and SciPy."""

import itertools

import exact_problems
import numpy as np
import pytest
from scipy import stats

import wgflow
from wgflow.base.errors import InputError
from wgflow.kernels.reference import Reference, adjoints, states
from wgflow.model.depth import Network
from wgflow.theory.ablation import deletion, path_lengths, permutation, reordered


def build(scheme="gaps", block="ridge", activation="tanh", particles=6, seed=7):
    rng = np.random.default_rng(seed)
    problem = wgflow.Problem(rng.normal(size=(8, 3)), rng.normal(size=8), block, activation)
    theta = rng.normal(size=(particles, problem.shape[3]))
    rho = wgflow.Particles(theta, (rng.permutation(particles) + 0.5) / particles)
    return wgflow.Energy(problem, scheme), rho


def identical(count, jacobian):
    """Linear blocks under Gaps whose layers all have the Jacobian c I: theta = c N I, gaps 1/N."""
    rng = np.random.default_rng(0)
    block = {"name": "matrix", "bias": False}
    problem = wgflow.Problem(rng.normal(size=(5, 2)), rng.normal(size=5), block, "linear")
    theta = np.tile((jacobian * count * np.eye(2)).ravel(), (count, 1))
    return wgflow.Energy(problem), wgflow.Particles(theta, np.arange(1, count + 1) / count)


@pytest.mark.parametrize("count", [1, 5, 12])
def test_unit_blocks_give_the_binomial_distribution(count):
    found = path_lengths(*identical(count, 1.0))
    np.testing.assert_allclose(found.share, stats.binom.pmf(np.arange(count + 1), count, 0.5), rtol=1e-10)
    assert found.left_out < 1e-10 * found.whole


def test_smaller_blocks_give_shorter_paths():
    """Jacobians c I: Binomial(L, c / (1 + c)), and not that of unit blocks (negative control)."""
    found = path_lengths(*identical(9, 0.5))
    np.testing.assert_allclose(found.share, stats.binom.pmf(np.arange(10), 9, 1 / 3), rtol=1e-10)
    assert np.abs(found.share - stats.binom.pmf(np.arange(10), 9, 0.5)).max() > 0.05


@pytest.mark.parametrize(
    "scheme",
    ["gaps", {"name": "layers", "layers": 3}, {"name": "deposit", "layers": 5}, {"name": "intervals", "layers": 5}],
)
@pytest.mark.parametrize("block", ["ridge", "matrix"])
def test_path_lengths_are_sums_over_subsets_of_layers(scheme, block):
    """Every choice of layers, its Jacobians multiplied in order: by complex steps of the definition's adjoint."""
    energy, rho = build(scheme, block)
    problem, net = energy.problem, energy.depth.network(rho)
    tape = states(problem, problem.start(), net, rho.theta)
    p = adjoints(problem, tape, problem.y, net, rho.theta)
    jacobian = np.zeros((net.layers, 8, 3, 3))
    for k in range(net.layers):
        for e, i in itertools.product(range(net.first[k], net.first[k + 1]), range(3)):
            moved = tape[k] + 1e-30j * np.eye(3)[i]
            value = problem.block.forward(moved, rho.theta[net.particle[e]], problem.activation)
            jacobian[k, :, :, i] += net.weight[e] * value.imag / 1e-30
    expected = []
    for length in range(net.layers + 1):
        total = np.zeros((8, 3))
        for chosen in itertools.combinations(range(net.layers), length):
            path = p[-1]
            for k in reversed(chosen):
                path = np.einsum("mi,mij->mj", path, jacobian[k])
            total += path
        expected.append(np.sqrt(np.mean(np.sum(total**2, axis=1))))
    found = path_lengths(energy, rho, longest=50)
    np.testing.assert_allclose(found.size, expected, rtol=1e-9)
    assert found.whole == pytest.approx(np.sqrt(np.mean(np.sum(p[0] ** 2, axis=1))), rel=1e-10)
    assert found.left_out < 1e-10 * found.whole


def test_longer_paths_are_left_out():
    energy, rho = build()
    everything, short = path_lengths(energy, rho), path_lengths(energy, rho, longest=2)
    np.testing.assert_allclose(short.size, everything.size[:3], rtol=1e-12)
    assert short.left_out > 1e-6 * short.whole
    assert len(path_lengths(energy, rho, longest=0).size) == 1
    with pytest.raises(InputError, match="longest"):
        path_lengths(energy, rho, longest=-1)


def test_no_gradient_has_no_path_lengths():
    problem = wgflow.Problem([[1.0], [2.0]], [1.0, 2.0])
    rho = wgflow.Particles([[0.0, 1.0, 0.0]], [1.0])
    assert np.isnan(path_lengths(wgflow.Energy(problem), rho).share).all()


@pytest.mark.parametrize(
    "scheme",
    ["gaps", {"name": "layers", "layers": 3}, {"name": "deposit", "layers": 5}, {"name": "intervals", "layers": 5}],
)
def test_deletion_is_a_network_without_those_entries(scheme):
    energy, rho = build(scheme)
    net = energy.depth.network(rho)
    found = deletion(energy, rho)
    assert found.base == energy(rho)
    for k in range(net.layers):
        gone = slice(net.first[k], net.first[k + 1])
        counts = np.delete(np.diff(net.first), k)
        less = Network(np.append(0, np.cumsum(counts)), np.delete(net.particle, gone), np.delete(net.weight, gone))
        assert found.energy[k] == pytest.approx(Reference(energy.problem).energy(less, rho.theta), rel=1e-11)


def chain():
    known = exact_problems.linear_chain()
    rng = np.random.default_rng(2)
    return known, wgflow.Particles(rng.normal(size=(7, 2)), np.arange(1, 8) / 7)


def test_deletion_of_scalar_linear_blocks_has_its_closed_form():
    """E without block k: the product of the other factors against the target."""
    known, rho = chain()
    factor = 1 + rho.theta.prod(axis=1) / 7
    expected = [0.5 * (np.delete(factor, k).prod() - known.target) ** 2 for k in range(7)]
    np.testing.assert_allclose(deletion(wgflow.Energy(known.problem), rho).energy, expected, rtol=1e-11)


def test_the_order_of_commuting_blocks_does_not_matter():
    """Scalar linear blocks commute; tanh blocks do not (negative control)."""
    known, rho = chain()
    found = permutation(wgflow.Energy(known.problem), rho, [1, 5, 40], repeats=4)
    np.testing.assert_allclose(found.energy, found.base, rtol=1e-11)
    assert (found.kendall < 1).any()
    other = permutation(*build(), [1, 5, 40], repeats=4)
    assert np.abs(other.energy - other.base).max() > 1e-4 * other.base


@pytest.mark.parametrize(
    "scheme",
    ["gaps", {"name": "layers", "layers": 3}, {"name": "deposit", "layers": 5}, {"name": "intervals", "layers": 5}],
)
def test_reordered_layers_keep_their_entries(scheme):
    energy, rho = build(scheme)
    net = energy.depth.network(rho)
    order = np.random.default_rng(1).permutation(net.layers)
    found = reordered(net, order)
    for k, old in enumerate(order):
        here, there = slice(*found.first[k : k + 2]), slice(*net.first[old : old + 2])
        np.testing.assert_array_equal(found.particle[here], net.particle[there])
        np.testing.assert_array_equal(found.weight[here], net.weight[there])
    for one, other in zip(reordered(net, np.arange(net.layers)), net, strict=True):
        np.testing.assert_array_equal(one, other)


def test_kendall_is_scipys_and_no_swap_changes_nothing(monkeypatch):
    energy, rho = build()
    orders = []
    monkeypatch.setattr("wgflow.theory.ablation.reordered", lambda net, o: orders.append(o) or reordered(net, o))
    found = permutation(energy, rho, [0, 1, 3, 20], repeats=3, seed=5)
    expected = [stats.kendalltau(np.arange(6), order).statistic for order in orders]
    np.testing.assert_allclose(found.kendall, expected, atol=1e-14)
    np.testing.assert_array_equal(found.swaps, np.repeat([0, 1, 3, 20], 3))
    np.testing.assert_array_equal(found.energy[:3], found.base)
    assert all(sum(order != np.arange(6)) == 2 for order in orders[3:6])  # two different places change


def test_many_swaps_make_a_random_order():
    """Kendall's tau of 400 orders of 6 layers has mean 0 within 5 standard errors: error rate below 1e-6."""
    found = permutation(*build(), [60], repeats=400, seed=1)
    spread = np.sqrt(2 * (2 * 6 + 5) / (9 * 6 * 5))
    assert abs(found.kendall.mean()) < 5 * spread / np.sqrt(400)


def test_permutations_are_functions_of_their_seed():
    one, same, other = (permutation(*build(), [2, 5], 2, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.energy, same.energy)
    assert (one.energy != other.energy).any()
    np.testing.assert_array_equal(permutation(*build(), [5], 2, 1).energy, one.energy[2:])


@pytest.mark.parametrize(("swaps", "repeats"), [([-1], 1), ([1.5], 1), ([1], 0)])
def test_numbers_out_of_range_are_refused(swaps, repeats):
    with pytest.raises(InputError, match="expected a whole number"):
        permutation(*build(), swaps, repeats)


def test_one_layer_cannot_be_permuted():
    with pytest.raises(InputError, match="expected a network of several layers, got one"):
        permutation(*build("shallow"), [1])
