"""The few numbers of a flow on a device that the host reads, in one array, and how its kernels are launched."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from wgflow.base.energy_balance import LENGTH as SUMS
from wgflow.base.energy_balance import EnergyBalance
from wgflow.base.types import Array, Index
from wgflow.kernels.gpu.device import Device

LENGTH = 32  # doubles of the board
_ROWS, _LANES, _FOLD, _SPAN = 8, 32, 256, 256  # TILE_ROWS, TILE_LANES, FOLD and SPAN of the source
_THREADS = 256
_ORDERED, _SHARES = 16, 8  # ORDERED and SHARES of the source
_MOST_BLOCKS = 4096
_TROUBLE, _STATES, _BALANCE = 0, 8, 18


class Summary(NamedTuple):
    """One of the two states a step goes from and to, in numbers.

    Attributes
    ----------
    energy, dissipation : float
        Of the last velocity over all samples there.
    switched : int
        Pairs of particles that have changed places since the start.
    """

    energy: float
    dissipation: float
    switched: int


class Board(NamedTuple):
    """What the device says of a flow.

    Attributes
    ----------
    trouble : int
        Step at which it left the finite numbers, -1 while it has not. From there on no kernel changes a state.
    left : bool
        Whether it was a particle, in the step begun there; else the energy or a velocity, there.
    escaped : bool
        Whether a particle left the finite numbers in the last trial.
    changed : int
        Pairs of particles that changed places in the last trial.
    asked : tuple of float
        Up to four numbers that a step rule asked for.
    states : tuple of Summary
        Of both states.
    balance : EnergyBalance
        Up to the state last looked at, if the flow measures it.
    """

    trouble: int
    left: bool
    escaped: bool
    changed: int
    asked: tuple[float, ...]
    states: tuple[Summary, Summary]
    balance: EnergyBalance

    @classmethod
    def of(cls, numbers: Array) -> Board:
        """Read the array, whose layout is in ``particles.cu``."""
        trouble, reason, escaped, changed, *asked = numbers[:_STATES].tolist()
        states = numbers[_STATES : _STATES + 6].reshape(2, 3).tolist()
        first, second = (Summary(energy, dissipation, int(switched)) for energy, dissipation, switched in states)
        balance = EnergyBalance(*numbers[_BALANCE : _BALANCE + SUMS].tolist())
        return cls(int(trouble), reason == 2.0, escaped > 0, int(changed), tuple(asked), (first, second), balance)

    @staticmethod
    def empty(switched: int, balance: EnergyBalance) -> Array:
        """The array at the start: no trouble and no step yet, so many pairs that have changed places."""
        numbers = np.zeros(LENGTH)
        numbers[_TROUBLE] = -1.0
        numbers[_STATES + 2] = numbers[_STATES + 5] = switched
        numbers[_BALANCE : _BALANCE + SUMS] = balance
        return numbers


class DeviceKernel(Protocol):
    """A backend that computes on a device, such as the GPU backend; what it has beside :class:`Kernel`."""

    device: Device
    precision: str

    def launch(
        self, first: Index, particle: Any, weight: Any, theta: Any, rows: Index | None = None, gradient: bool = True
    ) -> Any:
        """Start an evaluation; its ``energy`` (1,), ``value`` (E,) and ``slope`` (E, P) stay until the next."""


class Launcher:
    """Launches of the kernels of a flow; the sizes are the source's, and no result depends on them.

    Parameters
    ----------
    gpu : DeviceKernel
        Whose device they run on, compiled as its own.
    """

    def __init__(self, gpu: DeviceKernel) -> None:
        self.device, self._precision = gpu.device, gpu.precision

    def tiles(self, kernel: str, rows: int, quantities: int, *arguments: Any) -> None:
        """Start a kernel over tiles of rows, with so many sums of a tile in shared memory."""
        shared = 8 * quantities * (_ROWS * _LANES + _ROWS)
        self._start(kernel, tiles(rows), _THREADS, shared, arguments)

    def each(self, kernel: str, count: int, *arguments: Any) -> None:
        """Start a kernel with a thread for each of so many things."""
        self._start(kernel, -(-count // _THREADS), _THREADS, 0, arguments)

    def search(self, kernel: str, count: int, *arguments: Any) -> None:
        """Start a kernel in which each of so many things is compared with all others."""
        self._start(kernel, -(-count // _ORDERED), _ORDERED * _SHARES, 24 * _ORDERED * _SHARES, arguments)

    def runs(self, kernel: str, count: int, *arguments: Any) -> None:
        """Start a kernel with a block for each run of things."""
        self._start(kernel, runs(count), _THREADS, 8 * _SPAN, arguments)

    def judge(self, kernel: str, *arguments: Any) -> None:
        """Start a kernel of one block, which sums up."""
        self._start(kernel, 1, _THREADS, 8 * _FOLD, arguments)

    def _start(self, kernel: str, blocks: int, threads: int, shared: int, arguments: tuple[Any, ...]) -> None:
        self.device.launch(self._precision, kernel, min(blocks, _MOST_BLOCKS), threads, shared, arguments)


def tiles(rows: int) -> int:
    """Number of tiles of so many rows."""
    return -(-rows // _ROWS)


def runs(count: int) -> int:
    """Number of runs of so many things."""
    return -(-count // _SPAN)
