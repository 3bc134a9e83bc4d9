"""The adjoint's envelope against the definition's adjoints, closed forms, and bounds that are wrong on purpose."""

import exact_problems
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from verdict_checks import made_false, made_true

import wgflow
from wgflow.base.errors import InputError
from wgflow.kernels.reference import adjoints, states
from wgflow.model.activations import Activation
from wgflow.theory.envelope import adjoint_envelope

SCHEMES = [
    {"name": "gaps"},
    {"name": "layers", "layers": 2},
    {"name": "deposit", "layers": 5},
    {"name": "deposit", "layers": 3, "shape": "hat"},
    {"name": "shallow"},
]
BLOCKS = ["ridge", {"name": "ridge", "bias": False}, "matrix", {"name": "two_layer", "hidden": 2}]


def measure(problem, particles, scale, seed):
    """Particles that every scheme accepts: equal masses, tau in the middle of equal cells."""
    rng = np.random.default_rng(seed)
    theta = scale * rng.normal(size=(particles, problem.shape[3]))
    return wgflow.Particles(theta, (rng.permutation(particles) + 0.5) / particles)


def build(seed, scheme, block, activation, loss, half, samples, width, scale):
    rng = np.random.default_rng(seed)
    scale = min(scale, 0.5) if activation == "squared_relu" else scale  # large ones overflow after a few layers
    outputs = 2 if loss == "cross_entropy" else 1
    y = rng.dirichlet(np.ones(2), samples) if outputs == 2 else rng.normal(size=(samples, 1))
    x, readout = rng.normal(size=(samples, width)), rng.normal(size=(outputs, width))
    problem = wgflow.Problem(x, y, block, activation, readout=readout, loss=loss)
    return wgflow.Energy(problem, scheme), measure(problem, 2 * half, scale, seed)


cases = st.builds(
    build,
    seed=st.integers(0, 2**32),
    scheme=st.sampled_from(SCHEMES),
    block=st.sampled_from(BLOCKS),
    activation=st.sampled_from(["linear", "tanh", "relu", "squared_relu", "regularised_relu", "gelu", "sin"]),
    loss=st.sampled_from(["squared", "cross_entropy"]),
    half=st.integers(1, 5),
    samples=st.integers(1, 6),
    width=st.integers(1, 4),
    scale=st.sampled_from([0.1, 0.5, 1.0, 3.0]),
)


def violated(found, norm, shift=0):
    """Whether the measured ratios leave the bounds built from these norms, shifted by so many layers, with rounding."""
    kept = np.roll(norm, shift)
    lower = np.array([np.prod(np.maximum(1 - kept[k:], 0)) ** 2 for k in range(len(norm) + 1)])
    upper = np.array([np.prod(1 + kept[k:]) ** 2 for k in range(len(norm) + 1)])
    slack = 1e-10 * upper
    return bool(((found.ratio < lower - slack) | (found.ratio > upper + slack)).any())


