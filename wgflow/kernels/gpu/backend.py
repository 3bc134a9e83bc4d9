"""CUDA kernels for the built-in blocks, activations and losses.

The source is in :mod:`wgflow.kernels.gpu.cuda`. A network is evaluated in one launch for all layers
(:mod:`wgflow.kernels.gpu.persistent`), or layer by layer with cuBLAS (:mod:`wgflow.kernels.gpu.layered`).
Particles, sums over particles and results are float64 in either precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wgflow.base.errors import BackendError, InputError, describe
from wgflow.base.types import Array, Index
from wgflow.kernels.codes import NOT_COMPILED
from wgflow.kernels.gpu import device as devices
from wgflow.kernels.gpu.device import Device
from wgflow.kernels.gpu.device_problem import GRADIENT, LOSSES, OUTPUTS, DeviceProblem, Evaluation, Task
from wgflow.kernels.gpu.layered import Layered
from wgflow.kernels.gpu.persistent import Persistent
from wgflow.model.depth import Network
from wgflow.model.problem import Problem

# From this many units and this width on, layers are evaluated one by one: their products fill the device. Not measured.
_WIDE_LAYER, _WIDE_STATE = 128, 64


class Gpu:
    """CUDA kernel for blocks made of ridge units; see :class:`wgflow.kernels.select.Kernel` for the contract.

    Parameters
    ----------
    problem : Problem
        A problem with built-in block, activation and loss.
    dtype : {"float64", "float32"}, optional
        Precision of states, adjoints and sums over samples.
    device : Device, optional
        The device; the current CUDA device by default.
    layered : bool, optional
        Whether to evaluate layer by layer; by default if layers and states are wide.

    Raises
    ------
    BackendError
        If there is no device, or the block, activation or loss is user-defined.
    """

    name = "gpu"
    threads = 1  # of the host

    def __init__(
        self, problem: Problem, dtype: str = "float64", device: Device | None = None, layered: bool | None = None
    ) -> None:
        from wgflow.kernels.cpu.backend import compilable

        if not compilable(problem):
            raise BackendError(f"backend 'gpu': {NOT_COMPILED} computes in NumPy; use --backend cpu")
        self.problem, self.precision = problem, dtype
        self.device = devices.current() if device is None else device
        self._device_problem = DeviceProblem(problem, dtype, self.device)
        self._persistent = Persistent(self._device_problem, problem.readout)
        self._layered = Layered(self._device_problem, problem.readout)
        self._choice = layered

    def outputs(self, net: Network, theta: Array, start: Array) -> Array:
        """Outputs W1 X(1), (M, K)."""
        width = self.problem.shape[1]
        if start.ndim != 2 or start.shape[1] != width:
            raise InputError(f"start: expected states of shape (M, {width}), got {start.shape}")
        states = self._device_problem.put(start.T)
        launched = self._launch(Task(OUTPUTS, net.first, *self._arrays(net, theta), states, None))
        return np.ascontiguousarray(self.device.get(launched.output).T, np.float64)

    def energy(self, net: Network, theta: Array, batch: Index | None = None) -> float:
        """E = mean over samples of the loss."""
        launched = self.launch(net.first, *self._arrays(net, theta), self._rows(batch), False)
        return float(self.device.get(launched.energy)[0])

    def gradient(self, net: Network, theta: Array, batch: Index | None = None) -> tuple[float, Array, Array]:
        """E, and g_e = mean f(X_k, theta_e) . p_(k+1), (E,), with d_theta g_e, (E, P), at every entry."""
        launched = self.launch(net.first, *self._arrays(net, theta), self._rows(batch))
        energy, value, slope = self.device.fetch([launched.energy, launched.value, launched.slope]).wait()
        return float(energy[0]), value, slope

    def launch(
        self, first: Index, particle: Any, weight: Any, theta: Any, rows: Index | None = None, gradient: bool = True
    ) -> Evaluation:
        """Start an evaluation of a network whose particles are on the device, without waiting for it.

        Parameters
        ----------
        first : ndarray (L + 1,), int64
            Layer k holds the entries first[k] <= e < first[k + 1]; on the host.
        particle, weight : device arrays (E,), int64 and float64
            As in :class:`wgflow.model.depth.Network`.
        theta : device array (N, P), float64
            Parameters.
        rows : ndarray, int64, optional
            Rows of the samples to use; all by default.
        gradient : bool, optional
            Whether to compute gradients too.
        """
        sent = None if rows is None else self.device.put(np.ascontiguousarray(rows, np.int64))
        mode = GRADIENT if gradient else LOSSES
        return self._launch(Task(mode, first, particle, weight, theta, self._device_problem.start, sent))

    def layered(self, first: Index) -> bool:
        """Whether a network is evaluated layer by layer."""
        if not self._persistent.fits:
            return True
        if self._choice is not None:
            return self._choice
        layers = max(1, int(np.count_nonzero(np.diff(first))))
        units = int(first[-1]) * self._device_problem.units
        return units >= _WIDE_LAYER * layers and self._device_problem.width >= _WIDE_STATE

    def _launch(self, task: Task) -> Evaluation:
        return (self._layered if self.layered(task.first) else self._persistent).launch(task)

    def _rows(self, batch: Index | None) -> Index | None:
        """Rows of the batch, checked."""
        samples = len(self.problem.x)
        if batch is not None and (len(batch) == 0 or batch.min() < 0 or batch.max() >= samples):
            raise InputError(f"batch: expected one row or more in 0..{samples - 1}, got {describe(batch)}")
        return batch

    def _arrays(self, net: Network, theta: Array) -> tuple[Any, Any, Any]:
        """Particle, weight and theta on the device."""
        parameters = self.problem.shape[3]
        if theta.ndim != 2 or theta.shape[1] != parameters:
            raise InputError(f"theta: expected shape (N, {parameters}), got {theta.shape}")
        entries, known = int(net.first[-1]), net.particle.min() >= 0 and net.particle.max() < len(theta)
        if len(net.particle) != entries or len(net.weight) != entries or not known:
            raise InputError(  # compiled code would read past the end
                f"depth scheme: expected {net.first[-1]} entries of particles 0..{len(theta) - 1}, got "
                f"{len(net.particle)} with {len(net.weight)} weights, of particles {net.particle.min()}.."
                f"{net.particle.max()}"
            )
        put = self.device.put
        particle, weight = np.asarray(net.particle, np.int64), np.asarray(net.weight, np.float64)
        return put(particle), put(weight), put(np.asarray(theta, np.float64))
