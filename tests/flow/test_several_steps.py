"""Several steps in one call: the same frames, with the same bits, as single steps."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import wgflow
from wgflow.base.errors import DivergenceError, InputError
from wgflow.flow import stepper_in_place, stepper_several
from wgflow.flow.clock import StepClock
from wgflow.model.activations import Activation

STEPS = 40


def network(seed, depth, count, samples, width, outputs, activation="tanh", dtype="float64", threads=1):
    """A random energy and a measure."""
    rng = np.random.default_rng(seed)
    x, readout = rng.normal(size=(samples, width)), rng.normal(size=(outputs, width))
    loss = "cross_entropy" if seed % 2 and outputs > 1 else "squared"
    y = rng.dirichlet(np.ones(outputs), samples) if loss == "cross_entropy" else rng.normal(size=(samples, outputs))
    problem = wgflow.Problem(x, y, "ridge", activation, readout=readout, loss=loss)
    energy = wgflow.Energy(problem, depth, dtype=dtype, threads=threads)
    if energy.depth.name == "layers":
        return energy, wgflow.Particles.draw_layers(problem, energy.depth.layers, count, seed)
    return energy, wgflow.Particles.draw(problem, count, seed, tau="uniform")


def frames(flow, rho, at_once, on_step=None):
    """Frames up to an error, the error's words, and the steps that were taken together."""
    together, found = [], []
    with pytest.MonkeyPatch.context() as patch:
        for stepper in (stepper_several.SeveralStepper, stepper_in_place.InPlaceStepper):
            patch.setattr(stepper, "several", counted(stepper.several, together))
        if not at_once:
            patch.setattr(StepClock, "coming", lambda clock, most, onto: [])
        try:
            found.extend(flow.run(rho, STEPS * flow.rule.first, STEPS // 2 * flow.rule.first, on_step))
        except DivergenceError as error:
            return [*found, error.frame], str(error), together
    return found, "", together


def counted(several, together):
    def counting(stepper, times, h):
        taken = several(stepper, times, h)
        together.append(taken)
        return taken

    return counting


def same(a, b):
    """Whether two frames have the same bits."""
    if a is None or b is None:
        return a is b
    numbers = [(f.step, f.s, f.energy, f.dissipation, f.switches, f.h, f.balance) for f in (a, b)]
    return numbers[0] == numbers[1] and all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("theta", "tau"))


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32),
    depth=st.sampled_from(["gaps", "shallow", {"name": "layers", "layers": 3}]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 300), st.integers(1, 5), st.integers(1, 3)),
    activation=st.sampled_from(["tanh", "relu", "sin"]),
    dtype=st.sampled_from(["float64", "float32"]),
    step=st.sampled_from([1e-3, 0.1, 1.0, 30.0]),
    mobility=st.sampled_from([None, {"a": 0.5, "tau": 2.0}, {"tau": 0.0}]),
    boundary=st.sampled_from(["clip", "free"]),
)
@example(0, "gaps", (40, 100, 2, 1), "relu", "float64", 0.1, None, "clip")
@example(1, "gaps", (40, 300, 2, 3), "tanh", "float32", 0.1, {"a": 0.5, "tau": 2.0}, "free")
@example(0, "shallow", (40, 20, 2, 1), "tanh", "float64", 0.1, None, "clip")
@example(0, "gaps", (20, 30, 3, 1), "relu", "float64", 30.0, None, "clip")
def test_frames_and_errors_are_those_of_single_steps(seed, depth, size, activation, dtype, step, mobility, boundary):
    energy, rho = network(seed, depth, *size, activation, dtype)
    boundary = boundary if depth == "gaps" else "clip"
    flow = wgflow.Flow(energy, step=step, mobility=mobility, boundary=boundary)
    told = [[], []]
    several, why, together = frames(flow, rho, True, lambda *at: told[0].append(at))
    single, reason, none = frames(flow, rho, False, lambda *at: told[1].append(at))
    assert together, "this flow takes single steps"
    assert not any(none)
    assert (why, told[0]) == (reason, told[1])
    assert len(several) == len(single)
    assert all(map(same, several, single))


def test_several_steps_end_at_frames():
    energy, rho = network(0, "gaps", 16, 32, 1, 1)
    _, _, together = frames(wgflow.Flow(energy, step=0.01), rho, True)
    assert together == [STEPS // 2] * 2


def test_bits_do_not_depend_on_threads():
    alone, several = (
        frames(wgflow.Flow(network(0, "gaps", 100, 300, 4, 1, threads=threads)[0], step=0.01), rho, True)
        for threads in (1, 4)
        for _, rho in [network(0, "gaps", 100, 300, 4, 1)]
    )
    assert any(alone[2])
    assert all(map(same, alone[0], several[0]))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"step": {"name": "descent", "length": 0.1}}, "a rule that looks at every step"),
        ({"integrator": "heun"}, "two stages"),
        ({"batch": 8}, "minibatches"),
        ({"boundary": "reflect"}, "reflection"),
    ],
)
def test_other_flows_take_single_steps(options, why):
    energy, rho = network(0, "gaps", 16, 32, 1, 1)
    flow = wgflow.Flow(energy, **({"step": 0.01} | options))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stepper_several.SeveralStepper, "several", None)
        assert len(list(flow.run(rho, 0.4, 0.2))) == 3, why


def test_own_activation_whose_constant_changes_is_refused_after_several_steps():
    energy, rho = network(0, "gaps", 16, 32, 1, 1)
    activation = Activation("bent", bent, bent_slope)
    problem = wgflow.Problem(energy.problem.x, energy.problem.y, activation=activation, readout=energy.problem.readout)
    flow = wgflow.Flow(wgflow.Energy(problem, threads=1), step=0.01)
    run = flow.run(rho, 1.0, 0.5)
    next(run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "BEND", 2.0)
        with pytest.raises(InputError, match="when it was compiled"):
            next(run)


BEND = 1.0


def bent(z):
    return np.tanh(BEND * z)


def bent_slope(z):
    return BEND * (1 - np.tanh(BEND * z) ** 2)