@settings(max_examples=500)
@given(case=cases)
@example(case=build(0, {"name": "gaps"}, "ridge", "tanh", "squared", half=1, samples=1, width=1, scale=1.0))
def test_never_violated_and_equal_to_the_definition(case):
    """Ratio and norms once more from the definition, sample by sample; then the inequality."""
    energy, rho = case
    problem, net = energy.problem, energy.depth.network(rho)
    tape = states(problem, problem.start(), net, rho.theta)
    p = adjoints(problem, tape, problem.y, net, rho.theta)
    square = np.array([np.mean(np.sum(each**2, axis=1)) for each in p])
    found = adjoint_envelope(energy, rho)
    np.testing.assert_allclose(found.ratio, square / square[-1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.norm, spectral_norms(problem, net, rho.theta, tape), rtol=1e-9, atol=1e-13)
    assert not violated(found, found.norm)
    np.testing.assert_allclose(found.upper, [np.prod(1 + found.norm[k:]) ** 2 for k in range(net.layers + 1)])
    assert (found.lower <= found.ratio + 1e-10 * found.upper).all()
    assert (found.ratio <= found.upper * (1 + 1e-10)).all()
    assert (found.smooth_lower >= found.lower * (1 - 1e-12)).all()
    assert (found.smooth_upper >= found.upper * (1 - 1e-12)).all()
    if found.end_by_loss is None:
        assert problem.loss.name == "cross_entropy"
    else:
        assert found.end == pytest.approx(found.end_by_loss, rel=1e-12)
        assert found.end_by_loss == pytest.approx(2 * np.sum(problem.readout**2) * energy(rho), rel=1e-11)


def spectral_norms(problem, net, theta, tape):
    """Largest singular value of each layer's Jacobian over samples, columns by complex steps of the forward pass."""
    width = problem.shape[1]
    out = []
    for k in range(net.layers):
        jacobian = np.zeros((len(tape[k]), width, width))
        for e in range(net.first[k], net.first[k + 1]):
            for column in range(width):
                moved = tape[k] + 1e-30j * np.eye(width)[column]
                value = problem.block.forward(moved, theta[net.particle[e]], problem.activation)
                jacobian[:, :, column] += net.weight[e] * np.imag(value) / 1e-30
        out.append(np.linalg.svd(jacobian, compute_uv=False).max())
    return np.array(out)


def scalar(signs, spread=0.5):
    """Linear scalar blocks x -> gap a w x, a w of the given signs, where a bound is attained."""
    chain = exact_problems.linear_chain()
    count = len(signs)
    theta = np.stack([spread * np.arange(1, count + 1), np.asarray(signs, float)], axis=1)
    return wgflow.Energy(chain.problem), wgflow.Particles(theta, (np.arange(count) + 1) / count)


def test_equality_for_scalar_linear_blocks():
    """p_k = prod (1 + gap a w) p(1): the upper bound where all a w > 0, the lower one where all are < 0."""
    energy, rho = scalar([1, 1, 1, 1])
    factor = 1 + 0.25 * rho.theta[:, 0]
    expected = [np.prod(factor[k:]) ** 2 for k in range(5)]
    found = adjoint_envelope(energy, rho)
    np.testing.assert_allclose(found.ratio, expected, rtol=1e-12)
    np.testing.assert_allclose(found.upper, expected, rtol=1e-12)
    np.testing.assert_allclose(found.t, [0, 0.25, 0.5, 0.75, 1])
    energy, rho = scalar([-1, -1, -1, -1])
    found = adjoint_envelope(energy, rho)
    np.testing.assert_allclose(found.ratio, [np.prod((2 - factor)[k:]) ** 2 for k in range(5)], rtol=1e-12)
    np.testing.assert_allclose(found.lower, found.ratio, rtol=1e-12)


def test_verdicts_are_made_false_by_another_networks_bounds():
    """Each claim with its own bounds, then with those of Jacobians a tenth too small, and with a loss too large."""
    for sign, claim in ((1, "adjoint_below_upper_bound"), (-1, "adjoint_above_lower_bound")):
        found = adjoint_envelope(*scalar([sign] * 4))
        made_true(found.verdicts(), "adjoint_below_upper_bound")
        made_true(found.verdicts("end"), "adjoint_above_lower_bound")
        assert "Q from" in made_true(found.verdicts(), "adjoint_above_loss")
        short = found._replace(upper=found.upper ** (0.9), lower=found.lower**0.9)
        assert "(end) where nearest" in made_false(short.verdicts("end"), claim)
    made_false(short.verdicts("end"), "adjoint_above_lower_bound")
    made_false(adjoint_envelope(*scalar([1] * 4))._replace(upper=np.ones(5)).verdicts(), "adjoint_below_upper_bound")
    doubled = found._replace(end_by_loss=2 * found.end_by_loss, loss=2 * found.loss)
    assert "E|p(t)|² < Q E" in made_false(doubled.verdicts(), "adjoint_above_loss")


def test_the_equality_at_the_end_is_not_what_is_printed():
    """At t = 1 ratio and bounds are equal whatever the network is: a verdict shows the nearest pair before it."""
    found = adjoint_envelope(*scalar([1, -1, 1, -1]))
    for verdict, end in zip(found.verdicts(), (1.0, 1.0, found.end), strict=True):
        assert verdict.holds
        assert verdict.inequalities[0].left != pytest.approx(end)


def test_the_loss_bounds_the_adjoint_with_the_constant_that_is_printed():
    """Q E at the depths, and the form |p| >= c E of the slides: with c = (Q/E)^(1/2) here, and not for a larger E."""
    energy, rho = scalar([-1, 1, -1, 1])
    found, loss = adjoint_envelope(energy, rho), energy(rho)
    q = 2 * np.sum(energy.problem.readout**2) * found.lower
    square = found.ratio * found.end
    assert (square >= q * loss * (1 - 1e-12)).all()
    text = str(found.verdicts()[2])
    assert f"Q from {q.min():.2g} to {q.max():.2g}" in text
    bigger = wgflow.Energy(energy.problem.replace(energy.problem.x, 10 * energy.problem.y), energy.depth)
    other = adjoint_envelope(bigger, rho)
    c = np.sqrt(q / loss)
    assert (np.sqrt(square) >= c * loss * (1 - 1e-12)).all()
    assert (np.sqrt(other.ratio * other.end) < c * bigger(rho)).any()


@pytest.mark.parametrize("sign", [1, -1])
def test_wrong_bounds_are_violated(sign):
    """Negative controls: Jacobians a tenth too small, and Jacobians of the neighbouring layers."""
    energy, rho = scalar([sign] * 4)
    found = adjoint_envelope(energy, rho)
    assert not violated(found, found.norm)
    assert violated(found, 0.9 * found.norm)
    assert violated(found, found.norm, shift=1)


def test_the_continuum_bound_fails_the_discrete_network():
    """exp(-2 sum c J) is no lower bound of the discrete network: (1 - x) < exp(-x)."""
    found = adjoint_envelope(*scalar([-1] * 4))
    assert (found.ratio[:-1] < found.smooth_lower[:-1]).all()


def test_linear_matrices_have_their_closed_form():
    """sigma linear: p_0 = p(1) prod (I + gap W), and the norms are those of gap W."""
    rng = np.random.default_rng(5)
    problem = wgflow.Problem(rng.normal(size=(9, 4)), rng.normal(size=9), {"name": "matrix", "bias": False}, "linear")
    rho = measure(problem, 6, 0.7, 3)
    energy = wgflow.Energy(problem)
    net = energy.depth.network(rho)
    step = [weight * rho.theta[i].reshape(4, 4) for i, weight in zip(net.particle, net.weight, strict=True)]
    found = adjoint_envelope(energy, rho)
    np.testing.assert_allclose(found.norm, [np.linalg.norm(each, 2) for each in step], rtol=1e-12)
    p = (energy.predict(rho, problem.x) - problem.y) @ problem.readout
    for k in reversed(range(6)):
        p = p @ (np.eye(4) + step[k])
        assert found.ratio[k] == pytest.approx(np.mean(np.sum(p**2, axis=1)) / found.end, rel=1e-11)


class Sine:
    """A block of one's own, no sum of ridge units as far as the package knows: f = a sin(w . x)."""

    name = "sine"

    def groups(self, width):
        return {"a": slice(0, width), "w": slice(width, 2 * width)}

    def forward(self, x, theta, activation):
        return np.sin(x @ theta[x.shape[1] :])[:, None] * theta[: x.shape[1]]

    def backward(self, x, theta, p, activation):
        a, w = theta[: x.shape[1]], theta[x.shape[1] :]
        z = x @ w
        r = (p @ a) * np.cos(z)
        return r[:, None] * w, np.concatenate([np.sin(z) @ p, r @ x])

    def degree(self, activation):
        return None

    def spec(self):
        return {"name": self.name}


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda each: each.get("shape", each["name"]))
def test_a_block_of_your_own_gives_the_same(scheme, rng):
    x, y = rng.normal(size=(7, 3)), rng.normal(size=7)
    own = wgflow.Problem(x, y, Sine())
    same = wgflow.Problem(x, y, {"name": "ridge", "bias": False}, "sin")
    rho = measure(own, 6, 1.0, 1)
    for one, other in zip(
        adjoint_envelope(wgflow.Energy(own, scheme), rho),
        adjoint_envelope(wgflow.Energy(same, scheme), rho),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-14)


