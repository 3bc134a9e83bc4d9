"""Objects of the user's own are tried once when they come in, and wrong ones are refused with one line."""

import dataclasses
import gc
from functools import partial

import numpy as np
import pytest

import wgflow
from wgflow.base import user_objects
from wgflow.base.errors import InputError
from wgflow.base.user_objects import is_builtin
from wgflow.energy import Energy
from wgflow.flow.integrators import HEUN, INTEGRATORS, RK4, Tableau, integrator
from wgflow.flow.operators import Langevin
from wgflow.flow.schedule import schedule
from wgflow.flow.stepsize import Constant, Taken
from wgflow.model.activations import ACTIVATIONS, Activation, activation
from wgflow.model.blocks import Ridge
from wgflow.model.depth import Deposit, Gaps, Layers
from wgflow.model.losses import LOSSES, Squared, loss
from wgflow.model.regularisers import Quadratic
from wgflow.systems.neural_feature_flow.network import Network

X, Y = np.random.default_rng(1).normal(size=(12, 2)), np.random.default_rng(2).normal(size=12)
RHO = wgflow.Particles(np.random.default_rng(3).normal(size=(6, 5)), (np.arange(6) + 0.4) / 6)


def one_line(words, make, *arguments, **options):
    """The error of a call: one line with these words in it."""
    with pytest.raises(InputError) as caught:
        make(*arguments, **options)
    assert "\n" not in str(caught.value)
    assert words in str(caught.value)


def problem(**options):
    return wgflow.Problem(X, Y, **options)


# --- losses


class Pinball:
    """Quantile loss, with a kink where output and target meet."""

    name = "pinball"
    sign = 1.0

    def value(self, output, y):
        return np.sum(np.maximum(0.3 * (y - output), 0.7 * (output - y)), axis=1)

    def gradient(self, output, y):
        return self.sign * np.where(output > y, 0.7, -0.3)

    def check(self, y):
        pass


class Bernoulli(Pinball):
    """Likelihood of 0/1 targets for outputs that are probabilities: NaN at all others."""

    def value(self, output, y):
        return -np.sum(y * np.log(output) + (1 - y) * np.log(1 - output), axis=1)

    def gradient(self, output, y):
        return (output - y) / (output * (1 - output))


def changed(base, **methods):
    """An object of a class like the base with other methods."""
    return type(base.__name__, (base,), methods)()


def writes(self, output, y):
    output -= y
    return np.sum(0.5 * output**2, axis=1)


LOSSES_REFUSED = {
    "the sign": (changed(Pinball, sign=-1.0), "gradient at (0, 0) is "),
    "the mean": (
        changed(Pinball, gradient=lambda self, o, y: Pinball().gradient(o, y) / len(y)),
        "not to depend on the",
    ),
    "one number": (
        changed(Pinball, value=lambda self, o, y: Pinball().value(o, y).mean()),
        "to have shape (24,), got ()",
    ),
    "columns": (changed(Pinball, value=lambda self, o, y: np.abs(o - y)), "to have shape (24,), got (24, 1)"),
    "single": (changed(Pinball, value=lambda self, o, y: Pinball().value(o, y).astype(np.float32)), "got float32"),
    "noise": (changed(Pinball, value=lambda self, o, y: np.random.rand(len(o))), "the same for the same arguments"),  # noqa: NPY002
    "NaN": (changed(Pinball, value=lambda self, o, y: np.full(len(o), np.nan)), "to be finite, got nan"),
    "written to": (changed(Pinball, value=writes), "leave its arguments as they are"),
    "an error": (changed(Pinball, gradient=lambda self, o, y: 1 / 0), "got ZeroDivisionError: division by zero"),
    "its check": (changed(Pinball, check=lambda self, y: 1 / 0), "got ZeroDivisionError: division by zero"),
    "its name": (changed(Pinball, name=3), "expected a name that is text, got 3 (int)"),
    "the class": (Pinball, "got the class Pinball; make one of it"),
    "a function": (lambda o, y: o - y, "without name, value, gradient, check"),
    "no check": (type("L", (), {"name": "l", "value": None, "gradient": None})(), "without check"),
}


