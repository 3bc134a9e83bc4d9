"""Signals that stop a run: SIGTERM and Ctrl-C, acted on between two steps."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


class Stop(BaseException):
    """The run was asked to stop from outside; like KeyboardInterrupt, no ordinary handler should catch it."""


def stop_if(caught: list[int]) -> None:
    """Stop a run that has been signalled.

    Raises
    ------
    Stop, KeyboardInterrupt
        For SIGTERM, and for Ctrl-C.
    """
    if caught:
        raise Stop if caught[0] == signal.SIGTERM else KeyboardInterrupt


@contextlib.contextmanager
def _handled(handler: Callable[[int, Any], None], *numbers: signal.Signals) -> Iterator[None]:
    """Have a handler take signals, in the main thread; in another the caller keeps its signals."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in numbers if main}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextlib.contextmanager
def terminated() -> Iterator[None]:
    """Let SIGTERM stop what has not begun to write, as Ctrl-C does."""

    def stop(number: int, frame: Any) -> None:
        raise Stop

    with _handled(stop, signal.SIGTERM):
        yield


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """Collect SIGTERM and Ctrl-C for the run to act on between two steps; a second Ctrl-C interrupts at once.

    Raising from the handler is not an option: Python may be inside a destructor or a weak reference's callback, from
    which an exception goes nowhere.
    """
    caught: list[int] = []

    def note(number: int, frame: Any) -> None:
        if number == signal.SIGINT and signal.SIGINT in caught:
            raise KeyboardInterrupt
        caught.append(number)

    with _handled(note, signal.SIGTERM, signal.SIGINT):
        yield caught


@contextlib.contextmanager
def warned_once(already: bool = False) -> Iterator[None]:
    """Give each warning about data once, since members share data; none that the parent process has given."""
    given = set[str]()

    def news(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        new = not already and text not in given
        given.add(text)
        return new

    logger = logging.getLogger("wgflow.model.problem")
    logger.addFilter(news)
    try:
        yield
    finally:
        logger.removeFilter(news)
