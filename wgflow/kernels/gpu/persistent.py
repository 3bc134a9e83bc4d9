"""Evaluation of the whole network in one launch: each block of threads takes a tile of samples through all groups.

For many small layers, where a launch per layer would cost more than its work. See ``network.cu``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wgflow.base.types import Index
from wgflow.kernels.gpu.device_problem import GRADIENT, SHARE, THREADS, DeviceProblem, Evaluation, Task
from wgflow.kernels.gpu.grouping import Groups, group

_TILES = (64, 32, 16, 8)  # samples of a block of threads, most first
# Threads per multiprocessor that fit into its registers, by bytes of a number: TWO_BLOCKS in common.cu.
_RESIDENT = {4: 512, 8: 256}
_OWN = 1024  # bytes of shared memory reserved for each block, in addition to its own


class Plan(NamedTuple):
    """Sizes of one pass.

    Attributes
    ----------
    tile : int
        Samples of a block of threads, B.
    threads : int
        Threads of a block: one for every 4 x 4 numbers of a state, from 128 to 256.
    blocks : int
        Blocks of threads, each with its own tape and partial sums.
    shared : int
        Bytes of shared memory of a block.
    tape : int
        Numbers of a block's tape.
    """

    tile: int
    threads: int
    blocks: int
    shared: int
    tape: int


class Persistent:
    """Evaluation of one problem with one launch for all layers.

    Parameters
    ----------
    problem : DeviceProblem
        The problem.
    readout : ndarray (K, D)
        W1.
    """

    def __init__(self, problem: DeviceProblem, readout: NDArray[Any]) -> None:
        self._problem = problem
        self._padded, self._outputs = _padded(problem.width), _padded(problem.outputs)
        self._size = 16 if problem.width <= 8 else 32  # units of a group at most
        padded = np.zeros((self._outputs, self._padded))
        padded[: problem.outputs, : problem.width] = readout
        self._readout, self._transposed = problem.put(padded), problem.put(padded.T)
        self._last: tuple[bytes, Groups, tuple[Any, ...]] | None = None

    @property
    def fits(self) -> bool:
        """Whether the smallest tile fits into shared memory."""
        return self._bytes(_TILES[-1]) <= self._problem.device.shared

    def plan(self, samples: int, groups: Groups, mode: int = GRADIENT) -> Plan:
        """Sizes of a pass, with the widest tile that fits and gives every multiprocessor work."""
        problem, gradient = self._problem, mode == GRADIENT
        device = problem.device
        fitting = [tile for tile in _TILES if self._bytes(tile) <= device.shared]
        enough = [tile for tile in fitting if -(-samples // tile) >= device.processors]
        tile = enough[0] if enough else fitting[-1]
        shared = self._bytes(tile)
        rows = self._padded + self._outputs  # of the tape: a sum begun, the gradient in the outputs
        if gradient:
            rows += groups.states * self._padded + groups.slots * (2 if problem.keep else 1)
        size = rows * tile + (groups.slots * self._columns if gradient else 0)
        threads = min(256, max(THREADS, self._padded * tile // 16 // 32 * 32))
        fit = (device.shared + _OWN) // (shared + _OWN)
        resident = device.processors * max(1, min(_RESIDENT[problem.dtype.itemsize] // threads, fit))
        affordable = max(1, int(SHARE * device.memory) // (size * problem.dtype.itemsize))
        return Plan(tile, threads, min(-(-samples // tile), resident, affordable), shared, rows * tile)

    def launch(self, task: Task) -> Evaluation:
        """Start an evaluation, without waiting for it."""
        problem, samples, entries = self._problem, task.samples, int(task.first[-1])
        groups, (table, of_unit, layer) = self._grouped(task.first)
        plan, gradient = self.plan(samples, groups, task.mode), task.mode == GRADIENT
        sizes, count = (problem.width, self._padded, self._size), len(groups.table)
        w, a, cw, ca, bias, below, above = self._stack(task, groups, table, layer)
        output, loss = problem.empty(problem.outputs, samples), problem.doubles(samples)
        parts = problem.empty(plan.blocks, groups.slots, self._columns) if gradient else problem.empty(1)
        problem.run(
            *("network_pass", plan.blocks, task.mode, task.start, problem.wanted, *problem.rows(task)),
            *(task.start.shape[1], samples, *sizes, plan.tile, problem.outputs, self._outputs, table, count),
            *(w, a, cw, ca, bias, below, above, self._readout, self._transposed),
            *(problem.code, problem.eta, problem.loss),
            *(problem.empty(plan.blocks * plan.tape), plan.tape, groups.states, groups.slots, output, loss, parts),
            threads=plan.threads,
            shared=plan.shared,
        )
        energy = problem.mean(task, loss)
        if not gradient:
            return Evaluation(energy, None, None, output)
        size = groups.slots * self._columns
        total, value = problem.doubles(size), problem.doubles(entries)
        slope = problem.doubles(entries, problem.parameters)
        problem.each("add_blocks", size, parts, plan.blocks, size, total)
        common, shape = (total, entries, samples, table, of_unit, layer), (problem.units, *sizes, cw, ca)
        problem.each("slopes", entries * problem.parameters, *common, problem.target, problem.parameters, *shape, slope)
        own = (problem.source, task.theta, task.particle, problem.parameters)
        problem.each_entry("values", entries, *common, *own, *shape, slope, value)
        return Evaluation(energy, value, slope, output)

    def _stack(self, task: Task, groups: Groups, table: Any, layer: Any) -> list[Any]:
        """Parameters by group, as the kernel ``stack`` orders them."""
        problem, count, width, size = self._problem, len(groups.table), self._padded, self._size
        wide, square = (count, width, size), (count, size, size)
        arrays = [problem.empty(*shape) for shape in (wide, wide, wide, wide, (count, size), square, square)]
        own = (task.theta, problem.parameters, task.particle, task.weight, layer, problem.source, problem.units)
        problem.run("stack", count, *own, problem.width, width, size, table, count, *arrays)
        return arrays

    def _grouped(self, first: Index) -> tuple[Groups, tuple[Any, ...]]:
        """Groups of a network, on the host and on the device; those of the last network are cached."""
        key = np.ascontiguousarray(first, np.int64).tobytes()
        if self._last is None or self._last[0] != key:
            groups = group(np.frombuffer(key, np.int64), self._problem.units, self._size)
            sent = tuple(self._problem.device.put(each) for each in (groups.table, groups.of_unit, groups.layer))
            self._last = key, groups, sent
        return self._last[1:]

    @property
    def _columns(self) -> int:
        """Columns of the partial sums: [h p | r x | h r | r], and three for alignment."""
        return 2 * self._padded + self._size + 4

    def _bytes(self, tile: int) -> int:
        """Bytes of shared memory of a block with a tile of that many samples."""
        width, size = self._padded, self._size
        numbers = 2 * (width + size) * (tile + 4) + 2 * width * size + size * size + size
        return self._problem.dtype.itemsize * numbers


def _padded(count: int) -> int:
    return -(-count // 4) * 4