@pytest.mark.parametrize(("wrong", "words"), LOSSES_REFUSED.values(), ids=LOSSES_REFUSED)
def test_wrong_losses(wrong, words):
    one_line(words, problem, loss=wrong)
    one_line(words, Network, X, Y, loss=wrong)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_losses_with_kinks_domains_and_any_scale(scale):
    problem(loss=Pinball())
    wgflow.Problem(X, (Y > 0).astype(float), loss=Bernoulli())
    value, gradient = (lambda self, o, y: scale * Squared().value(o, y)), (lambda self, o, y: scale * (o - y))
    problem(loss=changed(Pinball, value=value, gradient=gradient))
    wrong = changed(Pinball, value=value, gradient=lambda self, o, y: -scale * (o - y))
    one_line("gradient at", problem, loss=wrong)


def test_many_outputs():
    y = np.random.default_rng(5).normal(size=(12, 40))
    make = partial(wgflow.Problem, X, y, readout=np.ones((40, 2)))
    right = changed(
        Pinball, value=lambda self, o, y: np.sum((o - y) ** 2, axis=1), gradient=lambda self, o, y: 2 * (o - y)
    )
    make(loss=right)
    one_line(
        "gradient at", make, loss=changed(type(right), gradient=lambda self, o, y: 2 * (o - y) * (np.arange(40) != 7))
    )


# --- activations


RIGHT = {
    "leaky": Activation("leaky", lambda z: np.where(z > 0, z, 0.1 * z), lambda z: np.where(z > 0, 1.0, 0.1), 1),
    "fast": Activation("fast", lambda z: np.sin(2000 * z), lambda z: 2000 * np.cos(2000 * z)),
    "small": Activation("small", lambda z: 1e-12 * np.tanh(z), lambda z: 1e-12 / np.cosh(z) ** 2),
    "step": Activation("step", lambda z: (z > 0) * 1.0, lambda z: np.zeros(z.shape, int)),
    "hat": Activation("hat", lambda z: np.maximum(0, 1 - abs(z)), lambda z: np.where(abs(z) < 1, -np.sign(z), 0.0)),
}
ACTIVATIONS_REFUSED = {
    "sign": (Activation("a", np.cos, np.sin), "expected slope to be the derivative of value"),
    "constant": (Activation("a", lambda z: z, lambda z: 1.0), "expected slope to have shape"),
    "softmax": (
        Activation("a", lambda z: np.exp(z) / np.exp(z).sum(), lambda z: z),
        "value of each number not to depend on the others",
    ),
    "an error": (Activation("a", lambda z: z if z > 0 else 0, np.ones_like), "got ValueError: The truth value"),
    "infinite": (Activation("a", lambda z: 1 / (z - z), np.zeros_like), "to be finite, got inf"),
    "complex": (Activation("a", lambda z: z.astype(complex), np.ones_like), "float64 for arguments in float64"),
    "in compiled code": (
        dataclasses.replace(ACTIVATIONS["tanh"], value=np.sin, slope=np.cos),
        "builtin to be left False",
    ),
    "a function": (
        np.tanh,
        "a function alone is not enough, make a wgflow.model.activations.Activation(name, value, slope)",
    ),
    "a class": (Activation, "make an object of it"),
}


@pytest.mark.parametrize("right", RIGHT.values(), ids=RIGHT)
def test_right_activations(right):
    problem(activation=right)
    assert activation(right) is right


@pytest.mark.parametrize(("wrong", "words"), ACTIVATIONS_REFUSED.values(), ids=ACTIVATIONS_REFUSED)
def test_wrong_activations(wrong, words):
    one_line(words, problem, activation=wrong)
    one_line(words, Network, X, Y, h1=wrong)
    one_line(words, Network, X, Y, h2=wrong)


# --- blocks


class Twice(Ridge):
    """Another forward, and the units that compiled kernels run as they were."""

    def forward(self, x, theta, activation):
        return 2 * super().forward(x, theta, activation)

    def backward(self, x, theta, p, activation):
        return tuple(2 * part for part in super().backward(x, theta, p, activation))


class Normed(Ridge):
    def forward(self, x, theta, activation):
        return super().forward(x - x.mean(axis=0), theta, activation)


class Unfolded(Ridge):
    def fold(self, slope, width):
        return 2 * super().fold(slope, width)


