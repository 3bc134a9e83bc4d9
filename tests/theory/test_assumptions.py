"""The assumptions panel: each line against a problem where it holds, one where it does not, and a twin."""

import numpy as np
import pytest
from verdict_checks import made_false, made_true

import wgflow
from wgflow.base.errors import InputError
from wgflow.base.rng import normal
from wgflow.model.activations import ACTIVATIONS, Activation
from wgflow.model.blocks import Ridge
from wgflow.theory import reference_laws
from wgflow.theory.assumption_checks import check_assumptions
from wgflow.theory.block_conditions import _suprema
from wgflow.theory.critical_values import critical_values, extrema
from wgflow.theory.density import density
from wgflow.theory.derivative_growth import derivative_growth, observed
from wgflow.theory.homogeneity import _defect, defect, homogeneity, linear_groups
from wgflow.theory.radial_limit import radial_limit
from wgflow.theory.regularity_classes import jump, regularity_class
from wgflow.theory.universality import chosen, gram, spectrum, universal_kernel

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


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_fresh_points_show_that_an_own_block_spans_few_functions(activation):
    """Which refutes nothing: the block may span more with other parameters."""
    case = problem(3, activation=activation, block=OwnRidge())
    found = universal_kernel(case, reference_laws.initial_law(case))
    assert found.verdict == "unknown"
    few = "rank 4 < 67, by a spectrum that ends at once, the same with parameters up to 1000 times as large"
    assert (few in found.sentence) == (activation == "linear")
    assert ("not refuted at these points" in found.sentence) == (activation == "relu")


@pytest.mark.parametrize("far", [20.0, 1e7])
def test_an_activation_that_is_linear_up_to_any_radius_is_not_refuted(far):
    """Clipped at ``far``, it is no polynomial, and universal (Leshno et al.); below it spans 4 functions."""
    clip = Activation("far", lambda z: np.clip(z, -far, far), lambda z: (np.abs(z) < far) * 1.0)
    case = problem(3, activation=clip)
    assert universal_kernel(case, reference_laws.initial_law(case)).verdict == "unknown"


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


def test_linear_groups_of_the_formulas_are_those_that_are_observed(block, activation):
    """A group is linear if its own block, of which nothing is known, is seen to be: with and without a bias."""
    for bias in (True, False):
        case = problem(width=2, block=dict(block_spec(block), bias=bias), activation=activation)
        seen = tuple(
            name for name, part in case.groups.items() if _defect(case, part, (-1.0, 0.5, 2.0, 3.0), 1, 0) <= 1e-10
        )
        assert linear_groups(case) == seen


@pytest.mark.parametrize("block", ["ridge", "matrix", {"name": "gaussian_matrix", "radius": 1e-8}])
def test_states_at_which_f_vanishes_prove_no_homogeneity(block):
    """tanh(w . 0) = 0 and a Gaussian of radius 10**-8 are linear, and 2-homogeneous, in everything."""
    spec = dict(block_spec(block), bias=False)
    found = homogeneity(wgflow.Problem(np.zeros((3, 2)), np.ones(3), block=spec, activation="tanh"))
    assert found.verdict == "fail"
    assert "Refuted: " in found.sentence
    assert not any("6.1" in one.name for one in found.conditions)


def block_spec(block):
    return block if isinstance(block, dict) else {"name": block}


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


class FarBounded(Ridge):
    """a sin(w x), |fhat| <= 1 and Lipschitz in x beyond |w| of 10**6, as its weights are saturated there."""

    def forward(self, x, theta, activation):
        return super().forward(x, self.saturated(theta), activation)

    def backward(self, x, theta, p, activation):
        state, slope = super().backward(x, self.saturated(theta), p, activation)
        slope[1:2] *= (1 + (theta[1] / 1e6) ** 2) ** -1.5
        return state, slope

    def saturated(self, theta):
        theta = theta.copy()
        theta[1] /= np.sqrt(1 + (theta[1] / 1e6) ** 2)
        return theta


