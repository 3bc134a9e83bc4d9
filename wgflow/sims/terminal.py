"""The terminal's side of the command: tables on stdout, progress on stderr, signals. Rich is imported when needed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_WIDE = 200  # columns where output goes to a file: a table takes what it needs and nothing is cut off


class Stop(BaseException):
    """The run was asked to stop from outside; like KeyboardInterrupt, no ordinary handler should catch it."""


def console(width: int | None = _WIDE) -> Console:
    """Console on stdout; a reader that has gone (``| head``) or a full device takes nothing from the run."""
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

        def print(self, *objects: Any, **options: Any) -> None:
            with contextlib.suppress(OSError):
                super().print(*objects, **options)

    return Quiet(width=None if sys.stdout.isatty() else width)


@contextlib.contextmanager
def progress_bar(quiet: bool) -> Iterator[Progress]:
    """Progress on stderr with the time left; nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as progress:
        yield progress


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
def terminated() -> Iterator[None]:
    """Let SIGTERM stop what has not begun to write, as Ctrl-C does."""

    def stop(number: int, frame: Any) -> None:
        raise Stop

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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

    if threading.current_thread() is not threading.main_thread():  # the caller keeps its signals
        yield caught
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
