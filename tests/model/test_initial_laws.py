"""Initial laws: exact distributions from the streams of the Gaussian, the same at every depth of a path."""

import numpy as np
import pytest
from scipy import stats

import wgflow
from wgflow.base.errors import InputError
from wgflow.model.initial_laws import LAWS, theta_law

COUNT, RARE = 4000, 1e-6  # a right law fails one Kolmogorov-Smirnov test with this probability


def problem(width=3, **options):
    return wgflow.Problem(np.linspace(-1, 1, 4 * width).reshape(4, width), np.zeros(4), **options)


def of_radius(name, bound, dimension):
    """Distribution function of |z| for a law, from SciPy's chi law and the volume of balls."""
    chi = stats.chi(dimension)
    return {
        "truncated": lambda r: chi.cdf(r) / chi.cdf(bound),
        "ball": lambda r: (r / bound) ** dimension,
    }[name]


@pytest.mark.parametrize("name", ["truncated", "ball"])
@pytest.mark.parametrize(("width", "groups"), [(1, ["a"]), (3, ["a"]), (3, None)])
def test_radius_and_direction_have_the_law(name, width, groups):
    case, scale = problem(width), {"a": 0.5, "w": 2.0, "b": 3.0}
    drawn = wgflow.Particles.draw(case, COUNT, 5, scale, law={"name": name, "bound": 1.5, "groups": groups})
    z = drawn.theta / case.by_column(scale)
    inside = z[:, case.groups["a"]] if groups else z
    size = np.linalg.norm(inside, axis=1)
    assert size.max() <= 1.5 * (1 + 1e-15)
    assert stats.kstest(size, of_radius(name, 1.5, inside.shape[1])).pvalue > RARE
    first = inside[:, 0] / size  # of a uniform direction: (1 + u_1)/2 is beta((d - 1)/2, (d - 1)/2)
    if inside.shape[1] > 1:
        half = (inside.shape[1] - 1) / 2
        assert stats.kstest((1 + first) / 2, stats.beta(half, half).cdf).pvalue > RARE
    else:
        assert stats.binomtest(int((first > 0).sum()), COUNT).pvalue > RARE
    if groups:  # the others are the Gaussian's own draws
        np.testing.assert_array_equal(
            drawn.theta[:, case.groups["w"]], wgflow.Particles.draw(case, COUNT, 5, scale).theta[:, case.groups["w"]]
        )


def test_one_column_is_scipys_truncated_normal():
    drawn = wgflow.Particles.draw(problem(1), COUNT, 7, law={"name": "truncated", "bound": 0.7, "groups": ["a"]})
    assert stats.kstest(drawn.theta[:, 0], stats.truncnorm(-0.7, 0.7).cdf).pvalue > RARE


def test_sphere():
    drawn = wgflow.Particles.draw(problem(3), 50, 1, {"w": 1.0}, law={"name": "sphere", "bound": 2.5})
    np.testing.assert_allclose(np.linalg.norm(drawn.theta, axis=1), 2.5, rtol=1e-15)


@pytest.mark.parametrize("name", sorted(set(LAWS) - {"gaussian"}))
def test_a_path_has_the_law_at_every_depth(name):
    """Also the middle of a path of Gaussians, whose bounded ends alone would reach up to sqrt(2) times the bound."""
    law = {"name": name, "bound": 1.2}
    drawn = wgflow.Particles.draw_layers(problem(3), 5, COUNT, 3, {"w": 1.0}, "path", law=law).theta.reshape(
        5, COUNT, 7
    )
    size = np.linalg.norm(drawn, axis=2)
    assert size.max() <= 1.2 * (1 + 1e-15)
    if name != "sphere":
        for layer in size:
            assert stats.kstest(layer, of_radius(name, 1.2, 7)).pvalue > RARE
    steps = np.linalg.norm(np.diff(drawn, axis=0), axis=2)
    assert np.median(steps) < 0.5 * np.median(size)  # neighbours of a path, not fresh draws


def test_truncation_moves_no_two_points_apart(rng):
    """The optimal transport to a more log-concave law is 1-Lipschitz (Caffarelli)."""
    case = problem(3)
    x = rng.normal(size=(500, 7)) * rng.uniform(0.01, 3, size=(500, 1))
    y = x + rng.normal(size=(500, 7)) * rng.choice([1e-4, 0.1, 2.0], size=(500, 1))
    law = theta_law({"name": "truncated", "bound": 2.0})
    moved = np.linalg.norm(law.place(x, case) - law.place(y, case), axis=1)
    assert (moved <= np.linalg.norm(x - y, axis=1) * (1 + 1e-9)).all()


def test_a_smaller_sample_is_the_beginning_of_a_larger_one():
    law = {"name": "ball", "bound": 2.0}
    small, large = (wgflow.Particles.draw(problem(), n, 2, tau="uniform", law=law) for n in (10, 30))
    np.testing.assert_array_equal(small.theta, large.theta[:10])
    part = wgflow.Particles.draw(problem(), 10, 2, tau="uniform", part=2, law=law)
    np.testing.assert_array_equal(part.theta, large.theta[20:])


def test_the_gaussian_is_as_it_was():
    case = problem(2)
    np.testing.assert_array_equal(
        wgflow.Particles.draw(case, 9, 4).theta, wgflow.Particles.draw(case, 9, 4, law="gaussian").theta
    )


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ("cauchy", "unknown initial law 'cauchy'"),
        ("truncated", "expected the option 'bound'"),
        ({"name": "ball", "bound": 0.0}, "bound of the law 'ball'"),
        ({"name": "ball", "bound": 1.0, "groups": ["V"]}, "unknown parameter group of the initial law 'V'"),
        ({"name": "ball", "bound": 1.0, "groups": "a"}, "expected names of parameter groups"),
        ({"name": "ball", "bound": 1.0, "groups": []}, "expected names of parameter groups"),
    ],
)
def test_laws_that_cannot_be_are_refused(law, message):
    with pytest.raises(InputError, match=message):
        wgflow.Particles.draw(problem(), 3, law=law)


def test_laws_are_rebuilt_from_their_specs():
    for law in ("gaussian", {"name": "truncated", "bound": 2, "groups": ["a", "b"]}, {"name": "sphere", "bound": 1.0}):
        made = theta_law(law)
        assert theta_law(made.spec()) == made
        assert hash(made) == hash(theta_law(made))
