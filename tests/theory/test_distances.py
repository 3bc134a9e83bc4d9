"""Distances against permutations, closed forms and the axioms."""

import importlib.util
import itertools
import sys
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import wgflow
from wgflow.base.errors import InputError
from wgflow.theory.distances import between, by_depth, distance, quick_method

needs_pot = pytest.mark.skipif(importlib.util.find_spec("ot") is None, reason="needs wgflow[ot]")


class Ensemble(NamedTuple):
    points: np.ndarray
    mass: np.ndarray


def ensemble(seed, n, d, equal):
    rng = np.random.default_rng(seed)
    mass = np.full(n, 1 / n) if equal else rng.dirichlet(np.ones(n))
    return Ensemble(rng.normal(size=(n, d)), mass)


def w2(a, b, method="exact"):
    return between(a.points, b.points, a.mass, b.mass, method).value


def measure(seed, n=6, width=2, layers=3):
    rng = np.random.default_rng(seed)
    return wgflow.Particles(rng.normal(size=(n, width)), (np.arange(n) % layers + 0.5) / layers)


seeds, sizes, widths = st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 4)


@given(seed=seeds, n=sizes, d=widths)
def test_equal_masses_against_all_permutations(seed, n, d):
    a, b = ensemble(seed, n, d, True), ensemble(seed + 1, n, d, True)
    cost = ((a.points[:, None] - b.points[None]) ** 2).sum(axis=2)
    best = min(np.mean([cost[i, j] for i, j in enumerate(p)]) for p in itertools.permutations(range(n)))
    assert w2(a, b) == pytest.approx(np.sqrt(best), rel=1e-7)


