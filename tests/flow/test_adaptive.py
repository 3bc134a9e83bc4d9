"""Embedded pairs and steps chosen by their error estimate."""

import functools
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wgflow
from wgflow.base.errors import DivergenceError, InputError
from wgflow.flow.integrators import EMBEDDED, HEUN, INTEGRATORS, Estimate, Tableau, combine, compare, rms, stages
from wgflow.flow.stepsize import Adaptive, Trial
from wgflow.model.datasets import sine

PROBLEM = wgflow.Problem.padded(*sine(40, 1.5))
FADING = {"name": "quadratic", "strength": 0.3, "decay": 2.0}


def setting(depth="deposit", regulariser=None):
    spec = {"name": depth} | ({"layers": 6} if depth == "deposit" else {})
    rho = wgflow.Particles.draw(PROBLEM, 16, seed=2, tau="uniform")
    return wgflow.Energy(PROBLEM, spec, regulariser=regulariser), rho


def adaptive(**options):
    return {"name": "adaptive", **options}


def ended(flow, rho, until=2.0, every=None):
    """Last frame and the times of all steps."""
    times = [0.0]
    *_, last = flow.run(rho, until, every or until, on_step=lambda step, s: times.append(s))
    return last, times


def distance(a, b):
    return rms(a.mass, a.theta - b.theta, a.tau - b.tau)


# The tables.


def trees(order):
    """Rooted trees with this many nodes, each the sorted tuple of its branches."""
    if order == 1:
        return {()}
    grown = {tuple(sorted((*tree, ()))) for tree in trees(order - 1)}  # a leaf on the root, or on a branch
    for tree in trees(order - 1):
        for k, branch in enumerate(tree):
            for taller in _grown(branch):
                grown.add(tuple(sorted((*tree[:k], taller, *tree[k + 1 :]))))
    return grown


def _grown(tree):
    yield tuple(sorted((*tree, ())))
    for k, branch in enumerate(tree):
        for taller in _grown(branch):
            yield tuple(sorted((*tree[:k], taller, *tree[k + 1 :])))


def nodes(tree):
    return 1 + sum(map(nodes, tree))


def density(tree):
    return nodes(tree) * math.prod(map(density, tree))


def weight(tree, a, b):
    """Elementary weight of a tree, exactly."""

    def stage(tree, j):
        return math.prod((sum(a[j][k] * stage(branch, k) for k in range(j)) for branch in tree), start=Fraction(1))

    return sum(b[j] * stage(tree, j) for j in range(len(b)))


def exactly(x):
    """The fraction with a denominator below a million that a float stands for; there is only one."""
    found = Fraction(x).limit_denominator(10**6)
    assert float(found) == x
    return found


def reached(table, weights):
    """Largest p with all order conditions up to p satisfied (Butcher's theorem), up to 6."""
    a = [[]] + [[exactly(x) for x in row] for row in table.a]
    b = [exactly(x) for x in weights]
    for p in range(1, 7):
        if any(weight(tree, a, b) != Fraction(1, density(tree)) for tree in trees(p)):
            return p - 1
    return 6


def test_there_are_as_many_trees_as_there_should_be():
    assert [len(trees(p)) for p in range(1, 7)] == [1, 1, 2, 4, 9, 20]


@pytest.mark.parametrize("table", INTEGRATORS.values(), ids=INTEGRATORS)
def test_order_conditions_hold_exactly_and_no_further(table):
    assert reached(table, table.b) == table.order
    if table.b_low is None:
        assert table.order_low == 0
    else:
        assert reached(table, table.b_low) == table.order_low == table.order - 1


def test_a_wrong_weight_fails_the_order_conditions():
    """Negative control."""
    right = INTEGRATORS["cash_karp"]
    wrong = right._replace(a=(*right.a[:2], (3 / 10, -8 / 10, 11 / 10), *right.a[3:]))
    assert reached(wrong, wrong.b) < 5


