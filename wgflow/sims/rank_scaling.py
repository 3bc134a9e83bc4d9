"""Time of one large run whose samples are divided among ranks, and how many of them are worth having."""

from __future__ import annotations

import bisect
import math
import time
from typing import NamedTuple

import numpy as np

from wgflow.energy import Energy
from wgflow.kernels.cpu.chunks import summand_count
from wgflow.model.particles import Particles
from wgflow.sims.interconnect import Interconnect
from wgflow.sims.sweep_scaling import AS_FAST, WORTH

_ADDED = 13e9  # bytes per second of one array added to another, and
_PICKLED = 2.5e9  # of an array made a message: both measured on the machine of docs/scaling.md
_FIRST = 1024  # samples of the first evaluation that is timed
_TRIED = 100  # numbers of ranks above 64 that are tried, each 5% above the last
_APART = 8  # ratio of the two numbers of samples that are timed
_LIMITS = {
    "alone": "what is not divided, as steps and frames, limits it",
    "messages": "messages limit it",
    "chunks": "its samples form no more chunks",
}


class Evaluation(NamedTuple):
    """Cost of one evaluation of the gradient.

    Attributes
    ----------
    alone : float
        Seconds that do not depend on the number of samples; more ranks do not shorten them.
    sample : float
        Seconds of one sample on one thread.
    samples, chunk, chunks : int
        M, the samples of a chunk, and the number of chunks, which are never divided.
    told, sums, losses : int
        Bytes that rank 0 sends to each rank, of the partial sums of one rank, and that all ranks send to rank 0.
    """

    alone: float
    sample: float
    samples: int
    chunk: int
    chunks: int
    told: int
    sums: int
    losses: int

    def passes(self, hands: int) -> float:
        """Seconds of the passes over the samples with so many threads of all ranks: of the one with the most."""
        return self.sample * min(-(-self.chunks // hands) * self.chunk, self.samples)

    def exchanged(self, ranks: int) -> int:
        """Bytes of all messages: the measure to the other ranks, their sums, and the losses of all."""
        return (ranks - 1) * (self.told + self.sums) + (self.losses if ranks > 1 else 0)

    def exchange(self, ranks: int, network: Interconnect) -> float:
        """Seconds of the messages: measure to all ranks, sums along the tree of the chunks, losses to rank 0."""
        if ranks == 1:
            return 0.0
        levels = math.ceil(math.log2(ranks))
        told = levels * network.latency + min(levels, 2) * self.told / network.bandwidth + self.told / _PICKLED
        sums = tree_messages(ranks, self.chunks) * (network.message(self.sums) + self.sums / _ADDED)
        return told + sums + (ranks - 1) * network.latency + self.losses / network.bandwidth


class RankForecast(NamedTuple):
    """Forecast of a run on ranks.

    Attributes
    ----------
    ranks : int
        Processes.
    seconds : float
        From start to end.
    efficiency : float
        Seconds of one rank over ranks * seconds.
    """

    ranks: int
    seconds: float
    efficiency: float


def tree_messages(ranks: int, chunks: int) -> int:
    """Messages one after another until the sum of all chunks is on rank 0.

    Each rank owns consecutive chunks. Sums are added up along the binary tree of the chunks; where a pair belongs to
    two ranks the right one sends its sum to the left one, which waits.
    """
    ranks = min(ranks, chunks)
    starts = [chunks * rank // ranks for rank in range(ranks)]
    done, stride = [0] * ranks, 1  # messages until a rank has the sum of a subtree
    while stride < chunks:
        lefts = {(start - 1) // (2 * stride) * 2 * stride: start for start in starts[:0:-1]}
        for left, start in sorted(lefts.items()):  # pairs of subtrees, perhaps on two sides of a boundary
            if start <= left + stride < chunks:
                receiver, sender = (bisect.bisect_right(starts, first) - 1 for first in (left, left + stride))
                done[receiver] = max(done[receiver], done[sender]) + 1
        stride *= 2
    return done[0]


def forecast(
    seconds: float, evaluations: float, evaluation: Evaluation, ranks: int, threads: int, network: Interconnect
) -> RankForecast:
    """Forecast of a run on so many ranks.

    Parameters
    ----------
    seconds : float
        Time of the run on one rank.
    evaluations : float
        Evaluations of the gradient in the run.
    evaluation : Evaluation
        Cost of one.
    ranks, threads : int
        Processes, and threads of each.
    network : Interconnect
        Network between them.
    """
    saved = evaluation.passes(threads) - evaluation.passes(ranks * threads)
    added = evaluation.exchange(ranks, network)
    least = evaluations * (evaluation.passes(ranks * threads) + added)
    duration = max(seconds - evaluations * (saved - added), least)
    return RankForecast(ranks, duration, seconds / (ranks * duration))


def worthwhile(
    seconds: float, evaluations: float, evaluation: Evaluation, threads: int, network: Interconnect
) -> tuple[RankForecast, str]:
    """Forecast on the fewest ranks about as fast as the largest number with an efficiency of at least one half.

    With it comes what limits a larger number.

    Parameters as for :func:`forecast`.
    """
    most = -(-evaluation.chunks // threads)  # more would have no chunk
    counts = sorted({min(most, k) for k in [*range(1, 65), *(round(64 * 1.05**j) for j in range(1, _TRIED))]})
    tried = [forecast(seconds, evaluations, evaluation, ranks, threads, network) for ranks in counts]
    largest = max((each for each in tried if each.efficiency >= WORTH), key=lambda each: each.ranks)
    best = next(each for each in tried if each.seconds <= largest.seconds * (1 + AS_FAST))
    if largest.ranks == most:
        return best, _LIMITS["chunks"]
    messages = evaluations * evaluation.exchange(largest.ranks + 1, network)
    alone = seconds - evaluations * evaluation.passes(threads)
    return best, _LIMITS["messages" if messages > alone else "alone"]


def calibrate(energy: Energy, rho: Particles, samples: int, threads: int, budget: float) -> Evaluation:
    """Cost of an evaluation, from timing it for two numbers of samples, the larger as large as time allows.

    Parameters
    ----------
    energy, rho : Energy, Particles
        What is evaluated.
    samples, threads : int
        Samples of an evaluation, at most those of the problem, and threads of the kernel.
    budget : float
        Seconds that this may take, the first call of a kernel aside.
    """
    first = min(samples, _FIRST)
    energy.field(rho, np.arange(first))  # compiles
    most = min(samples, int(first * max(1.0, budget / 8 / _seconds(energy, rho, first, 0.0))))
    few = max(1, most // _APART)
    low, high = (_seconds(energy, rho, count, budget / 3) for count in (few, most))
    fewer, more = (divided(energy, rho, count, 0.0, 1.0).passes(threads) for count in (few, most))
    sample = max(high - low, 0.0) / max(more - fewer, 1.0)
    return divided(energy, rho, samples, max(low - sample * fewer, 0.0), sample)


def divided(energy: Energy, rho: Particles, samples: int, alone: float, sample: float) -> Evaluation:
    """Cost of an evaluation of any number of samples: its chunks, its messages, and times as given."""
    net = energy.network(rho)
    told = sum(array.nbytes for array in (*net, rho.theta))
    division = getattr(energy.kernel, "division", None)
    if division is None:  # a kernel that does not divide samples
        return Evaluation(alone, sample, samples, samples, 1, told, 0, 0)
    chunks, sums = division(net, samples)
    losses = 8 * summand_count(samples)
    return Evaluation(alone, sample, samples, chunks.size, chunks.chunks, told, sums, losses)


def _seconds(energy: Energy, rho: Particles, samples: int, budget: float) -> float:
    """Shortest time of an evaluation of the first samples, of at least two."""
    rows, times, begun = np.arange(samples), list[float](), time.perf_counter()
    while len(times) < 2 or time.perf_counter() - begun < budget:
        before = time.perf_counter()
        energy.field(rho, rows)
        times.append(time.perf_counter() - before)
    return min(times)
