"""Birth-death and births: masses, the dissipation identity, what they can leave and what they refuse."""

import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError
from wgflow.flow.operators import Move
from wgflow.theory import transport
from wgflow.theory.certificate import certificate
from wgflow.theory.transport import Birth, BirthDeath

SCHEMES = [{"name": "deposit", "layers": 4}, {"name": "shallow"}]


@pytest.fixture(params=SCHEMES, ids=lambda spec: spec["name"])
def scheme(request):
    return request.param


def fisher_rao_dissipation(energy, rho, rate):
    """Rate at which birth-death alone lowers E: rate sum_i mass_i (V_i - <V, rho>)**2, derived."""
    value = energy.first_variation(rho, rho.theta, rho.tau)
    return rate * (rho.mass @ (value - rho.mass @ value / rho.mass.sum()) ** 2)


def made(case, scheme, **options):
    problem, rho = case(scheme=scheme, **options)
    return wgflow.Energy(problem, scheme, threads=1), rho


def test_one_step_of_masses_against_the_formula(case, scheme):
    energy, rho = made(case, scheme)
    after = BirthDeath(2.0)(rho, Move(0, 0.0, 0.1, energy))
    value = energy.first_variation(rho, rho.theta, rho.tau)
    grown = rho.mass * np.exp(-0.2 * (value - rho.mass @ value / rho.mass.sum()))
    np.testing.assert_allclose(after.mass, grown * rho.mass.sum() / grown.sum(), rtol=1e-13)
    np.testing.assert_array_equal(after.theta, rho.theta)
    np.testing.assert_array_equal(after.tau, rho.tau)


def test_dissipation_identity_to_first_order_in_h(case, scheme):
    """dE/ds = -dissipation - rate Var_rho(V): one step's defect halves with h; without the variance it stays."""
    energy, rho = made(case, scheme)
    rate = 3.0
    velocity = energy.velocity(rho)
    expected = -velocity.dissipation - fisher_rao_dissipation(energy, rho, rate)
    defects, without = [], []
    for h in (4e-3, 2e-3, 1e-3):
        flow = wgflow.Flow(energy, step=h, boundary="reflect" if scheme["name"] == "deposit" else "clip",
                           ingredients=[BirthDeath(rate)])  # fmt: skip
        first, last = flow.run(rho, until=h)
        slope = (last.energy - first.energy) / h
        defects.append(abs(slope - expected))
        without.append(abs(slope + velocity.dissipation))
    assert defects[1] == pytest.approx(0.5 * defects[0], rel=0.1)
    assert defects[2] == pytest.approx(0.5 * defects[1], rel=0.1)
    assert without[2] > 0.9 * without[0] > 20 * defects[2]


def test_mass_is_conserved_and_stays_positive_whatever_the_rate(case, scheme):
    energy, rho = made(case, scheme)
    for rate in (1e-3, 1.0, 1e6):
        after = BirthDeath(rate)(rho, Move(0, 0.0, 1.0, energy))
        assert (after.mass >= 0).all()
        assert after.mass.sum() == pytest.approx(rho.mass.sum(), rel=1e-14)
    value = energy.first_variation(rho, rho.theta, rho.tau)
    assert after.mass.argmax() == value.argmin()  # at that rate one takes all


def test_the_flow_with_it_descends_and_keeps_the_total(case, scheme):
    energy, rho = made(case, scheme)
    frames = list(wgflow.Flow(energy, step=0.02, ingredients=[BirthDeath(1.0)]).run(rho, until=1.0))
    energies = np.array([frame.energy for frame in frames])
    assert (np.diff(energies) < 0).all()
    np.testing.assert_allclose([frame.mass.sum() for frame in frames], rho.mass.sum(), rtol=1e-12)
    plain = list(wgflow.Flow(energy, step=0.02).run(rho, until=1.0))
    assert energies[-1] < plain[-1].energy


def test_the_dead_give_their_slots_to_clones(case, scheme):
    energy, rho = made(case, scheme)
    mass = rho.mass.copy()
    mass[[1, 4]] = 1e-12
    rho = wgflow.Particles(rho.theta, rho.tau, mass / mass.sum())
    move = Move(7, 0.0, 1e-3, energy)
    after = BirthDeath(1.0, floor=0.1, seed=3)(rho, move)
    assert after.mass.min() > 0.1 / 6 / 2
    assert after.mass.sum() == pytest.approx(1.0, rel=1e-14)
    for slot in (1, 4):
        assert (after.theta[slot] == rho.theta).all(axis=1).any()  # a survivor's place
        assert not (after.theta[slot] == rho.theta[slot]).all()
    assert energy(after) == pytest.approx(energy(BirthDeath(1.0)(rho, move)), rel=1e-10)  # the same measure
    moved = BirthDeath(1.0, floor=0.1, jitter=0.01, seed=3)(rho, move)
    assert 0 < np.abs(moved.theta[[1, 4]] - after.theta[[1, 4]]).max() < 0.1
    np.testing.assert_array_equal(moved.theta[[0, 2, 3, 5]], rho.theta[[0, 2, 3, 5]])


