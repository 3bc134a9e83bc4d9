"""Ranks: processes of an MPI program that share the evaluations of one run, and the messages between them.

Each rank owns consecutive chunks of the samples. Sums of chunks are added along the same binary tree as within one
process, from rank to rank where a pair of chunks belongs to two of them, so that the bits do not depend on the number
of ranks; MPI adds up nothing. A rank that waits polls, instead of blocking inside MPI: signals are received, and other
processes can use its core.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wgflow.base.errors import InputError, describe
from wgflow.base.types import Array

_TAG = 7411
_SPIN = 0.002  # seconds for which a rank polls without a pause; later it sleeps for
_PAUSE = 0.05  # this share of the time waited so far, up to
_LONGEST = 0.005  # so many seconds
_yield_core = getattr(os, "sched_yield", lambda: None)


class Ranks:
    """Processes that share evaluations.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
        The processes; all of them construct this object.
    led : bool, optional
        Whether only rank 0 runs the program, and the others serve its evaluations (:meth:`hear`). Otherwise all ranks
        run it, with the same arguments of every evaluation.

    Attributes
    ----------
    rank, size : int
        Number of this process, and of processes.
    threads : int
        Cores of this host for each of its ranks, at least 1.
    busy : bool
        Whether an evaluation was begun and has not ended, so that other ranks may wait for this one.

    Raises
    ------
    InputError
        If ``comm`` is no communicator.
    """

    def __init__(self, comm: Any, led: bool = False) -> None:
        if not all(hasattr(comm, name) for name in ("Get_rank", "Ibcast", "Split_type")):
            raise InputError(
                f"comm: expected a communicator of mpi4py, such as MPI.COMM_WORLD, got {describe(comm)}; leave it out "
                "to run on one process"
            )
        self._comm, self.led, self.busy = comm, led, False
        self.rank, self.size = int(comm.Get_rank()), int(comm.Get_size())
        self.threads = self._share_of_cores()

    def share(self, chunks: int, rank: int | None = None) -> range:
        """Chunks that a rank owns, this one by default; of fewer chunks than ranks the last ranks own none."""
        rank, active = self.rank if rank is None else rank, min(self.size, chunks)
        return range(chunks * rank // active, chunks * (rank + 1) // active) if rank < active else range(0)

    def owner(self, chunk: int, chunks: int) -> int:
        """Rank that owns a chunk."""
        return ((chunk + 1) * min(self.size, chunks) - 1) // chunks

    def tree_sum(self, parts: NDArray[Any], chunks: int) -> NDArray[Any] | None:
        """Sum over the chunks of all ranks along the fixed binary tree.

        Parameters
        ----------
        parts : ndarray (chunks of this rank, ...)
            Its partial sums, contiguous, which are destroyed.
        chunks : int
            Chunks of all ranks.

        Returns
        -------
        ndarray or None
            The sum, on rank 0.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # places that pad a panel hold anything
            return self._tree_sum(parts, chunks)

    def _tree_sum(self, parts: NDArray[Any], chunks: int) -> NDArray[Any] | None:
        own, stride, other = self.share(chunks), 1, np.empty_like(parts[:1])
        while stride < chunks and own:
            first = max(0, (own.start - stride) // (2 * stride) * 2 * stride)
            for left in range(first, min(own.stop, chunks - stride), 2 * stride):
                right = left + stride
                if left in own and right in own:
                    parts[left - own.start] += parts[right - own.start]
                elif left in own:
                    self._receive(other, self.owner(right, chunks))
                    parts[left - own.start] += other[0]
                elif right in own:
                    self._send(parts[right - own.start], self.owner(left, chunks))
            stride *= 2
        return parts[0] if self.rank == 0 else None

    def gather(self, numbers: Array, lengths: Sequence[int]) -> list[Array]:
        """Numbers of all ranks, on rank 0, which knows how many each has; on the others nothing."""
        if self.rank:
            self._send(numbers, 0)
            return []
        return [numbers, *(self._received(length, rank) for rank, length in enumerate(lengths) if rank)]

    def broadcast(self, numbers: Array) -> None:
        """Overwrite an array with that of rank 0."""
        self._wait(self._comm.Ibcast(numbers, 0))

    @contextlib.contextmanager
    def together(self, name: str, *arguments: Any) -> Iterator[None]:
        """Evaluate on all ranks; those that serve are sent the name and the arguments of the evaluation."""
        self.busy = True
        if self.led and self.rank == 0:
            self.tell(name, *arguments)
        yield
        self.busy = False

    def tell(self, name: str, *arguments: Any) -> None:
        """Send a name and arguments from rank 0 to the others, which :meth:`hear` them."""
        self._broadcast_bytes(np.frombuffer(pickle.dumps((name, arguments), pickle.HIGHEST_PROTOCOL), np.uint8).copy())

    def hear(self) -> tuple[str, tuple[Any, ...]]:
        """Wait for what rank 0 tells next."""
        name, arguments = pickle.loads(self._broadcast_bytes(np.empty(0, np.uint8)).data)
        return name, arguments

    def abort(self, code: int) -> None:
        """End all ranks at once, with an exit code."""
        self._comm.Abort(code)

    def _broadcast_bytes(self, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        length = np.array([len(data)])
        self._wait(self._comm.Ibcast(length, 0))
        data = data if self.rank == 0 else np.empty(int(length[0]), np.uint8)
        self._wait(self._comm.Ibcast(data, 0))
        return data

    def _received(self, length: int, rank: int) -> Array:
        numbers = np.empty(length)
        self._receive(numbers, rank)
        return numbers

    def _send(self, array: NDArray[Any], rank: int) -> None:
        self._wait(self._comm.Isend(array, rank, _TAG))

    def _receive(self, out_array: NDArray[Any], rank: int) -> None:
        self._wait(self._comm.Irecv(out_array, rank, _TAG))

    def _wait(self, request: Any) -> None:
        begun = time.perf_counter()
        while not self._arrived(request):
            waited = time.perf_counter() - begun
            if waited < _SPIN:
                _yield_core()
            else:
                time.sleep(min(_PAUSE * waited, _LONGEST))

    def _arrived(self, request: Any) -> bool:
        try:
            return bool(request.Test())
        except RuntimeError as error:  # that of mpi4py is one
            raise OSError(f"a process of the run was lost: {error}") from error

    def _share_of_cores(self) -> int:
        from mpi4py import MPI

        here = self._comm.Split_type(MPI.COMM_TYPE_SHARED)
        cores = here.allgather(_available_cores())
        number = here.Get_rank()
        here.Free()
        return share_of_cores(cores, number)


def share_of_cores(cores: Sequence[Sequence[int]], rank: int) -> int:
    """Threads of a rank, so that its host has no more threads than cores, whether ranks are bound to cores or not.

    Parameters
    ----------
    cores : sequence of sequences of int
        Cores on which each rank of a host may run.
    rank : int
        Number of the rank among them.
    """
    users = Counter(core for allowed in cores for core in allowed)
    return max(1, int(sum(Fraction(1, users[core]) for core in cores[rank])))


def _available_cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