def test_nothing_is_left_at_zero_loss():
    """0/0 is NaN, and the bounds stand all the same."""
    problem = wgflow.Problem([[1.0], [2.0]], [1.0, 2.0], activation="tanh")
    rho = wgflow.Particles([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]], [0.5, 1.0])
    found = adjoint_envelope(wgflow.Energy(problem), rho)
    assert found.end == found.end_by_loss == 0
    assert np.isnan(found.ratio).all()
    np.testing.assert_array_equal(found.upper, 1.0)


def test_samples_in_pieces_change_nothing(monkeypatch, case):
    problem, rho = case(samples=23, particles=8, block="two_layer")
    energy = wgflow.Energy(problem, {"name": "deposit", "layers": 4})
    whole = adjoint_envelope(energy, rho)
    monkeypatch.setattr("wgflow.theory.layer_jacobians._NUMBERS", 50)
    for one, other in zip(whole, adjoint_envelope(energy, rho), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_measure_that_does_not_fit_is_refused(case):
    problem, _ = case(width=3)
    with pytest.raises(InputError, match="expected 7 columns"):
        adjoint_envelope(wgflow.Energy(problem), wgflow.Particles([[0.0, 1.0]], [0.5]))


def test_an_activation_of_your_own(case):
    own = Activation("softsign", lambda z: z / (1 + np.abs(z)), lambda z: (1 + np.abs(z)) ** -2)
    problem, rho = case(activation=own)
    found = adjoint_envelope(wgflow.Energy(problem), rho)
    assert not violated(found, found.norm)
