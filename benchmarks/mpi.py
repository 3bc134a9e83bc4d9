"""Ranks against threads: one evaluation with the same cores, divided in different ways, and its bits.

``python benchmarks/mpi.py`` starts ``mpirun -n R`` with T threads a rank for each R × T, in alternating turns, and
prints the least time of an evaluation of energy and velocity, its ratio to that of the first, and the processor time of
all ranks together, which other programs disturb less. It ends with 1 if the velocities differ in a single bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import wgflow


def evaluate(options: argparse.Namespace) -> None:
    """Time evaluations on the ranks of this process's world; rank 0 prints them and a digest of the result."""
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    rng = np.random.default_rng(0)
    x = rng.normal(size=(options.samples, options.width - 1))
    problem = wgflow.Problem.padded(x, np.sin(x.sum(axis=1)))
    energy = wgflow.Energy(problem, threads=options.threads, comm=world)
    rho = wgflow.Particles.draw(problem, options.particles, 0)
    seconds, processor = [], []
    for _ in range(options.calls + 1):  # the first compiles and fills the caches
        world.Barrier()
        begun, used = time.perf_counter(), time.process_time()
        velocity = energy.velocity(rho)
        seconds.append(time.perf_counter() - begun)
        processor.append(world.allreduce(time.process_time() - used))
    if world.Get_rank() == 0:
        bits = velocity.theta.tobytes() + velocity.tau.tobytes() + np.array(velocity.energy).tobytes()
        chunks = energy.kernel.chunks(energy.network(rho), options.samples)
        print(json.dumps([seconds[1:], processor[1:], hashlib.sha256(bits).hexdigest()[:12], chunks]), flush=True)


def launch(ranks: int, threads: int, options: argparse.Namespace) -> tuple[list[float], list[float], str, int]:
    """Seconds of each evaluation, processor time, digest of the velocity, and chunks of the samples."""
    mpirun = Path(sys.executable).with_name("mpirun")
    command = [str(mpirun) if mpirun.exists() else shutil.which("mpirun") or "mpirun", "-n", str(ranks)]
    command += [sys.executable, __file__, "--threads", str(threads)]
    for name in ("particles", "samples", "width", "calls"):
        command += [f"--{name}", str(getattr(options, name))]
    seconds, processor, digest, chunks = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return seconds, processor, digest, chunks


def main() -> int:
    """Compare the divisions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("divisions", nargs="*", default=["1x2", "2x1"], help="ranks x threads of each (1x2 2x1)")
    parser.add_argument("--particles", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--calls", type=int, default=4, help="evaluations of one turn")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        evaluate(options)
        return 0
    seconds: dict[str, list[float]] = {name: [] for name in options.divisions}
    used: dict[str, list[float]] = {name: [] for name in options.divisions}
    digests = set()
    for _ in range(options.turns):
        for name in options.divisions:
            ranks, threads = map(int, name.split("x"))
            times, processor, digest, chunks = launch(ranks, threads, options)
            seconds[name] += times
            used[name] += processor
            digests.add(digest)
    size = f"{options.particles}, {options.samples}, {options.width}"
    print(f"N, M, D = {size}: {chunks} chunks, {len(seconds[name])} evaluations each")
    first = min(seconds[options.divisions[0]])
    for name, times in seconds.items():
        low, middle = min(times), float(np.median(times))
        print(
            f"{name:>6} ranks x threads: least {low:.3f} s, median {middle:.3f} s, least / first {low / first:.3f}, "
            f"processor time {min(used[name]):.3f} s"
        )
    print("the same bits" if len(digests) == 1 else f"{len(digests)} different velocities")
    return int(len(digests) > 1)


if __name__ == "__main__":
    sys.exit(main())
