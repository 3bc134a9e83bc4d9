"""The balance of energy that frames carry: against frames of every step, its order in h, resumption."""

import numpy as np
import pytest

import wgflow
from wgflow.base.energy_balance import EMPTY
from wgflow.model.datasets import sine
from wgflow.theory.stationarity import balance as of_frames
from wgflow.theory.transport import Birth, BirthDeath
from wgflow.trajectory import Trajectory, TrajectoryWriter

DEPOSIT = {"name": "deposit", "layers": 8}


def frames_of(spec, h, until, count=32, activation="tanh", samples=60, frequency=1.5, regulariser=None, **options):
    problem = wgflow.Problem.padded(*sine(samples, frequency), activation=activation)
    energy = wgflow.Energy(problem, spec, regulariser=regulariser)
    rho = wgflow.Particles.draw(problem, count, seed=1, tau="uniform")
    if spec["name"] == "layers":
        rho = wgflow.Particles.draw_layers(problem, spec["layers"], count // spec["layers"], seed=1)
    return list(wgflow.Flow(energy, step=h, **options).run(rho, until=until))


@pytest.mark.parametrize("spec", [DEPOSIT, {"name": "layers", "layers": 8}, {"name": "gaps"}], ids=lambda s: s["name"])
def test_it_is_the_sum_over_the_frames_of_every_step(spec):
    frames = frames_of(spec, 0.2, 4.0)
    energy, dissipation = (np.array([getattr(frame, name) for frame in frames]) for name in ("energy", "dissipation"))
    change, spent = np.diff(energy), 0.2 * dissipation[:-1]
    switched = np.diff([frame.switches for frame in frames]) > 0
    found = frames[-1].balance
    assert frames[0].balance == EMPTY
    assert found.steps == 20
    assert found.switched == switched.sum()
    assert (found.switched > 0) == (spec["name"] == "gaps")
    defect = np.abs(change + spent)
    expected = [np.abs(change).sum(), spent.sum(), defect[~switched].sum(), defect[switched].sum()]
    assert [found.descent, found.dissipated, found.defect, found.at_switches] == pytest.approx(expected, rel=1e-9)
    assert found.risen_at_switches == pytest.approx(change[switched].clip(0).sum(), rel=1e-9)


@pytest.mark.parametrize(("integrator", "order"), [("euler", 1), ("heun", 2), ("rk4", 3)])
def test_the_defect_falls_like_a_power_of_the_step(integrator, order):
    """Up to order 2, as E is smooth: C^1 in tau. It is that of the frames up to the rule of the integral."""
    options = {"integrator": integrator, "mobility": {"tau": 0.0}}
    found = [frames_of(DEPOSIT, h, 4.0, **options)[-1].balance.relative for h in (0.2, 0.1, 0.05)]
    assert found[1] < 1.2 * found[0] / 2**order
    assert found[2] < 1.2 * found[1] / 2**order
    assert found[2] > 0
    frames = frames_of(DEPOSIT, 0.05, 4.0, **options)
    series = ([getattr(frame, name) for frame in frames] for name in ("s", "energy", "dissipation"))
    assert of_frames(*series).relative == pytest.approx(found[2], abs=0.02)


def test_an_unstable_run_is_seen_and_a_quarter_of_the_step_mends_it():
    """Deposit with relu: at 0.2 E rises and dissipation explains nothing, at 0.05 it explains all but a percent."""
    options = {"count": 64, "activation": "relu", "samples": 100, "frequency": 1.0}
    for integrator in ("euler", "heun"):
        wild = frames_of(DEPOSIT, 0.2, 32.0, integrator=integrator, **options)
        found, energy = wild[-1].balance, np.array([frame.energy for frame in wild])
        rises = np.diff(energy)[np.diff(energy) > 1e-12]
        assert found.rises == len(rises) > 0
        assert found.rise == rises.max()
        assert found.rise_s == wild[int(np.diff(energy).argmax()) + 1].s
        assert found.risen == pytest.approx(rises.sum())
        assert found.relative > 0.5
    calm = frames_of(DEPOSIT, 0.05, 32.0, **options)[-1].balance
    assert calm.rises == 0
    assert calm.relative < 0.05


def test_a_term_that_fades_does_not_count_as_descent_or_defect():
    options = {"regulariser": {"name": "quadratic", "strength": 0.1}, "integrator": "rk4", "mobility": {"tau": 0.0}}
    frames = frames_of(DEPOSIT, 0.05, 4.0, **options)
    found, drop = frames[-1].balance, frames[0].energy - frames[-1].energy
    assert found.relative < 1e-3
    assert found.descent < 0.9 * drop  # the rest of it is the term fading away


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"integrator": "rk4", "regulariser": {"name": "quadratic", "strength": 0.1}},
        {"integrator": "heun", "step_rule": {"name": "adaptive", "rtol": 1e-3, "length": 0.3}},
        {"step_rule": {"name": "descent", "length": 0.4}},
    ],
    ids=["euler", "fading", "adaptive", "descent"],
)
def test_n_steps_and_n_more_through_a_file_are_2n(options, tmp_path):
    step, term = options.pop("step_rule", 0.1), options.pop("regulariser", None)
    problem = wgflow.Problem.padded(*sine(40, 1.5))
    energy = wgflow.Energy(problem, regulariser=term)
    flow = wgflow.Flow(energy, step=step, **options)
    whole = list(flow.run(wgflow.Particles.draw(problem, 8, tau="uniform"), until=4.0, every=0.5))
    with TrajectoryWriter.create(tmp_path / "run.h5", energy, 8) as writer:
        for frame in whole[:5]:
            writer.append(frame)
    with Trajectory(tmp_path / "run.h5") as trajectory:
        assert trajectory.balance == whole[4].balance
        np.testing.assert_array_equal(trajectory.series("balance"), [frame.balance for frame in whole[:5]])
        rest = list(flow.run(trajectory[-1], until=4.0, every=0.5))
    assert [frame.balance for frame in rest] == [frame.balance for frame in whole[4:]]
    assert whole[-1].balance.steps == whole[-1].step


