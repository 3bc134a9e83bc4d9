"""What comes back from a device during a flow: frames, and the news that it has left the finite numbers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

from wgflow.base.errors import DivergenceError
from wgflow.base.types import Array, Frame
from wgflow.flow.device_status import Board
from wgflow.flow.stepper import Dynamics, Moment, diverged, escaped
from wgflow.kernels.gpu.device import Device, Pending

_WATCH = 64  # steps after which the board is asked for, and the one asked for before is looked at


class Arrival:
    """A frame on its way.

    Parameters
    ----------
    pending : Pending
        Copies of theta, tau and the board.
    mass : ndarray (N,)
        Weights, which never change.
    at : Moment
        Where the flow was.
    state : int
        Which of the two states it is.
    measured : bool
        Whether the flow has a balance of energy.
    """

    def __init__(self, pending: Pending, mass: Array, at: Moment, state: int, measured: bool) -> None:
        self._pending, self._mass, self._at, self._state, self._measured = pending, mass, at, state, measured
        self._arrived: tuple[Board, Frame | None] | None = None

    def arrived(self) -> tuple[Board, Frame | None]:
        """Wait for it; no frame if the flow had left the finite numbers."""
        if self._arrived is None:
            theta, tau, numbers = self._pending.wait()
            board = Board.of(numbers)
            places = (theta, tau, self._mass)
            made = _frame(self._at, places, board, self._state, self._measured) if board.trouble < 0 else None
            self._arrived = board, made
        return self._arrived


class Returns:
    """The host's knowledge of a flow on a device.

    Parameters
    ----------
    device : Device
        Where it is.
    dynamics : Dynamics
        What moves the particles.
    board : device array
        Its board.
    places : sequence of (device array, device array)
        theta and tau of the two states.
    mass : ndarray (N,)
        Weights.
    """

    def __init__(
        self, device: Device, dynamics: Dynamics, board: Any, places: Sequence[tuple[Any, Any]], mass: Array
    ) -> None:
        self._device, self._of, self._board, self._places, self._mass = device, dynamics, board, places, mass
        self._visited: dict[int, tuple[Moment, int]] = {}  # steps that the board may still find fault with
        self._flying: deque[Arrival] = deque()
        self._last: Frame | None = None  # frame that arrived last
        self._asked: tuple[int, Pending] | None = None
        self._looks = 0

    def visit(self, at: Moment, state: int) -> None:
        """Note where the flow is, and now and then look at the board of a while ago: raises DivergenceError."""
        self._visited[at.step] = at, state
        self._looks += 1
        if self._looks % _WATCH:
            return
        if self._asked is not None:
            step, pending = self._asked
            self._check(Board.of(pending.wait()[0]))
            self._visited = {each: visit for each, visit in self._visited.items() if each >= step}
        self._asked = at.step, self._device.fetch([self._board])

    def frame(self, at: Moment, state: int) -> Callable[[], Frame]:
        """Begin to copy a state out; the call waits for it, or raises DivergenceError."""
        pending = self._device.fetch([*self._places[state], self._board])
        arrival = Arrival(pending, self._mass, at, state, self._of.measured)
        self._flying.append(arrival)

        def wait() -> Frame:
            board, frame = arrival.arrived()
            while self._flying and self._flying.popleft() is not arrival:
                pass
            self._check(board)
            self._last = frame
            return cast(Frame, frame)  # there is one where the board tells of no trouble

        return wait

    def read(self) -> Board:
        """Wait for the board as it is now; raises DivergenceError."""
        board = Board.of(self._device.get(self._board))
        self._check(board)
        return board

    def escape(self, at: Moment) -> DivergenceError:
        """Error of a trial step in which a particle left the finite numbers."""
        return escaped(at, self._of.rule.first, self._good(at.step, Board.of(self._device.get(self._board))))

    def _check(self, board: Board) -> None:
        if board.trouble < 0:
            return
        at, _ = self._visited[board.trouble]
        good = self._good(board.trouble if board.left else board.trouble - 1, board)
        raise (escaped if board.left else diverged)(at, self._of.rule.first, good)

    def _good(self, step: int, board: Board) -> Frame | None:
        """State of a step whose energy and velocity over all samples were finite; with batches the last frame."""
        if self._of.rows is not None:
            arrived = [each.arrived()[1] for each in self._flying]
            return next((frame for frame in reversed(arrived) if frame is not None), self._last)
        if step not in self._visited:
            return None
        at, state = self._visited[step]
        theta, tau = (self._device.get(each) for each in self._places[state])
        return _frame(at, (theta, tau, self._mass), board, state, self._of.measured)


def _frame(at: Moment, places: tuple[Array, Array, Array], board: Board, state: int, measured: bool) -> Frame:
    for each in places:
        each.setflags(write=False)
    energy, dissipation, switched = board.states[state]
    balance = board.balance if measured else None
    return Frame(at.step, at.s, *places, energy, dissipation, switched, at.h, balance=balance)
