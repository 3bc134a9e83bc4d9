"""What a flow costs beyond its velocities, and what an evaluation keeps in memory. Each in a process of its own.

Usage: python benchmarks/flow.py step          seconds of a flow's step and of the kernel's part of it
       python benchmarks/flow.py memory M      bytes beyond the inputs at N = 100,000, D = 16
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import numpy as np
from cases import Case, measure
from worker import forget_peak, peak_memory

import wgflow

STEPS, TURNS = 20, 9


def step() -> dict[str, float]:
    """Steps of an Euler flow, a frame after each, in turns with bare calls of the kernel; N, M, D = 1000, 1024, 16."""
    problem, rho, depth = measure(Case("gaps", 1000, 1024, 16))
    energy = wgflow.Energy(problem, depth)
    flow = wgflow.Flow(energy, integrator="euler", step=1e-3)
    net = depth.network(rho)
    times: dict[str, list[float]] = {"flow": [], "kernel": []}
    for turn in range(TURNS + 1):
        began = time.perf_counter()
        for count, _ in enumerate(flow.run(rho, until=STEPS * 1e-3, every=1e-3), 1):  # noqa: B007
            pass
        middle = time.perf_counter()
        for _ in range(count):
            energy.kernel.gradient(net, rho.theta)
        if turn > 0:  # the first one wakes everything up
            times["flow"].append((middle - began) / count)
            times["kernel"].append((time.perf_counter() - middle) / count)
    return {name: statistics.median(values) for name, values in times.items()}


def memory(samples: int) -> dict[str, float]:
    """Bytes and seconds of one velocity at N = 100,000, D = 16; data and particles are there before."""
    small = wgflow.Problem(np.zeros((8, 16)), np.zeros(8))
    wgflow.Energy(small).velocity(wgflow.Particles.draw(small, 8))  # kernels loaded
    problem, rho, depth = measure(Case("gaps", 100_000, samples, 16))
    energy = wgflow.Energy(problem, depth)
    before, began = forget_peak(), time.perf_counter()
    energy.velocity(rho)
    return {"samples": samples, "seconds": time.perf_counter() - began, "bytes": peak_memory() - before}


if __name__ == "__main__":
    print(json.dumps(step() if sys.argv[1] == "step" else memory(int(sys.argv[2]))))