@pytest.mark.parametrize("activation", ["sin", "gelu"])
def test_growth_refutes_no_block_of_the_users(activation):
    """Its sigma'(w x + b) w is bounded by 10**6, and grows as far as it is followed; fhat of gelu is bounded so too."""
    case = problem(width=1, activation=activation, block=FarBounded())
    found = homogeneity(case)
    assert found.verdict == "unknown"
    by_name = findings(case)
    assert {one.finding for name, one in by_name.items() if name != "theta_[1] is a number"} == {"not checked"}
    assert "growing there; of your own, and not known farther out" in by_name["fhat Lipschitz"].reason
    assert float(by_name["fhat Lipschitz"].reason.split("= 100 and ")[1].split(" at")[0]) > 3e3


def test_what_is_linear_in_no_group_of_an_own_block_is_not_refuted():
    """f = theta_1 tanh(theta_2 x) with both in one group is the form of Theorem 6.2, which the groups do not show."""

    class OneGroup(Ridge):
        def groups(self, width):
            return {"all": slice(0, 2 * width)}

    case = problem(width=1, activation="tanh", block=OneGroup(bias=False))
    found = homogeneity(case)
    assert found.verdict == "unknown"
    limit = radial_limit(wgflow.Energy(case), wgflow.Particles.draw(case, 4))
    assert "is not known to hold of a block of your own" in limit.sentence
    assert "of your own, other splits of theta were not tried" in found.sentence


def test_the_rounding_of_an_own_block_refutes_nothing(monkeypatch):
    class Own(Ridge):
        def degree(self, activation):
            return 2

    case = problem(activation="relu", block=Own())
    assert homogeneity(case).verdict == "unknown"
    exact = Ridge.forward
    monkeypatch.setattr(Own, "forward", lambda *given: exact(*given).astype(np.float32).astype(float), raising=False)
    found = homogeneity(case)
    assert found.verdict == "unknown"
    assert 1e-9 < found.number < 1e-5
    assert "which may be rounding" in found.sentence


@pytest.mark.parametrize("eta", [1e-8, 0.5, 1e12])
def test_the_jump_that_is_printed_is_that_of_the_second_derivative(eta):
    """sigma'' of the regularised relu is 1/(2 eta) up to eta and 0 beyond, whatever the size of eta."""
    sigma = {"name": "regularised_relu", "eta": eta}
    reason = findings(problem(width=1, activation=sigma))["f in C^2"].reason
    assert float(reason.split("jumps by ")[1].split(" ")[0]) == pytest.approx(1 / (2 * eta), rel=1e-2)


def test_growth_of_the_derivative_in_theta_is_what_numbers_show(block, activation):
    """In closed form, |d_theta f| grows like |theta| at most, but with squared_relu times a parameter."""
    case = problem(width=2, block=block, activation=activation)
    near, far = observed(case)
    found = derivative_growth(case)
    assert found.finding == ("refuted" if far > 10 * near else "proved")
    assert (found.finding == "refuted") == (
        activation == "squared_relu" and case.block.name in ("ridge", "scaled_matrix", "two_layer")
    )
    assert f"{far:.3g} at 10000" in found.reason.replace("1e+04", "10000")
    conditions = [one for one in homogeneity(case).conditions if "d_theta f| <=" in one.name]
    assert {one.finding for one in conditions} <= {found.finding}
    theta = normal(0, "theta", (1, case.shape[3]))[0]  # the numbers, against differences at one theta
    theta *= 100 / np.linalg.norm(theta)
    x, step = np.array([[0.6, 0.8]]), 1e-5
    moved = [case.block.forward(x, theta + step * row, case.activation) for row in np.eye(len(theta))]
    slopes = (np.array(moved)[:, 0] - case.block.forward(x, theta, case.activation)) / step
    assert np.linalg.norm(slopes, 2) / 101 < 30 * near


