"""d2 of two runs: between frames it may be larger than at any of them, and never above the bound."""

import numpy as np
import pytest

import wgflow
from wgflow.base.energy_balance import EnergyBalance
from wgflow.base.errors import InputError
from wgflow.base.types import Frame
from wgflow.theory.distances import by_depth
from wgflow.theory.distances_along_flow import along_flow


def frame(s, theta, dissipated, tau=0.5, mass=1.0):
    balance = None if dissipated is None else EnergyBalance(dissipated=dissipated)
    return Frame(0, s, np.array([[theta]]), np.array([tau]), np.array([mass]), 0.0, 0.0, balance=balance)


def test_a_particle_that_returns_between_frames():
    """Out by 1 and back at speed 1: frames see 0, and the bound is reached."""
    resting = [frame(s, 0.0, 0.0) for s in (0.0, 1.0, 2.0)]
    returning = [frame(s, theta, s) for s, theta in ((0.0, 0.0), (1.0, 1.0), (2.0, 0.0))]
    fine, coarse = along_flow(returning, resting, 1), along_flow(returning[::2], resting[::2], 1)
    np.testing.assert_array_equal(fine.largest, [0.0, 1.0, 0.0])
    assert (fine.recorded, fine.bound) == (1.0, 1.0)
    assert (coarse.recorded, coarse.bound) == (0.0, 1.0)


@pytest.mark.parametrize("options", [{}, {"integrator": "rk4"}, {"step": {"name": "descent", "length": 0.5}}], ids=str)
def test_bounds_enclose_the_supremum_over_all_steps(options):
    options = dict(options)
    step = options.pop("step", 0.1)
    x = np.linspace(-1, 1, 20)[:, None]
    problem = wgflow.Problem.padded(x, np.sin(3 * x))
    energy = wgflow.Energy(problem, wgflow.Layers(3))
    flow = wgflow.Flow(energy, step=step, **options)
    starts = [wgflow.Particles.draw_layers(problem, 3, 4, seed) for seed in (1, 2)]
    fine = [list(flow.run(rho, 6.0, 0.5)) for rho in starts]
    found = along_flow(*(frames[::6] for frames in fine), 3)
    every = along_flow(*fine, 3)
    assert found.s.tolist() == [0.0, 3.0, 6.0]
    direct = max(by_depth(a.particles, b.particles, 3).largest for a, b in zip(*fine, strict=True))
    assert every.recorded == direct
    assert found.recorded <= every.recorded <= every.bound <= found.bound < np.inf


def test_no_bound_is_claimed_where_none_is_known():
    still = [frame(0.0, 0.0, 0.0), frame(1.0, 0.0, 0.0)]
    for moved in (
        [frame(0.0, 0.0, 0.0), frame(1.0, 0.5, None)],  # noise or minibatches
        [frame(0.0, 0.0, 0.0), frame(1.0, 0.5, 1.0, tau=0.6)],
        [frame(0.0, 0.0, 0.0, mass=0.9), frame(1.0, 0.5, 1.0)],
    ):
        found = along_flow(moved, still, 1)
        assert (found.recorded, found.bound) == (0.5, np.inf)


def test_frames_must_be_at_the_same_times():
    a, b = [frame(0.0, 0.0, 0.0), frame(1.0, 0.0, 0.0)], [frame(0.0, 0.0, 0.0), frame(1.5, 0.0, 0.0)]
    with pytest.raises(InputError, match=r"same flow times, got s = 1 and 1\.5"):
        along_flow(a, b, 1)
    with pytest.raises(InputError, match="equally many frames, got 2 and 1"):
        along_flow(a, b[:1], 1)
