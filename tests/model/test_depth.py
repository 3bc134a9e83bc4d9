import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wgflow
from wgflow.base.errors import InputError
from wgflow.model.depth import DEPTHS, depth, switches


def test_gaps_sorts_and_breaks_ties_by_index():
    rho = wgflow.Particles(np.zeros((4, 3)), [0.5, 0.25, 0.5, 0.0])
    net = wgflow.Gaps().network(rho)
    assert net.particle.tolist() == [3, 1, 0, 2]
    assert net.weight.tolist() == [0.0, 0.25, 0.25, 0.0]
    assert net.first.tolist() == [0, 1, 2, 3, 4]


def test_gaps_samples_half_open_intervals():
    rho = wgflow.Particles(np.zeros((2, 3)), [0.8, 0.3])
    t = np.array([0.0, 0.3, 0.31, 0.8, 0.9, 1.0])
    assert wgflow.Gaps().sample(rho, t).layer[:, 0].tolist() == [0, 0, 1, 1, 2, 2]


def test_gaps_needs_mass():
    rho = wgflow.Particles(np.zeros((2, 3)), [0.1, 0.2], [1.0, 0.0])
    with pytest.raises(InputError, match="expected weights > 0 under Gaps"):
        wgflow.Gaps().network(rho)
    wgflow.Shallow().network(rho)


def test_registry():
    for spec in (
        {"name": "gaps"},
        {"name": "shallow"},
        {"name": "layers", "layers": 3},
        {"name": "deposit", "layers": 4, "shape": "clipped"},
        {"name": "deposit", "layers": 4, "shape": "hat"},
    ):
        assert depth(spec).spec() == spec
        assert depth(depth(spec)) == DEPTHS[spec["name"]](**{k: v for k, v in spec.items() if k != "name"})


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("gasp", "did you mean 'gaps'"),
        ("deposit", "depth scheme 'deposit': expected the option 'layers', got none"),
        ({"name": "deposit", "layres": 3}, "did you mean 'layers'"),
        ({"name": "layers", "layers": 0}, "layers: expected a whole number >= 1, got 0"),
        ({"name": "deposit", "layers": 3, "shape": "hut"}, "did you mean 'hat'"),
    ],
)
def test_bad_choices(choice, words):
    with pytest.raises(InputError, match=words):
        depth(choice)


@pytest.mark.parametrize("shape", ["spline", "hat"])
@given(t=st.floats(0, 1), layers=st.integers(1, 12))
def test_deposit_conserves_mass_and_mean_depth(shape, t, layers):
    """Weights have sum 1 and, for two layers and more, the particle's depth as their mean; slopes likewise."""
    scheme = wgflow.Deposit(layers, shape)
    at = scheme.sample(None, np.array([t]))
    assert at.weight.sum() == pytest.approx(1.0, abs=1e-14)
    assert at.slope.sum() == pytest.approx(0.0, abs=1e-12)
    assert ((at.layer >= 0) & (at.layer < layers)).all()
    if layers > 1:
        centres = (at.layer + 0.5) / layers
        assert (centres * at.weight).sum() == pytest.approx(t, abs=1e-14)
        assert (centres * at.slope).sum() == pytest.approx(1.0, abs=1e-12)


def nodes(scheme, t):
    """Weight of each node at depths t, (Q, L), collected over the stencil."""
    at = scheme.sample(None, t)
    out = np.zeros((len(t), scheme.layers))
    for r in range(at.layer.shape[1]):
        np.add.at(out, (np.arange(len(t)), at.layer[:, r]), at.weight[:, r])
    return out


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5, 9])
def test_every_layer_has_the_same_share_of_uniform_mass(layers):
    """int S_k dtau = 1/L, so that X_k lies at depth k/L; by Gauss's rule on each half layer, exact for cubics."""
    points, weights = np.polynomial.legendre.leggauss(3)
    edges = np.arange(2 * layers) / (2 * layers)
    t = (edges[:, None] + (points + 1) / (4 * layers)).ravel()
    shares = np.tile(weights, len(edges)) / (4 * layers) @ nodes(wgflow.Deposit(layers), t)
    np.testing.assert_allclose(shares, 1 / layers, rtol=0, atol=1e-15)


