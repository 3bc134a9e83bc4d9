"""CUDA kernels for the built-in blocks, activations and losses: a whole network forwards and backwards in one launch.

The source is in :mod:`wgflow.kernels.cuda`. Here is what runs on the host: how a network is cut into groups, how many
samples a block of threads takes, and the launches. Particles, sums over particles and results are float64 in either
precision.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from wgflow.blocks import Unfolding
from wgflow.depth import Network
from wgflow.errors import BackendError, InputError
from wgflow.kernels import device as devices
from wgflow.kernels.device import Device
from wgflow.kernels.grouping import Groups, group
from wgflow.kernels.table import Table, tabulate
from wgflow.problems import Problem
from wgflow.types import Array, Index

# Codes of the source's switches.
ACTIVATION_CODES = {"linear": 0, "tanh": 1, "relu": 2, "squared_relu": 3, "regularised_relu": 4, "gelu": 5, "sin": 6}
LOSS_CODES = {"squared": 0, "cross_entropy": 1}
KEPT = frozenset({3, 4, 5, 6})  # activations whose slope is kept on a tape of its own

_THREADS = 128  # of a block
_MEAN_THREADS = 256
_TILES = (64, 32, 16, 8)  # samples of a block, most first
_SHARE = 0.5  # of the free memory that one evaluation may take


class Launched(NamedTuple):
    """Results on the device, valid until the next launch.

    Attributes
    ----------
    energy : device array (1,)
        Mean loss.
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


class Plan(NamedTuple):
    """Sizes of one pass.

    Attributes
    ----------
    tile : int
        Samples of a block of threads, B.
    blocks : int
        Blocks of threads, each with a tape and partial sums of its own.
    shared : int
        Bytes of shared memory of a block.
    tape : int
        Numbers of a block's tape.
    """

    tile: int
    blocks: int
    shared: int
    tape: int


