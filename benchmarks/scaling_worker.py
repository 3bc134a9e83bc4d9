"""Seconds of evaluations on the ranks of one mpirun, printed as JSON by rank 0.

Usage: mpirun -n R python benchmarks/scaling_worker.py N M D THREADS
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from mpi4py import MPI

import wgflow

CALLS = 7


def main() -> None:
    particles, samples, width, threads = map(int, sys.argv[1:])
    comm, rng = MPI.COMM_WORLD, np.random.default_rng(0)
    problem = wgflow.Problem(rng.normal(size=(samples, width)), rng.normal(size=(samples, 1)))
    energy = wgflow.Energy(problem, threads=threads, comm=comm)
    rho, seconds = wgflow.Particles.draw(problem, particles), []
    energy.velocity(rho)  # compiles
    for _ in range(CALLS):
        comm.Barrier()
        begun = time.perf_counter()
        energy.velocity(rho)
        comm.Barrier()
        seconds.append(time.perf_counter() - begun)
    if comm.rank == 0:
        print(json.dumps(seconds))


if __name__ == "__main__":
    main()
