"""Compiled kernels whose chunks of samples are divided among the ranks of an MPI program.

All ranks have all samples and particles. Each passes the chunks that it owns, rank 0 completes the gradients from the
sum over the ranks (:meth:`wgflow.kernels.ranks.Ranks.tree_sum`), and what is communicated in an evaluation are a few
partial sums of each rank, of about 2 P numbers a particle, the losses, and the result. Evaluations of a single chunk
need no other rank: where all ranks run the program they repeat them.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Index
from wgflow.kernels.cpu.arguments import CompiledActivation, Model, Samples
from wgflow.kernels.cpu.backend import Cpu
from wgflow.kernels.cpu.chunks import Chunks, summands
from wgflow.kernels.cpu.grouped import GroupedPasses
from wgflow.kernels.cpu.several_steps import Motion, SeveralSteps
from wgflow.kernels.ranks import Ranks
from wgflow.model.depth import Network, Transpose
from wgflow.model.particles import Particles
from wgflow.model.problem import Problem


class ShardedPasses(GroupedPasses):
    """Passes of the chunks that a rank owns: its rows of the outputs; gradients on rank 0.

    Attributes
    ----------
    rows : list of slice
        Samples of each rank in the last evaluation.
    """

    def __init__(self, model: Model, width: int, outputs: int, threads: int, ranks: Ranks) -> None:
        super().__init__(model, width, outputs, threads)
        self._ranks, self.rows = ranks, list[slice]()

    def _owned(self, chunks: Chunks, samples: int) -> range:
        shares = [self._ranks.share(chunks.chunks, rank) for rank in range(self._ranks.size)]
        self.rows = [slice(own.start * chunks.size, min(own.stop * chunks.size, samples)) for own in shares]
        return shares[self._ranks.rank]

    def _summed(self, parts: NDArray[Any], chunks: int) -> NDArray[Any] | None:
        total = self._ranks.tree_sum(parts, chunks)
        return None if total is None else total[None]


class ShardedCpu(Cpu):
    """Compiled kernel of one rank; see :class:`wgflow.kernels.select.Kernel` for the contract.

    All ranks call :meth:`energy` and :meth:`gradient` with the same arguments, unless they serve rank 0; outputs are
    computed by the rank that asks for them.

    Parameters
    ----------
    problem, threads, dtype, own
        As for :class:`wgflow.kernels.cpu.backend.Cpu`; by default a rank has its share of the host's cores.
    ranks : Ranks
        The ranks.
    """

    def __init__(
        self,
        problem: Problem,
        ranks: Ranks,
        threads: int | None = None,
        dtype: str = "float64",
        own: CompiledActivation | None = None,
    ) -> None:
        super().__init__(problem, ranks.threads if threads is None else threads, dtype, own)
        if ranks.led and ranks.rank == 0:  # threads that are the share of its host's cores here are so elsewhere
            ranks.tell("problem", problem, None if self.threads == ranks.threads else threads, dtype)
        self.ranks = ranks
        self._sharded = ShardedPasses(self._model, self._width, len(problem.readout), self.threads, ranks)
        self._data = 0 if ranks.led else _checksum(0, *problem.arrays().values())

    def energy(self, net: Network, theta: Array, batch: Index | None = None) -> float:
        """E = mean over samples of the loss."""
        if self.chunks(net, self._count(batch), gradient=False) == 1:
            return super().energy(net, theta, batch)
        with self.ranks.together("energy", net, theta, batch):
            self._check_same(net, theta, batch)
            self._check_own()
            unfolded, units = self._unfold(net, theta)
            samples = Samples(self._rows(batch).start, np.empty((1, 1), self._dtype))
            output = self._sharded.outputs(unfolded, units, samples)
            result = self._known_to_all(self._mean_over_ranks(output, batch))
        return float(result[0])

    def gradient(self, net: Network, theta: Array, batch: Index | None = None) -> tuple[float, Array, Array]:
        """E, and g_e = mean f(X_k, theta_e) . p_(k+1), (E,), with d_theta g_e, (E, P), at every entry."""
        if self.chunks(net, self._count(batch)) == 1:
            return super().gradient(net, theta, batch)
        entries, parameters = len(net.particle), theta.shape[1]
        with self.ranks.together("gradient", net, theta, batch):
            self._check_same(net, theta, batch)
            self._check_own()
            unfolded, units = self._unfold(net, theta)
            output, first, slope = self._sharded.gradient(unfolded, units, self._rows(batch))
            result = np.empty(1 + entries * (1 + parameters))
            result[:1] = self._mean_over_ranks(output, batch)
            if self.ranks.rank == 0:
                first, slope = self._by_particle(first, slope)
                result[1 : 1 + entries], result[1 + entries :] = first, slope.ravel()
            self._known_to_all(result)
        return float(result[0]), result[1 : 1 + entries], result[1 + entries :].reshape(entries, parameters)

    def several_steps(self, rho: Particles, net: Network, transpose: Transpose, motion: Motion) -> SeveralSteps | None:
        """Steps of a flow, many in one call, of an evaluation that needs no other rank; otherwise None."""
        alone = self.chunks(net, self._count(None)) == 1
        return super().several_steps(rho, net, transpose, motion) if alone else None

    def _count(self, batch: Index | None) -> int:
        return len(self.problem.x) if batch is None else len(batch)

    def _check_same(self, net: Network, theta: Array, batch: Index | None) -> None:
        """Refuse other arguments on another rank than on rank 0: the sum would be that of no measure."""
        ranks = self.ranks
        if ranks.led:
            return
        own = _checksum(self._data, *net, theta, *(() if batch is None else (batch,)))
        others = [
            rank for rank, (one,) in enumerate(ranks.gather(np.array([own], float), [1] * ranks.size)) if one != own
        ]
        first = self._known_to_all(np.array([min(others, default=0)], float))
        if first[0]:
            raise InputError(
                f"comm: expected the same problem, measure and batch on all ranks, got others on rank {first[0]:.0f} "
                "than on rank 0; use the same data and seeds on all ranks, and processors of one kind"
            )

    def _mean_over_ranks(self, output: Array, batch: Index | None) -> Array:
        """E on rank 0, (1,), from the outputs at the samples of each rank."""
        ranks, count, rows = self.ranks, self._count(batch), self._sharded.rows
        y = self.problem.y if batch is None else self.problem.y[batch]
        own = rows[ranks.rank]
        losses = self.problem.loss.value(output, y[own]) if len(output) else np.empty(0)
        lengths = [len(summands(np.empty(each.stop - each.start), count)) for each in rows]
        gathered = ranks.gather(summands(losses, count), lengths)
        return np.atleast_1d(np.add.reduce(np.concatenate([np.empty(0), *gathered])) / count)

    def _known_to_all(self, result: Array) -> Array:
        """Result of rank 0 in place, on all ranks that run the program."""
        if not self.ranks.led:
            self.ranks.broadcast(result)
        return result


def serve(ranks: Ranks) -> int:
    """Take part in the evaluations of rank 0 until it ends; returns the exit code it tells."""
    kernel: ShardedCpu | None = None
    while True:
        name, arguments = ranks.hear()
        if name == "end":
            return int(arguments[0])
        if name == "problem":
            kernel = None  # its memory first
            problem, threads, dtype = arguments
            kernel = ShardedCpu(problem, ranks, threads, dtype)
        else:
            getattr(kernel, name)(*arguments)


def _checksum(start: int, *arrays: NDArray[np.generic]) -> int:
    for array in arrays:
        start = zlib.crc32(np.ascontiguousarray(array).data, start)
    return start