def test_clones_are_a_function_of_seed_and_step(case, scheme):
    energy, rho = made(case, scheme, particles=30)
    rho = wgflow.Particles(rho.theta, rho.tau, np.where(np.arange(30) % 2, 1.0, 1e-12) / 15)
    one, two = (BirthDeath(1.0, floor=0.1, seed=seed) for seed in (1, 2))
    same = [one(rho, Move(step, 0.0, 0.1, energy)).theta for step in (5, 5, 6)]
    np.testing.assert_array_equal(same[0], same[1])
    assert (same[0] != same[2]).any()
    assert (same[0] != two(rho, Move(5, 0.0, 0.1, energy)).theta).any()


def test_a_birth_takes_the_least_slot_and_lowers_the_energy(case, scheme):
    energy, rho = made(case, scheme)
    birth = Birth(every=3, radius=4.0)
    for step in (0, 1):
        assert birth(rho, Move(step, 0.0, 0.1, energy)) is rho
    after = birth(rho, Move(2, 0.0, 0.1, energy))
    slot = rho.mass.argmin()
    others = np.arange(6) != slot
    np.testing.assert_array_equal(after.theta[others], rho.theta[others])
    assert np.linalg.norm(after.theta[slot]) == pytest.approx(4.0)
    assert after.mass.sum() == pytest.approx(rho.mass.sum(), rel=1e-14)
    assert np.ptp(after.mass[others] / rho.mass[others]) < 1e-13
    assert 0 < after.mass[slot] <= 0.5 * rho.mass.sum() * (1 + 1e-9)
    assert energy(after) < energy(rho)
    assert energy.first_variation(rho, after.theta[[slot]], after.tau[[slot]])[0] == pytest.approx(
        certificate(energy, rho, 4.0).value + rho.mass @ energy.first_variation(rho, rho.theta, rho.tau), rel=0.02
    )


@pytest.mark.parametrize("step", [0.1, 0.05, {"name": "adaptive", "length": 0.03, "rtol": 1e-2}])
def test_with_a_period_births_come_at_the_same_flow_times_whatever_the_step(case, scheme, step, monkeypatch):
    energy, rho = made(case, scheme)
    searched = set()

    def spied(*args, **options):
        searched.add(round(options["s"], 9))
        return certificate(*args, **options)

    monkeypatch.setattr(transport, "certificate", spied)
    birth = Birth(period=0.3, radius=4.0, starts=3)
    *_, last = wgflow.Flow(energy, "heun", step, ingredients=[birth]).run(rho, until=1.0, every=0.1)
    assert searched == {0.3, 0.6, 0.9}
    assert last.mass.max() > rho.mass.max()


def test_the_share_is_the_best_on_a_grid(case, scheme):
    energy, rho = made(case, scheme)
    after = Birth(every=1, radius=4.0, share=1.0)(rho, Move(0, 0.0, 0.1, energy))
    slot, total = rho.mass.argmin(), rho.mass.sum()
    others = np.where(np.arange(6) == slot, 0.0, rho.mass)
    others *= total / others.sum()
    grid = [
        energy(wgflow.Particles(after.theta, after.tau, (1 - q) * others + q * total * (np.arange(6) == slot)))
        for q in np.linspace(0, 1, 401)
    ]
    assert energy(after) <= min(grid) + 1e-10
    assert energy(after) >= min(grid) - 1e-4


@pytest.mark.parametrize("seed", range(8))
def test_a_birth_never_raises_the_energy(case, scheme, seed):
    """Also where the ball is too small to help, and at a fit."""
    energy, rho = made(case, scheme)
    for radius in (1e-3, 0.3, 30.0):
        after = Birth(1, radius, starts=6, seed=seed)(rho, Move(0, 0.0, 0.1, energy))
        assert energy(after) <= energy(rho)
    fitted = wgflow.Energy(energy.problem.replace(energy.problem.x, energy.predict(rho, energy.problem.x)), scheme)
    assert Birth(1, 4.0, seed=seed)(rho, Move(0, 0.0, 0.1, fitted)) is rho


