"""A problem on the device: data and launches that every pass of the GPU backend needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from wgflow.base.types import Index
from wgflow.kernels.codes import ACTIVATION_CODES, LOSS_CODES, STORED_SLOPES
from wgflow.kernels.gpu.device import Device
from wgflow.kernels.gpu.unit_table import unit_table
from wgflow.model.blocks import Unfolding
from wgflow.model.problem import Problem

OUTPUTS, LOSSES, GRADIENT = 0, 1, 2  # what a pass computes

THREADS = 128  # of a block
LANES = 256  # of a sum over samples
ENTRY_LANES = 64  # of a sum over the units and columns of an entry
SHARE = 0.5  # of the memory available to one evaluation


class Evaluation(NamedTuple):
    """Results on the device, valid until the next launch.

    Attributes
    ----------
    energy : device array (1,)
        Mean loss; not written if only outputs were requested.
    value : device array (E,) or None
        First variation g_e at every entry.
    slope : device array (E, P) or None
        Its gradient in theta.
    output : device array (K, samples)
        Outputs, in the precision of the states.
    """

    energy: Any
    value: Any
    slope: Any
    output: Any


class Task(NamedTuple):
    """One evaluation.

    Attributes
    ----------
    mode : int
        ``OUTPUTS``, ``LOSSES`` or ``GRADIENT``.
    first : ndarray (L + 1,), int64
        Layer k holds the entries first[k] <= e < first[k + 1]; on the host.
    particle, weight, theta : device arrays (E,), (E,), (N, P)
        As in :class:`wgflow.model.depth.Network`.
    start : device array (D, all samples)
        States at depth 0.
    rows : device array (samples,), int64, or None
        Samples of the batch; None for all.
    """

    mode: int
    first: Index
    particle: Any
    weight: Any
    theta: Any
    start: Any
    rows: Any

    @property
    def samples(self) -> int:
        """Number of samples of the batch."""
        return int(self.start.shape[1] if self.rows is None else self.rows.shape[0])


class DeviceProblem:
    """A problem on a device.

    Parameters
    ----------
    problem : Problem
        Problem with built-in block, activation and loss.
    precision : {"float64", "float32"}
        Of states, adjoints and sums over samples.
    device : Device
        The device.

    Attributes
    ----------
    width, outputs, parameters : int
        D, K and P.
    units : int
        Ridge units of a particle, H.
    source, target : device arrays (H, 2 D + 1), (P,), int64
        The block's :class:`wgflow.kernels.gpu.unit_table.UnitTable`.
    start, wanted : device arrays (D, M), (K, M)
        States at depth 0 and targets.
    code, loss, eta : int, int, float
        Codes of activation and loss, and the activation's parameter.
    keep : bool
        Whether the activation's slope is stored.
    """

    def __init__(self, problem: Problem, precision: str, device: Device) -> None:
        self.device, self.precision, self.dtype = device, precision, np.dtype(precision)
        _, self.width, self.outputs, self.parameters = problem.shape
        table = unit_table(cast(Unfolding, problem.block), self.width, self.parameters)
        self.units = table.units
        self.source, self.target = device.put(table.source), device.put(table.target)
        self.start, self.wanted = self.put(problem.start().T), self.put(problem.y.T)
        self.code, self.loss = ACTIVATION_CODES[problem.activation.name], LOSS_CODES[problem.loss.name]
        self.eta = float(problem.activation.parameter or 0.0)
        self.keep = self.code in STORED_SLOPES

    def put(self, array: NDArray[Any]) -> Any:
        """Copy of a host array on the device in the precision of the states."""
        return self.device.put(np.ascontiguousarray(array, self.dtype))

    def empty(self, *shape: int) -> Any:
        """Uninitialised array in the precision of the states."""
        return self.device.empty(shape, self.dtype)

    def doubles(self, *shape: int) -> Any:
        """Uninitialised array of float64."""
        return self.device.empty(shape, np.float64)

    def run(self, kernel: str, blocks: int, *arguments: Any, threads: int = THREADS, shared: int = 0) -> None:
        """Start a kernel."""
        self.device.launch(self.precision, kernel, blocks, threads, shared, arguments)

    def each(self, kernel: str, size: int, *arguments: Any) -> None:
        """Start a kernel that computes ``size`` independent numbers."""
        self.run(kernel, max(1, min(-(-size // THREADS), 65536)), *arguments)

    def each_entry(self, kernel: str, entries: int, *arguments: Any) -> None:
        """Start a kernel that computes one sum per entry, a block of threads for each."""
        blocks = min(entries, 8 * self.device.processors)
        self.run(kernel, blocks, *arguments, threads=ENTRY_LANES, shared=8 * ENTRY_LANES)

    def mean(self, task: Task, loss: Any) -> Any:
        """Mean of the samples' losses, (1,); not written if only outputs were requested."""
        energy = self.doubles(1)
        if task.mode != OUTPUTS:
            self.run("mean", 1, loss, task.samples, energy, threads=LANES, shared=8 * LANES)
        return energy

    def rows(self, task: Task) -> Sequence[Any]:
        """Arguments ``rows`` and ``some`` of kernels; without rows a placeholder that is not read."""
        return (self.target, 0) if task.rows is None else (task.rows, 1)
