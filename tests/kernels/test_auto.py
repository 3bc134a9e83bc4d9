"""``auto``: the GPU where one works and the problem is large enough, and always a reason."""

import logging

import numpy as np
import pytest
from machines import FAULTS, FakeMachine

import wgflow
from wgflow.kernels import auto
from wgflow.kernels import select as kernels
from wgflow.kernels.gpu import diagnose
from wgflow.model.activations import Activation
from wgflow.model.blocks import Ridge


class Stub:
    """A device that stores and does nothing."""

    name, processors, shared = "Testing GPU", 4, 200_000

    def put(self, array):
        return np.asarray(array)


class Doubled(Ridge):
    """A block of one's own that unfolds, so the CPU compiles it, but into other numbers than its parameters."""

    def forward(self, x, theta, activation):
        return super().forward(x, 2 * theta, activation)

    def backward(self, x, theta, p, activation):
        by_x, by_theta = super().backward(x, 2 * theta, p, activation)
        return by_x, 2 * by_theta

    def unfold(self, theta, width):
        return 2 * super().unfold(theta, width)

    def fold(self, slope, width):
        return 2 * super().fold(slope, width)


def problem(samples, width=4, **options):
    return wgflow.Problem(np.zeros((samples, width)), np.zeros(samples), **options)


SMALL, LARGE = problem(8), problem(auto.THRESHOLD // 4)


def decide(*problems, machine=None, device=Stub):
    return auto.choose_backend([(each, "float64") for each in problems], machine or FakeMachine(), device)


def test_large_problem_and_a_device_that_works():
    found = decide(SMALL, LARGE)
    assert found == ("gpu", f"Testing GPU, M D = {auto.THRESHOLD}", False)


def test_samples_times_width_decide():
    assert decide(problem(auto.THRESHOLD // 4 - 1)).backend == "cpu"
    assert decide(problem(auto.THRESHOLD // 32, 32)).backend == "gpu"
    reason = decide(SMALL).reason
    assert "M × D = 32" in reason
    assert str(auto.THRESHOLD) in reason


def test_without_cupy_problems_are_not_even_looked_at():
    def problems():
        raise AssertionError
        yield

    assert auto.choose_backend(problems(), FakeMachine(())) == ("cpu", "CuPy is not installed", False)


@pytest.mark.parametrize("fault", [name for name in FAULTS if not name.startswith("no CuPy")])
def test_broken_gpu_is_a_reason_for_the_cpu_and_said(fault, caplog):
    machine, words = FAULTS[fault]
    found = decide(LARGE, machine=machine, device=lambda: diagnose.usable(machine))
    assert found.backend == "cpu"
    assert found.broken
    assert words[0] in found.reason
    with caplog.at_level(logging.WARNING):
        assert auto.announce(found) == "cpu"
    assert words[0] in caplog.text


def test_small_problem_does_not_wake_the_device():
    def device():
        raise AssertionError

    assert decide(SMALL, device=device).backend == "cpu"


def test_what_the_gpu_kernels_cannot_do():
    own = wgflow.Problem(LARGE.x, LARGE.y, activation=Activation("mine", np.sin, np.cos, None))
    assert "of your own" in decide(own).reason
    found = decide(problem(auto.THRESHOLD // 4, block=Doubled()))
    assert found.backend == "cpu"
    assert "does not take each parameter once and as it is" in found.reason


def test_choice_is_logged(caplog):
    with caplog.at_level(logging.INFO, logger="wgflow.kernels"):
        assert wgflow.Energy(SMALL, backend="auto").backend == "cpu"
    assert "backend auto: cpu (" in caplog.text


def test_select_asks_the_choice(monkeypatch):
    monkeypatch.setattr(auto, "choose_backend", lambda problems: auto.Choice("reference", "for the test"))
    assert kernels.select("auto", SMALL).name == "reference"
