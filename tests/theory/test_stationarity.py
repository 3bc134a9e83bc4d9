import itertools

import exact_problems
import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError
from wgflow.model.depth import switches
from wgflow.theory.stationarity import balance, lojasiewicz, residual


def test_residual_against_complex_steps_of_the_definition(case, scheme, by_complex_step):
    """dE/dtheta_i = weight_i d_theta dE/drho and, under Deposit, dE/dtau_i = mass_i d_t dE/drho."""
    problem, rho = case(scheme=scheme)
    energy = wgflow.Energy(problem, scheme)
    found = residual(energy, rho)
    weights = energy.weights(rho)
    by_theta = by_complex_step(problem, scheme, rho, "theta")
    assert found.theta == pytest.approx(np.sum(by_theta**2 / weights[:, None]), rel=1e-11)
    by_tau = by_complex_step(problem, scheme, rho, "tau")
    expected = np.sum(by_tau**2 / rho.mass) if scheme["name"] == "deposit" else 0.0
    assert found.t == pytest.approx(expected, rel=1e-11, abs=1e-30)
    force = np.sum(rho.mass * by_tau**2) if scheme["name"] == "gaps" else expected  # kappa = mass under Gaps
    assert found.force == pytest.approx(force, rel=1e-11, abs=1e-30)
    assert found.total == found.theta + found.t > 0


def test_it_is_the_dissipation_where_the_flow_is_the_wasserstein_flow(case, scheme):
    problem, rho = case(scheme=scheme)
    energy = wgflow.Energy(problem, scheme)
    frame = next(wgflow.Flow(energy, step=0.1).run(rho, until=0.1))
    same = residual(energy, rho).total == pytest.approx(frame.dissipation, rel=1e-12)
    assert same == (scheme["name"] != "gaps")  # negative control: gaps are no masses there


def test_walls_hold_what_points_outwards(case):
    problem, rho = case(scheme={"name": "deposit", "layers": 4})
    energy = wgflow.Energy(problem, {"name": "gaps"})
    pinned = wgflow.Particles(rho.theta, np.where(rho.tau > 0.5, 1.0, rho.tau), rho.mass)
    held, loose = residual(energy, pinned), residual(energy, pinned, boundary="reflect")
    v_tau = energy.velocity(pinned).tau
    outward = (pinned.tau == 1) & (v_tau > 0)
    assert outward.any()
    assert loose.force - held.force == pytest.approx(np.sum(v_tau[outward] ** 2 / rho.mass[outward]))


def test_blocks_that_neither_read_nor_write_are_stationary_and_others_are_not(case):
    problem, rho = case()
    energy = wgflow.Energy(problem, "shallow")
    assert residual(energy, rho.moved(np.zeros_like(rho.theta), rho.tau)).total == 0
    assert residual(energy, rho).total > 1e-4


def closed_form(target=2.0, until=3.0, step=0.01, every=0.1, scale=1.0):
    """Linear flow with w pinned: E(s) = E(0) exp(-2 s), dissipation = 2 E."""
    flow = exact_problems.linear_flow(target)
    start = wgflow.Particles(np.column_stack([np.linspace(0, 1, 5), np.ones(5)]), np.linspace(0.1, 0.9, 5))
    energy = wgflow.Energy(flow.problem, "shallow")
    frames = list(wgflow.Flow(energy, "rk4", step, mobility={"w": 0}).run(start, until, every))
    return [scale * np.array([getattr(frame, name) for frame in frames]) for name in ("s", "energy", "dissipation")]


def test_ratio_and_decay_are_two_on_the_linear_flow():
    s, energy, dissipation = closed_form()
    found = lojasiewicz(s, energy, dissipation)
    np.testing.assert_allclose(found.ratio, 2.0, rtol=1e-9)
    np.testing.assert_allclose(found.decay, 2.0, rtol=1e-7)
    assert found.least == pytest.approx(2.0)
    np.testing.assert_allclose(found.middle, s[:-1] + 0.05)