def test_of_equal_masses_the_one_with_the_highest_potential_goes(case, scheme):
    energy, rho = made(case, scheme)
    rho = wgflow.Particles(rho.theta, rho.tau)
    after = Birth(1, 4.0)(rho, Move(0, 0.0, 0.1, energy))
    changed = (after.theta != rho.theta).any(axis=1)
    assert changed.sum() == 1
    assert changed.argmax() == energy.first_variation(rho, rho.theta, rho.tau).argmax()


def test_births_leave_a_stationary_point_that_transport_and_masses_cannot(case, scheme):
    """Every block at the origin: V = 0 and grad V = 0 on the support, so nothing moves, and E > 0."""
    energy, rho = made(case, scheme)
    still = rho.moved(np.zeros_like(rho.theta), rho.tau)
    start = energy(still)

    def end(*ingredients):
        *_, last = wgflow.Flow(energy, step=0.05, ingredients=ingredients).run(still, until=3.0)
        return last.energy

    assert end() == end(BirthDeath(5.0)) == start
    assert end(Birth(5, 3.0)) < 0.2 * start
    assert end(BirthDeath(1.0), Birth(5, 3.0)) < 0.2 * start


def test_blocks_linear_in_a_leave_birth_death_little_beside_transport(case, scheme):
    """Derived: V = a . d_a V, so rate Var(V) <= rate max|a|**2 int |grad V|**2 drho; both rest together."""
    energy, rho = made(case, scheme)
    value, by_theta, _ = energy.first_variation_gradient(rho, rho.theta, rho.tau)
    a = energy.problem.groups["a"]
    np.testing.assert_allclose(value, np.einsum("np,np->n", rho.theta[:, a], by_theta[:, a]), rtol=1e-10, atol=1e-15)
    bound = (rho.theta[:, a] ** 2).sum(axis=1).max() * energy.velocity(rho).dissipation
    assert 0 < fisher_rao_dissipation(energy, rho, 1.0) <= bound


def test_blocks_without_a_can_be_left_by_birth_death_alone(case):
    """sigma(W x + b) of two kinds pinned in place: plain transport rests, masses still flow downhill."""
    energy, rho = made(case, {"name": "shallow"}, block="matrix")
    pinned = {"W": 0.0, "b": 0.0}
    ends = []
    for ingredients in ((), (BirthDeath(2.0),)):
        *_, last = wgflow.Flow(energy, step=0.05, mobility=pinned, ingredients=ingredients).run(rho, until=2.0)
        ends.append(last.energy)
    assert ends[0] == pytest.approx(energy(rho), rel=1e-14)
    assert ends[1] < 0.98 * ends[0]


@pytest.mark.parametrize("depth", [{"name": "gaps"}, {"name": "layers", "layers": 3}], ids=lambda spec: spec["name"])
@pytest.mark.parametrize("ingredient", [BirthDeath(1.0), Birth(1, 1.0)], ids=lambda each: each.name)
def test_schemes_in_which_mass_does_not_move_are_refused(case, depth, ingredient):
    problem, rho = case(scheme=depth)
    with pytest.raises(InputError, match="expected depth deposit or shallow"):
        list(wgflow.Flow(wgflow.Energy(problem, depth), step=0.1, ingredients=[ingredient]).run(rho, until=0.2))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (BirthDeath, {"rate": 0.0}, "rate"), (BirthDeath, {"rate": 1.0, "floor": 1.0}, "floor"),
        (BirthDeath, {"rate": 1.0, "jitter": -1.0}, "jitter"), (BirthDeath, {"rate": 1.0, "seed": -1}, "seed"),
        (Birth, {"every": 0, "radius": 1.0}, "every"), (Birth, {"every": 1, "radius": 0.0}, "radius"),
        (Birth, {"every": 1, "radius": 1.0, "starts": 2}, "starts"),
        (Birth, {"every": 1, "radius": 1.0, "share": 2.0}, "share"), (Birth, {"every": 1}, "radius"),
        (Birth, {"radius": 1.0}, "every, period"), (Birth, {"period": 0.0, "radius": 1.0}, "period"),
        (Birth, {"every": 1, "period": 1.0, "radius": 1.0}, "every, period"),
    ],
)  # fmt: skip
def test_bad_options_are_refused(kind, options, message):
    with pytest.raises(InputError, match=message):
        kind(**options)


def test_specs_name_every_option():
    assert BirthDeath(2.0).spec() == {"name": "birth_death", "rate": 2.0, "floor": 0.0, "jitter": 0.0, "seed": 0}
    assert BirthDeath(**{key: value for key, value in BirthDeath(2.0, 0.1).spec().items() if key != "name"}).random
    birth = {"name": "birth", "every": 4, "radius": 2.0, "starts": 32, "share": 0.5, "seed": 0, "period": None}
    assert Birth(4, 2.0).spec() == birth
