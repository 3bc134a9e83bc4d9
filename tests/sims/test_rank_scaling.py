"""How many ranks a run is worth: messages against those that ranks send, times against a law that is known."""

import json
import math
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import wgflow
from wgflow.kernels.cpu.chunks import summands
from wgflow.kernels.ranks import Ranks
from wgflow.sims import dry_run, rank_scaling
from wgflow.sims.interconnect import ETHERNET, INFINIBAND, Interconnect
from wgflow.sims.rank_scaling import Evaluation

FREE = Interconnect("nothing", 0.0, math.inf)
ONE = Evaluation(alone=0.001, sample=1e-5, samples=16_000, chunk=1000, chunks=16, told=10**5, sums=10**6, losses=8000)


def ranks_of(size):
    ranks = object.__new__(Ranks)
    ranks.rank, ranks.size = 0, size
    return ranks


def problem_of(samples, width=4):
    rng = np.random.default_rng(0)
    return wgflow.Problem(rng.normal(size=(samples, width)), rng.normal(size=(samples, 1)))


def longest_path(size, chunks):
    """Messages one after another in Ranks.tree_sum, pair by pair."""
    ranks, done, stride = ranks_of(size), [0] * size, 1
    while stride < chunks:
        for left in range(0, chunks - stride, 2 * stride):
            receiver, sender = ranks.owner(left, chunks), ranks.owner(left + stride, chunks)
            if receiver != sender:
                done[receiver] = max(done[receiver], done[sender]) + 1
        stride *= 2
    return done[0]


@pytest.mark.parametrize("chunks", [1, 2, 3, 7, 16, 33, 123, 512])
def test_messages_of_the_tree_are_those_of_the_ranks(chunks):
    for size in range(1, 40):
        assert rank_scaling.tree_messages(size, chunks) == longest_path(size, chunks)


def test_ranks_in_powers_of_two_send_the_fewest_messages():
    assert [rank_scaling.tree_messages(size, 512) for size in (1, 2, 4, 8, 64, 512)] == [0, 1, 2, 3, 6, 9]


@pytest.mark.parametrize("samples", [500, 2**17 + 5000])
def test_bytes_are_those_of_the_arrays_sent(samples):
    problem, rho = problem_of(2), wgflow.Particles.draw(problem_of(2), 50)
    energy = wgflow.Energy(problem, threads=1)
    one = rank_scaling.divided(energy, rho, samples, 0.0, 0.0)
    net = energy.network(rho)
    assert one.told == pytest.approx(len(pickle.dumps(("gradient", (net, rho.theta, None)))), rel=0.2)
    assert one.losses == summands(np.empty(samples), samples).nbytes
    assert (one.chunks - 1) * one.chunk < samples <= one.chunks * one.chunk


COUNTING = """
import json, sys
import numpy as np
from mpi4py import MPI
import wgflow
from wgflow.kernels.ranks import Ranks
sent, send = [], Ranks._send
def counted(self, array, rank):
    sent.append(array.nbytes)
    send(self, array, rank)
Ranks._send = counted
rng = np.random.default_rng(0)
problem = wgflow.Problem(rng.normal(size=(4000, 4)), rng.normal(size=(4000, 1)))
energy = wgflow.Energy(problem, threads=1, comm=MPI.COMM_WORLD)
energy.velocity(wgflow.Particles.draw(problem, 50))
everyone = MPI.COMM_WORLD.gather(sent)
if MPI.COMM_WORLD.rank == 0:
    print(json.dumps(everyone))
"""


def test_partial_sums_are_what_two_ranks_send():
    mpirun = shutil.which("mpirun", path=os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ["PATH"]]))
    if mpirun is None or subprocess.run([sys.executable, "-c", "import mpi4py.MPI"], capture_output=True).returncode:
        pytest.skip("no MPI")
    command = [mpirun, "-n", "2", sys.executable, "-c", COUNTING]
    sent = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    problem = problem_of(4000)
    one = rank_scaling.divided(wgflow.Energy(problem, threads=1), wgflow.Particles.draw(problem, 50), 4000, 0.0, 0.0)
    assert sent[0] == []
    assert one.sums in sent[1]
    assert sum(sent[1]) == pytest.approx(one.sums + one.losses // 2, abs=64)  # with a checksum


def test_calibration_finds_the_law_of_time(monkeypatch):
    problem = problem_of(30_000)
    energy, rho = wgflow.Energy(problem, threads=2), wgflow.Particles.draw(problem, 500)

    def law(energy, rho, samples, budget):
        plan = rank_scaling.divided(energy, rho, samples, 0.0, 1.0)
        return 0.002 + 3e-6 * plan.passes(2)

    monkeypatch.setattr(rank_scaling, "_seconds", law)
    one = rank_scaling.calibrate(energy, rho, 30_000, 2, 0.5)
    assert one.alone == pytest.approx(0.002)
    assert one.sample == pytest.approx(3e-6)
    assert one.samples == 30_000


def test_forecast_is_bounded_by_chunks_and_by_what_is_not_divided():
    alone = ONE.alone + ONE.passes(1)
    for ranks in range(1, 17):
        found = rank_scaling.forecast(alone, 1, ONE, ranks, 1, FREE)
        assert found.seconds == pytest.approx(ONE.alone + ONE.sample * 1000 * math.ceil(16 / ranks), rel=0.06)
        assert found.seconds <= rank_scaling.forecast(alone, 1, ONE, ranks, 1, ETHERNET).seconds
    found = rank_scaling.forecast(ONE.alone + ONE.passes(2), 1, ONE, 8, 2, FREE)
    assert found.seconds == pytest.approx(ONE.alone + ONE.sample * 1000, rel=0.06)


@pytest.mark.parametrize(
    ("one", "network", "limit"),
    [
        (ONE, FREE, "its samples form no more chunks"),
        (ONE._replace(alone=0.05), INFINIBAND, "what is not divided, as steps and frames, limits it"),
        (ONE, Interconnect("slow", 0.01, 1e9), "messages limit it"),
    ],
)
def test_ranks_worth_having_are_the_last_of_half_efficiency(one, network, limit):
    seconds = one.alone + one.passes(1)
    best, why = rank_scaling.worthwhile(seconds, 1, one, 1, network)
    assert why == limit
    assert best.efficiency >= 0.5
    more = [rank_scaling.forecast(seconds, 1, one, ranks, 1, network) for ranks in range(best.ranks + 1, 17)]
    assert all(each.efficiency < 0.5 for each in more)


def test_sentence_follows_its_inputs():
    def said(one=ONE, threads=1, seconds=161.0):
        return dry_run.rank_line(seconds, 1000, one, 2**28, threads)

    assert said().startswith(
        "Ranks (--mpi) for the longest member, 2 min 41 s on one, 161 ms an evaluation: up to 16 of 1 thread and "
        "256 MiB are worth having "
        "over 100 Gb/s InfiniBand (assumed 2 µs, 12.5 GB/s): about 12 s, efficiency 86%, "
        "15.7 MiB of messages an evaluation; "
    )
    assert "up to 4 of 4 threads" in said(threads=4, seconds=41.0)
    assert "over 10 Gb/s Ethernet (assumed 50 µs, 1.25 GB/s) up to 16: about 16 s" in said()
    assert "one of 1 thread" in said(ONE._replace(chunk=16_000, chunks=1))
    assert "what is not divided" in said(seconds=600.0)
