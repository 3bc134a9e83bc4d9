"""Activations of the user's in the compiled kernels."""

import logging
import math

import numpy as np
import pytest
from numba import njit
from scipy import special

import wgflow
from wgflow.base.errors import BackendError, InputError
from wgflow.kernels.cpu import elementary
from wgflow.kernels.cpu.backend import Cpu
from wgflow.kernels.numpy_blocked import NumpyBlocked
from wgflow.kernels.reference import Reference
from wgflow.kernels.select import select
from wgflow.model.activations import Activation

BETA = 1.5


def helper(z):
    return 1 / (1 + np.exp(-BETA * z))


def soft(z, sharpness=2.0):
    return math.log1p(0.5) * np.log1p(np.exp(sharpness * z)) / sharpness


OWN = {
    "tanh": Activation("mine", np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "swish": Activation("mine", lambda z: z * helper(z), lambda z: helper(z) * (1 + BETA * z * (1 - helper(z)))),
    "leaky": Activation("mine", lambda z: np.where(z > 0, z, 0.1 * z), lambda z: np.where(z > 0, 1.0, 0.1)),
    "elu": Activation("mine", lambda z: np.where(z > 0, z, np.expm1(z)), lambda z: np.exp(np.minimum(z, 0.0))),
    "softsign": Activation("mine", lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2),
    "gelu": Activation("mine", lambda z: z * (1 + special.erf(z / math.sqrt(2))) / 2),
    "softplus": Activation("mine", soft),
    "wave": Activation("mine", lambda z: np.sin(z) - 0.5 * np.cos(3 * z)),
    "compiled before": Activation("mine", njit(lambda z: np.exp(-z * z)), njit(lambda z: -2 * z * np.exp(-z * z))),
}


def gradients(rng, activation, depth, samples=40, entries=24, block="ridge", dtype="float64"):
    problem = wgflow.Problem(
        rng.normal(size=(samples, 3)), rng.normal(size=samples), activation=activation, block=block
    )
    theta = rng.normal(size=(entries, problem.shape[3]))
    net = depth.network(wgflow.Particles(theta, (rng.permutation(entries) + 0.5) / entries))
    kernel = select("cpu", problem, 1, dtype)
    assert isinstance(kernel, Cpu)
    assert kernel.energy(net, theta) == pytest.approx(Reference(problem).energy(net, theta), rel=1e-5)
    return kernel.gradient(net, theta), Reference(problem).gradient(net, theta)


def assert_equal(ours, theirs, tolerance):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


@pytest.mark.parametrize("name", OWN)
def test_gradients_equal_the_reference(rng, name):
    assert_equal(*gradients(rng, OWN[name], wgflow.Gaps()), 1e-13)


@pytest.mark.parametrize(
    ("depth", "samples", "entries", "block"),
    [
        (wgflow.Layers(2), 70, 24, "ridge"),
        (wgflow.Layers(2), 10, 80, "ridge"),  # wide, few samples
        (wgflow.Deposit(4), 40, 24, "ridge"),
        (wgflow.Gaps(), 40, 6, "two_layer"),
    ],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 1e-5)])
def test_every_pass_calls_it(rng, depth, samples, entries, block, dtype, tolerance):
    assert_equal(*gradients(rng, OWN["swish"], depth, samples, entries, block, dtype), tolerance)


def problem_with(activation):
    return wgflow.Problem([[0.5], [-0.5]], [1.0, 0.0], activation=activation)


def test_what_is_compiled_is_logged_once(caplog):
    own = Activation("square plus", lambda z: z + np.sqrt(z * z + 4), lambda z: 1 + z / np.sqrt(z * z + 4))
    with caplog.at_level(logging.INFO, "wgflow"):
        for _ in range(2):
            assert isinstance(select("cpu", problem_with(own)), Cpu)
    assert caplog.messages == ["activation 'square plus' is compiled into the kernel"]


class Callable:
    def __call__(self, z):
        return np.arctan(z)


@pytest.mark.parametrize(
    ("value", "slope", "reason"),
    [
        (Callable(), lambda z: 1 / (1 + z * z), "an object of class Callable, not a function"),
        (lambda z: special.i0e(z) * 0 + z, lambda z: 1.0 + 0 * z, "i0e"),
        (lambda z: 2 * z if isinstance(z, float) else z, np.ones_like, "its value at z = -9.03 is -18.06 instead of"),
    ],
    ids=["object", "function that Numba lacks", "other numbers"],
)
def test_what_does_not_compile_runs_in_numpy_and_says_why(caplog, value, slope, reason):
    problem = problem_with(Activation("mine", value, slope))
    with caplog.at_level(logging.INFO, "wgflow"):
        assert isinstance(select("cpu", problem), NumpyBlocked)
    assert "runs in NumPy" in caplog.text
    assert reason in caplog.text


def test_what_does_not_compile_is_in_double_precision():
    with pytest.raises(BackendError, match="computes in NumPy, in float64 alone"):
        select("cpu", problem_with(Activation("mine", Callable(), lambda z: 1 / (1 + z * z))), dtype="float32")


def test_a_function_is_compiled_again_when_a_global_number_has_changed(rng, monkeypatch):
    for beta in (1.5, 0.5):
        monkeypatch.setitem(globals(), "BETA", beta)
        own = Activation("mine", lambda z: np.tanh(BETA * z))
        assert_equal(*gradients(np.random.default_rng(0), own, wgflow.Gaps()), 1e-13)


