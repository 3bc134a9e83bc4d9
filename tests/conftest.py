"""Shared fixtures. No global seed: every test says which numbers it draws."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import wgflow
from wgflow.activations import ACTIVATIONS

# The first call of a kernel compiles it, so no deadline; CI always tries the same examples.
settings.register_profile(
    "wgflow", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("wgflow")


@pytest.fixture
def rng():
    return np.random.default_rng(20261121)


@pytest.fixture(params=sorted(ACTIVATIONS))
def activation(request):
    return request.param


def make_case(rng, particles=5, samples=7, width=3, activation="tanh", bias=True, outputs=1):
    """A random problem and measure with distinct depths."""
    problem = wgflow.Problem(
        rng.normal(size=(samples, width)),
        rng.normal(size=(samples, outputs)),
        block={"name": "ridge", "bias": bias},
        activation=activation,
        readout=rng.normal(size=(outputs, width)),
    )
    theta = rng.normal(size=(particles, problem.shape[3]))
    tau = (rng.permutation(particles) + rng.uniform(0.1, 0.9, particles)) / particles
    mass = rng.uniform(0.5, 1.5, particles) / particles
    return problem, wgflow.Particles(theta, tau, mass)


@pytest.fixture
def case(rng):
    def build(**options):
        return make_case(rng, **options)

    return build
