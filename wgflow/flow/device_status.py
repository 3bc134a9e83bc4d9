"""Status of a flow on a device: the few numbers that the host reads, and how the kernels of a flow are launched."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from wgflow.base.energy_balance import LENGTH as BALANCE_LENGTH
from wgflow.base.energy_balance import EnergyBalance
from wgflow.base.types import Array, Index
from wgflow.kernels.gpu.device import Device

LENGTH = 32  # doubles of the status array
_ROWS, _LANES, _FOLD, _SPAN = 8, 32, 256, 256  # TILE_ROWS, TILE_LANES, FOLD and SPAN of the source
_THREADS = 256
_ORDERED, _SHARES = 16, 8  # ORDERED and SHARES of the source
_MOST_BLOCKS = 4096
_STATES, _BALANCE = 8, 18  # offsets in the status array


class DeviceStatus(NamedTuple):
    """Status of a flow on a device.

    Attributes
    ----------
    failed_step : int
        Step at which a number was not finite, -1 if there was none. From there on no kernel changes a state.
    particle_failed : bool
        Whether it was a particle, in the step that began there; otherwise the energy or a velocity at that step.
    escaped : bool
        Whether a particle was not finite in the last trial step.
    switches : int
        Order switches in the last trial step.
    values : tuple of float
        Up to four numbers computed for a step rule.
    states : tuple of (float, float, int)
        Of both states: energy and dissipation from the last velocity over all samples there, and order switches (pairs
        of particles) since the start.
    balance : EnergyBalance
        Up to the state evaluated last, if the flow measures it.
    """

    failed_step: int
    particle_failed: bool
    escaped: bool
    switches: int
    values: tuple[float, ...]
    states: tuple[tuple[float, float, int], ...]
    balance: EnergyBalance

    @classmethod
    def unpack(cls, numbers: Array) -> DeviceStatus:
        """Read the status array, whose layout is defined in ``particles.cu``."""
        failed_step, reason, escaped, switches, *values = numbers[:_STATES].tolist()
        rows = numbers[_STATES : _STATES + 6].reshape(2, 3).tolist()
        states = tuple((energy, dissipation, int(switched)) for energy, dissipation, switched in rows)
        balance = EnergyBalance(*numbers[_BALANCE : _BALANCE + BALANCE_LENGTH].tolist())
        return cls(int(failed_step), reason == 2.0, escaped > 0, int(switches), tuple(values), states, balance)

    @staticmethod
    def initial(switched: int, balance: EnergyBalance) -> Array:
        """Status array of a flow that begins, or goes on, with this number of switches and this balance."""
        numbers = np.zeros(LENGTH)
        numbers[0] = -1.0
        numbers[_STATES + 2] = numbers[_STATES + 5] = switched
        numbers[_BALANCE : _BALANCE + BALANCE_LENGTH] = balance
        return numbers


class DeviceKernel(Protocol):
    """A backend that computes on a device, such as the GPU backend; what it offers beyond :class:`Kernel`."""

    device: Device
    precision: str

    def launch(
        self, first: Index, particle: Any, weight: Any, theta: Any, rows: Index | None = None, gradient: bool = True
    ) -> Any:
        """Start an evaluation; its ``energy`` (1,), ``value`` (E,) and ``slope`` (E, P) stay until the next."""


class Launcher:
    """Launches of the kernels of a flow on a backend; sizes are the source's, and no result depends on them."""

    def __init__(self, gpu: DeviceKernel) -> None:
        self.device, self._precision = gpu.device, gpu.precision

    def tiles(self, kernel: str, rows: int, quantities: int, *arguments: Any) -> None:
        """Start a kernel over tiles of rows, with this many sums of a tile in shared memory."""
        self._start(kernel, tiles(rows), _THREADS, 8 * quantities * (_ROWS * _LANES + _ROWS), arguments)

    def elementwise(self, kernel: str, count: int, *arguments: Any) -> None:
        """Start a kernel with one thread per element."""
        self._start(kernel, -(-count // _THREADS), _THREADS, 0, arguments)

    def all_pairs(self, kernel: str, count: int, *arguments: Any) -> None:
        """Start a kernel that compares every element with all others."""
        self._start(kernel, -(-count // _ORDERED), _ORDERED * _SHARES, 24 * _ORDERED * _SHARES, arguments)

    def spans(self, kernel: str, count: int, *arguments: Any) -> None:
        """Start a kernel with one block per span of consecutive elements."""
        self._start(kernel, spans(count), _THREADS, 8 * _SPAN, arguments)

    def single_block(self, kernel: str, *arguments: Any) -> None:
        """Start a kernel of one block, for the final sums."""
        self._start(kernel, 1, _THREADS, 8 * _FOLD, arguments)

    def _start(self, kernel: str, blocks: int, threads: int, shared: int, arguments: tuple[Any, ...]) -> None:
        self.device.launch(self._precision, kernel, min(blocks, _MOST_BLOCKS), threads, shared, arguments)


def tiles(rows: int) -> int:
    """Number of tiles for so many rows."""
    return -(-rows // _ROWS)


def spans(count: int) -> int:
    """Number of spans of so many elements."""
    return -(-count // _SPAN)
