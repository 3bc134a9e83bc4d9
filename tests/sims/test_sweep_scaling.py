"""How many workers a sweep is worth: against the limits it must keep, and its sentence follows its inputs."""

import numpy as np
import pytest

from wgflow.sims import dry_run, sweep_scaling
from wgflow.sims.forecast import Size

SIZE = Size(1.0, 1, 10, 2**20, 1)


def test_makespan_of_equal_members_is_that_of_full_rounds():
    assert [sweep_scaling.makespan([2.0] * 12, workers) for workers in (1, 5, 6, 12, 20)] == [24, 6, 4, 2, 2]


def test_makespan_keeps_its_bounds():
    rng = np.random.default_rng(0)
    for _ in range(50):
        seconds, workers = rng.lognormal(size=rng.integers(1, 40)).tolist(), int(rng.integers(1, 40))
        least = max(sum(seconds) / workers, max(seconds))
        found = sweep_scaling.makespan(seconds, workers)
        assert least * (1 - 1e-12) <= found <= (sum(seconds) / workers + max(seconds)) * (1 + 1e-12)


def test_workers_worth_having_are_the_fewest_as_fast_as_the_last_of_half_efficiency():
    rng = np.random.default_rng(1)
    for spread in (0.1, 1.0, 2.0):
        seconds = (100 * rng.lognormal(sigma=spread, size=60)).tolist()
        best, _ = sweep_scaling.worthwhile(seconds, 0.0)
        tried = [sweep_scaling.sweep(seconds, 0.0, workers) for workers in range(1, 61)]
        largest = [each for each in tried if each.efficiency >= 0.5][-1]
        assert best.efficiency >= 0.5
        assert best.seconds <= 1.1 * largest.seconds < tried[best.workers - 2].seconds


@pytest.mark.parametrize(
    ("seconds", "disk", "workers", "limit"),
    [
        ([100.0] * 40, 0.0, 40, "there are no more members"),
        ([100.0] * 40 + [1000.0], 0.0, 5, "the longest member limits it"),
        ([0.1] * 40, 0.0, 2, "the start of processes limits it"),
        ([1.0] * 1000, 0.0, 200, "handing out members limits it"),
        ([10.0] * 1000, 1e12, 10, "writing to a shared disk limits it"),
        ([], 0.0, 1, "there are no more members"),
        ([0.0, 0.0], 0.0, 1, "there are no more members"),  # all there
    ],
)
def test_what_limits_the_number(seconds, disk, workers, limit):
    best, why = sweep_scaling.worthwhile(seconds, disk)
    assert (best.workers, why) == (workers, limit)


def test_of_ten_thousand_members_the_number_is_found_soon(monkeypatch):
    calls = []
    sweep = sweep_scaling.sweep
    monkeypatch.setattr(sweep_scaling, "sweep", lambda *each: calls.append(each) or sweep(*each))
    assert sweep_scaling.worthwhile([60.0] * 10_000, 0.0)[0].workers > 1000
    assert len(calls) < 40


def test_sentence_follows_its_inputs():
    def said(seconds, memory=2**20, threads=1):
        sizes = [SIZE._replace(memory=memory)] * len(seconds)
        return dry_run.sweep_line(seconds, [1.0] * len(seconds), sizes, threads)

    equal = said([100.0] * 40)
    assert equal == (
        "Workers (--cluster): up to 40 of 1 thread and 181 MiB are worth having: about 1 min 41 s instead of "
        "1 h 6 min, efficiency 99%; beyond that there are no more members"
    )
    assert "up to 5 of" in said([100.0] * 40 + [1000.0])
    assert "of 4 threads and 280 MiB" in said([100.0] * 40, 100 * 2**20, 4)
    assert said([0.0, 0.0]) == "Workers (--cluster): none; all members are there"
    assert said([0.1]) == "Workers (--cluster): one of 1 thread and 181 MiB is enough; there are no more members"