class Gpu:
    """CUDA kernel for blocks made of ridge units; see :class:`wgflow.kernels.Kernel` for the contract.

    Parameters
    ----------
    problem : Problem
        A problem whose block, activation and loss are built in.
    dtype : {"float64", "float32"}, optional
        Precision of states, adjoints and sums over samples.
    device : Device, optional
        Where to run; the current CUDA device by default.

    Raises
    ------
    BackendError
        If there is no device, or the problem has a block, activation or loss of one's own, or states too wide for its
        shared memory.
    """

    name = "gpu"
    threads = 1  # of the host

    def __init__(self, problem: Problem, dtype: str = "float64", device: Device | None = None) -> None:
        from wgflow.kernels.cpu import compilable

        if not compilable(problem):
            raise BackendError(
                "backend 'gpu': a block, activation or loss of your own computes in NumPy; use --backend cpu"
            )
        self.problem, self.precision = problem, dtype
        self.device = devices.current() if device is None else device
        self._dtype = np.dtype(dtype)
        _, self._width, self._outputs, self._parameters = problem.shape
        self._table: Table = tabulate(cast(Unfolding, problem.block), self._width, self._parameters)
        self._padded, self._padded_outputs = _padded(self._width), _padded(self._outputs)
        self.group = 16 if self._width <= 8 else 32
        readout = np.zeros((self._padded_outputs, self._padded), self._dtype)
        readout[: self._outputs, : self._width] = problem.readout
        self._readout, self._turned = self._put(readout), self._put(np.ascontiguousarray(readout.T))
        self._on_device = (self.device.put(self._table.source), self.device.put(self._table.target))
        self._start, self._target = self._put(problem.start().T), self._put(problem.y.T)
        self._code = ACTIVATION_CODES[problem.activation.name]
        self._eta = float(problem.activation.parameter or 0.0)
        self._loss = LOSS_CODES[problem.loss.name]
        self._groups: tuple[bytes, Groups, tuple[Any, ...]] | None = None
        self._shared(_TILES[-1])  # refuses states that are too wide

    def outputs(self, net: Network, theta: Array, start: Array) -> Array:
        """Outputs W1 X(1), (M, K)."""
        arrays = self._arrays(net, theta)
        launched = self._launch(net.first, *arrays, self._put(start.T), None, None, False)
        return np.ascontiguousarray(self.device.get(launched.output).T, np.float64)

    def energy(self, net: Network, theta: Array, batch: Index | None = None) -> float:
        """E = mean over samples of the loss."""
        launched = self.launch(net.first, *self._arrays(net, theta), batch, False)
        return float(self.device.get(launched.energy)[0])

    def gradient(self, net: Network, theta: Array, batch: Index | None = None) -> tuple[float, Array, Array]:
        """E, and g_e = mean f(X_k, theta_e) . p_(k+1), (E,), with d_theta g_e, (E, P), at every entry."""
        launched = self.launch(net.first, *self._arrays(net, theta), batch)
        energy, value, slope = self.device.fetch([launched.energy, launched.value, launched.slope]).wait()
        return float(energy[0]), value, slope

    def launch(
        self, first: Index, particle: Any, weight: Any, theta: Any, rows: Index | None = None, gradient: bool = True
    ) -> Launched:
        """Start an evaluation of a network whose particles are on the device; waits for nothing.

        Parameters
        ----------
        first : ndarray (L + 1,), int64
            Layer k holds the entries first[k] <= e < first[k + 1]; on the host.
        particle, weight : device arrays (E,), int64 and float64
            As in :class:`wgflow.depth.Network`.
        theta : device array (N, P), float64
            Parameters.
        rows : ndarray, int64, optional
            Rows of the samples to use; all by default.
        gradient : bool, optional
            Whether more than the energy is wanted.
        """
        on_device = None if rows is None else self.device.put(np.ascontiguousarray(rows, np.int64))
        return self._launch(first, particle, weight, theta, self._start, self._target, on_device, gradient)

    def plan(self, samples: int, groups: Groups, gradient: bool = True) -> Plan:
        """Sizes of a pass: the widest tile of which there are enough for all multiprocessors, and that fits."""
        fitting = [tile for tile in _TILES if self._bytes(tile) <= self.device.shared]
        enough = [tile for tile in fitting if -(-samples // tile) >= self.device.processors]
        tile = enough[0] if enough else fitting[-1]
        shared = self._bytes(tile)
        rows = self._padded + self._padded_outputs  # of the tape: a sum begun, the gradient in the outputs
        if gradient:
            rows += groups.states * self._padded + groups.slots * (2 if self._code in KEPT else 1)
        each = rows * tile + (groups.slots * self._columns if gradient else 0)
        resident = self.device.processors * max(1, min(4, self.device.shared // shared))
        affordable = max(1, int(_SHARE * self.device.free()) // (each * self._dtype.itemsize))
        return Plan(tile, min(-(-samples // tile), resident, affordable), shared, rows * tile)

    @property
    def _columns(self) -> int:
        """Numbers of a slot in the partial sums: [h p | r x | h r | r], and three to align."""
        return 2 * self._padded + self.group + 4

    def _bytes(self, tile: int) -> int:
        """Shared memory of a block with tiles of so many samples."""
        rows, group = self._padded + self.group, self.group
        return self._dtype.itemsize * (2 * rows * (tile + 4) + 2 * self._padded * group + group * group + group)

    def _shared(self, tile: int) -> int:
        need = self._bytes(tile)
        if need > self.device.shared:
            raise BackendError(
                f"backend 'gpu': states of width D = {self._width} in {self.precision} need {need} bytes of shared "
                f"memory a block, {self.device.name} has {self.device.shared}; use float32, or --backend cpu"
            )
        return need

    def _put(self, array: NDArray[Any]) -> Any:
        return self.device.put(np.ascontiguousarray(array, self._dtype))

    def _arrays(self, net: Network, theta: Array) -> tuple[Any, Any, Any]:
        if len(net.particle) != net.first[-1] or len(net.weight) != net.first[-1] or net.particle.max() >= len(theta):
            raise InputError(  # compiled code would read past the end
                f"depth scheme: expected {net.first[-1]} entries of particles 0..{len(theta) - 1}, got "
                f"{len(net.particle)} with {len(net.weight)} weights, up to particle {net.particle.max()}"
            )
        put = self.device.put
        particle, weight = np.asarray(net.particle, np.int64), np.asarray(net.weight, np.float64)
        return put(particle), put(weight), put(np.asarray(theta, np.float64))

    def _grouped(self, first: Index) -> tuple[Groups, tuple[Any, ...]]:
        """Groups of a network, here and on the device; those of the last network are kept."""
        key = np.ascontiguousarray(first, np.int64).tobytes()
        if self._groups is None or self._groups[0] != key:
            groups = group(np.frombuffer(key, np.int64), self._table.units, self.group)
            sent = tuple(self.device.put(each) for each in (groups.table, groups.of_unit, groups.layer))
            self._groups = key, groups, sent
        return self._groups[1:]

    def _launch(
        self,
        first: Index,
        particle: Any,
        weight: Any,
        theta: Any,
        start: Any,
        target: Any,
        rows: Any,
        gradient: bool,
    ) -> Launched:
        groups, (table, of_unit, layer) = self._grouped(first)
        source, inverse = self._on_device
        all_samples = start.shape[1]
        samples = all_samples if rows is None else rows.shape[0]
        plan, sizes = self.plan(samples, groups, gradient), (self._width, self._padded, self.group)
        units, parameters, entries = self._table.units, self._parameters, int(first[-1])
        stacked = self._stack(groups, (theta, parameters, particle, weight, layer, source, units, *sizes, table))
        w, a, cw, ca, bias, below, above = stacked
        output, loss = self._empty(self._outputs, samples), self.device.empty(samples, np.float64)
        parts = self._empty(plan.blocks, groups.slots, self._columns) if gradient else self._empty(1)
        mode = 2 if gradient else 0 if target is None else 1
        tape = self._empty(plan.blocks * plan.tape)
        self._start_kernel(
            *("network_pass", plan.blocks, plan.shared),
            *(
                mode,
                start,
                start if target is None else target,
                of_unit if rows is None else rows,
                int(rows is not None),
            ),
            *(all_samples, samples, *sizes, plan.tile, self._outputs, self._padded_outputs, table, len(groups.table)),
            *(w, a, cw, ca, bias, below, above, self._readout, self._turned, self._code, self._eta, self._loss),
            *(tape, plan.tape, groups.states, groups.slots, output, loss, parts),
        )
        energy = self.device.empty(1, np.float64)
        if target is not None:
            self.device.launch(self.precision, "mean", 1, _MEAN_THREADS, 8 * _MEAN_THREADS, (loss, samples, energy))
        if not gradient:
            return Launched(energy, None, None, output)
        total = self.device.empty((groups.slots, self._columns), np.float64)
        value, slope = self.device.empty(entries, np.float64), self.device.empty((entries, parameters), np.float64)
        size = groups.slots * self._columns
        self._start_kernel("add_blocks", _blocks(size), 0, parts, plan.blocks, size, total)
        shape = (units, *sizes, cw, ca)
        common = (total, entries, samples, table, of_unit, layer)
        self._start_kernel("slopes", _blocks(entries * parameters), 0, *common, inverse, parameters, *shape, slope)
        self._start_kernel(
            "values", _blocks(entries), 0, *common, source, theta, particle, parameters, *shape, slope, value
        )
        return Launched(energy, value, slope, output)

    def _stack(self, groups: Groups, arguments: tuple[Any, ...]) -> list[Any]:
        count, width, size = len(groups.table), self._padded, self.group
        wide, square = (count, width, size), (count, size, size)
        made = [self._empty(*shape) for shape in (wide, wide, wide, wide, (count, size), square, square)]
        self._start_kernel("stack", count, 0, *arguments, count, *made)
        return made

    def _start_kernel(self, kernel: str, blocks: int, shared: int, *arguments: Any) -> None:
        self.device.launch(self.precision, kernel, blocks, _THREADS, shared, arguments)

    def _empty(self, *shape: int) -> Any:
        return self.device.empty(shape, self._dtype)


def _blocks(size: int) -> int:
    """Blocks for as many independent numbers; more would only wait."""
    return max(1, min(-(-size // _THREADS), 4096))


def _padded(count: int) -> int:
    return -(-count // 4) * 4
