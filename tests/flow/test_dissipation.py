"""The energy-dissipation identity E(0) - E(S) = int dissipation ds along runs, for every scheme that has a flow."""

import numpy as np
import pytest

import wgflow
from wgflow.model.datasets import sine


def defect(spec, h, until=10.0, count=32, integrator="euler", **options):
    """Relative defect of the identity over a run from the same start, the integral by the trapezoidal rule."""
    problem = wgflow.Problem.padded(*sine(60, 1.5))
    energy = wgflow.Energy(problem, spec, regulariser=options.pop("regulariser", None))
    rho = wgflow.Particles.draw(problem, count, seed=1, tau="uniform")
    if spec["name"] == "layers":
        rho = wgflow.Particles.draw_layers(problem, spec["layers"], count // spec["layers"], seed=1)
    frames = list(wgflow.Flow(energy, integrator, step=h, **options).run(rho, until=until))
    rate = [f.dissipation - energy.rate_in_s(wgflow.Particles(f.theta, f.tau, f.mass), f.s) for f in frames]
    drop = frames[0].energy - frames[-1].energy
    return abs(np.trapezoid(rate, dx=h) - drop) / drop


@pytest.mark.parametrize(
    "spec", [{"name": "deposit", "layers": 8}, {"name": "layers", "layers": 8}, {"name": "shallow"}], ids=str
)
@pytest.mark.parametrize("mobility", [{}, {"a": 0.5, "tau": 3.0}], ids=["plain", "mobility"])
def test_defect_vanishes_with_the_step(spec, mobility):
    """By about two, as the step does; under Deposit, whose depths are stiffer, from smaller steps on."""
    longest = 0.025 if spec["name"] == "deposit" else 0.1
    defects = [defect(spec, longest / 2**k, mobility=mobility) for k in range(3)]
    assert defects[0] < 0.05
    assert defects[1] < 0.6 * defects[0]
    assert defects[2] < 0.6 * defects[1]


def test_the_hat_has_no_gradient_flow():
    """Negative control: particles chatter at the kinks of E, and the defect stays whatever h is."""
    defects = [defect({"name": "deposit", "layers": 8, "shape": "hat"}, h) for h in (0.1, 0.05, 0.025, 0.0125)]
    spline = defect({"name": "deposit", "layers": 8}, 0.0125)
    assert min(defects) > 0.03
    assert defects[-1] > 0.7 * defects[0]
    assert defects[-1] > 30 * spline


def test_a_term_that_depends_on_s_adds_its_rate():
    """dE/ds = -dissipation + partial_s E for Ding et al.'s E_s; without that rate the identity fails."""
    options = {"regulariser": {"name": "quadratic", "strength": 0.1}, "until": 4.0, "integrator": "rk4"}
    assert defect({"name": "deposit", "layers": 8}, 0.05, **options) < 1e-3
    problem = wgflow.Problem.padded(*sine(60, 1.5))
    energy = wgflow.Energy(problem, wgflow.Deposit(8), regulariser=options["regulariser"])
    rho = wgflow.Particles.draw(problem, 32, seed=1)
    assert energy.rate_in_s(rho, 0.0) < -0.05


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2), ("ssp3", 3), ("rk4", 4)])
def test_order_of_the_integrators_on_a_nonlinear_flow(case, name, order):
    """By regression against much smaller steps; the spline is only C^1 in tau, so tau rests."""
    problem, rho = case()
    energy = wgflow.Energy(problem, wgflow.Deposit(4))

    def end(integrator, h):
        flow = wgflow.Flow(energy, integrator, step=h, mobility={"tau": 0.0})
        *_, last = flow.run(rho, until=0.8, every=0.8)
        return last.theta

    reference = end("rk4", 0.8 / 512)
    steps = 0.8 / np.array([4, 8, 16, 32])
    errors = [np.abs(end(name, h) - reference).max() for h in steps]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(order, abs=0.25)


def test_heun_is_of_second_order_with_depth_moving(case):
    problem, rho = case()
    energy = wgflow.Energy(problem, wgflow.Deposit(4))

    def end(h):
        *_, last = wgflow.Flow(energy, "heun", step=h).run(rho, until=0.4, every=0.4)
        return np.append(last.theta.ravel(), last.tau)

    reference = end(0.4 / 1024)
    steps = 0.4 / np.array([8, 16, 32, 64])
    errors = [np.abs(end(h) - reference).max() for h in steps]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(2.0, abs=0.25)
