"""Nonlinear measuring functions: exact derivatives on every backend that has them, and what the theorems ask."""

import numpy as np
import pytest

import wgflow
from wgflow.base.errors import BackendError, InputError
from wgflow.kernels.gpu.backend import Gpu
from wgflow.kernels.reference import Reference
from wgflow.model.losses import LOSSES
from wgflow.model.measuring import Hyperbolic, Linear, measuring
from wgflow.study import schema
from wgflow.systems import members
from wgflow.theory.certificate import certificate
from wgflow.theory.envelope import adjoint_envelope
from wgflow.theory.expansion import remainders
from wgflow.theory.measuring_function import measuring_function
from wgflow.theory.stationarity import residual
from wgflow.trajectory import Trajectory, TrajectoryWriter

CURVED = {"name": "hyperbolic", "strength": 0.4}


def problem(rng, outputs=1, strength=0.4, loss="squared", width=3, block="ridge"):
    x, y = rng.normal(size=(9, 2)), rng.normal(size=(9, outputs))
    if loss == "cross_entropy":
        y = np.eye(outputs)[rng.integers(0, outputs, 9)]
    embed, readout = rng.normal(size=(width, 2)), rng.normal(size=(outputs, width))
    g = {"name": "hyperbolic", "strength": strength}
    return wgflow.Problem(x, y, block, "tanh", embed, readout, loss, g)


@pytest.mark.parametrize("g", [Linear(), Hyperbolic(), Hyperbolic(1.7)], ids=str)
@pytest.mark.parametrize("outputs", [1, 3])
def test_pull_back_is_the_transpose_of_the_derivative(rng, g, outputs):
    z, readout, q = rng.normal(size=(6, 4)), rng.normal(size=(outputs, 4)), rng.normal(size=(6, outputs))
    found = g.pull_back(z, readout, q)
    for j in range(4):
        moved = g.value(z + 1e-30j * np.eye(4)[j], readout)
        np.testing.assert_allclose(found[:, j], (moved * q).sum(axis=1).imag / 1e-30, rtol=1e-13, atol=1e-14)
    assert measuring(g.spec()) == g


def test_hyperbolic_by_hand():
    z, readout = np.array([[2.0, -2.0]]), np.array([[0.5, 1.0]])
    np.testing.assert_allclose(Hyperbolic(0.25).value(z, readout), [[-1.0 + 0.25 * 2.0]], rtol=1e-15)
    small = Hyperbolic(1.0).value(np.full((1, 2), 1e-9), np.zeros((1, 2)))
    np.testing.assert_allclose(small, [[1e-18]], rtol=1e-12)  # no cancellation near 0