def test_value_alone_must_be_analytic():
    with pytest.raises(InputError, match="give the slope too: a complex step needs an analytic value"):
        problem_with(Activation("mine", lambda z: z / (1 + np.abs(z))))


FUNCTIONS = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sin": np.sin,
    "cos": np.cos,
    "erf": special.erf,
}
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 5e-324, 1e-310, 709.0, -745.0, 1e12]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_elementary_functions_are_within_three_units_in_the_last_place(rng, name):
    function = getattr(elementary, name)

    @njit
    def row(z, out):
        for m in range(z.size):
            out[m] = function(z[m])

    z = np.concatenate([rng.normal(size=4000) * 10 ** rng.uniform(-9, 2.5, 4000), rng.uniform(-2, 2, 4000), SPECIAL])
    ours, single = np.empty_like(z), np.empty_like(z, np.float32)
    row(z, ours)
    row(z.astype(np.float32), single)
    with np.errstate(all="ignore"):
        for result, expected in ((ours, FUNCTIONS[name](z)), (single, FUNCTIONS[name](z.astype(np.float32)))):
            np.testing.assert_array_equal(np.isfinite(result), np.isfinite(expected))
            finite = np.isfinite(expected)
            np.testing.assert_array_equal(result[~finite], expected[~finite])
            error = np.abs(result - expected)[finite]
            assert (error <= 3 * np.spacing(np.abs(expected[finite]))).all()


FACTOR = 0.1


def test_a_number_that_changes_while_an_energy_lives_is_refused(rng, monkeypatch):
    """Compiled code has the number it was compiled with; before, such a change was seen."""
    activation = Activation("leak", lambda z: np.where(z > 0, z, FACTOR * z), lambda z: np.where(z > 0, 1.0, FACTOR))
    problem = wgflow.Problem(rng.normal(size=(10, 3)), rng.normal(size=10), activation=activation)
    rho = wgflow.Particles(rng.normal(size=(20, 7)), np.linspace(0, 1, 20))
    energy = wgflow.Energy(problem, wgflow.Layers(1))
    before = energy(rho)
    monkeypatch.setitem(globals(), "FACTOR", float("0.1"))  # another object, the same number
    assert energy(rho) == before
    monkeypatch.setitem(globals(), "FACTOR", 0.9)
    for evaluate in (energy, energy.velocity, lambda rho: list(wgflow.Flow(energy, step=0.1).run(rho, until=0.1))):
        with pytest.raises(InputError, match=r"expected FACTOR = 0\.1, as when it was compiled, got 0\.9"):
            evaluate(rho)
    exact = wgflow.Energy(problem, wgflow.Layers(1), "reference")(rho)
    assert wgflow.Energy(problem, wgflow.Layers(1))(rho) == pytest.approx(exact, rel=1e-12)


def test_what_reads_an_array_runs_in_numpy_and_sees_its_changes(rng, caplog):
    scale = np.array([0.0])

    def bump(z):
        return np.tanh(z) + scale[0] * np.exp(-((z - 25.0) ** 2))

    def slope(z):
        return 1 - np.tanh(z) ** 2 - 2 * scale[0] * (z - 25.0) * np.exp(-((z - 25.0) ** 2))

    problem = wgflow.Problem(
        20 * rng.normal(size=(10, 3)), rng.normal(size=10), activation=Activation("b", bump, slope)
    )
    rho = wgflow.Particles(rng.normal(size=(40, 7)), np.linspace(0, 1, 40))
    with caplog.at_level(logging.INFO):
        energies = [wgflow.Energy(problem, wgflow.Layers(1), backend) for backend in ("cpu", "reference")]
    assert "reads scale, an object of class ndarray that may change" in caplog.text
    for scale[0] in (0.0, 20.0):
        assert energies[0](rho) == pytest.approx(energies[1](rho), rel=1e-12)


def test_an_activation_that_guards_its_input_runs_in_numpy(rng, caplog):
    def guarded(z):
        if not np.isfinite(z).all():
            raise FloatingPointError("state is not finite")
        return np.tanh(z)

    activation = Activation("guarded", guarded, lambda z: 1 - np.tanh(z) ** 2)
    problem = wgflow.Problem(rng.normal(size=(10, 3)), rng.normal(size=10), activation=activation)
    with caplog.at_level(logging.INFO):
        assert isinstance(wgflow.Energy(problem).kernel, NumpyBlocked)
    assert "compiled into the kernel" not in caplog.text


def test_sin_of_huge_arguments_is_the_librarys(rng):
    problem = wgflow.Problem(rng.normal(size=(10, 3)), rng.normal(size=10), activation="sin")
    theta = rng.normal(size=(40, 7))
    theta[0, -1], theta[1, -1] = 1e300, 1e13
    rho = wgflow.Particles(theta, np.linspace(0, 1, 40))
    for depth in (wgflow.Gaps(), wgflow.Layers(1)):
        exact, ours = (wgflow.Energy(problem, depth, backend).velocity(rho) for backend in ("reference", "cpu"))
        assert ours.energy == pytest.approx(exact.energy, rel=1e-12)
        np.testing.assert_allclose(ours.theta, exact.theta, atol=1e-9 * np.abs(exact.theta).max())