def test_ratio_and_decay_differ_for_a_wrong_dissipation_and_the_wrong_infimum():
    s, energy, dissipation = closed_form()
    wrong = lojasiewicz(s, energy, 1.01 * dissipation)
    assert np.abs(wrong.ratio[1:] - wrong.decay).min() > 0.01
    assert np.ptp(lojasiewicz(s, energy + 0.1, dissipation).ratio) > 0.1
    np.testing.assert_allclose(lojasiewicz(s, energy + 0.1, dissipation, infimum=0.1).ratio, 2.0, rtol=1e-7)
    assert np.isnan(lojasiewicz(s, np.zeros_like(s), dissipation).ratio).all()


def test_identity_on_the_linear_flow_is_exact_up_to_the_trapezoid_rule():
    """int 2 E exp(-2s) by trapezoids of width 0.1: relative error (0.2)**2/12 = 3.3e-3 of the drop."""
    found = balance(*closed_form())
    np.testing.assert_allclose(found.defect, -found.drop * (0.1 / np.tanh(0.1) - 1), atol=1e-9)
    fine = balance(*closed_form(every=0.01))
    assert fine.relative < found.relative / 90
    assert (found.at_switches == 0).all()
    np.testing.assert_array_equal(found.elsewhere, found.defect)


def run_of_gaps(problem, rho, step):
    energy = wgflow.Energy(problem, "gaps", threads=1)
    frames = list(wgflow.Flow(energy, step=step).run(rho, until=1.6))
    return energy, frames


def test_the_defect_of_algorithm_1_sits_at_its_order_switches(case):
    """Elsewhere it is O(h); where blocks change places E jumps, whatever the step."""
    problem, rho = case(particles=8)
    defects, jumps = [], []
    for step in (0.02, 0.01, 0.005):
        energy, frames = run_of_gaps(problem, rho, step)
        series = {
            name: [getattr(frame, name) for frame in frames] for name in ("s", "energy", "dissipation", "switches")
        }
        found = balance(**series)
        defects.append(np.abs(found.elsewhere[-1]) / found.drop.max())
        jumps.append(found.at_switches[-1])
        np.testing.assert_allclose(found.elsewhere + found.at_switches, found.defect, atol=1e-15)
    measured = 0.0
    for before, after in itertools.pairwise(frames):
        rho = wgflow.Particles(after.theta, after.tau, after.mass)
        order = np.argsort(before.tau, kind="stable")
        if switches(order, rho.order):
            measured -= energy(rho) - energy.network_energy(energy.depth.network(rho, order=order), rho.theta)
    assert frames[-1].switches > 3
    assert abs(measured) > 1e-4
    assert jumps[-1] == pytest.approx(measured, rel=0.2)
    assert defects[-1] < 0.3 * defects[0]
    assert defects[-1] < 0.1 * abs(measured) / found.drop.max()


def test_a_dissipation_that_is_not_its_own_leaves_a_defect():
    s, energy, dissipation = closed_form(every=0.01)
    assert balance(s, energy, dissipation).relative < 1e-4
    assert balance(s, energy, 0.99 * dissipation).relative > 5e-3


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (([0.0], [1.0], [1.0]), "at least two frames"),
        (([0.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0]), "equally many numbers"),
        (([0.0, 0.0], [1.0, 1.0], [1.0, 1.0]), "increase from frame to frame"),
        (([0.0, 1.0], [1.0, np.nan], [1.0, 1.0]), "energy: expected finite"),
    ],
)
def test_series_that_are_no_run_are_refused(series, message):
    for function in (balance, lojasiewicz):
        with pytest.raises(InputError, match=message):
            function(*series)


def test_switches_and_boundaries_are_checked(case):
    with pytest.raises(InputError, match="never decrease"):
        balance([0.0, 1.0, 2.0], [3.0, 2.0, 1.0], [1.0, 1.0, 1.0], [0, 2, 1])
    problem, rho = case()
    with pytest.raises(InputError, match="boundary"):
        residual(wgflow.Energy(problem), rho, boundary="bounce")
