"""Frames of a flow on a device: asynchronous copies to the host, and detection of numbers that are not finite."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

from wgflow.base.errors import DivergenceError
from wgflow.base.types import Array, Frame
from wgflow.flow.device_status import DeviceStatus
from wgflow.flow.divergence import Moment, diverged, escaped
from wgflow.flow.stepper import Dynamics
from wgflow.kernels.gpu.device import Device, Pending

_POLL = 64  # steps between requests for the status; each request checks the answer to the one before

_Copied: TypeAlias = Callable[[], tuple[DeviceStatus, Frame | None]]


class DeviceFrames:
    """Frames, status and errors of a flow on a device, as the host reads them; ``places`` of the two states."""

    def __init__(
        self, device: Device, dynamics: Dynamics, status: Any, places: Sequence[tuple[Any, Any]], mass: Array
    ) -> None:
        self._device, self._dynamics, self._status, self._places, self._mass = device, dynamics, status, places, mass
        self._visited: dict[int, tuple[Moment, int]] = {}  # steps that the device may still report as failed
        self._in_flight: deque[_Copied] = deque()
        self._last: Frame | None = None  # the latest frame delivered
        self._requested: tuple[int, Pending] | None = None
        self._visits = 0

    def visit(self, at: Moment, state: int) -> None:
        """Note where the flow is, and now and then check an earlier status; raises DivergenceError."""
        self._visited[at.step] = at, state
        self._visits += 1
        if self._visits % _POLL:
            return
        if self._requested is not None:
            step, pending = self._requested
            self._check(DeviceStatus.unpack(pending.wait()[0]))
            self._visited = {number: visit for number, visit in self._visited.items() if number >= step}
        self._requested = at.step, self._device.fetch([self._status])

    def frame(self, at: Moment, state: int) -> Callable[[], Frame]:
        """Begin to copy a state; the returned function waits for the frame, or raises DivergenceError."""
        copies = self._device.fetch([*self._places[state], self._status])

        @functools.cache
        def copied() -> tuple[DeviceStatus, Frame | None]:
            theta, tau, numbers = copies.wait()
            status = DeviceStatus.unpack(numbers)
            return status, None if status.failed_step >= 0 else self._frame(at, theta, tau, status, state)

        def wait() -> Frame:
            status, frame = copied()
            while self._in_flight and self._in_flight.popleft() is not copied:
                pass
            self._check(status)
            self._last = frame
            return cast(Frame, frame)  # there is one if the status reports no failure

        self._in_flight.append(copied)
        return wait

    def read_status(self) -> DeviceStatus:
        """Wait for the present status; raises DivergenceError."""
        status = DeviceStatus.unpack(self._device.get(self._status))
        self._check(status)
        return status

    def escape(self, at: Moment) -> DivergenceError:
        """Error of a trial step in which a particle was no longer finite."""
        status = DeviceStatus.unpack(self._device.get(self._status))
        return escaped(at, self._dynamics.rule.first, self._last_good(at.step, status))

    def _check(self, status: DeviceStatus) -> None:
        step = status.failed_step
        if step < 0:
            return
        good = self._last_good(step if status.particle_failed else step - 1, status)
        raise (escaped if status.particle_failed else diverged)(self._visited[step][0], self._dynamics.rule.first, good)

    def _last_good(self, step: int, status: DeviceStatus) -> Frame | None:
        """State at a step, if its energy and velocity over all samples were finite; with batches the last frame."""
        if self._dynamics.rows is not None:
            frames = [copied()[1] for copied in self._in_flight]
            return next((frame for frame in reversed(frames) if frame is not None), self._last)
        if step not in self._visited:
            return None
        at, state = self._visited[step]
        theta, tau = map(self._device.get, self._places[state])
        return self._frame(at, theta, tau, status, state)

    def _frame(self, at: Moment, theta: Array, tau: Array, status: DeviceStatus, state: int) -> Frame:
        for array in (theta, tau, self._mass):
            array.setflags(write=False)
        balance = status.balance if self._dynamics.measured else None
        energy, dissipation, switched = status.states[state]
        return Frame(at.step, at.s, theta, tau, self._mass, energy, dissipation, switched, at.h, balance=balance)