class Chance(Ridge):
    def forward(self, x, theta, activation):
        return super().forward(x, theta, activation) + np.random.rand()  # noqa: NPY002


class Nameless(Ridge):
    def spec(self):
        return {"name": "nameless", "table": np.zeros(3)}


BLOCKS_REFUSED = {
    "its units": (Twice(), "expected forward to be the sum of the units of unfold"),
    "its fold": (Unfolded(), "but differences of unfold give"),
    "a mean over samples": (Normed(), "forward of each sample not to depend on the others"),
    "noise": (Chance(), "the same for the same arguments"),
    "a spec": (Nameless(), "expected spec() to be a dict of plain JSON"),
    "the class": (Ridge, "got the class Ridge; make one of it, Ridge(...)"),
    "a function": (lambda x, theta: x, "without name, groups, forward, backward, degree, spec"),
}


@pytest.mark.parametrize(("wrong", "words"), BLOCKS_REFUSED.values(), ids=BLOCKS_REFUSED)
def test_wrong_blocks(wrong, words):
    one_line(words, problem, block=wrong)


def test_a_block_of_many_parameters_is_tried_along_a_few_directions():
    class Wide(wgflow.model.blocks.Matrix):
        calls = 0

        def forward(self, x, theta, activation):
            self.__class__.calls += 1
            return super().forward(x, theta, activation)

    class Wrong(Wide):
        def backward(self, x, theta, p, activation):
            by_x, by_theta = super().backward(x, theta, p, activation)
            return by_x, np.append(by_theta[:-1], -by_theta[-1])

    x = np.random.default_rng(6).normal(size=(20, 64))
    wgflow.Problem(x, x[:, 0], Wide())
    assert Wide.calls < 200
    one_line("the gradient in theta", wgflow.Problem, x, x[:, 0], Wrong())


# --- once


class Slotted:
    """Neither hashable nor weakly referable."""

    __slots__ = ("calls",)
    __hash__ = None
    name = "slotted"

    def __init__(self):
        self.calls = 0

    def value(self, output, y):
        self.calls += 1
        return Squared().value(output, y)

    def gradient(self, output, y):
        return output - y

    def check(self, y):
        pass


def test_an_object_is_tried_once():
    mine = Slotted()
    problem(loss=mine)
    calls = mine.calls
    assert calls > 0
    for _ in range(3):
        wgflow.Problem(X, Y, loss=mine)
    assert mine.calls == calls


def test_a_refused_object_is_refused_again_and_what_is_forgotten_frees_its_memory():
    wrong = changed(Pinball, sign=-1.0)
    for _ in range(2):
        one_line("gradient at", problem, loss=wrong)
    gc.collect()  # what other tests left behind
    before = len(user_objects._tried)
    right = [Pinball() for _ in range(20)]
    for each in right:
        problem(loss=each)
    assert len(user_objects._tried) == before + 20
    del right, each
    assert len(user_objects._tried) == before
    for _ in range(200):
        problem(loss=Slotted())
    assert len(user_objects._kept) <= user_objects._KEPT


def test_built_in_objects_are_not_tried(monkeypatch):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr(user_objects, "_reference", never)
    energy = Energy(problem(), Deposit(3), regulariser="quadratic")
    flow = wgflow.Flow(energy, RK4, {"name": "descent"})
    list(flow.run(RHO, until=0.1, every=schedule(0.1)))
    assert loss(LOSSES["squared"]) is LOSSES["squared"]


def test_a_built_in_loss_runs_compiled_whoever_made_it():
    assert type(Energy(problem(loss=Squared())).kernel) is type(Energy(problem()).kernel)


def test_files_do_not_take_an_own_object_for_a_built_in_one_of_its_name():
    """Read back without the object, such a run is refused, not computed with another function."""
    sine = Activation("tanh", np.sin, np.cos)
    named = changed(Pinball, name="squared")
    for options, key in (({"activation": sine}, "activation"), ({"loss": named}, "loss")):
        made = problem(**options)
        one_line("(own)'", wgflow.Problem.from_spec, made.spec(), made.arrays())
        again = wgflow.Problem.from_spec(made.spec(), made.arrays(), {key: options[key]})
        assert getattr(again, key) is options[key]