@pytest.mark.parametrize("name", EMBEDDED)
def test_observed_orders_of_both_solutions_in_one_step(name):
    """d theta/ds = cos(s) theta, d tau/ds = tau (1 - tau): errors of one step fall like h**(p + 1) and h**(q + 1)."""
    table, s0 = INTEGRATORS[name], 0.3

    def drift(theta, tau, s):
        return np.cos(s) * theta, tau * (1 - tau)

    theta, tau = np.array([[1.0, -2.0]]), np.array([0.7])
    lengths, errors = np.array([0.2, 0.1, 0.05]), []
    for h in lengths:
        exact = theta * np.exp(np.sin(s0 + h) - np.sin(s0)), tau / (tau + (1 - tau) * np.exp(-h))
        made = stages(table, drift, theta, tau, s0, drift(theta, tau, s0), h)
        ends = [combine(theta, tau, weights, made, h) for weights in (table.b, table.b_low)]
        errors.append([[np.abs(x - y).max() for x, y in zip(end, exact, strict=True)] for end in ends])
    slopes = np.polyfit(np.log(lengths), np.log(np.array(errors).reshape(3, 4)), 1)[0]
    np.testing.assert_allclose(slopes, np.repeat([table.order + 1, table.order_low + 1], 2), atol=0.3)


# The rule by itself.


def pretend(error, order=1, size=1.0):
    """A trial of each length that claims an error."""
    tried = []

    def trial(h):
        tried.append(h)
        return Trial(None, 0, lambda: pytest.fail("E is not to be looked at"), lambda: Estimate(error(h), size, order))

    return trial, tried


@pytest.mark.parametrize("order", [1, 2, 4])
def test_the_controller(order):
    """With err = (h / best)**(q + 1) the next length is 0.9 best, within a fifth and five times the last."""
    rule = Adaptive(rtol=0.01, atol=0.02)

    def advance(h, best=0.1):
        trial, tried = pretend(lambda h: (0.02 + 0.01 * 3.0) * (h / best) ** (order + 1), order, 3.0)
        return rule.advance(trial, math.nan, math.nan, h), tried

    taken, tried = advance(0.08)
    assert (taken.h, tried) == (0.08, [0.08])
    assert taken.then == pytest.approx(0.09, rel=1e-12)
    assert advance(0.001)[0].then == 0.005
    taken, tried = advance(0.2)
    np.testing.assert_allclose(tried, [0.2, 0.09], rtol=1e-12)
    assert taken.h == tried[-1]
    np.testing.assert_allclose(advance(10.0)[1], [10.0, 2.0, 0.4, 0.09], rtol=1e-12)


def test_no_step_is_cut_below_the_smallest():
    trial, tried = pretend(lambda h: math.nan)
    taken = Adaptive(smallest=0.07).advance(trial, 0.0, 0.0, 1.0)
    np.testing.assert_allclose(tried, [1.0, 0.2, 0.07])
    assert (taken.h, taken.then) == (0.07, 0.07)
    assert Adaptive(smallest=0.07).advance(trial, 0.0, 0.0, 0.01).h == 0.01  # a frame was in the way


def test_states_whose_size_is_no_measure():
    rule = Adaptive(atol=0.0, smallest=0.1)
    assert rule.advance(pretend(lambda h: 1.0, size=math.inf)[0], 0.0, 0.0, 1.0).h == 0.1
    assert rule.advance(pretend(lambda h: 0.0, size=0.0)[0], 0.0, 0.0, 1.0).h == 1.0
    assert rule.advance(pretend(lambda h: 1e-9, size=0.0)[0], 0.0, 0.0, 1.0).h == 0.1


def test_a_divergence_halves_the_step_and_below_the_smallest_is_one():
    def trial(h):
        if h > limit:
            raise DivergenceError("too far")
        return Trial(None, 0, lambda: 0.0, lambda: Estimate(0.0, 1.0, 1))

    limit = 0.3
    assert Adaptive().advance(trial, 0.0, 0.0, 1.0).h == 0.25
    assert Adaptive(smallest=0.28).advance(trial, 0.0, 0.0, 1.0).h == 0.28
    limit = 0.0
    with pytest.raises(DivergenceError, match="too far"):
        Adaptive().advance(trial, 0.0, 0.0, 1.0)


