"""Time of a sweep on any number of workers, and how many of them are worth having."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import NamedTuple

WORTH = 0.5  # efficiency from which on workers are worth having
AS_FAST = 0.1  # share of the time by which fewer workers may be slower and count as equally fast
START = 1.3  # seconds a process takes to start and import, kernels on disk
HAND_OUT = 5e-3  # seconds of the client and the scheduler for a member; measured from 40 to 240 of next to no time
SHARED_DISK = 1e9  # bytes per second that all workers together write to a shared disk; assumed

_LIMITS = {
    "longest": "the longest member limits it",
    "start": "the start of processes limits it",
    "client": "handing out members limits it",
    "disk": "writing to a shared disk limits it",
}
_ALL = "there are no more members"


class SweepForecast(NamedTuple):
    """Forecast of a sweep.

    Attributes
    ----------
    workers : int
        Worker processes.
    seconds : float
        From start to end.
    efficiency : float
        Sum of all members' seconds over workers * seconds, in [0, 1].
    """

    workers: int
    seconds: float
    efficiency: float


def makespan(seconds: Sequence[float], workers: int, start: float = 0.0) -> float:
    """Time until all members have ended, the longest first, each on the worker that is free first."""
    free = [start] * workers
    for longest in sorted(seconds, reverse=True):
        heapq.heapreplace(free, free[0] + longest)
    return max(free)


def sweep(seconds: Sequence[float], disk: float, workers: int) -> SweepForecast:
    """Forecast of a sweep on so many workers.

    Parameters
    ----------
    seconds : sequence of float
        Time of each member on one worker.
    disk : float
        Bytes that all members write.
    workers : int
        At least 1; one is this process, which need not be started.
    """
    whole = sum(seconds)
    if workers == 1:
        return SweepForecast(1, whole, 1.0)
    bound = _bounds(seconds, disk)
    duration = bound["start"] + max(makespan(seconds, workers), bound["client"], bound["disk"])
    return SweepForecast(workers, duration, whole / (workers * duration))


def worthwhile(seconds: Sequence[float], disk: float) -> tuple[SweepForecast, str]:
    """Forecast on the workers that are worth having, and what limits a larger number.

    These are the fewest that are about as fast as the largest number with an efficiency of at least one half. Members
    take sum / workers + longest at most, so that up to sum / longest workers only their start, the client and the disk
    cost efficiency; from 2 sum / longest on it is below one half. Both numbers are found by bisection.

    Parameters
    ----------
    seconds, disk : optional
        As for :func:`sweep`; members that take no time, being there, need no worker.
    """
    left = [each for each in seconds if each > 0]
    most = max(len(left), 1)
    if sweep(left, disk, most).efficiency < WORTH:  # it rises where members divide evenly: all of them come first
        most = _last(lambda workers: sweep(left, disk, workers).efficiency >= WORTH, most)
    soon = sweep(left, disk, most).seconds * (1 + AS_FAST)
    fewest = _last(lambda workers: sweep(left, disk, workers).seconds > soon, most) + 1
    bound = _bounds(left, disk)
    limit = _ALL if most >= len(left) else _LIMITS[max(bound, key=bound.__getitem__)]
    return sweep(left, disk, fewest), limit


def _last(holds: Callable[[int], bool], end: int) -> int:
    """Last number below ``end`` up to which something holds; 0 if it does not for 1."""
    low, high = 0, end
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _bounds(seconds: Sequence[float], disk: float) -> dict[str, float]:
    """Seconds that no number of workers shortens, by what takes them."""
    return {
        "longest": max(seconds, default=0.0),
        "start": START,
        "client": HAND_OUT * len(seconds),
        "disk": disk / SHARED_DISK,
    }
