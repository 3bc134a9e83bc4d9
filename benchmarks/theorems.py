"""Seconds of the theorems along a trajectory of 200 frames, N, M, D = 1000, 1024, 16.

Usage: python benchmarks/theorems.py [SCHEME ...]

The bar is 60 s on two cores. Where the time goes is printed part by part.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import wgflow
from wgflow.report.theorem_diagnostics import theorem_diagnostics
from wgflow.trajectory import TrajectoryWriter

FRAMES, N, M, D = 200, 1000, 1024, 16
SCHEMES = {"gaps": {}, "deposit": {"layers": 20}, "layers": {"layers": 20}, "shallow": {}}


def main(scheme: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(M, D))
    problem = wgflow.Problem(x, np.sin(x @ rng.normal(size=D) / 3))
    energy = wgflow.Energy(problem, {"name": scheme} | SCHEMES[scheme])
    rho = wgflow.Particles.draw_layers(problem, 20, N // 20, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.h5"
        with TrajectoryWriter.create(path, energy, N, capacity=FRAMES) as writer:
            for frame in wgflow.Flow(energy, step=0.1).run(rho, until=0.1 * (FRAMES - 1)):
                writer.append(frame)
            writer.finish()
        parts: dict[str, float] = {}
        last = [time.perf_counter(), ""]

        def tell(what: str, share: float) -> None:
            now = time.perf_counter()
            parts[last[1]] = parts.get(last[1], 0.0) + now - last[0]
            last[:] = now, what

        with wgflow.Trajectory(path) as trajectory:
            begun = time.perf_counter()
            found = theorem_diagnostics(trajectory, tell)
            print(f"{scheme}: {time.perf_counter() - begun:.1f} s for {len(trajectory)} frames")
    for what, seconds in parts.items():
        if what:
            print(f"  {what:28} {seconds:5.1f} s")
    print(f"  {found.verdict}")


if __name__ == "__main__":
    for name in sys.argv[1:] or SCHEMES:
        main(name)