def test_the_norm_weighs_by_mass_and_counts_depth(rng):
    mass, theta, tau = np.array([1.0, 3.0, 0.0]), rng.normal(size=(3, 2)), rng.normal(size=3)
    expected = math.sqrt((1 * (sum(theta[0] ** 2) + tau[0] ** 2) + 3 * (sum(theta[1] ** 2) + tau[1] ** 2)) / 4)
    assert rms(mass, theta, tau) == pytest.approx(expected, rel=1e-14)
    assert rms(7 * mass, theta, tau) == pytest.approx(expected, rel=1e-14)
    a, b, c = (wgflow.Particles(rng.normal(size=(3, 2)), rng.uniform(size=3), mass) for _ in range(3))
    for before, after in ((a, b), (b, a)):  # the larger one first, and last
        found = compare(before, after, c, 4)
        assert found == (distance(after, c), max(rms(mass, each.theta, each.tau) for each in (a, b)), 4)


def test_the_norm_bounds_the_wasserstein_distance(rng):
    """W2 by trying all couplings of equal masses."""
    a, b = (np.column_stack([rng.normal(size=(6, 2)), rng.uniform(size=6)]) for _ in range(2))
    paired = min(np.sum((a - b[list(order)]) ** 2) for order in itertools.permutations(range(6)))
    bound = rms(np.full(6, 1 / 6), (a - b)[:, :2], (a - b)[:, 2])
    assert math.sqrt(paired / 6) < bound < 3 * math.sqrt(paired / 6)


# The flow with it.

CASES = {
    "shallow": ("shallow", None, {}),
    "deposit": ("deposit", None, {}),
    "fading": ("deposit", FADING, {}),
    "pinned": ("deposit", FADING, {"mobility": {"tau": 0.0, "w": 2.0}, "boundary": "reflect"}),
}


@functools.cache
def reference(case):
    """End of RK4 with tiny steps."""
    depth, term, options = CASES[case]
    energy, rho = setting(depth, term)
    return ended(wgflow.Flow(energy, "rk4", 1 / 128, **options), rho)[0]


SMOOTH = ("shallow", "pinned")  # elsewhere tau moves, in which the spline's E is only C^1


@pytest.mark.parametrize(
    ("name", "case"), [*itertools.product(("heun", "ssp3"), CASES), *(("cash_karp", case) for case in SMOOTH)]
)
def test_the_global_error_falls_in_proportion_to_the_tolerance(name, case):
    """Against RK4 at tiny steps; the number of steps grows like tolerance**(-1/(q + 1))."""
    depth, term, options = CASES[case]
    energy, rho = setting(depth, term)
    tolerances = np.array([1e-3, 1e-4, 1e-5, 1e-6]) * (0.1 if name == "cash_karp" else 1)
    errors, counts = [], []
    for tolerance in tolerances:
        flow = wgflow.Flow(energy, name, adaptive(rtol=tolerance, atol=tolerance), **options)
        last, times = ended(flow, rho)
        errors.append(distance(last, reference(case)))
        counts.append(len(times) - 1)
    assert np.polyfit(np.log(tolerances), np.log(errors), 1)[0] == pytest.approx(1.0, abs=0.2)
    assert max(errors / tolerances) < 10
    expected = -1 / (INTEGRATORS[name].order_low + 1)
    assert np.polyfit(np.log(tolerances), np.log(counts), 1)[0] == pytest.approx(expected, abs=0.08)


@pytest.mark.parametrize("case", sorted(set(CASES) - set(SMOOTH)))
def test_a_high_order_keeps_the_tolerance_where_the_energy_is_less_smooth(case):
    depth, term, options = CASES[case]
    energy, rho = setting(depth, term)
    for tolerance in (1e-3, 1e-4, 1e-5, 1e-6):
        flow = wgflow.Flow(energy, "cash_karp", adaptive(rtol=tolerance, atol=tolerance), **options)
        assert distance(ended(flow, rho)[0], reference(case)) < 20 * tolerance


def test_wrong_weights_miss_the_tolerance():
    """Negative control: an estimate a thousand times too small."""
    energy, rho = setting()
    wrong = Tableau("optimist", 2, HEUN.a, HEUN.b, (0.5005, 0.4995), 1)
    errors = [
        distance(ended(wgflow.Flow(energy, each, adaptive(rtol=1e-5, atol=1e-5)), rho)[0], reference("deposit"))
        for each in (HEUN, wrong)
    ]
    assert errors[0] < 1e-4
    assert errors[1] > 1e-3


