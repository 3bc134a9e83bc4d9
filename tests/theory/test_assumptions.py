"""The assumptions panel: each line against a problem where it holds, one where it does not, and a twin."""

import numpy as np
import pytest
from verdict_checks import made_false, made_true

import wgflow
from wgflow.base.errors import InputError
from wgflow.base.rng import normal
from wgflow.model.activations import ACTIVATIONS, Activation
from wgflow.model.blocks import Ridge
from wgflow.model.losses import Squared
from wgflow.theory import reference_laws
from wgflow.theory.assumption_checks import check_assumptions
from wgflow.theory.block_conditions import _suprema
from wgflow.theory.critical_values import critical_values, extrema
from wgflow.theory.density import density
from wgflow.theory.homogeneity import defect, homogeneity, linear_groups
from wgflow.theory.radial_limit import radial_limit
from wgflow.theory.regularity_classes import jump, regularity_class
from wgflow.theory.universality import attainable, chosen, gram, lower_bound, spectrum, universal_kernel

NAMES = [
    "universal kernel",
    "homogeneity",
    "C^1 limit of H_r",
    "Lipschitz in depth",
    "support in Q_r",
    "isolated critical values",
    "zero loss attainable",
    "data and g",
]


def problem(samples=12, width=3, seed=0, **options):
    x = normal(seed, "x", (samples, width))
    return wgflow.Problem(x, np.sin(x[:, 0]), **options)


def panel(made, name):
    return {each.name: each for each in made}[name]


def test_the_panel_has_its_eight_lines():
    case = problem()
    for depth, rho in (
        ("gaps", wgflow.Particles.draw(case, 20)),
        ({"name": "layers", "layers": 4}, wgflow.Particles.draw_layers(case, 4, 5)),
        ({"name": "deposit", "layers": 4}, wgflow.Particles.draw(case, 20, tau="uniform")),
        ("shallow", wgflow.Particles.draw(case, 20)),
    ):
        made = check_assumptions(wgflow.Energy(case, depth), rho, starts=8)
        assert [each.name for each in made] == NAMES
        assert all(each.verdict in ("pass", "fail", "unknown") and each.sentence and each.source for each in made)
        assert made == check_assumptions(wgflow.Energy(case, depth), rho, starts=8)


# --- universal kernel


@pytest.mark.parametrize("kind", ["scalar", "matrix", "output"])
def test_gram_against_loops(kind, monkeypatch):
    case = problem(5, 2, readout=[[0.3, -1.0]])
    theta = reference_laws.initial_law(case)(7, 1)[0]
    rows = np.array([0, 2, 3])
    values = np.array([case.block.forward(case.x[rows], each, case.activation) for each in theta])  # (J, m, D)
    if kind == "scalar":
        expected = [[np.mean([v[i] @ v[k] for v in values]) for k in range(3)] for i in range(3)]
    else:
        flat = [(v @ case.readout.T if kind == "output" else v).ravel() for v in values]
        expected = np.mean([np.outer(v, v) for v in flat], axis=0)
    np.testing.assert_allclose(gram(case, theta, rows, kind), expected, rtol=1e-12, atol=1e-14)
    monkeypatch.setattr("wgflow.theory.universality._AT_ONCE", 8)
    np.testing.assert_allclose(gram(case, theta, rows, kind), expected, rtol=1e-12, atol=1e-14)