@pytest.mark.parametrize(("outputs", "loss"), [(1, "squared"), (2, "squared"), (3, "cross_entropy")])
def test_gradient_is_that_of_a_complex_step_on_both_backends(rng, outputs, loss):
    case = problem(rng, outputs, loss=loss)
    rho = wgflow.Particles(rng.normal(size=(6, 7)), (np.arange(6) + 0.5) / 6)
    slow, fast = (wgflow.Energy(case, wgflow.Layers(3), backend) for backend in ("reference", "cpu"))
    net, kernel = slow.network(rho), Reference(case)
    one, other = slow.velocity(rho), fast.velocity(rho)
    exact = np.empty((6, 7))
    for i, j in np.ndindex(6, 7):
        theta = rho.theta.astype(complex)
        theta[i, j] += 1e-30j
        exact[i, j] = kernel.energy(net, theta).imag / 1e-30
    np.testing.assert_allclose(-one.theta * rho.mass[:, None], exact, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(other.theta, one.theta, rtol=1e-12, atol=1e-14)
    assert other.energy == pytest.approx(one.energy, rel=1e-14)
    np.testing.assert_allclose(fast.predict(rho, case.x), slow.predict(rho, case.x), rtol=1e-13)


def test_end_adjoint_is_the_papers(rng):
    """p(1) = (g(Z(1)) - y) grad g(Z(1)), equation (11)."""
    case, z = problem(rng), rng.normal(size=(9, 3))
    root = np.sqrt(1 + (z**2).sum(axis=1))
    w = case.readout[0]
    expected = ((z @ w + 0.4 * (root - 1)) - case.y[:, 0])[:, None] * (w + 0.4 * z / root[:, None])
    np.testing.assert_allclose(case.end_adjoint(z, case.y), expected, rtol=1e-13, atol=1e-14)


def test_strength_zero_is_the_linear_readout(rng):
    case = problem(rng, strength=0.0)
    linear = wgflow.Problem(case.x, case.y, "ridge", "tanh", case.embed, case.readout)
    rho = wgflow.Particles.draw(case, 8, seed=1)
    a, b = (wgflow.Energy(each).velocity(rho) for each in (case, linear))
    np.testing.assert_allclose(a.theta, b.theta, rtol=1e-12, atol=1e-15)
    assert linear.linear
    assert "measuring" not in linear.spec()
    assert not case.linear


def test_compiled_kernels_refuse_it_and_say_so(rng):
    with pytest.raises(BackendError, match="a measuring function that is not linear, computes in NumPy"):
        Gpu(problem(rng))
    with pytest.raises(BackendError, match="measuring function that is not linear, computes in NumPy, in float64"):
        wgflow.Energy(problem(rng), dtype="float32")
    for choice, words in (
        ("hyperbolik", "did you mean 'hyperbolic'"),
        ({"name": "hyperbolic", "strength": -1.0}, ">= 0"),
    ):
        with pytest.raises(InputError, match=words):
            measuring(choice)


def test_a_study_and_its_file_have_it(tmp_path):
    tables = {
        "problem": {"name": "sine", "samples": 20, "measuring": CURVED, "heldout": 0.25},
        "particles": {"count": 6}, "depth": {"name": "gaps"}, "flow": {"until": 2.0, "step": 0.05},
    }  # fmt: skip
    setup = members.build(schema.check_member(tables, "test"))
    assert setup.energy.problem.measuring == setup.heldout.problem.measuring == Hyperbolic(0.4)
    frames = list(setup.flow.run(setup.start, 2.0, 0.5))
    assert frames[-1].energy < 0.9 * frames[0].energy
    assert frames[-1].balance.relative < 0.05
    with TrajectoryWriter.create(tmp_path / "run.h5", setup.energy, 6) as writer:
        writer.append(frames[-1])
    with Trajectory(tmp_path / "run.h5") as trajectory:
        again = trajectory.energy()
        assert again.problem.measuring == Hyperbolic(0.4)
        assert again(trajectory[0].particles) == frames[-1].energy
    with pytest.raises(InputError, match=r"problem.*measuring.*did you mean"):
        schema.check_member(tables | {"problem": {"name": "sine", "measuring": "hyperbolik"}}, "test")


def findings(case):
    found = measuring_function(case)
    return found, {one.name: one.finding for one in found.conditions}


def test_the_hypothesis_on_g(rng):
    case = problem(rng)
    size = np.linalg.norm(case.readout)
    found, each = findings(case)
    assert (found.verdict, found.number) == ("pass", pytest.approx(size - 0.4))
    assert set(each.values()) == {"proved"}
    least = float(found.sentence.split("inf |grad g| = ")[1].split("; ")[1].split(" to ")[0])
    assert found.number <= least * (1 + 1e-2)  # printed with three digits; reached towards -W1
    assert least == pytest.approx(found.number, rel=1e-2)
    found, each = findings(problem(rng, strength=50.0))
    assert (found.verdict, found.number, each["inf |grad g| > 0"]) == ("fail", 0.0, "refuted")
    linear = wgflow.Problem(case.x, case.y, "ridge", "tanh", case.embed, case.readout)
    assert findings(linear)[0].number == pytest.approx(size)
    zero = wgflow.Problem(case.x, case.y, "ridge", "tanh", case.embed, np.zeros((1, 3)))
    assert findings(zero)[0].verdict == "fail"
    for outputs, loss, name in ((2, "squared", "one output"), (1, "huber", "squared loss")):
        found, each = findings(problem(rng, outputs, loss=loss))
        assert (found.verdict, each[name]) == ("fail", "refuted")


def test_a_gradient_that_may_vanish_up_to_rounding_is_not_decided(rng):
    """inf |grad g| = max(|W1| - c, 0): where |W1| of three columns is c up to rounding, nothing is decided."""
    readout = rng.normal(size=(1, 3))
    size = float(np.linalg.norm(readout))
    ulp = np.spacing(size)
    unknown = "not checked"
    for steps, finding in ((0, unknown), (4, unknown), (-4, unknown), (64, "refuted"), (-64, "proved")):
        g = {"name": "hyperbolic", "strength": size + steps * ulp}
        case = wgflow.Problem(rng.normal(size=(4, 3)), np.ones(4), readout=readout, measuring=g)
        assert findings(case)[1]["inf |grad g| > 0"] == finding
    for strength, finding in ((0.6, "refuted"), (np.nextafter(0.6, 0), "proved")):  # |W1| of one column is exact
        g = {"name": "hyperbolic", "strength": strength}
        case = wgflow.Problem(rng.normal(size=(4, 1)), np.ones(4), readout=[[0.6]], measuring=g)
        assert findings(case)[1]["inf |grad g| > 0"] == finding


def test_a_loss_of_your_own_may_be_the_squared_one(rng):
    class Own(type(LOSSES["squared"])):
        pass

    found, each = findings(problem(rng, loss=Own()))
    assert (found.verdict, each["squared loss"]) == ("unknown", "not checked")
    assert "the loss is squared, of your own" in found.sentence


def test_a_readout_whose_squares_underflow_is_not_zero(rng):
    case = wgflow.Problem(rng.normal(size=(4, 3)), np.ones(4), readout=1e-200 * np.ones((1, 3)))
    assert findings(case)[1]["inf |grad g| > 0"] == "proved"


def test_a_zero_of_grad_g_is_a_zero_of_the_velocity():
    """Where inf |grad g| > 0 fails, a network may be stationary with E > 0: grad g = 0 at the only state."""
    z = 0.75  # strength z/sqrt(1 + z^2) = 0.6 = -W1
    case = wgflow.Problem(
        [[z]], [[5.0]], "ridge", "tanh", readout=[[-0.6]], measuring={"name": "hyperbolic", "strength": 1}
    )
    energy, rho = wgflow.Energy(case, "shallow"), wgflow.Particles([[0.0, 1.0, 0.0]], [0.5])
    assert findings(case)[0].verdict == "fail"
    assert energy(rho) > 1.0
    assert residual(energy, rho).total < 1e-28


def test_theory_knows_that_the_output_is_not_linear(rng):
    case = problem(rng)
    energy, rho = wgflow.Energy(case, "shallow"), wgflow.Particles.draw(case, 6, seed=1)
    assert not certificate(energy, rho, 1.0, 4).convex
    found = adjoint_envelope(energy, rho)
    tape = Reference(case).outputs(energy.network(rho), rho.theta, case.start())
    assert found.loss == pytest.approx(float(np.mean(LOSSES["squared"].value(tape, case.y))))
    assert found.end_by_loss is None
    with pytest.raises(InputError, match="expected 'linear' for the expansion of outputs, got 'hyperbolic'"):
        remainders(energy, rho, [1.0, 0.5])