def test_a_term_that_fades_is_followed_in_its_own_s():
    """Negative control: stages that all see the s of the step's start are another, slower method."""
    energy, rho = setting("shallow", FADING)
    reference, _ = ended(wgflow.Flow(energy, "rk4", 1 / 256), rho)

    class Frozen(wgflow.Energy):
        start = 0.0

        def field(self, rho, batch=None, s=0.0):
            return super().field(rho, batch, self.start)

    frozen = Frozen(PROBLEM, "shallow", regulariser=FADING)

    def follow(step, s):
        frozen.start = s

    step = adaptive(rtol=1e-6, atol=1e-6)
    right, _ = ended(wgflow.Flow(energy, "ssp3", step), rho)
    *_, wrong = wgflow.Flow(frozen, "ssp3", step).run(rho, 2.0, 2.0, on_step=follow)
    assert distance(right, reference) < 1e-5
    assert distance(wrong, reference) > 1e-3


@pytest.mark.parametrize("boundary", ["clip", "reflect"])
def test_ends_of_depth(boundary):
    """The last of four particles meets an end on the way: its velocity jumps there, and the estimate sees it."""
    energy, rho = wgflow.Energy(PROBLEM, "gaps"), wgflow.Particles.draw(PROBLEM, 4, seed=4, tau="uniform")
    options = {"boundary": boundary, "mobility": {"tau": 20.0}}
    fine, _ = ended(wgflow.Flow(energy, "heun", 1 / 4096, **options), rho, 1.0)
    assert fine.tau.max() > 0.999
    assert fine.switches == 0
    for name in EMBEDDED:
        errors, counts, tolerances = [], [], (1e-3, 1e-5)
        for tolerance in tolerances:
            flow = wgflow.Flow(energy, name, adaptive(rtol=tolerance, atol=tolerance), **options)
            last, times = ended(flow, rho, 1.0)
            errors.append(distance(last, fine))
            counts.append(len(times))
        assert max(counts) < 300  # both solutions are brought back; compared before, they part at every bounce
        if boundary == "clip":
            assert max(np.array(errors) / tolerances) < 10
        else:  # it bounces by O(h), which the estimate sees in part
            assert errors[1] < 0.3 * errors[0] < 0.01


@pytest.mark.parametrize("name", EMBEDDED)
def test_no_velocity_is_computed_twice(name):
    """One a state, and one less than it has stages for each trial."""
    energy, rho = setting()
    calls, trials, field = [], [], energy.field
    energy.field = lambda *args: calls.append(1) or field(*args)

    class Watched(Adaptive):
        def advance(self, trial, *rest):
            return super().advance(lambda h: trials.append(h) or trial(h), *rest)

    _, times = ended(wgflow.Flow(energy, name, Watched(length=2.0, rtol=1e-5)), rho, 4.0)
    assert len(trials) > len(times) - 1  # some were refused
    assert len(calls) == len(times) + len(trials) * len(INTEGRATORS[name].a)


@settings(max_examples=25)
@given(st.floats(-7, -1), st.sampled_from(EMBEDDED), st.floats(-2, 2))
def test_the_energy_falls_within_the_tolerance(exponent, name, length):
    """E(next) <= E + sqrt(dissipation) times twice the error allowed, at every step: E falls along the exact flow."""
    energy, rho = setting()
    tolerance = 10.0**exponent
    rule = adaptive(rtol=tolerance, atol=tolerance, length=10.0**length, smallest=1e-6)
    assert not rises(wgflow.Flow(energy, name, rule), rho, 2 * tolerance)


def rises(flow, rho, tolerance, until=4.0):
    """Steps that raise E by more than an error of the tolerance, in units of (1 + size), can."""
    frames = itertools.islice(flow.run(rho, until, {"name": "steps", "n": 1}), 60)
    return [
        b.energy - a.energy
        for a, b in itertools.pairwise(frames)
        if b.energy > a.energy + tolerance * (1 + rms(a.mass, a.theta, a.tau)) * math.sqrt(a.dissipation) + 1e-14
    ]


