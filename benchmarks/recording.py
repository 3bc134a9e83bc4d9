"""Cost of recording a run and of reading it: python benchmarks/recording.py [STEPS].

N = 1000, P = 33, M = 1024 under Gaps, a frame at every step. At each step of one run it is drawn at random whether the
frame is recorded, not recorded, or only one necessary part of recording is done, so that all meet the same conditions.
"""

from __future__ import annotations

import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np

import wgflow
from wgflow.trajectory import TrajectoryWriter, schema
from wgflow.trajectory.file_io import write_at

N, M, D = 1000, 1024, 16


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    rng = np.random.default_rng(0)
    problem = wgflow.Problem(rng.normal(size=(M, D)), rng.normal(size=(M, 1)))
    energy = wgflow.Energy(problem)
    flow, rho = wgflow.Flow(energy, step=0.01), wgflow.Particles.draw(problem, N)
    packed = np.empty((N, problem.shape[3] + 1))
    with tempfile.TemporaryDirectory(dir=".") as folder:
        path = Path(folder) / "run.h5"
        raw = open(Path(folder) / "raw", "w+b", buffering=0)
        writer = TrajectoryWriter.create(path, energy, N, capacity=steps)

        def pack(frame: wgflow.base.types.Frame) -> None:
            packed[:, :-1], packed[:, -1] = frame.theta, frame.tau

        work = {
            "nothing": lambda frame: None,
            "pack theta and tau": pack,
            "CRC-32 of them": lambda frame: zlib.crc32(packed.data.cast("B")),
            "write them": lambda frame: write_at(raw, frame.step * packed.nbytes, packed),
            "record the frame": writer.append,
        }
        names = list(work)
        own: dict[str, list[float]] = {name: [] for name in work}
        whole: dict[str, list[float]] = {name: [] for name in work}
        chosen, begun = "", 0.0
        for frame in flow.run(rho, until=steps * 0.01):
            now = time.perf_counter()
            if chosen and frame.step > 20:
                whole[chosen].append(now - begun)
            chosen, begun = names[rng.integers(len(names))], time.perf_counter()
            work[chosen](frame)
            if frame.step > 20:
                own[chosen].append(time.perf_counter() - begun)
        base = float(np.median(whole["nothing"]))
        print(f"N = {N}, P = {problem.shape[3]}, M = {M}: a step takes {base * 1e3:.2f} ms ({steps} steps)")
        for name in names[1:]:
            extra = np.median(whole[name]) - base
            spread = np.sqrt(sum(_error(values) ** 2 for values in (whole[name], whole["nothing"])))
            print(
                f"  {name:20} {np.median(own[name]) * 1e6:4.0f} us = {np.median(own[name]) / base:5.1%} of a step; "
                f"steps are longer by {extra * 1e6:4.0f} +- {spread * 1e6:.0f} us"
            )
        for frame in flow.run(rho, until=steps * 0.01, every=steps * 0.01):
            while writer.frames < writer.capacity:
                writer.append(frame)
        writer.finish()
        _read(path, steps)


def _read(path: Path, frames: int) -> None:
    with wgflow.Trajectory(path) as trajectory:
        block = schema.block_particles(N, trajectory[0].theta.shape[1] + 1)
        print(f"reading {frames} frames of {path.stat().st_size / frames / 1024:.0f} KiB, everything checked")
        for name, read in {
            "open": lambda: wgflow.Trajectory(path).close(),
            "one frame": lambda: trajectory[frames // 2],
            f"one particle's path ({block} particles a block)": lambda: trajectory.particle(N // 2),
            "a series": lambda: (trajectory.__dict__.pop("_numbers", None), trajectory.series("energy")),
            "all frames": lambda: sum(1 for _ in trajectory),
        }.items():
            taken = []
            for _ in range(7):
                begun = time.perf_counter()
                read()
                taken.append(time.perf_counter() - begun)
            print(f"  {name:42} {np.median(taken) * 1e3:8.2f} ms")


def _error(values: list[float]) -> float:
    """Standard error of a median, from quartiles."""
    low, high = np.quantile(values, [0.25, 0.75])
    return float(1.25 * (high - low) / 1.35 / np.sqrt(len(values)))


if __name__ == "__main__":
    main()
