"""Cost of a flow's step beyond its velocities, and memory of a large evaluation; each in its own process.

Usage: python benchmarks/flow.py step [THREADS]  seconds of a flow's step, of its parts and with a frame recorded
       python benchmarks/flow.py memory M        bytes beyond the inputs at N = 100,000, D = 16
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cases import Case, measure
from worker import forget_peak, peak_memory

import wgflow
from wgflow.trajectory import TrajectoryWriter

STEPS, TURNS, STEP = 20, 9, 1e-3


def step(threads: int | None = None) -> dict[str, float | None]:
    """Seconds of an Euler step and of its parts, in turns; N, M, D = 1000, 1024, 16 under Gaps.

    Steps of this size are taken one by one, so that the times between two calls of ``on_step`` are those of steps.
    ``kernel`` is the energy with its gradient, ``evaluation`` Energy.velocity, ``step`` a step of Flow.run without
    frames, ``frame`` one with a frame after it, ``recorded`` one whose frame is appended to a file.
    """
    problem, rho, depth = measure(Case("gaps", 1000, 1024, 16))
    energy = wgflow.Energy(problem, depth, threads=threads)
    flow, net = wgflow.Flow(energy, step=STEP), depth.network(rho)
    until = (STEPS + 1) * STEP

    def calls(call: Callable[[], object]) -> list[float]:
        stamps = []
        for _ in range(STEPS + 1):
            stamps.append(time.perf_counter())
            call()
        return stamps

    def steps() -> list[float]:
        stamps: list[float] = []
        list(flow.run(rho, until, every=until, on_step=lambda count, s: stamps.append(time.perf_counter())))
        return stamps

    def frames() -> list[float]:
        return [time.perf_counter() for _ in flow.run(rho, until)][1:]

    def recorded() -> list[float]:
        stamps = []
        with (
            tempfile.TemporaryDirectory() as folder,
            TrajectoryWriter.create(Path(folder) / "run.h5", energy, len(rho), capacity=STEPS + 2) as writer,
        ):
            for frame in flow.run(rho, until):
                writer.append(frame)
                stamps.append(time.perf_counter())
            writer.finish()
        return stamps[1:]

    parts: dict[str, Callable[[], list[float]]] = {
        "kernel": lambda: calls(lambda: energy.kernel.gradient(net, rho.theta)),
        "evaluation": lambda: calls(lambda: energy.velocity(rho)),
        "step": steps,
        "frame": frames,
        "recorded": recorded,
    }
    times: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(TURNS + 1):
        for name, part in parts.items():
            spent = np.diff(part())
            if turn > 0:  # the first one wakes everything up
                times[name] += spent.tolist()
    return {"threads": threads} | {name: statistics.median(values) for name, values in times.items()}


def memory(samples: int) -> dict[str, float]:
    """Bytes and seconds of one velocity at N = 100,000, D = 16, without data and particles."""
    small = wgflow.Problem(np.zeros((8, 16)), np.zeros(8))
    wgflow.Energy(small).velocity(wgflow.Particles.draw(small, 8))  # kernels loaded
    problem, rho, depth = measure(Case("gaps", 100_000, samples, 16))
    energy = wgflow.Energy(problem, depth)
    before, began = forget_peak(), time.perf_counter()
    energy.velocity(rho)
    return {"samples": samples, "seconds": time.perf_counter() - began, "bytes": peak_memory() - before}


if __name__ == "__main__":
    numbers = list(map(int, sys.argv[2:]))
    print(json.dumps(step(*numbers) if sys.argv[1] == "step" else memory(*numbers)))