def test_gram_of_relu_is_the_arc_cosine_kernel():
    """E a.a relu(w.x) relu(w.x') = D |x||x'| (sin u + (pi - u) cos u)/(2 pi), Cho and Saul (2009); 40000 draws."""
    case = problem(4, 3, block={"name": "ridge", "bias": False}, activation="relu")
    theta = reference_laws.initial_law(case, {"w": 1.0})(40_000, 3)[0]
    found = gram(case, theta, np.arange(4))
    size = np.linalg.norm(case.x, axis=1)
    angle = np.arccos(np.clip(case.x @ case.x.T / np.outer(size, size), -1, 1))
    expected = 3 * np.outer(size, size) * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    np.testing.assert_allclose(found, expected, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("activation", ["tanh", "relu", "sin"])
def test_a_universal_kernel_passes(activation):
    case = problem(activation=activation)
    found = universal_kernel(case, reference_laws.initial_law(case))
    assert found.verdict == "pass"
    assert found.number > 0
    assert "at 76 points" in found.sentence
    assert ("rank 76 of 76" in found.sentence) == ("Full rank: not refuted at these points" in found.sentence)
    assert found.conditions == (density(case),)
    assert "Proved: dense" in found.sentence


@pytest.mark.parametrize("samples", [2, 3, 12])
def test_a_linear_block_fails_however_few_the_samples(samples):
    case = problem(samples, activation="linear")
    found = universal_kernel(case, reference_laws.initial_law(case))
    assert found.verdict == "fail"
    assert f"rank 4 of {samples + 64}" in found.sentence  # D and the constant
    assert "linear is a polynomial" in found.sentence


class OwnRidge(Ridge):
    """A block of which nothing is known in closed form."""


@pytest.mark.parametrize(("activation", "verdict"), [("linear", "fail"), ("relu", "unknown")])
def test_fresh_points_refute_an_own_block_that_spans_few_functions(activation, verdict):
    case = problem(3, activation=activation, block=OwnRidge())
    found = universal_kernel(case, reference_laws.initial_law(case))
    assert found.verdict == verdict
    assert ("rank 4 < 67, by a spectrum that ends at once" in found.sentence) == (verdict == "fail")
    assert ("not refuted at these points" in found.sentence) == (verdict == "unknown")


@pytest.mark.parametrize(
    "dead",
    [
        pytest.param(lambda z: np.clip(z, -20, 20), id="clip"),
        pytest.param(lambda z: np.sign(z) * np.maximum(np.abs(z) - 20, 0), id="shrink"),
    ],
)
def test_an_own_activation_that_bends_far_out_is_not_refuted(dead):
    """Neither is a polynomial, so both are universal (Leshno); near 0 they span 4 and 0 functions."""
    case = problem(3, activation=Activation("far", dead, lambda z: (np.abs(dead(z + 1e-3) - dead(z)) > 0) * 1.0))
    found = universal_kernel(case, reference_laws.initial_law(case))
    assert found.verdict == "unknown"
    assert "with parameters up to 1000 times as large" in found.sentence


def test_repeated_inputs_say_nothing_of_a_kernel():
    x = normal(0, "x", (6, 2))
    case = wgflow.Problem(np.vstack([x, x[:1]]), np.zeros(7))
    found = universal_kernel(case, reference_laws.initial_law(case))
    assert found.verdict == "pass"
    assert "6 of 6 distinct inputs" in found.sentence
    assert "1 inputs repeat others" in found.sentence


def test_eigenvalues_below_rounding_are_no_verdict():
    case = wgflow.Problem(np.linspace(-1, 1, 60)[:, None], np.zeros(60), block=OwnRidge())
    found = universal_kernel(case, reference_laws.initial_law(case))
    assert found.verdict == "unknown"
    assert abs(found.number) < 1e-14
    assert "decay below rounding" in found.sentence


def test_fewer_samples_are_said():
    case = problem(30)
    found = universal_kernel(case, reference_laws.initial_law(case), samples=10).sentence
    assert "At 10 of 30 distinct inputs and 64 fresh points" in found
    rows = chosen(case, 10, 0)
    assert len(np.unique(rows)) == 10
    assert (np.diff(rows) > 0).all()


@pytest.mark.parametrize(
    ("block", "activation", "finding", "reason"),
    [
        ("ridge", "tanh", "proved", "Leshno"),
        ({"name": "ridge", "bias": False}, "tanh", "refuted", "f(0, theta) = 0"),
        ({"name": "ridge", "bias": False}, "regularised_relu", "not checked", "without a bias"),
        ("ridge", "linear", "refuted", "polynomial"),
        ("matrix", "relu", "refuted", "f >= 0"),
        ("matrix", "gelu", "refuted", "f >= -0.17"),
        ("matrix", "tanh", "refuted", "-1 <= f <= 1"),
        ("scaled_matrix", "tanh", "proved", "Leshno"),
        ({"name": "scaled_matrix", "bias": False}, "tanh", "refuted", "f(0, theta) = 0"),
        ("saturated_matrix", "gelu", "proved", "Stinchcombe"),
        ("saturated_matrix", "relu", "not checked", "not analytic"),
        ("gaussian_matrix", "squared_relu", "proved", "either term can be 0"),
        ({"name": "gaussian_matrix", "signed": False}, "squared_relu", "refuted", "f >= 0"),  # as printed in Remark H.1
        ("gaussian_matrix", "sin", "refuted", "|f| <= 2"),
        ("gaussian_matrix", "gelu", "not checked", "differences of gelu"),
        (OwnRidge(), "relu", "not checked", "your own"),
    ],
)
def test_density_in_closed_form(block, activation, finding, reason):
    found = density(problem(block=block, activation=activation))
    assert found.finding == finding
    assert reason in found.reason


def test_bounds_that_refute_density_hold_for_averages():
    """The functions int f drho of 40 measures keep the bounds that the sentences state."""
    for block, activation, low, high in (
        ("matrix", "gelu", -0.17, np.inf),
        ("matrix", "sin", -1.0, 1.0),
        ({"name": "gaussian_matrix", "signed": False}, "squared_relu", 0.0, np.inf),
        ("gaussian_matrix", "tanh", -2.0, 2.0),
    ):
        case = problem(block=block, activation=activation)
        theta = 3 * normal(3, "theta", (40, case.shape[3]))
        values = np.array([case.block.forward(case.x, each, case.activation) for each in theta])
        assert low <= values.min() <= values.max() <= high
        assert low <= values.mean(axis=0).min() <= values.mean(axis=0).max() <= high


def test_spectrum_of_a_known_matrix(rng):
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    found = spectrum(np.linalg.eigvalsh(turn @ np.diag([3.0, 2.0, 1.0, 0.0]) @ turn.T))
    assert found.rank == 3
    assert found.largest == pytest.approx(3.0)
    assert found.ends
    decaying = spectrum(10.0 ** -np.arange(38.0, -1.0, -2.0))
    assert (decaying.size, decaying.rank, decaying.ends) == (20, 8, False)
    assert spectrum(np.zeros(2)).rank == 0


# --- homogeneity and Q_r


def test_every_declared_degree_is_seen(block, activation):
    case = problem(block=block, activation=activation)
    degree = case.block.degree(case.activation)
    if degree is None:
        assert min(defect(case, k) for k in (1, 2, 3)) > 1e-3
    else:
        assert defect(case, degree) < 1e-12
        assert defect(case, degree + 1) > 0.1


@pytest.mark.parametrize(
    ("block", "activation", "width", "verdict", "groups"),
    [
        ("ridge", "relu", 3, "fail", ("a",)),
        ("ridge", "tanh", 1, "fail", ("a",)),
        ("ridge", "sin", 1, "fail", ("a",)),
        ("ridge", "gelu", 1, "fail", ("a",)),
        ("ridge", "regularised_relu", 1, "fail", ("a",)),
        ("ridge", "squared_relu", 1, "fail", ("a",)),
        ("two_layer", "gelu", 3, "fail", ("V",)),
        ("matrix", "tanh", 3, "fail", ()),
        ("matrix", "squared_relu", 3, "fail", ()),
        ("matrix", "relu", 3, "fail", ()),
        ({"name": "ridge", "bias": False}, "linear", 3, "pass", ("a", "w")),
        ("scaled_matrix", "tanh", 3, "fail", ("a",)),
        ("scaled_matrix", "relu", 3, "fail", ("a",)),
        ("scaled_matrix", "linear", 1, "pass", ("a",)),
        ("saturated_matrix", "tanh", 3, "pass", ("a",)),
        ("saturated_matrix", "gelu", 1, "pass", ("a",)),
        ("saturated_matrix", "relu", 3, "fail", ("a",)),
        ("gaussian_matrix", "squared_relu", 3, "pass", ()),
        ({"name": "gaussian_matrix", "signed": False}, "squared_relu", 3, "pass", ()),
        (OwnRidge(), "linear", 1, "unknown", ("a",)),
    ],
)
def test_homogeneity_of_pairs(block, activation, width, verdict, groups):
    case = problem(block=block, activation=activation, width=width)
    assert linear_groups(case) == groups
    found = homogeneity(case)
    assert found.verdict == verdict
    assert found.number < 1e-12 or verdict == "fail"
    assert bool(found.conditions) == (": " in found.sentence)
    assert all(one.reason in found.sentence for one in found.conditions)


def findings(case):
    return {one.name.split(": ")[1]: one for one in homogeneity(case).conditions if "6.2" in one.name}


@pytest.mark.parametrize(
    ("activation", "bounded", "lipschitz", "differential", "smooth"),
    [
        ("tanh", "proved", "refuted", "refuted", "proved"),
        ("sin", "proved", "refuted", "refuted", "proved"),
        ("gelu", "refuted", "refuted", "refuted", "proved"),
        ("regularised_relu", "refuted", "refuted", "refuted", "refuted"),
        ("relu", "refuted", "refuted", "refuted", "refuted"),
        ("linear", "refuted", "refuted", "not checked", "proved"),
    ],
)
@pytest.mark.parametrize(("block", "width"), [("ridge", 1), ("scaled_matrix", 1), ("scaled_matrix", 3)])
def test_conditions_of_theorem_6_2_on_ridge_units(block, width, activation, bounded, lipschitz, differential, smooth):
    found = findings(problem(width=width, activation=activation, block=block))
    names = ("fhat bounded", "fhat Lipschitz", "differential of fhat Lipschitz", "f in C^2")
    assert [found[name].finding for name in names] == [bounded, lipschitz, differential, smooth]
    assert found["theta_[1] is a number"].finding == "proved"
    slope = float(found["fhat Lipschitz"].reason.split("= 100 and ")[1].split(" at")[0])
    assert slope > 3e3  # |d_x fhat| = |sigma'| |w|, steepest at a hyperplane w . x + b = 0


def test_a_vector_is_no_number():
    found = findings(problem(width=3, activation="tanh"))
    assert found["theta_[1] is a number"].finding == "refuted"
    assert found["theta_[1] is a number"].reason == "the dimension of a is 3"


@pytest.mark.parametrize("activation", ["tanh", "gelu", "sin"])
def test_bounds_proved_for_saturated_weights_are_not_contradicted_by_the_search(activation):
    case = problem(block={"name": "saturated_matrix", "bound": 3.0}, activation=activation)
    for near, far in _suprema(case, case.groups["a"], seed=0):
        assert far < 1.1 * near
    assert {one.finding for one in findings(case).values()} == {"proved"}


@pytest.mark.parametrize(("block", "even"), [({"name": "ridge", "bias": False}, True), ("gaussian_matrix", False)])
def test_real_factors_against_positive_ones(block, even):
    """Theorem 6.1 prints f(x, c theta) = c**2 f(x, theta) for c in R; its own example satisfies it for c > 0 alone."""
    case = problem(block=block, activation="linear" if even else "squared_relu")
    theta = normal(0, "theta", (1, case.shape[3]))[0]
    ends = [case.block.forward(case.x, sign * theta, case.activation) for sign in (1, -1)]
    assert np.allclose(*ends) == even
    (printed,) = (one for one in homogeneity(case).conditions if "c < 0" in one.name)
    assert printed.finding == ("proved" if even else "refuted")
    assert not printed.decides


def test_smoothness_of_the_activations_is_what_their_slopes_say():
    """Jumps at the declared kink, and none elsewhere on a fine grid, of the derivative of the declared order."""
    z = np.linspace(-3, 3, 6001) + 1e-7
    for name, sigma in ACTIVATIONS.items():
        known = regularity_class(sigma)
        slope = sigma.slope(z)
        second = np.diff(slope) / np.diff(z)
        jumps = {0: np.abs(np.diff(slope)).max() > 0.5, 1: np.abs(np.diff(second)).max() > 0.5}
        assert known.smoothness == next((order for order, jumped in jumps.items() if jumped), 2), name
        if known.smoothness < 2:
            assert abs(jump(sigma, known.kink, known.smoothness + 1)) > 0.9
            assert abs(jump(sigma, known.kink + 0.1, known.smoothness + 1)) < 1e-3
        values = sigma.value(np.linspace(-40, 40, 80001))
        assert known.low <= values.min()
        assert values.max() <= known.high


# --- the limit of H_r


def line(activation, block="ridge"):
    x = np.linspace(-2, 2, 40)[:, None]
    case = wgflow.Problem(x, np.sin(x), activation=activation, block=block)
    return wgflow.Energy(case), wgflow.Particles.draw(case, 12)


def test_h_r_of_tanh_steepens_like_r():
    """Against finite differences on the circle of (w, b), and the jump of sign(w x_m + b) at a hyperplane."""
    energy, rho = line("tanh")
    found = radial_limit(energy, rho)
    assert found.verdict == "fail"
    slopes = [float(one) for one in found.sentence.split("directions is ")[1].split(" for r")[0].split(", ")]
    angle = np.linspace(0, np.pi, 400_001)
    for r, slope in zip((10.0, 1000.0), slopes[::2], strict=True):
        theta = np.column_stack([np.ones_like(angle), r * np.cos(angle), r * np.sin(angle)])
        h = energy.first_variation(rho, theta, np.full(len(theta), 0.5))
        largest = np.abs(np.diff(h) / np.diff(angle)).max()
        assert 0.4 * largest < slope < 1.02 * largest
    assert slopes[-1] > 20 * slopes[1]
    made_true(found.verdicts, "h_r_grows")


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_h_r_of_saturated_weights_converges(activation):
    energy, rho = line(activation, "saturated_matrix")
    found = radial_limit(energy, rho)
    assert found.verdict == "pass"
    assert found.number < 1e-2
    assert "growing" not in found.sentence


def test_growth_refutes_no_activation_of_the_users():
    """It may be bounded beyond the largest r; of the built-in ones it is known that they are not."""
    own = Activation("mine", ACTIVATIONS["tanh"].value, ACTIVATIONS["tanh"].slope)
    found = radial_limit(*line(own))
    assert found.verdict == "unknown"
    made_true(found.verdicts, "h_r_grows")


def test_h_r_of_a_regularised_energy_grows_with_the_regulariser():
    """With |theta|**2 in E, dE/drho(1, r theta) has r**2 in it, saturated weights or not."""
    energy, rho = line("tanh", "saturated_matrix")
    energy = wgflow.Energy(energy.problem, regulariser={"name": "quadratic", "strength": 0.1})
    found = radial_limit(energy, rho)
    assert found.verdict == "fail"
    made_true(found.verdicts, "h_r_grows")


def test_what_no_growth_says_and_what_has_no_h_r():
    energy, rho = line("relu", "saturated_matrix")
    assert radial_limit(energy, rho).verdict == "unknown"
    assert "proves nothing" in made_false(radial_limit(energy, rho).verdicts, "h_r_grows")
    energy, rho = line("tanh", "matrix")
    assert "does not apply" in radial_limit(energy, rho).sentence
    with pytest.raises(InputError, match="t0"):
        radial_limit(energy, rho, 1.5)


class Liar(Ridge):
    """A block that says of itself what is not so."""

    def degree(self, activation):
        return 2


def test_a_wrong_declaration_fails():
    case = problem(block=Liar(), activation="tanh")
    assert homogeneity(case).verdict == "fail"
    assert "is not" in homogeneity(case).sentence


# --- Sard proxy


def quadratic(matrix):
    return lambda theta: (np.einsum("sp,pq,sq->s", theta, matrix, theta), 2 * theta @ matrix)


def test_critical_values_of_a_quadratic_form(rng):
    """Its minimum and maximum on the sphere are the extreme eigenvalues; the others are saddles."""
    half = rng.normal(size=(6, 6))
    matrix = half + half.T
    found = extrema(quadratic(matrix), rng.normal(size=(20, 6)))
    np.testing.assert_allclose(found.value, np.linalg.eigvalsh(matrix)[[0, -1]], rtol=1e-8)
    assert found.number.tolist() == [10, 10]


def test_local_minima_are_told_apart(rng):
    """g = sum_p c_p theta_p**4 with c < 0: local minima c_p at the axes; ascent ends at one value."""
    c = -np.array([1.0, 1.5, 2.0])
    found = extrema(lambda t: (t**4 @ c, 4 * c * t**3), rng.normal(size=(80, 3)))
    assert found.number.sum() == 80
    np.testing.assert_allclose(found.value[:3], [-2.0, -1.5, -1.0], rtol=1e-8)
    assert found.value[3:] == pytest.approx([1 / (1 / c).sum()], rel=1e-6)  # all starts of ascent


def test_many_critical_values_are_not_isolated(rng):
    """Negative control: a rough function, whose starts all end at values of their own."""
    waves = 60 * rng.normal(size=(50, 4))
    found = extrema(lambda t: (np.sin(t @ waves.T).sum(1), np.cos(t @ waves.T) @ waves), rng.normal(size=(30, 4)))
    assert len(found.value) > 0.8 * found.number.sum()


def test_a_function_that_vanishes_has_one_critical_value(rng):
    found = extrema(lambda t: (np.zeros(len(t)), np.zeros(t.shape)), rng.normal(size=(6, 3)))
    assert (found.value.tolist(), found.number.tolist()) == ([0.0], [6])


def test_kinks_do_not_converge(rng):
    """g = |theta|_1 has its minima at kinks, where no gradient vanishes: those starts are not counted."""
    found = extrema(lambda t: (np.abs(t).sum(1), np.sign(t)), rng.normal(size=(20, 3)))
    np.testing.assert_allclose(found.value, [np.sqrt(3)], rtol=1e-9)
    assert found.number.tolist() == [10]


def test_critical_values_of_the_first_variation():
    case = problem(40)
    rho = wgflow.Particles.draw(case, 20)
    energy = wgflow.Energy(case)
    found = critical_values(energy, rho, starts=20)
    assert found.verdict == "pass"
    points = normal(1, "cloud", (20_000, 7))
    value = energy.first_variation(rho, points / np.linalg.norm(points, axis=1, keepdims=True), np.full(20_000, 0.5))

    def field(theta):
        return energy.first_variation_gradient(rho, theta, np.full(len(theta), 0.5))[:2]

    ends = extrema(field, normal(2, "starts", (20, 7))).value
    assert ends[0] <= value.min()
    assert ends[-1] >= value.max()
    assert ends[0] == pytest.approx(value.min(), rel=0.3)
    made_true(found.verdicts, "critical_values_agree")
    assert critical_values(energy, rho, starts=20, iterations=3).verdicts[0].holds is None
    kinked = wgflow.Energy(problem(40, activation="relu"))  # agreement of a search is no proof
    assert [critical_values(kinked, rho, starts=n).verdict for n in (20, 2)] == ["unknown"] * 2
    made_false(critical_values(energy, rho, starts=2).verdicts, "critical_values_agree")
    with pytest.raises(InputError, match="t0"):
        critical_values(energy, rho, 1.5)


# --- zero loss


def test_distinct_inputs_can_be_fitted():
    case = problem(10)
    found = attainable(case, reference_laws.initial_law(case))
    assert found.verdict == "pass"
    assert found.number < 1e-20
    made_true(found.verdicts, "features_fit_targets")
    made_false(found.verdicts, "loss_bounded_above_zero")
    part = attainable(problem(1100, activation="relu"), reference_laws.initial_law(case))
    assert (part.verdict, "1024 of 1100 samples" in part.sentence) == ("unknown", True)


def test_random_features_leave_the_least_squares_residual():
    """Against lstsq with the same features, where they do not suffice."""
    case = problem(10, activation="linear")
    law = reference_laws.initial_law(case)
    theta = reference_laws.draws(law, 20, 0, 1, "features")[0][0]
    features = np.array([case.block.forward(case.x, each, case.activation) @ case.readout[0] for each in theta]).T
    target = case.y[:, 0] - case.x @ case.readout[0]
    left = target - features @ np.linalg.lstsq(features, target, rcond=1e-10)[0]
    found = attainable(case, law)
    assert found.verdict == "unknown"
    assert found.number == pytest.approx(left @ left / (target @ target), rel=1e-6)
    made_false(found.verdicts, "features_fit_targets")


def test_equal_inputs_with_other_targets_fail_by_the_bound():
    x = np.array([[0.0, 1.0], [0.0, 1.0], [2.0, 0.0]])
    case = wgflow.Problem(x, [1.0, 3.0, 5.0])
    found = attainable(case, reference_laws.initial_law(case))
    assert found.verdict == "fail"
    assert found.number == pytest.approx(0.5 * (1 + 1 + 0) / 3)
    made_true(found.verdicts, "loss_bounded_above_zero")
    energy = wgflow.Energy(case, "shallow")
    for seed in range(5):  # no network is below it
        assert energy(wgflow.Particles.draw(case, 9, seed)) >= found.number
    assert attainable(case.replace(x, [1.0, 1.0, 5.0]), reference_laws.initial_law(case)).verdict == "pass"


def test_targets_outside_the_range_of_the_readout_fail():
    y = np.array([[1.0, 1.0], [2.0, 0.0]])
    case = wgflow.Problem(np.eye(2), y, readout=[[1.0, 0.0], [1.0, 0.0]])
    assert lower_bound(case) == pytest.approx(0.5 * (0 + 2) / 2)  # (2, 0) is sqrt 2 from the diagonal
    assert attainable(case, reference_laws.initial_law(case)).verdict == "fail"


def test_blocks_of_one_sign_are_not_said_to_fit():
    case = problem(6, block="matrix", activation="gelu")
    found = attainable(case, reference_laws.initial_law(case))
    assert found.verdict == "unknown"
    assert "signs" in found.sentence


def test_cross_entropy_does_not_attain_zero():
    x, y = np.array([[0.0], [0.0], [1.0]]), np.eye(2)[[0, 1, 1]]
    options = {"readout": [[1.0], [0.0]], "loss": "cross_entropy"}
    mixed = wgflow.Problem(x, y, **options)
    found = attainable(mixed, reference_laws.initial_law(mixed))
    assert found.verdict == "fail"
    assert found.number == pytest.approx(np.log(2) * 2 / 3)
    apart = wgflow.Problem(x[1:], y[1:], **options)
    found = attainable(apart, reference_laws.initial_law(apart))
    assert (found.verdict, found.number) == ("fail", 0.0)
    assert "not attained" in found.sentence


def test_an_own_loss_is_unknown():
    class Own:
        name = "own"

        def value(self, output, y):
            return ((output - y) ** 4).sum(axis=1)

        def gradient(self, output, y):
            return 4 * (output - y) ** 3

        def check(self, y):
            pass

    case = problem(loss=Own())
    assert attainable(case, reference_laws.initial_law(case)).verdict == "unknown"


def test_of_a_loss_of_your_own_named_squared_nothing_is_known():
    class Lifted(Squared):
        def value(self, output, y):
            return super().value(output, y) + 1.0

    problem = wgflow.Problem.padded([[0.0], [1.0]], [1.0, -1.0], loss=Lifted())
    assert attainable(problem, reference_laws.initial_law(problem)).verdict == "unknown"


def test_a_logistic_loss_does_not_attain_zero():
    """Its least value is 0 at infinite outputs, or log 2 / 2 with one of two inputs labelled both ways."""
    for y, bound in (([1.0, -1.0], 0.0), ([1.0, -1.0, 1.0, 1.0], np.log(2) / 2)):
        x = np.array([[0.0], [1.0], [2.0], [2.0]][: len(y)]) if not bound else np.array([[0.0], [0.0], [2.0], [2.0]])
        problem = wgflow.Problem.padded(x, y, loss="logistic")
        found = attainable(problem, reference_laws.initial_law(problem))
        assert found.verdict == "fail"
        assert found.number == pytest.approx(bound, abs=1e-15)
        assert ("only infinite outputs reach" in found.sentence) == (bound == 0)