def test_without_cutting_the_energy_rises():
    """Negative control: the same check fails steps that may not be cut."""
    energy, rho = setting()
    rule = adaptive(rtol=1e-4, atol=1e-4, length=50.0, smallest=50.0)
    assert rises(wgflow.Flow(energy, "heun", rule), rho, 2e-4, 200.0)


def test_under_gaps_a_jump_of_the_velocity_costs_no_step_below_the_smallest():
    """Where particles change places err falls like h only, so that a tight tolerance asks for very short steps."""
    energy, rho = setting("gaps")
    shortest = []
    for smallest in (1e-10, 1e-2):
        flow = wgflow.Flow(energy, "ssp3", adaptive(rtol=1e-5, atol=1e-5, smallest=smallest))
        last, times = ended(flow, rho)
        assert last.switches > 2
        shortest.append(min(np.diff(times)[:-1]))  # the last was cut by the end
    assert shortest[0] < 2e-3
    assert shortest[1] >= 1e-2 * (1 - 1e-12)


def test_a_step_that_diverges_is_halved():
    energy, rho = setting()
    frames = list(wgflow.Flow(energy, "ssp3", adaptive(length=1e200)).run(rho, until=2.0, every=1.0))
    assert [frame.s for frame in frames] == [0.0, 1.0, 2.0]
    assert frames[-1].energy < frames[0].energy


@pytest.mark.parametrize("depth", ["gaps", "deposit", "shallow"])
@pytest.mark.parametrize("name", EMBEDDED)
def test_a_run_taken_up_again_is_the_same_run(depth, name):
    energy, rho = setting(depth, FADING)
    flow = wgflow.Flow(energy, name, adaptive(rtol=1e-4))
    whole = list(flow.run(rho, until=6.0, every=0.7))
    assert [frame.s for frame in whole] == [*(k * 0.7 for k in range(9)), 6.0]
    assert len({frame.h for frame in whole}) > 2
    rest = list(flow.run(whole[3], until=6.0, every=0.7))
    for a, b in zip(whole[3:], rest, strict=True):
        assert (a.step, a.s, a.h, a.energy, a.switches) == (b.step, b.s, b.h, b.energy, b.switches)
        assert np.array_equal(a.theta, b.theta)
        assert np.array_equal(a.tau, b.tau)


# What is refused.


@pytest.mark.parametrize("name", sorted(set(INTEGRATORS) - set(EMBEDDED)))
def test_a_method_without_an_estimate_is_refused(name):
    energy, _ = setting()
    words = f"integrator: expected one with an error estimate.*got '{name}' .*use one of heun, ssp3, cash_karp"
    with pytest.raises(InputError, match=words):
        wgflow.Flow(energy, name, adaptive())


@pytest.mark.parametrize("options", [{"batch": 5}, {"ingredients": [{"name": "langevin", "temperature": 0.1}]}])
def test_chance_is_refused(options):
    energy, _ = setting()
    with pytest.raises(InputError, match="'adaptive': expected neither batches nor noise"):
        wgflow.Flow(energy, "heun", adaptive(), **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rtol": 0.0}, "rtol: expected 1e-13 <= rtol < 1, got 0.0"),
        ({"rtol": 1.0}, "rtol: expected 1e-13 <= rtol < 1, got 1.0"),
        ({"rtol": "tight"}, "rtol: expected a finite number, got 'tight'"),
        ({"atol": -1e-9}, "atol: expected a finite number >= 0, got -1e-09"),
        ({"smallest": 0.0}, "smallest: expected a finite number > 0, got 0.0"),
        ({"length": math.inf}, "step: expected a finite number > 0, got inf"),
        ({"tol": 1e-3}, "unknown option of step rule 'adaptive' 'tol'.*did you mean"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=words):
        wgflow.Flow(setting()[0], "heun", adaptive(**options))


@pytest.mark.parametrize("size", [1e-200, 1e160])
def test_the_norm_of_numbers_of_any_size(size, rng):
    mass, theta, tau = np.array([1.0, 3.0, 0.5]), rng.normal(size=(3, 2)), rng.normal(size=3)
    assert rms(mass, size * theta, size * tau) / size == pytest.approx(rms(mass, theta, tau), rel=1e-12)
