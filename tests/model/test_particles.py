import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError
from wgflow.model.particles import confine, project

PROBLEM = wgflow.Problem([[0.0, 1.0], [1.0, 0.0]], [0.0, 1.0])  # D = 2, P = 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([1.0], [0.5]), "theta: expected a non-empty matrix of 2 dim"),
        (([[1.0]], [0.5, 0.6]), r"tau: expected shape \(1,\)"),
        (([[1.0]], [1.5]), r"tau: expected depths in \[0, 1\], got 1.5 for particle 0"),
        (([[np.nan]], [0.5]), "theta: expected finite numbers, got 1 that are not, the first nan at row 0, column 0"),
        (([[1.0]], [0.5], [-1.0]), "mass: expected weights >= 0, got -1.0"),
        (([["a"]], [0.5]), "theta: expected an array of real numbers"),
    ],
)
def test_bad_measures(arguments, words):
    with pytest.raises(InputError, match=words):
        wgflow.Particles(*arguments)


def test_arrays_are_copies_that_cannot_be_written():
    theta = np.zeros((2, 5))
    rho = wgflow.Particles(theta, [0.1, 0.2])
    theta[:] = 1
    assert (rho.theta == 0).all()
    assert np.array_equal(rho.mass, [0.5, 0.5])
    with pytest.raises(ValueError, match="read-only"):
        rho.theta[0, 0] = 1


def test_a_smaller_cloud_is_the_beginning_of_a_larger_one():
    small, large = (wgflow.Particles.draw(PROBLEM, n, seed=5, tau="uniform") for n in (4, 9))
    assert np.array_equal(small.theta, large.theta[:4])
    assert np.array_equal(small.tau, large.tau[:4])


def test_initial_law():
    rho = wgflow.Particles.draw(PROBLEM, 40_000, scale={"a": 2.0, "b": 0.0})
    # Error rate: a standard deviation from 80,000 normals is off by 2% with probability below 1e-12.
    assert rho.theta[:, :2].std() == pytest.approx(2.0, rel=0.02)
    assert rho.theta[:, 2:4].std() == pytest.approx(2**-0.5, rel=0.02)
    assert (rho.theta[:, 4] == 0).all()
    np.testing.assert_allclose(np.diff(rho.tau, prepend=0.0), 1 / 40_000)
    assert rho.tau[-1] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 0}, "count: expected a whole number >= 1, got 0"),
        ({"count": 3, "scale": {"u": 1.0}}, "unknown parameter group in scale 'u'"),
        ({"count": 3, "scale": {"a": -1.0}}, "scale of a: expected a finite number >= 0, got -1.0"),
        ({"count": 3, "tau": "gird"}, "did you mean 'grid'"),
    ],
)
def test_bad_draws(options, words):
    with pytest.raises(InputError, match=words):
        wgflow.Particles.draw(PROBLEM, **options)


def test_layered_laws():
    """Same marginal in every layer under both couplings; error rate of the four standard deviations below 1e-9."""
    for coupling in ("independent", "path"):
        rho = wgflow.Particles.draw_layers(PROBLEM, 4, 5000, seed=3, coupling=coupling)
        theta = rho.theta.reshape(4, 5000, 5)
        np.testing.assert_allclose(theta[:, :, 0].std(axis=1), 1.0, rtol=0.06)
        np.testing.assert_allclose(rho.tau.reshape(4, 5000)[:, 0], [0.125, 0.375, 0.625, 0.875])
        between = np.corrcoef(theta[0, :, 0], theta[3, :, 0])[0, 1]
        # cos(pi/2 (t - t')) along a path, 0 between independent layers
        assert between == pytest.approx(np.cos(np.pi / 2 * 0.75) if coupling == "path" else 0.0, abs=0.08)
        few = wgflow.Particles.draw_layers(PROBLEM, 4, 3, seed=3, coupling=coupling)
        assert np.array_equal(few.theta.reshape(4, 3, 5), theta[:, :3])
    with pytest.raises(InputError, match="did you mean 'path'"):
        wgflow.Particles.draw_layers(PROBLEM, 2, 2, coupling="pth")


def test_ends_of_depth():
    tau = np.array([-0.25, 0.0, 0.5, 1.0, 1.25, 2.5])
    np.testing.assert_allclose(confine(tau, "clip"), [0, 0, 0.5, 1, 1, 1])
    np.testing.assert_allclose(confine(tau, "reflect"), [0.25, 0, 0.5, 1, 0.75, 0.5])
    np.testing.assert_array_equal(confine(tau, "free"), tau)
    at, v = np.array([0.0, 0.0, 1.0, 1.0, 0.5]), np.array([-1.0, 1.0, -1.0, 1.0, 1.0])
    np.testing.assert_array_equal(project(at, v, "clip"), [0, 1, -1, 0, 1])
    np.testing.assert_array_equal(project(at, v, "reflect"), v)