def halved(rho, move):
    """An ingredient that moves the measure by itself."""
    return rho.moved(0.999 * rho.theta, rho.tau, free=False, fresh=True)


@pytest.mark.parametrize(
    "options", [{"batch": 5}, {"ingredients": [{"name": "langevin", "temperature": 0.1}]}, {"ingredients": [halved]}]
)
def test_nothing_is_claimed_with_batches_noise_and_ingredients(options, tmp_path):
    frames = frames_of(DEPOSIT, 0.1, 0.5, **options)
    assert [frame.balance for frame in frames] == [None] * 6
    problem = wgflow.Problem.padded(*sine(60, 1.5))
    with TrajectoryWriter.create(tmp_path / "run.h5", wgflow.Energy(problem), 32) as writer:
        writer.append(frames[-1])
    with Trajectory(tmp_path / "run.h5") as trajectory:
        assert trajectory.balance is trajectory[-1].balance is None


class Lifts:
    """An operator that says it lowers E and raises it."""

    descends = True

    def __call__(self, rho, move):
        return rho.moved(1.05 * rho.theta if move.step == 2 else rho.theta, rho.tau, free=False)


@pytest.mark.parametrize("integrator", ["euler", "heun"])
def test_operators_that_descend_act_between_the_steps_that_are_measured(integrator):
    """The balance is that of plain steps from the same measures, whose masses have changed; it explains their E."""
    acting = [BirthDeath(1.0), Birth(every=15, radius=2.0, starts=4)]
    frames = frames_of(DEPOSIT, 0.01, 0.4, integrator=integrator, ingredients=acting)
    problem = wgflow.Problem.padded(*sine(60, 1.5))
    energy = wgflow.Energy(problem, DEPOSIT)
    assert len({frame.mass.tobytes() for frame in frames}) == len(frames)
    alone = []
    for frame in frames[:-1]:
        *_, after = wgflow.Flow(energy, step=0.01, integrator=integrator).run(frame.particles, until=0.01)
        alone.append((abs(after.energy - frame.energy), after.balance.dissipated, after.balance.defect))
    found = frames[-1].balance
    assert [found.descent, found.dissipated, found.defect] == pytest.approx(np.sum(alone, axis=0), rel=1e-9)
    assert found.relative < 0.05
    assert found.rises == 0
    assert found.descent < 0.95 * (frames[0].energy - frames[-1].energy)  # the rest is the operators' work
    *_, noisy = wgflow.Flow(energy, ingredients=[BirthDeath(1.0, floor=0.1, jitter=0.1)]).run(frame.particles, 0.1)
    assert noisy.balance is None


def test_a_rise_by_an_operator_counts_and_is_no_defect():
    calm, lifted = (frames_of(DEPOSIT, 0.05, 0.25, ingredients=acting)[-1].balance for acting in ([], [Lifts()]))
    assert calm.rises == 0
    assert lifted.rises == 1
    assert lifted.rise_s == pytest.approx(0.15)
    assert lifted.rise == lifted.risen > 0
    assert lifted.relative == pytest.approx(calm.relative, rel=0.5)


def test_rounding_is_no_rise():
    """Particles at rest at the origin, and a run that has converged to rounding."""
    problem = wgflow.Problem.padded([[-1.0], [0.0], [1.0]], [1.0, 0.0, 1.0], activation="linear")
    for dtype in ("float64", "float32"):
        energy = wgflow.Energy(problem, wgflow.Shallow(), dtype=dtype)
        rho = wgflow.Particles.draw(problem, 4, seed=0)
        *_, last = wgflow.Flow(energy, step=0.2).run(rho, until=60.0, every=60.0)
        assert last.dissipation < 1e-12
        assert last.balance.rises == 0
    still = wgflow.Particles(np.zeros_like(rho.theta), rho.tau)
    *_, last = wgflow.Flow(energy).run(still, until=1.0)
    assert (last.balance.descent, last.balance.rises) == (0.0, 0)
    assert np.isnan(last.balance.relative)
