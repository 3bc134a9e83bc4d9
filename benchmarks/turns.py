"""Programs timed in alternating turns, each in its own process, so that all meet the same conditions."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cases import Case

WARM = 3  # calls before the timed ones: threads awake, caches filled, full clock rate
SHARE = 0.4  # seconds of timed calls in one turn; at least three calls, or one that takes more than a second
PAUSE = 0.1  # seconds, in which the threads of the previous program go to sleep


class Timing(NamedTuple):
    """Timing of one program on one case.

    Attributes
    ----------
    median, low, high : float
        Seconds per call: median and quartiles.
    calls : int
        Calls that were timed.
    first : float
        Seconds of the first call, compiling included.
    memory : int
        Peak memory of the process in bytes, without libraries and data.
    difference : float
        Largest difference of gradients from the first program's, wgflow's, relative to the largest gradient.
    """

    median: float
    low: float
    high: float
    calls: int
    first: float
    memory: int
    difference: float


class Worker:
    """Handle on a worker process."""

    def __init__(self, program: str, case: Case, threads: int | None = None) -> None:
        command = [sys.executable, str(Path(__file__).with_name("worker.py")), program, json.dumps(case)]
        given = dict.fromkeys(("BENCHMARK_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), str(threads))
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env=os.environ | (given if threads else {}),
        )
        self.program = program

    def ask(self, **order: Any) -> dict[str, Any]:
        """Send one order and wait for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        line = ""
        with contextlib.suppress(BrokenPipeError):  # it has ended
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.program} ended with exit code {self.process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def compare(case: Case, programs: Sequence[str], turns: int = 5, threads: int | None = None) -> dict[str, Timing]:
    """Check that all programs agree with the first on a case, then time them in turns.

    Parameters
    ----------
    case : Case
        What is computed.
    programs : sequence of str
        Names in :data:`programs.PROGRAMS`; the first is a program of wgflow.
    turns : int, optional
        Turns of each.
    threads : int, optional
        Threads of every program; each library's own default otherwise.

    Raises
    ------
    RuntimeError
        If a program fails, or gradients differ by more than 1e-9 (1e-3 in float32) of the largest.
    """
    workers: dict[str, Worker] = {}
    try:
        for name in programs:
            workers[name] = Worker(name, case, threads)
        with tempfile.TemporaryDirectory() as folder:
            firsts = {name: worker.ask(save=f"{folder}/{name}.npz") for name, worker in workers.items()}
            differences = {name: _difference(folder, programs[0], name) for name in programs}
        for name, difference in differences.items():
            if not difference < (1e-3 if name.endswith("32") else 1e-9):
                raise RuntimeError(f"{name} and {programs[0]} disagree by {difference:g} on {case.label}")
        times: dict[str, list[float]] = {name: [] for name in programs}
        calls = {}
        for name, worker in workers.items():
            once = worker.ask(calls=1, warm=0)["times"][0]
            calls[name] = max(1 if once > 1 else 3, min(200, round(SHARE / once)))
        for _ in range(turns):
            for name, worker in workers.items():
                time.sleep(PAUSE)
                warm = WARM if calls[name] > 1 else 0  # a call of more than a second wakes everything itself
                times[name] += worker.ask(calls=calls[name], warm=warm)["times"]
    finally:
        for worker in workers.values():
            worker.close()
    return {name: _timing(times[name], firsts[name], differences[name]) for name in programs}


def _timing(times: list[float], first: dict[str, Any], difference: float) -> Timing:
    low, median, high = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
    return Timing(median, low, high, len(times), first["first"], first["memory"], difference)


def _difference(folder: str, first: str, name: str) -> float:
    if name in ("dgemm", "sgemm", "tanh"):
        return 0.0
    with np.load(f"{folder}/{first}.npz") as own, np.load(f"{folder}/{name}.npz") as other:
        found = [abs(float(own["energy"] - other["energy"])) / max(1.0, abs(float(own["energy"])))]
        for part in ("theta", "weight"):
            if own[part].size and other[part].size:
                found.append(float(np.abs(own[part] - other[part]).max() / np.abs(own[part]).max()))
        return float(np.max(found))  # NaN if any is
