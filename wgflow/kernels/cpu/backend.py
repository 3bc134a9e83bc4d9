"""Numba kernels on all cores, for the built-in blocks, activations and losses."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Index
from wgflow.kernels.codes import ACTIVATION_CODES, LOSS_CODES, OWN, STORED_SLOPES
from wgflow.kernels.cpu import compiled, motion
from wgflow.kernels.cpu.arguments import CompiledActivation, Model, Samples
from wgflow.kernels.cpu.buffers import keep_freed_memory
from wgflow.kernels.cpu.chunks import Chunks, mean
from wgflow.kernels.cpu.grouped import GroupedPasses
from wgflow.kernels.cpu.several_steps import Motion, Moves, SeveralSteps, most_steps
from wgflow.kernels.cpu.threads import available_threads
from wgflow.kernels.cpu.wide import WidePasses, in_order, moves_well, suits
from wgflow.model.blocks import Ridge, Unfolding
from wgflow.model.depth import Network, Transpose
from wgflow.model.losses import LOSSES
from wgflow.model.particles import Particles
from wgflow.model.problem import Problem


def compilable(problem: Problem) -> bool:
    """Whether the compiled kernels know all of the problem: its block, activation, measuring function and loss."""
    activation = problem.activation
    return activation.builtin and activation.name in ACTIVATION_CODES and compilable_apart_from_activation(problem)


def compilable_apart_from_activation(problem: Problem) -> bool:
    """Whether the compiled kernels know the problem's block, measuring function and loss."""
    loss = problem.loss
    known = loss.name in LOSS_CODES and type(loss) is type(LOSSES.get(loss.name))
    return isinstance(problem.block, Unfolding) and known and problem.linear


