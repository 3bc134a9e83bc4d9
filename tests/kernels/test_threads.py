"""Chunks of samples, sums along a tree, and the thread pool."""

import gc
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import wgflow
from wgflow.kernels.cpu import chunks, threads
from wgflow.kernels.cpu.backend import Cpu


def test_chunks_depend_on_sizes_only_and_cover_the_samples():
    for samples in (1, 7, 8, 15, 16, 17, 127, 128, 129, 1000, 1024, 5000, 100_000):
        for size, partial, tape in ((16, 50, 40), (16_000, 50_000, 2000), (1_600_000, 5_000_000, 200_000)):
            for lanes in (8, 16):
                plan = chunks.divide(samples, size, partial, tape, lanes)
                assert (plan.chunks - 1) * plan.size < samples <= plan.chunks * plan.size
                assert plan.block % lanes == 0
                assert plan.block <= 128
                assert plan.chunks <= 16
                assert plan.chunks == 1 or plan.chunks * partial <= max(2**25, 2 * partial)
                assert plan.block * tape <= max(2**23, lanes * tape)
                assert plan.chunks == 1 or plan.size * size >= 70_000  # not worth a thread's waking up


def test_tree_sum():
    parts = np.random.default_rng(0).normal(size=(11, 4))
    np.testing.assert_allclose(chunks.tree_sum(parts.copy()), parts.sum(axis=0), rtol=1e-13)


def test_ranges_are_each_done_once_on_any_number_of_threads():
    done = []
    for count in (1, 2, 5):
        threads.run_ranges(lambda low, high: done.append((low, high)), 103, 10, count)
    assert sorted(done) == sorted(3 * [(low, min(low + 10, 103)) for low in range(0, 103, 10)])


def test_an_error_in_a_thread_reaches_the_caller():
    def work(part):
        raise ValueError(f"in part {part}")

    with pytest.raises(ValueError, match="in part"):
        threads.run_chunks(work, 4, 2)


def test_threads_really_share_the_work(monkeypatch):
    rng = np.random.default_rng(0)
    problem = wgflow.Problem(rng.normal(size=(1000, 8)), rng.normal(size=1000))
    rho = wgflow.Particles.draw(problem, 200, tau="uniform")
    asked = []
    first = threads._team.first
    monkeypatch.setattr(threads._team, "first", lambda count: asked.append(count) or first(count))
    Cpu(problem, threads=4).energy(wgflow.Gaps().network(rho), rho.theta)
    assert asked
    assert set(asked) == {3}


def test_one_team_serves_all_numbers_of_threads():
    before = threading.active_count()
    for count in range(2, 9):
        threads.run_chunks(lambda part: None, 20, count)
    assert threading.active_count() <= max(before, 1) + 7
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("wgflow-")]
    assert len(names) == len(set(names))


def test_several_threads_may_ask_at_once_and_within_each_other():
    done = []

    def outer(part):
        threads.run_chunks(lambda inner: done.append((part, inner)), 5, 3)

    with ThreadPoolExecutor(6) as pool:
        for _ in pool.map(lambda _: threads.run_chunks(outer, 4, 3), range(20)):
            pass
    assert len(done) == 20 * 4 * 5


def test_nothing_to_do_returns():
    threads.run_chunks(lambda part: None, 0, 2)


def test_an_interrupt_goes_before_an_error():
    started = threading.Barrier(2)

    def work(part):
        started.wait(10)
        raise (KeyboardInterrupt, ValueError)[part]

    for _ in range(20):
        with pytest.raises(KeyboardInterrupt):
            threads.run_chunks(work, 2, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own():
    threads.run_chunks(lambda part: None, 4, 3)
    child = os.fork()
    if child == 0:
        done = []
        threads.run_chunks(done.append, 4, 3)
        os._exit(len(done))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4


def test_an_energy_that_is_let_go_frees_its_arrays(wait_until):
    rng = np.random.default_rng(0)
    problem = wgflow.Problem(rng.normal(size=(1000, 8)), rng.normal(size=1000))
    rho = wgflow.Particles.draw(problem, 400, tau="uniform")
    energy = wgflow.Energy(problem, threads=4)
    energy.velocity(rho)
    kernel = weakref.ref(energy.kernel)
    del energy
    wait_until(lambda: gc.collect() < 0 or kernel() is None)  # a helper may be about to go to sleep