@needs_pot
@given(seed=seeds, n=st.integers(1, 4), m=st.integers(1, 4))
def test_masses_in_sixths_against_permutations_of_copies(seed, n, m):
    """General masses as an assignment of equal copies: the twin of the network simplex."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 2)), rng.normal(size=(m, 2))
    p, q = (np.bincount(np.append(np.arange(k), rng.integers(0, k, 6 - k)), minlength=k) for k in (n, m))
    copies = Ensemble(np.repeat(x, p, axis=0), np.full(6, 1 / 6)), Ensemble(np.repeat(y, q, axis=0), np.full(6, 1 / 6))
    found = between(x, y, p / 6, q / 6).value
    assert found == pytest.approx(w2(*copies), rel=1e-7, abs=1e-9)


@needs_pot
@given(seed=seeds, n=sizes, d=widths, equal=st.booleans())
def test_translation(seed, n, d, equal):
    a = ensemble(seed, n, d, equal)
    v = np.random.default_rng(seed + 1).normal(size=d)
    b = Ensemble(a.points + v, a.mass)
    assert w2(a, b) == pytest.approx(np.linalg.norm(v), rel=1e-7)
    one = between(a.points, b.points, a.mass, b.mass, "sliced", 400)  # sqrt(E (u.v)**2) = |v|/sqrt(d)
    assert one.value == pytest.approx(np.linalg.norm(v) / np.sqrt(d), abs=6 * one.error + 1e-9)


@needs_pot
@given(seed=seeds, n=sizes, m=sizes, k=sizes, d=widths, equal=st.booleans())
def test_metric_axioms_and_slices_below(seed, n, m, k, d, equal):
    a, b, c = (ensemble(seed + i, size, d, equal) for i, size in enumerate((n, m, k)))
    ab, bc, ac = w2(a, b), w2(b, c), w2(a, c)
    assert w2(a, a) == pytest.approx(0.0, abs=1e-7)
    assert ab == pytest.approx(w2(b, a), rel=1e-6)
    assert ac <= (ab + bc) * (1 + 1e-7)
    assert ab > 0
    assert between(a.points, b.points, a.mass, b.mass, "sliced", 50).value <= ab * (1 + 1e-7)


@needs_pot
@given(seed=seeds, n=sizes, m=sizes)
def test_slices_of_the_line_are_the_distance(seed, n, m):
    a, b = ensemble(seed, n, 1, False), ensemble(seed + 1, m, 1, False)
    assert between(a.points, b.points, a.mass, b.mass, "sliced", 3).value == pytest.approx(w2(a, b), rel=1e-6)


def test_slices_of_repeated_points_and_equal_masses_agree(rng):
    """Twin of the sorted path: the same ensemble with one mass cut in two takes the path of general masses."""
    x, y = rng.normal(size=(50, 3)), rng.normal(size=(50, 3))
    mass = np.full(50, 0.02)
    cut = np.append(mass, 0.005)
    cut[0] = 0.015
    whole = between(x, y, mass, mass, "sliced")
    parted = between(np.vstack([x, x[:1]]), y, cut, mass, "sliced")
    assert whole.value == pytest.approx(parted.value, rel=1e-12)


def test_gaussians_on_the_line():
    """W2^2(N(m, s^2), N(m', s'^2)) = (m - m')^2 + (s - s')^2, on 1000 quantiles."""
    z = stats.norm.ppf((np.arange(1000) + 0.5) / 1000)[:, None]
    mass = np.full(1000, 1e-3)
    found = between(1 + 2 * z, -0.5 + 0.7 * z, mass, mass)
    assert found.method == "exact"
    assert found.value == pytest.approx(np.sqrt(1.5**2 + 1.3**2), rel=5e-3)


def test_slices_of_isotropic_gaussians(rng):
    """|alpha - beta|; at N = 4000 to a per cent or two."""
    x, y = rng.normal(size=(4000, 5)), 3 * rng.normal(size=(4000, 5))
    mass = np.full(4000, 1 / 4000)
    found = between(x, y, mass, mass, "sliced")
    assert found.method == "sliced"
    assert found.value == pytest.approx(2.0, rel=0.05)


@needs_pot
@pytest.mark.parametrize("decades", [0, 6, 12, 20])
def test_masses_over_many_decades_against_the_dual(decades):
    """Feasible potentials bound W2^2 from below, a coupling from above: they meet."""
    import ot

    rng = np.random.default_rng(decades)
    x, y = rng.normal(size=(60, 3)), rng.normal(size=(80, 3))
    a, b = (10.0 ** -(decades * rng.random(n)) for n in (60, 80))
    a, b = a / a.sum(), b / b.sum()
    cost = ((x[:, None] - y[None]) ** 2).sum(axis=2)
    _, log = ot.emd(a, b, cost, log=True)
    v = (cost - log["u"][:, None]).min(axis=0)  # feasible with u, whatever the solver did
    found = between(x, y, a, b)
    assert found.method == "exact"
    assert found.value**2 == pytest.approx(log["u"] @ a + v @ b, rel=1e-9)


@needs_pot
def test_equal_masses_are_the_limit_of_unequal_ones():
    """An assignment and the network simplex agree, also between repeated points."""
    rng = np.random.default_rng(0)
    x, y, mass = rng.integers(0, 4, (50, 2)), rng.integers(0, 4, (50, 2)), np.full(50, 0.02)
    near = mass * (1 + 1e-8 * np.arange(-24.5, 25) / 25)
    assert between(x, y, near, mass).value == pytest.approx(between(x, y, mass, mass).value, rel=1e-6)


def test_the_method_is_never_another_than_the_one_asked_for(monkeypatch):
    a, b = measure(1), measure(2)
    assert distance(a, b).method == "exact"
    assert distance(a, b, "sliced").method == "sliced"
    assert by_depth(a, b, 3, "sliced").method == "sliced"
    monkeypatch.setattr("wgflow.theory.distances._MOST", 35)
    with pytest.raises(InputError, match="at most 4e\\+01 pairs of points for exact, got 6 times 6"):
        distance(a, b)


def test_nothing_jumps_at_a_thousand_points(rng):
    x = rng.normal(size=(1001, 1))
    for n in (1000, 1001):
        assert between(x[:n], x[:n] + 1, np.ones(n), np.ones(n)).value == pytest.approx(1.0)


def test_without_pot_unequal_masses_are_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    a, b = measure(1), measure(2, n=5)
    with pytest.raises(InputError, match=r"expected POT for exact .*ot"):
        distance(a, b)
    assert distance(a, measure(2)).method == "exact"
    assert distance(a, b, "sliced").method == "sliced"


def test_one_quick_method_for_all(monkeypatch):
    equal, other = np.ones(6), np.ones(5)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert quick_method([equal, 2 * equal]) == "exact"
    assert quick_method([equal, other]) == "sliced"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert quick_method([equal, other]) == "exact"
    assert quick_method([np.ones(1001)]) == "sliced"


def test_depth_counts_by_its_scale():
    theta = np.zeros((2, 1))
    a, b = wgflow.Particles(theta, [0.1, 0.2]), wgflow.Particles(theta, [0.4, 0.5])
    assert distance(a, b).value == pytest.approx(0.3)
    assert distance(a, b, scale=10).value == pytest.approx(3.0)
    assert distance(a, b, scale=0).value == 0.0


def test_particles_without_mass_do_not_count():
    a = wgflow.Particles([[0.0], [50.0]], [0.5, 0.5], [1.0, 0.0])
    b = wgflow.Particles([[3.0]], [0.5], [1.0])
    assert distance(a, b) == (3.0, "exact", 0.0)


@given(seed=seeds)
def test_by_depth_against_its_layers(seed):
    """sqrt(mean W2^2) and the largest, from permutations in each layer; at least W2 of the joint measures."""
    a, b = measure(seed), measure(seed + 1)
    squares = []
    for k in range(3):
        x, y = a.theta[k::3], b.theta[k::3]
        squares.append(min(np.mean(((x - y[list(p)]) ** 2).sum(axis=1)) for p in itertools.permutations(range(2))))
    found = by_depth(a, b, 3)
    np.testing.assert_allclose(found.slices, np.sqrt(squares), rtol=1e-7)
    assert found.conditional == pytest.approx(np.sqrt(np.mean(squares)))
    assert found.largest == pytest.approx(np.sqrt(np.max(squares)))
    assert distance(a, b).value <= found.conditional * (1 + 1e-7) <= found.largest * (1 + 2e-7)


def test_by_depth_sees_depth_that_the_marginal_does_not():
    """Negative control: the same theta at exchanged depths is 0 apart in theta and far apart by depth."""
    a, b = wgflow.Particles([[0.0], [1.0]], [0.25, 0.75]), wgflow.Particles([[1.0], [0.0]], [0.25, 0.75])
    assert distance(a, b, scale=0).value == 0.0
    assert by_depth(a, b, 2).conditional == 1.0


@needs_pot
def test_slices_rescale_their_masses():
    a = wgflow.Particles([[0.0], [2.0], [5.0]], [0.1, 0.2, 0.9], [0.2, 0.2, 0.6])
    b = wgflow.Particles([[0.0], [5.0]], [0.1, 0.9], [0.5, 0.5])
    found = by_depth(a, b, 2)
    np.testing.assert_allclose(found.slices, [np.sqrt(2.0), 0.0], atol=1e-9)
    assert found.method == "exact"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: distance(measure(1), measure(2, width=3)), "equally many parameters"),
        (lambda: by_depth(measure(1), measure(2, width=3), 2), "a, b: expected equally many"),
        (lambda: distance(measure(1), wgflow.Particles([[0.0, 0.0]], [0.5], [0.5])), "equal mass"),
        *(
            (lambda old=old: distance(measure(1), measure(2), old), f"unknown method '{old}': expected one of exact")
            for old in ("auto", "assignment", "programme")
        ),
        (lambda: distance(measure(1), measure(2), scale=-1), "scale: expected"),
        (lambda: distance(measure(1), measure(2), "sliced", directions=1), "directions: expected"),
        (lambda: by_depth(measure(1), measure(2), 4), "in each of 4 slices"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


@needs_pot
@pytest.mark.parametrize("scale", [1e-200, 1e-6, 1e-4, 1.0, 1e4, 1e150, 1e200])
def test_w2_scales_with_the_points(rng, scale):
    """Unequal masses, as copies of equal ones: network simplex beside assignment, at any size of numbers."""
    copies = rng.integers(1, 4, size=12)
    x, y = rng.normal(size=(12, 2)), rng.normal(size=(int(copies.sum()), 2))
    a, b = copies / copies.sum(), np.full(len(y), 1 / len(y))
    found = between(scale * x, scale * y, a, b)
    exact = between(np.repeat(x, copies, axis=0), y, b, b).value
    assert found.value == pytest.approx(scale * exact, rel=1e-6)


@needs_pot
def test_tiny_masses_far_away_count():
    x, y = np.array([[0.0], [1e4]]), np.array([[0.0], [-1e4]])
    far, less = 2e-8, 1e-8
    found = between(x, y, np.array([1 - less, less]), np.array([1 - far, far]))
    # what is far on the left comes from 0, what is far on the right goes to 0: crossing both would cost more
    assert found.value == pytest.approx(np.sqrt((less + far) * 1e8), rel=1e-3)


HALF = np.array([0.5, 0.5])
LINE = np.array([[0.0], [1.0]])


@pytest.mark.parametrize("method", ["exact", "sliced"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": [1.5, -0.5]}, "mass of x: expected weights >= 0, got -0.5 for point 1"),
        ({"b": [-1e-12, 1 + 1e-12]}, "mass of y: expected weights >= 0"),
        ({"a": [0.5, np.nan]}, "mass of x: expected finite numbers"),
        ({"a": [0.5, np.inf]}, "mass of x: expected finite numbers"),
        ({"a": np.ma.masked_array([0.5, 0.5], mask=[0, 1])}, "mass of x: .* masked"),
        ({"a": [0.0, 0.0]}, "mass: expected two measures of"),
        ({"a": [0.0, 0.0], "b": [0.0, 0.0]}, "mass: expected two measures of"),
        ({"a": [1e308, 1e308], "b": [1e308, 1e308]}, "mass: expected two measures of"),
        ({"a": [0.5, 0.25]}, "mass: expected two measures of"),
        ({"a": [1.0]}, "mass of x: expected one for each of 2 points, got 1"),
        ({"b": [[0.5], [0.5]]}, "mass of y: expected a non-empty list"),
        ({"x": [[0.0], [np.nan]]}, "x: expected finite numbers"),
        ({"y": np.ma.masked_array(LINE, mask=[[0], [1]])}, "y: .* masked"),
        ({"y": LINE + 1j}, "y: expected an array of real numbers"),
        ({"y": [[0.0, 1.0], [2.0, 3.0]]}, "x, y: expected points with equally many columns, got 1 and 2"),
    ],
)
def test_measures_that_are_none_are_refused(method, change, message):
    with pytest.raises(InputError, match=message):
        between(**{"x": LINE, "y": LINE + 1, "a": HALF, "b": HALF} | change, method=method)


SIZES = [1e-320, 1e-300, 1e-170, 1e-80, 1e80, 1e160, 1e300]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", ["exact", "sliced"])
def test_numbers_of_any_size_have_their_distance(size, method, rng):
    x, y, mass = rng.integers(-9, 9, (6, 2)), rng.integers(-9, 9, (6, 2)), np.full(6, 1 / 6)
    one = between(x, y, mass, mass, method)
    found = between(size * x, size * y, mass, mass, method)
    assert found.method == method
    few = 1e-2 if size == 1e-320 else 1e-7  # of so small a size numbers have a few digits
    assert found.value / size == pytest.approx(one.value, rel=few)
    assert found.error / size == pytest.approx(one.error, rel=few)


def test_only_the_differences_of_large_numbers_count():
    """Far away as a whole, with ends beyond the largest difference, and nearly the same for all their extent."""
    for x, y, expected in (
        ([[1e200, 0.0]], [[1e200, 3e-4]], 3e-4),
        ([[-1.5e308]], [[1.5e307]], 1.65e308),
        ([[1.0, 0.0]], [[1.0, 2e-170]], 2e-170),
        ([[0.0], [1.0]], [[4e-170], [1.0]], 4e-170 / np.sqrt(2)),
    ):
        mass = np.full(len(x), 1 / len(x))
        assert between(x, y, mass, mass).value == pytest.approx(expected, rel=1e-12)
        if len(x[0]) == 1:
            assert between(x, y, mass, mass, "sliced").value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("size", [1e-170, 1e170])
def test_distances_of_measures_of_any_size(size):
    a, b = measure(1), measure(2)
    one, found = by_depth(a, b, 3), by_depth(*(rho.moved(size * rho.theta, rho.tau) for rho in (a, b)), 3)
    np.testing.assert_allclose(found.slices / size, one.slices, rtol=1e-12)
    assert found.conditional / size == pytest.approx(one.conditional)
    rho = wgflow.Particles(a.theta * size, a.tau)
    assert distance(a.moved(0 * a.theta, a.tau), rho, scale=0).value / size == pytest.approx(
        np.sqrt((a.theta**2).sum(axis=1).mean())
    )