@pytest.mark.parametrize("part", [0, 1, 3])
def test_parts_of_a_seed_are_pieces_of_one_list(part):
    problem = PROBLEM
    whole = wgflow.Particles.draw(problem, 20, 7, tau="uniform")
    piece = wgflow.Particles.draw(problem, 5, 7, tau="uniform", part=part)
    np.testing.assert_array_equal(piece.theta, whole.theta[5 * part : 5 * part + 5])
    np.testing.assert_array_equal(piece.tau, whole.tau[5 * part : 5 * part + 5])
    for coupling in ("path", "independent"):
        whole = wgflow.Particles.draw_layers(problem, 3, 8, 7, coupling=coupling)
        piece = wgflow.Particles.draw_layers(problem, 3, 2, 7, coupling=coupling, part=part)
        layers = whole.theta.reshape(3, 8, -1)[:, 2 * part : 2 * part + 2]
        np.testing.assert_array_equal(piece.theta, layers.reshape(6, -1))
    with pytest.raises(InputError, match="part: expected a whole number >= 0"):
        wgflow.Particles.draw(problem, 5, part=-1)


def test_order_is_by_depth_and_then_by_index():
    rho = wgflow.Particles(np.zeros((5, 3)), [0.5, 0.1, 0.5, 0.0, 0.1])
    assert rho.order.tolist() == [3, 1, 4, 0, 2]


def test_moved_checks_and_copies_unless_told_that_arrays_are_fresh():
    rho = wgflow.Particles(np.zeros((2, 3)), [0.2, 0.4], [0.3, 0.7])
    theta, tau = np.ones((2, 3)), np.array([0.9, 0.1])
    copied, taken = rho.moved(theta, tau), rho.moved(theta, tau, fresh=True)
    assert taken.theta is theta
    assert not theta.flags.writeable
    assert copied.theta is not theta
    for other in (copied, taken):
        assert np.array_equal(other.mass, rho.mass)
        assert other.order.tolist() == [1, 0]
    with pytest.raises(InputError, match="tau"):
        rho.moved(theta, np.array([0.5, 1.5]))


@pytest.mark.parametrize("coupling", ["path", "independent"])
@pytest.mark.parametrize(("layers", "within"), [(1, 1), (3, 10), (4, 4), (7, 1000)])
def test_a_smaller_network_is_a_sub_sample(coupling, layers, within):
    larger = wgflow.Particles.draw_layers(PROBLEM, within, 3, 5, coupling=coupling).theta.reshape(within, 3, -1)
    smaller = wgflow.Particles.draw_layers(PROBLEM, layers, 2, 5, coupling=coupling, within=within)
    chosen = [int((k + 0.5) * within / layers) for k in range(layers)]
    np.testing.assert_array_equal(smaller.theta.reshape(layers, 2, -1), larger[chosen, :2])
    np.testing.assert_allclose(smaller.tau.reshape(layers, 2)[:, 0], (np.arange(layers) + 0.5) / layers)
    if layers > 1:
        with pytest.raises(InputError, match="within: expected a whole number >="):
            wgflow.Particles.draw_layers(PROBLEM, layers, 2, 5, within=layers - 1)


@pytest.mark.parametrize("coupling", ["path", "independent"])
def test_fresh_draws_share_nothing_between_sizes(coupling):
    def draw(layers, per_layer, **options):
        rho = wgflow.Particles.draw_layers(PROBLEM, layers, per_layer, 5, coupling=coupling, **options)
        return rho.theta.reshape(layers, per_layer, -1)

    np.testing.assert_array_equal(draw(2, 3)[0, 0], draw(2, 4)[0, 0])
    assert not np.isclose(draw(2, 3, fresh=True), draw(2, 4, fresh=True)[:, :3]).any()
    assert not np.isclose(draw(2, 3, fresh=True), draw(2, 3)).any()
    np.testing.assert_array_equal(draw(2, 3, fresh=True), draw(2, 3, fresh=True))


def recorded(tau, mass, theta=None):
    theta = np.arange(2.0 * len(tau)).reshape(-1, 2) if theta is None else theta
    return wgflow.Frame(0, 0.0, theta, np.asarray(tau), np.asarray(mass), 0.0, 0.0)


def test_a_frame_hands_out_the_measure_it_records():
    problem = wgflow.Problem.padded([[-1.0], [0.3], [1.0]], [1.0, 0.2, -1.0])
    energy = wgflow.Energy(problem, {"name": "deposit", "layers": 3}, backend="reference")
    drawn = wgflow.Particles.draw(problem, 4, 1)
    rho = wgflow.Particles(3 * drawn.theta, drawn.tau, [0.1, 0.6, 0.0, 0.3])
    *_, last = wgflow.Flow(energy, step=0.1).run(rho, until=0.3)
    assert energy(last.particles) == last.energy
    assert energy(wgflow.Particles(last.theta, last.tau)) != pytest.approx(last.energy, rel=1e-3)
    assert not last.particles.free


def test_a_frame_that_left_the_interval_is_free():
    assert recorded([-0.2, 1.3], [0.5, 0.5]).particles.free
    assert not recorded([0.0, 1.0], [0.5, 0.5]).particles.free
    with pytest.raises(InputError, match="frame: expected particles, got a frame without any"):
        recorded([], [], np.empty((0, 2))).particles  # noqa: B018