# --- regularisers


class Fading:
    name = "fading"

    def value(self, theta, s):
        return np.exp(-s) * np.abs(theta).sum(axis=1)

    def gradient(self, theta, s):
        return np.exp(-s) * np.sign(theta)

    def rate(self, theta, s):
        return -self.value(theta, s)

    def spec(self):
        return {"name": self.name}


REGULARISERS_REFUSED = {
    "sign": (changed(Fading, gradient=lambda self, theta, s: -np.sign(theta)), "gradient at"),
    "rate": (changed(Fading, rate=lambda self, theta, s: np.zeros(len(theta))), "rate at"),
    "sum": (changed(Fading, value=lambda self, theta, s: np.sum(theta**2)), "to have shape (6,), got ()"),
    "others": (
        changed(Fading, value=lambda self, theta, s: (theta - theta.mean(axis=0))[:, 0]),
        "value of each particle not to depend on the others",
    ),
    "class": (Quadratic, "got the class Quadratic"),
}


@pytest.mark.parametrize(("wrong", "words"), REGULARISERS_REFUSED.values(), ids=REGULARISERS_REFUSED)
def test_wrong_regularisers(wrong, words):
    Energy(problem(), regulariser=Fading())
    one_line(words, Energy, problem(), regulariser=wrong)


# --- depth schemes


class Own(Deposit):
    """The scheme as it is, but for what a test changes."""


def flipped(self, rho, net, value, slope):
    v_theta, v_tau = Deposit.velocity(self, rho, net, value, slope)
    return v_theta, -v_tau


def halved(self, rho, net, value, slope):
    v_theta, v_tau = Deposit.velocity(self, rho, net, value, slope)
    return 0.5 * v_theta, v_tau


def heavy(self, rho, t):
    stencil = Deposit.sample(self, rho, t)
    return stencil._replace(weight=1.01 * stencil.weight, slope=1.01 * stencil.slope)


def still(self, rho, t):
    return Deposit.sample(self, rho, t)._replace(slope=np.zeros((len(t), 5)))


DEPTHS_REFUSED = {
    "v_tau": ({"velocity": flipped}, "v_tau / -kappa of particle"),
    "v_theta": ({"velocity": halved}, "v_theta,i = -(1/mass_i) dE/dtheta_i"),
    "inverse_tau_mobility": (
        {"inverse_tau_mobility": lambda self, rho: np.zeros(len(rho))},
        "inverse_tau_mobility to be 1/kappa > 0 where tau moves",
    ),
    "weights": ({"sample": heavy}, "weights of sample to have sum 1"),
    "slopes": ({"sample": still}, "v_tau / -kappa of particle"),
    "network": ({"network": lambda self, rho: None}, "network to return a wgflow.model.depth.Network, got None"),
    "beyond": (
        {"network": lambda self, rho: (net := Deposit.network(self, rho))._replace(particle=net.particle + 1)},
        "entries of particles 0..5",
    ),
}


@pytest.mark.parametrize(("methods", "words"), DEPTHS_REFUSED.values(), ids=DEPTHS_REFUSED)
def test_wrong_depth_schemes(methods, words):
    energy = Energy(problem(), type("Wrong", (Own,), methods)(3))
    one_line(words, energy, RHO)
    one_line(words, energy.velocity, RHO)


def test_right_depth_schemes():
    for base in (Gaps(), Layers(3), Deposit(3), Deposit(3, "hat"), wgflow.Shallow()):
        kind = type(base)
        mine = type("Mine", (kind,), {})(*dataclasses.astuple(base))
        assert not is_builtin(mine)
        for rho in (RHO, wgflow.Particles(RHO.theta, [0.5, 0.5, 0.0, 0.1, 1.0, 0.9])):
            assert Energy(problem(), mine)(rho) == Energy(problem(), base)(rho)
    one_line(
        "got <class 'wgflow.model.depth.gaps.Gaps'> (ABCMeta); make an object of it, Gaps(...)", Energy, problem(), Gaps
    )


# --- what a flow takes