class Cpu:
    """Compiled kernel for blocks made of ridge units; see :class:`wgflow.kernels.select.Kernel` for the contract.

    Parameters
    ----------
    problem : Problem
        A :func:`compilable` problem, or one whose activation is the user's.
    threads : int, optional
        Number of threads; all cores of the process by default.
    dtype : {"float64", "float32"}, optional
        Precision of states, adjoints and sums over samples.
    own : CompiledActivation, optional
        Code of an activation of the user's.
    """

    name = "cpu"
    motion = motion

    def __init__(
        self,
        problem: Problem,
        threads: int | None = None,
        dtype: str = "float64",
        own: CompiledActivation | None = None,
    ) -> None:
        self.problem = problem
        self.threads = available_threads() if threads is None else threads
        self._precision, self._dtype, self._own = dtype, np.dtype(dtype), own
        self._block = cast(Unfolding, problem.block)
        self._width = problem.shape[1]
        self._units = self._block.units(self._width)
        # Columns [a | w | b] or [a | w], unless somebody overrides what the ridge block makes of them.
        self._plain = (type(self._block).unfold, type(self._block).fold) == (Ridge.unfold, Ridge.fold)
        self._columns = self._unit_parameters(np.zeros((1, problem.shape[3]))).shape[1]
        self._samples = Samples(self._writable(problem.start().T), self._writable(problem.y))
        outputs = len(problem.readout)
        readout = np.array(problem.readout, self._dtype, order="C")
        code = OWN if own else ACTIVATION_CODES[problem.activation.name]
        self._model = Model(
            readout,
            transposed=np.ascontiguousarray(readout.T),
            activation=code,
            loss=LOSS_CODES[problem.loss.name],
            eta=self._dtype.type(problem.activation.parameter or 0.0),
            own=own.address if own else compiled.activation_address(dtype) if code in STORED_SLOPES else 0,
            keep=int(code in STORED_SLOPES),
            coordinate=self._width if getattr(self._block, "coordinate_units", False) else 0,
            lanes=64 // self._dtype.itemsize,
        )
        self._wide = WidePasses(self._model, self._width, outputs, self.threads)
        self._grouped = GroupedPasses(self._model, self._width, outputs, self.threads)
        keep_freed_memory()

    def outputs(self, net: Network, theta: Array, start: Array) -> Array:
        """Outputs W1 X(1), (M, K)."""
        return self._outputs(net, theta, self._writable(start.T))

    def energy(self, net: Network, theta: Array, batch: Index | None = None) -> float:
        """E = mean over samples of the loss."""
        return self._mean_loss(self._outputs(net, theta, self._rows(batch).start), batch)

    def gradient(self, net: Network, theta: Array, batch: Index | None = None) -> tuple[float, Array, Array]:
        """E, and g_e = mean f(X_k, theta_e) . p_(k+1), (E,), with d_theta g_e, (E, P), at every entry."""
        self._check_own()
        samples = self._rows(batch)
        net, units = self._unfold(net, theta)
        passes = self._wide if self._is_wide(net, samples.start.shape[1]) else self._grouped
        output, first, slope = passes.gradient(net, units, samples)
        return self._mean_loss(output, batch), *self._by_particle(first, slope)

    def chunks(self, net: Network, samples: int, gradient: bool = True) -> int:
        """Number of chunks that an evaluation divides these samples into, each summed on its own; 1 in wide layers."""
        net = self._units_of(net)
        return 1 if self._is_wide(net, samples) else self._grouped.chunks(net, self._columns, samples, gradient)

    def division(self, net: Network, samples: int) -> tuple[Chunks, int]:
        """Chunks of an evaluation with gradients of so many samples, and bytes of the partial sums of one of them."""
        if self._is_wide(net, samples):  # whose units are divided instead
            return Chunks(1, samples, samples), 0
        plan = self._grouped.division(self._units_of(net), self._columns, samples)
        return plan.chunks, math.prod(plan.parts[0][1:]) * self._dtype.itemsize

    def mover(self, net: Network, theta: Array, factor: Array) -> Moves | None:
        """What moves parameters in place by factor, (P,), times d_theta g_e.

        None where no pass computes all this at once: it needs wide layers or one small one, units that are plain
        parameters in double precision, and as many entries as particles, in their order.

        Parameters
        ----------
        net : Network
            Layers, which stay the same.
        theta : ndarray (N, P)
            Parameters, contiguous and writable.
        factor : ndarray (P,)
            Factors by column.
        """
        plain = self._plain and self._dtype == np.float64
        good = moves_well(net, self._samples.start.shape[1]) and in_order(net, len(theta))
        if not plain or not good or self._model.coordinate:
            return None
        mover = self._wide.mover(net, theta, self._samples, factor)
        return Moves(mover, self._steps_at_most(net) if mover.at_once else 1, self._mean_losses)

    def several_steps(self, rho: Particles, net: Network, transpose: Transpose, motion: Motion) -> SeveralSteps | None:
        """Steps of a flow, many in one call, with the bits of single ones; None where calls take little of the time.

        Parameters
        ----------
        rho : Particles
            A measure of the flow.
        net, transpose : Network, Transpose
            Its layers.
        motion : Motion
            How it moves.
        """
        if not self._plain or self._model.coordinate or self._is_wide(net, self._samples.start.shape[1]):
            return None
        most = self._steps_at_most(net)
        serial = self._grouped.serial(net, rho.theta.shape[1], self._samples) if most > 1 else None
        return None if serial is None else SeveralSteps(rho, net, transpose, motion, *serial, most, self._mean_losses)

    def _steps_at_most(self, net: Network) -> int:
        """Steps of one call at most."""
        width, samples = self._samples.start.shape
        return most_steps(len(net.particle), width, samples, len(self.problem.readout))

    def _mean_losses(self, outputs: Array) -> Array:
        """Energies, (steps,), from outputs, (steps, M, K)."""
        self._check_own()
        steps, samples, _ = outputs.shape
        losses = self.problem.loss.value(outputs.reshape(steps * samples, -1), np.tile(self.problem.y, (steps, 1)))
        return mean(losses.reshape(steps, samples))

    def _check_own(self) -> None:
        """Compiled code of an activation of the user's must not be older than what it reads."""
        if self._own is not None:
            self._own.check()

    def _is_wide(self, net: Network, samples: int) -> bool:
        """Whether the units of a network, rather than the samples, should fill vectors and threads."""
        return not self._model.coordinate and suits(net, samples)

    def _by_particle(self, first: Array, slope: Array) -> tuple[Array, Array]:
        """Gradients by particle instead of by unit."""
        if self._units > 1:
            first = first.reshape(-1, self._units).sum(axis=1)
        return first, slope if self._plain else self._block.fold(slope, self._width)

    def _outputs(self, net: Network, theta: Array, start: NDArray[Any]) -> Array:
        self._check_own()
        net, units = self._unfold(net, theta)
        samples = Samples(start, np.empty((1, 1), self._dtype))
        if self._is_wide(net, start.shape[1]):
            return self._wide.outputs(net, units, samples).astype(np.float64, copy=False)
        return self._grouped.outputs(net, units, samples)

    def _writable(self, array: Array) -> NDArray[Any]:
        """The array in the form compiled code expects, copied only if necessary."""
        return np.require(array, self._dtype, ["C", "W"])

    def _rows(self, batch: Index | None) -> Samples:
        if batch is None:
            return self._samples
        return Samples(np.ascontiguousarray(self._samples.start[:, batch]), self._samples.target[batch])

    def _mean_loss(self, output: Array, batch: Index | None) -> float:
        y = self.problem.y if batch is None else self.problem.y[batch]
        return float(mean(self.problem.loss.value(output, y)))

    def _unfold(self, net: Network, theta: Array) -> tuple[Network, Array]:
        """Network of ridge units: each entry becomes the H units of its particle, in one layer."""
        if len(net.particle) != net.first[-1] or len(net.weight) != net.first[-1] or net.particle.max() >= len(theta):
            raise InputError(  # compiled code would read past the end
                f"depth scheme: expected {net.first[-1]} entries of particles 0..{len(theta) - 1}, got "
                f"{len(net.particle)} with {len(net.weight)} weights, up to particle {net.particle.max()}"
            )
        units = np.ascontiguousarray(self._unit_parameters(theta))
        return self._units_of(net), units

    def _unit_parameters(self, theta: Array) -> Array:
        """Parameters of the units of the particles."""
        return theta if self._plain else self._block.unfold(theta, self._width)

    def _units_of(self, net: Network) -> Network:
        """Network of the units of the particles."""
        if self._units == 1:
            return net
        particle = (net.particle[:, None] * self._units + np.arange(self._units)).ravel()
        return Network(net.first * self._units, particle, np.repeat(net.weight, self._units))
