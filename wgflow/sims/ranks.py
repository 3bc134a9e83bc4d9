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
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")  # environment of a process that mpirun has started, by MPI
_NUMBERS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK")


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
        if not any(int(os.environ.get(name, 0)) for name in _NUMBERS):
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
    started = max(int(os.environ.get(name, 1)) for name in _SIZES)
    if ranks.size < started:
        raise InputError(
            f"{_OPTION}: mpirun started {started} processes, but mpi4py is connected to {ranks.size}; use the mpirun "
            f"of its MPI library, {MPI.get_vendor()[0]}"
        )
    return ranks


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
