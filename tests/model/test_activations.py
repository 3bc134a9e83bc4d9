import numpy as np
import pytest

from wgflow.base.errors import InputError
from wgflow.kernels.cpu.backend import compilable
from wgflow.model.activations import ACTIVATIONS, Activation, activation, regularised_relu
from wgflow.model.problem import Problem


def test_slope_is_the_derivative(activation):
    sigma = ACTIVATIONS[activation]
    z = np.linspace(-3.01, 3.0, 301)  # misses the kinks
    np.testing.assert_allclose(sigma.slope(z), sigma.value(z + 1e-30j).imag / 1e-30, rtol=1e-13, atol=1e-15)


def test_degree_of_homogeneity(activation):
    sigma = ACTIVATIONS[activation]
    z = np.linspace(-2, 2, 41)
    if sigma.degree is not None:
        np.testing.assert_allclose(sigma.value(3 * z), 3**sigma.degree * sigma.value(z), rtol=1e-14)
    else:
        assert not any(np.allclose(sigma.value(3 * z), 3**k * sigma.value(z)) for k in range(4))


def test_nan_stays_nan(activation):
    assert np.isnan(ACTIVATIONS[activation].value(np.array([np.nan]))).all()


def test_registry_names_and_specs(activation):
    assert ACTIVATIONS[activation].name == activation
    from_spec = globals()["activation_of"](ACTIVATIONS[activation].spec())
    z = np.linspace(-1, 1, 5)
    np.testing.assert_array_equal(from_spec.value(z), ACTIVATIONS[activation].value(z))


activation_of = activation


def test_regularised_relu_has_its_parameter():
    sigma = activation({"name": "regularised_relu", "eta": 0.25})
    assert sigma.spec() == regularised_relu(0.25).spec() == {"name": "regularised_relu", "eta": 0.25}
    assert sigma.value(np.array([0.0])) == 0.25 / 4


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("tahn", "did you mean 'tanh'"),
        ({"name": "tanh", "eta": 1.0}, "unknown option 'eta'"),
        ({"name": "regularised_relu", "eta": 0.0}, "expected a finite number > 0, got 0.0 [(]float[)]"),
    ],
)
def test_bad_choice(choice, words):
    with pytest.raises(InputError, match=words):
        activation(choice)


def test_builtin_without_a_code_is_computed_in_numpy(monkeypatch):
    softsign = Activation("softsign", lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2, builtin=True)
    monkeypatch.setitem(ACTIVATIONS, "softsign", softsign)
    problem = Problem([[0.5], [-0.5]], [1.0, 0.0], activation="softsign")
    assert not compilable(problem)
    assert compilable(Problem([[0.5], [-0.5]], [1.0, 0.0], activation="tanh"))