def test_wrong_tables():
    wrong = {
        "sum of b to be 1": Tableau("t", 1, (), (0.9,)),
        "b to fulfil the conditions of order 3": HEUN._replace(name="t", order=3),
        "b_low to fulfil": HEUN._replace(name="t", order_low=2),
        "row j of a to have j + 1 weights": Tableau("t", 2, ((0.5, 0.5),), (0.5, 0.5)),
        "rows for 2 stages": Tableau("t", 1, (), (0.5, 0.5)),
        "b_low to differ": HEUN._replace(name="t", b_low=HEUN.b, order_low=2),
        "finite weights": Tableau("t", 1, (), (np.nan,)),
        "order of b of integrator 't': expected a whole number >= 1": Tableau("t", 0, (), (1.0,)),
    }
    energy = Energy(problem())
    for words, table in wrong.items():
        one_line(words, wgflow.Flow, energy, table)
    one_line("expected a name or a wgflow.flow.integrators.Tableau", wgflow.Flow, energy, HEUN.a)
    for table in INTEGRATORS.values():
        assert integrator(table._replace(name="mine")).b == table.b


def test_wrong_operators():
    energy, generator = Energy(problem()), np.random.default_rng(0)

    def noise(rho, move):
        return rho.moved(rho.theta + generator.normal(size=rho.theta.shape), rho.tau)

    flow = wgflow.Flow(energy, ingredients=[noise])
    one_line("operator 'noise': expected the same particles for the same measure", list, flow.run(RHO, until=0.1))
    one_line("got the class Langevin", wgflow.Flow, energy, ingredients=[Langevin])
    one_line("expected a function of a measure and a move, got one with arguments (rho)", wgflow.Flow, energy,
             ingredients=[lambda rho: rho])  # fmt: skip
    one_line("ingredients: expected a list of operators", wgflow.Flow, energy, ingredients=noise)
    one_line("ingredients: expected a list of operators", wgflow.Flow, energy, ingredients={"name": "langevin"})


class Rule(Constant):
    """A rule as it is, but for what a test changes."""


def test_wrong_rules():
    energy = Energy(problem())
    wrong = {
        "h of the step taken to be the length of its trial, 0.05": lambda trial, h: Taken(trial(h / 2), h, h),
        "expected steps of a length 0 < h <= 0.1": lambda trial, h: Taken(trial(2 * h), 2 * h, h),
        "advance to return a wgflow.flow.stepsize.Taken": lambda trial, h: trial(h),
        "length to try next": lambda trial, h: Taken(trial(h), h, np.nan),
    }
    for words, advance in wrong.items():
        rule = type("R", (Rule,), {"advance": lambda self, trial, e, d, h, do=advance: do(trial, h)})(0.1)
        one_line(words, list, wgflow.Flow(energy, step=rule).run(RHO, until=0.1))
    one_line("got the class Constant", wgflow.Flow, energy, step=Constant)
    one_line("first of step rule", wgflow.Flow, energy, step=type("R", (Rule,), {"first": 0.0})(0.1))


def test_wrong_schedules():
    class Doubling:
        name = "doubling"

        def after(self, s):
            return 2.0 ** np.floor(np.log2(s) + 1) if s >= 0.01 else 0.01

        def within(self, until):
            return 5

        def spec(self):
            return {"name": self.name}

    assert schedule(Doubling()).after(3.0) == 4.0
    wrong = {
        "after(0) to be later": lambda self, s: s,
        "the first time after 0 too": lambda self, s: s + 1.0,
        "after to have shape ()": lambda self, s: [1.0, 2.0],
    }
    for words, after in wrong.items():
        one_line(words, schedule, changed(Doubling, after=after))
    one_line("without within", schedule, type("S", (), {"name": "s", "after": max, "spec": dict})())


def test_a_degree_that_is_none_is_refused():
    class Mine(Ridge):
        name = "mine"

        def degree(self, activation):
            return "two"

    with pytest.raises(InputError, match="degree of block 'mine': expected a whole number >= 0, got 'two'"):
        wgflow.Problem([[1.0], [2.0]], [1.0, 2.0], block=Mine())
    with pytest.raises(InputError, match=r"expected an activation of degree 1, f\(2 z\) = 2\*\*1 f\(z\)"):
        activation(Activation("th", np.tanh, lambda z: 1 - np.tanh(z) ** 2, degree=1))