@pytest.mark.parametrize("layers", [3, 4, 5, 9])
def test_spline_recovers_quadratics_from_their_averages(layers):
    """In all of [0, 1], with their slopes."""
    scheme, t = wgflow.Deposit(layers), np.linspace(0, 1, 201)
    k, at = np.arange(layers), scheme.sample(None, t)
    averages = ((k + 1) ** 3 - k**3) / (3 * layers**2)  # of t**2
    np.testing.assert_allclose(nodes(scheme, t) @ averages, t**2, rtol=0, atol=1e-14)
    np.testing.assert_allclose((at.slope * averages[at.layer]).sum(axis=1), 2 * t, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layers", [3, 4, 6])
def test_spline_is_c1_and_the_hat_is_not(layers):
    """At the layers' centres and boundaries, where its pieces may meet."""
    joints = np.arange(1, 2 * layers) / (2 * layers)

    def jumps(scheme, values):
        sides = []
        for side in (-1e-9, 1e-9):
            at = scheme.sample(None, joints + side)
            sides.append(np.zeros((len(joints), layers)))
            for r in range(at.layer.shape[1]):
                np.add.at(sides[-1], (np.arange(len(joints)), at.layer[:, r]), getattr(at, values)[:, r])
        return np.abs(sides[1] - sides[0]).max()

    assert jumps(wgflow.Deposit(layers), "weight") < 1e-7
    assert jumps(wgflow.Deposit(layers), "slope") < 1e-6
    assert jumps(wgflow.Deposit(layers, "hat"), "weight") < 1e-7
    assert jumps(wgflow.Deposit(layers, "hat"), "slope") > layers


def test_layers_are_half_open_intervals():
    """Layer k is k/L <= t < (k + 1)/L, and t = 1 belongs to the last."""
    at = wgflow.Layers(4).sample(None, np.array([0.0, 0.25, 0.25 - 1e-12, 0.5, 0.999, 1.0]))
    assert at.layer[:, 0].tolist() == [0, 1, 0, 2, 3, 3]


def test_layers_needs_equal_counts_and_masses():
    scheme = wgflow.Layers(2)
    assert scheme.network(wgflow.Particles(np.zeros((2, 3)), [0.1, 1.0])).first.tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="expected equally many particles in each of 2 layers, got 0 to 2"):
        scheme.network(wgflow.Particles(np.zeros((2, 3)), [0.1, 0.2]))
    with pytest.raises(InputError, match=r"expected equal weights 1/N = 0\.5 under layers, got 0\.25 to 0\.75"):
        scheme.network(wgflow.Particles(np.zeros((2, 3)), [0.1, 0.9], [0.25, 0.75]))
    with pytest.raises(InputError, match=r"expected equal weights 1/N = 0\.5 under layers, got 1 to 1"):
        scheme.network(wgflow.Particles(np.zeros((2, 3)), [0.1, 0.9], [1.0, 1.0]))


@pytest.mark.parametrize("scheme", [wgflow.Layers(1), wgflow.Deposit(1), wgflow.Shallow()])
def test_free_depths_are_for_gaps(scheme):
    with pytest.raises(InputError, match=r"tau: expected depths in \[0, 1\] under"):
        scheme.network(wgflow.Particles(np.zeros((1, 3)), [1.5], free=True))


@given(st.permutations(list(range(9))), st.permutations(list(range(9))))
def test_switches_counts_discordant_pairs(before, after):
    place_before, place_after = np.argsort(before), np.argsort(after)
    brute = sum(
        (place_before[i] < place_before[j]) != (place_after[i] < place_after[j]) for i in range(9) for j in range(i)
    )
    assert switches(np.array(before), np.array(after)) == brute
