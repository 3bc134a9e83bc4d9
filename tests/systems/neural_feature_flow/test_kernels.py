"""The compiled parts against their definition in NumPy."""

import inspect

import numpy as np
import pytest

from wgflow.kernels import cache
from wgflow.model.activations import Activation
from wgflow.systems.neural_feature_flow import fused_loops
from wgflow.systems.neural_feature_flow.elementwise import Plain
from wgflow.systems.neural_feature_flow.low_rank import dense
from wgflow.systems.neural_feature_flow.network import Network


def arrays(drift):
    weights, features = drift.weights, drift.features
    return [weights.inner, *map(dense, weights.middle), weights.outer, *features.alpha, *features.beta, drift.output]


@pytest.mark.parametrize("units", [3, 700])  # the latter is shared out to threads
def test_compiled_networks_are_the_reference(twin, kind, activation, rng, units):
    x, y = rng.normal(size=(101, 3)), rng.normal(size=101)
    network, reference = (Network(x, y, 3, kind, activation, activation, backend=b) for b in ("cpu", "reference"))
    assert (type(network.parts).__name__, type(reference.parts)) == ("_Fused", Plain)
    weights = twin.make_weights(rng, network, units)
    features = reference.features(weights)
    for found, expected in (
        (network.gradient(weights), reference.gradient(weights)),
        (network.drift(weights, features), reference.drift(weights, features)),
    ):
        for a, b in zip(arrays(found), arrays(expected), strict=True):
            assert np.abs(a - b).max() <= 1e-12 * np.abs(b).max()


def test_threads_do_not_change_a_bit(twin, kind, rng):
    network = Network(rng.normal(size=(101, 3)), rng.normal(size=101), 3, kind)
    weights = twin.make_weights(rng, network, 700)
    features = network.features(weights)
    several = arrays(network.drift(weights, features))
    network.parts._threads = 1
    assert all(np.array_equal(a, b) for a, b in zip(several, arrays(network.drift(weights, features)), strict=True))


def test_nan_comes_out_as_nan(activation):
    beta = np.array([[1.0, np.nan]])
    h, _ = Network([[0.0], [1.0]], [0.0, 1.0], h1=activation).parts.activate(beta)
    assert np.isnan(h[0, 1])
    assert np.isfinite(h[0, 0])


def test_any_layout_of_features_does(twin, kind, rng):
    """Compiled loops want rows in memory; other arrays are copied, not misread."""
    network = twin.make_network(rng, kind=kind, backend="cpu")
    weights = twin.make_weights(rng, network)
    features = network.features(weights)
    turned = type(features)(*(tuple(np.asfortranarray(each) for each in part) for part in features))
    a, b = arrays(network.drift(weights, features)), arrays(network.drift(weights, turned))
    assert all(np.allclose(p, q, rtol=1e-13, atol=1e-15) for p, q in zip(a, b, strict=True))


def test_cache_follows_the_loops(tmp_path, monkeypatch):
    """An edit of the loops' source means another folder, so that no old machine code is loaded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sources = [tmp_path / name for name in ("a.py", "b.py", "c.py")]
    for source, text in zip(sources, ("x = 1", "x = 2", "x = 1"), strict=True):
        source.write_text(text)
    a, b, c = (cache.folder(source) for source in sources)
    assert a == c != b
    assert cache.folder() not in (a, b)


def test_own_activations_run_in_numpy():
    own = Activation("cubic", lambda z: z**3, lambda z: 3 * z * z)
    assert type(Network([[0.0]], [0.0], h1=own, backend="cpu").parts) is Plain


def test_compiled_loops_are_parts_of_the_definition():
    names = {name for name, _ in inspect.getmembers(Plain, inspect.isfunction) if not name.startswith("_")}
    assert names == {"activate", "bend", "layer", "seed", "pull", "push"}
    assert all(hasattr(fused_loops, name) for name in names - {"bend", "seed"})  # one follows, the other is cheap