def test_growth_of_the_derivative_of_an_own_block_is_not_checked():
    case = problem(activation="squared_relu", block=OwnRidge())
    found = derivative_growth(case)
    assert found.finding == "not checked"
    assert "a block or activation of your own" in found.reason


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


def test_weights_that_saturate_beyond_the_largest_r_are_not_refuted():
    """H_r of bound 10**8 grows like r up to there, and no farther; with |theta|**2 in E it grows on."""
    energy, rho = line("relu", {"name": "saturated_matrix", "bound": 1e8})
    for strength, verdict in ((None, "unknown"), (0.0, "unknown"), (0.1, "fail")):
        regulariser = None if strength is None else {"name": "quadratic", "strength": strength}
        found = radial_limit(wgflow.Energy(energy.problem, regulariser=regulariser), rho)
        assert found.verdict == verdict
        made_true(found.verdicts, "h_r_grows")


def test_growth_of_an_own_regulariser_refutes_nothing():
    """It may be bounded beyond the largest r, as |theta|**2/(1 + |theta|**2/10**16) is."""

    class Far:
        name = "far"

        def value(self, theta, s):
            square = (theta**2).sum(axis=1)
            return square / (1 + square / 1e16)

        def gradient(self, theta, s):
            return 2 * theta / (1 + (theta**2).sum(axis=1, keepdims=True) / 1e16) ** 2

        def rate(self, theta, s):
            return np.zeros(len(theta))

        def spec(self):
            return {"name": "far"}

    energy, rho = line("tanh", "saturated_matrix")
    found = radial_limit(wgflow.Energy(energy.problem, regulariser=Far()), rho)
    assert found.verdict == "unknown"
    made_true(found.verdicts, "h_r_grows")


def test_h_r_of_a_regularised_energy_grows_with_the_regulariser():
    """With |theta|**2 in E, dE/drho(1, r theta) has r**2 in it, saturated weights or not."""
    energy, rho = line("tanh", "saturated_matrix")
    energy = wgflow.Energy(energy.problem, regulariser={"name": "quadratic", "strength": 0.1})
    found = radial_limit(energy, rho)
    assert found.verdict == "fail"
    made_true(found.verdicts, "h_r_grows")


@pytest.mark.parametrize(
    ("activation", "block", "finding"),
    [("tanh", "ridge", "refuted"), ("tanh", "saturated_matrix", "proved"), ("relu", "saturated_matrix", "not checked")],
)
def test_the_limit_of_h_r_reads_proved_refuted_or_not_checked(activation, block, finding):
    found = radial_limit(*line(activation, block))
    assert [one.finding for one in found.conditions] == [finding]
    assert f"{finding.capitalize()}: H_r converges with its gradient (" in found.sentence


def test_a_block_that_is_all_theta_1_has_the_form_of_theorem_6_2_and_no_sphere():
    case = wgflow.Problem([[1.0], [2.0]], [1.0, 2.0], block={"name": "matrix", "bias": False}, activation="linear")
    found = radial_limit(wgflow.Energy(case, "shallow"), wgflow.Particles.draw(case, 4, 0))
    assert found.verdict == "unknown"
    assert "theta_[1] = W is all of theta" in found.sentence
    assert "does not hold" not in found.sentence


def test_what_no_growth_says_and_what_has_no_h_r():
    energy, rho = line("relu", "saturated_matrix")
    assert radial_limit(energy, rho).verdict == "unknown"
    assert "proves nothing" in made_false(radial_limit(energy, rho).verdicts, "h_r_grows")
    energy, rho = line("tanh", "matrix")
    assert "does not hold: Theorem 6.2 is not checked" in radial_limit(energy, rho).sentence
    with pytest.raises(InputError, match="t0"):
        radial_limit(energy, rho, 1.5)


class Liar(Ridge):
    """A block that says of itself what is not so."""

    def degree(self, activation):
        return 2


def test_a_wrong_declaration_fails():
    case = problem(block=Liar(), activation="tanh")
    assert homogeneity(case).verdict == "fail"
    assert homogeneity(case).sentence.startswith("Refuted: ")


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
