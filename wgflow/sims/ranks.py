"""A command on several ranks: ``mpirun -n R wgflow run STUDY --mpi``.

Rank 0 runs the study as it would without the others, reads, writes and prints; the others serve its evaluations. So
what is decided (steps, batches, stops) is decided once. A rank that fails ends all of them.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from wgflow.base.errors import InputError
from wgflow.base.exit_codes import BAD_INPUT, DISK, INTERNAL
from wgflow.base.extras import install
from wgflow.base.terminal import say

if TYPE_CHECKING:
    from wgflow.kernels.ranks import Ranks

_OPTION = "--mpi"
_GRACE = 3.0  # seconds in which rank 0, where the same has probably happened, may say so and end all ranks
# What MPICH, Open MPI and Slurm set in the environment of a process that they start.
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
_NUMBERS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")


def asked_for(arguments: Sequence[str]) -> bool:
    """Whether a command line has --mpi, in full or cut short as argparse allows."""
    return any(len(word) > len("--m") and _OPTION.startswith(word) for word in arguments)


def on_all(command: Callable[[Ranks | None], int]) -> int:
    """Run a command on rank 0, which the other ranks serve; its exit code, on all of them.

    Parameters
    ----------
    command : callable
        Takes the ranks, None if there is one alone, and returns an exit code.
    """
    try:
        ranks = _connect()
    except InputError as error:
        if not _largest(_NUMBERS):
            say(str(error))
        return BAD_INPUT
    if ranks.size == 1:
        return command(None)
    if ranks.rank:
        return _serve(ranks)
    code = INTERNAL
    try:
        code = command(ranks)
    except SystemExit as end:  # of --help
        code = end.code if isinstance(end.code, int) else 0
        raise
    finally:
        if ranks.busy:  # interrupted within an evaluation, in which the others may wait for this rank
            sys.stdout.flush()
            ranks.abort(code)
        ranks.tell("end", code)
    return code


def _connect() -> Ranks:
    """Ranks of this command.

    Raises
    ------
    InputError
        If mpi4py is missing, finds no MPI library, or another one than that of mpirun.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of another mpirun, which is checked below
            from mpi4py import MPI
    except ImportError as error:
        raise InputError(f"{_OPTION}: expected the package mpi4py, which is not installed: {install('mpi')}") from error
    except RuntimeError as error:
        raise InputError(
            f"{_OPTION}: mpi4py found no MPI library ({str(error).splitlines()[0]}): install MPICH or Open MPI, e.g. "
            "pip install mpich"
        ) from error
    from wgflow.kernels.ranks import Ranks

    ranks = Ranks(MPI.COMM_WORLD, led=True)
    started = _largest(_SIZES)
    if ranks.size < started:
        raise InputError(
            f"{_OPTION}: mpirun started {started} processes, but mpi4py is connected to {ranks.size}; use the mpirun "
            f"(or, with srun, the --mpi) of its MPI library, {MPI.get_vendor()[0]}"
        )
    return ranks


def _largest(names: Sequence[str]) -> int:
    """Largest of the numbers that the environment has under these names, 0 without any."""
    values = [os.environ.get(name, "") for name in names]
    return max(int(value) if value.isdecimal() else 0 for value in values)


def _serve(ranks: Ranks) -> int:
    """Serve rank 0 until it ends; the exit code that it tells."""
    for number in (signal.SIGINT, signal.SIGTERM):  # mpirun sends them to all ranks; rank 0 decides
        signal.signal(number, signal.SIG_IGN)
    from wgflow.kernels.cpu.sharded import serve

    try:
        return serve(ranks)
    except Exception as error:
        time.sleep(_GRACE)
        lost = isinstance(error, OSError | MemoryError)
        what = str(error) or "memory ran out" if lost else f"internal error: {type(error).__name__}: {error}"
        say(f"rank {ranks.rank}: {what}; committed frames are intact, and the same command resumes")
        ranks.abort(DISK if lost else INTERNAL)
        raise
