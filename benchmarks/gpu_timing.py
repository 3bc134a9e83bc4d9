"""Timing of a program on a device."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from programs import Result


class Program(NamedTuple):
    """A timed computation and its result.

    Attributes
    ----------
    run : callable
        Starts one evaluation.
    wait : callable
        Returns once everything started has ended.
    result : callable
        From what ``run`` returned, E, dE/dtheta (N, 2 D + 1) and dE/dweight (N,) or None, particles in the order of the
        network; or nothing to compare.
    events : callable or None
        Seconds of one call by events of the device; None where the library has none to offer.
    memory : callable
        Bytes of the device that the program has held at most.
    """

    run: Callable[[], Any]
    wait: Callable[[], None]
    result: Callable[[Any], Result | None]
    events: Callable[[], float] | None
    memory: Callable[[], int]


def on_host(run: Callable[[], Any], result: Callable[[Any], Result | None]) -> Program:
    """Program on the host, for rehearsals."""
    return Program(run, lambda: None, result, None, lambda: 0)


def timed(program: Program, calls: int) -> tuple[list[float], list[float]]:
    """Seconds of each call by device events, if there are any, and by the wall clock."""
    by_events = [program.events() for _ in range(calls)] if program.events else []
    by_clock = []
    for _ in range(calls):
        program.wait()
        began = time.perf_counter()
        program.run()
        program.wait()
        by_clock.append(time.perf_counter() - began)
    return by_events, by_clock
