"""NumPy kernel for what is not compiled, such as user-defined blocks, over blocks of samples on all cores.

It evaluates :mod:`wgflow.kernels.reference` for a few hundred samples at a time, so that memory stays bounded, and adds
the partial sums along a fixed tree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wgflow.base.types import Array, Index
from wgflow.kernels.cpu.chunks import tree_sum
from wgflow.kernels.cpu.threads import available_threads, run_chunks
from wgflow.kernels.reference import Reference
from wgflow.model.depth import Network
from wgflow.model.problem import Problem

_TAPE = 2**22  # numbers on one thread's tape of states, 32 MiB
_ROWS = 256  # samples of one block at most
_CHUNKS = 8  # partial sums of one evaluation at most


class NumpyBlocked:
    """NumPy kernel in blocks of samples; see :class:`wgflow.kernels.select.Kernel` for the contract."""

    name = "cpu"

    def __init__(self, problem: Problem, threads: int | None = None) -> None:
        self.threads = available_threads() if threads is None else threads
        self._reference = Reference(problem)

    def outputs(self, net: Network, theta: Array, start: Array) -> NDArray[Any]:
        """Outputs g(X(1)), (M, K)."""
        parts = self._rows(net, np.arange(len(start)))
        out = np.empty((len(start), len(self._reference.problem.readout)))

        def work(chunk: int) -> None:
            out[parts[chunk]] = self._reference.outputs(net, theta, start[parts[chunk]])

        run_chunks(work, len(parts), self.threads)
        return out

    def energy(self, net: Network, theta: Array, batch: Index | None = None) -> float:
        """E = mean over samples of the loss."""
        problem, rows = self._reference.problem, self._batch(batch)
        output = self.outputs(net, theta, problem.start()[rows])
        return float(np.mean(problem.loss.value(output, problem.y[rows])))

    def gradient(self, net: Network, theta: Array, batch: Index | None = None) -> tuple[float, Array, Array]:
        """E, and g_e = mean f(X_k, theta_e) . p_(k+1), (E,), with d_theta g_e, (E, P), at every entry."""
        rows = self._batch(batch)
        parts = self._rows(net, rows)
        entries, parameters = len(net.particle), theta.shape[1]
        count = min(_CHUNKS, len(parts))
        sums = np.zeros((count, 1 + entries * (parameters + 1)))  # one row a chunk: E, g, d_theta g

        def work(chunk: int) -> None:
            for part in parts[chunk::count]:
                energy, first, slope = self._reference.gradient(net, theta, part)
                sums[chunk] += np.concatenate([[energy], first, slope.ravel()]) * (len(part) / len(rows))

        run_chunks(work, count, self.threads)
        total = tree_sum(sums)
        return float(total[0]), total[1 : entries + 1], total[entries + 1 :].reshape(entries, parameters)

    def _batch(self, batch: Index | None) -> Index:
        return np.arange(len(self._reference.problem.x)) if batch is None else batch

    def _rows(self, net: Network, rows: Index) -> list[Index]:
        """Rows in chunks whose tape of states, (L + 1, rows, D), stays small; a rule in the sizes alone."""
        width = len(self._reference.problem.embed)
        share = max(1, min(_ROWS, _TAPE // ((net.layers + 1) * width)))
        return [rows[low : low + share] for low in range(0, len(rows), share)]
