"""Schedules: when frames are due, and that a run taken up again keeps to them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wgflow
from wgflow.flow.schedule import At, Every, Log, Steps, schedule


@pytest.fixture
def flow(case):
    problem, rho = case(particles=4)

    def make(**options):
        return wgflow.Flow(wgflow.Energy(problem), **({"step": 0.1} | options)), rho

    return make


def times(frames):
    return [round(frame.s, 12) for frame in frames]


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        ({"name": "steps", "n": 4}, [0, 0.4, 0.8, 1.0]),
        ({"name": "at", "s": [0.3, 0.7, 5.0]}, [0, 0.3, 0.7, 1.0]),
        ({"name": "log", "per_decade": 2, "first": 0.1}, [0, 0.1, 0.3, 1.0]),  # 0.316 is nearest to 0.3
        ({"name": "log", "per_decade": 50, "first": 0.1}, [0, *np.arange(1, 11) / 10]),  # no step twice
        ({"name": "log", "per_decade": 3, "first": 7.0}, [0, 1.0]),
        ({"name": "every", "s": 0.5}, [0, 0.5, 1.0]),
        (Every(0.5), [0, 0.5, 1.0]),
    ],
)
def test_constant_steps(flow, every, expected):
    run, rho = flow()
    assert times(run.run(rho, until=1.0, every=every)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        ({"name": "at", "s": [0.31, 0.7]}, [0, 0.31, 0.7, 1.0]),
        ({"name": "log", "per_decade": 2, "first": 0.1}, [0, 0.1, 0.1 * 10**0.5, 1.0]),
    ],
)
def test_varying_steps_meet_the_times(flow, every, expected):
    run, rho = flow(step={"name": "descent", "length": 0.09})
    assert [frame.s for frame in run.run(rho, until=1.0, every=every)] == expected


def test_varying_steps_may_be_counted(flow):
    run, rho = flow(step={"name": "descent", "length": 0.01})
    frames = list(run.run(rho, until=1.0, every=Steps(5)))
    assert all(frame.step % 5 == 0 for frame in frames[:-1])
    assert frames[-1].s == 1.0


@pytest.mark.parametrize("step", [0.1, {"name": "descent", "length": 0.07}])
@pytest.mark.parametrize(
    "every",
    [0.3, {"name": "steps", "n": 3}, {"name": "log", "per_decade": 4, "first": 0.2}, {"name": "at", "s": [0.2, 1.1]}],
)
def test_a_run_taken_up_at_any_frame_keeps_to_its_schedule(flow, step, every):
    run, rho = flow(step=step)
    whole = list(run.run(rho, until=3.0, every=every))
    for k, frame in enumerate(whole):
        again = list(run.run(frame, until=3.0, every=every))
        assert [(each.step, each.s, each.energy) for each in again] == [
            (each.step, each.s, each.energy) for each in whole[k:]
        ]


@given(
    every=st.one_of(
        st.builds(Every, st.floats(1e-3, 1e3)),
        st.builds(Log, st.integers(1, 40), st.floats(1e-6, 1e6)),
        st.builds(lambda gaps: At(np.cumsum(gaps).tolist()), st.lists(st.floats(1e-3, 10), min_size=1, max_size=5)),
    ),
    start=st.floats(0, 1e4),
)
def test_times_go_up_and_have_no_gaps(every, start):
    first = every.after(start)
    assert first > start
    if np.isfinite(first):
        before = start + 0.5 * (first - start)
        if start < before < first:
            assert every.after(before) == first  # nothing between
        assert every.after(first) > first
    assert schedule(every.spec()) == every
