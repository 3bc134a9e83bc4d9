"""Worker process for one program and case; started by turns.py.

Lines of JSON on standard input: {"save": PATH} runs once and saves the result, {"calls": n, "warm": w} times n calls
after w. Answers are lines of JSON on standard output; what libraries print goes to standard error.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
from cases import Case
from programs import PROGRAMS


def peak_memory() -> int:
    """Peak memory of this process in bytes, since its start or :func:`forget_peak`."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget_peak() -> int:
    """Reset the peak memory, where the system allows it; returns the memory in use."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return peak_memory()


def main(program: str, case: Case) -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    timed = PROGRAMS[program][1](case)
    before = forget_peak()  # libraries and data are there
    for line in sys.stdin:
        order = json.loads(line)
        if "save" in order:
            began = time.perf_counter()
            found = timed.run()
            answer = {"first": time.perf_counter() - began, "memory": peak_memory() - before}
            (energy, by_theta, by_weight), nothing = timed.result(found), np.empty(0)
            np.savez(order["save"], energy=energy, theta=by_theta, weight=nothing if by_weight is None else by_weight)
        else:
            answer = {"times": timed.clock(order["warm"] + order["calls"])[order["warm"] :]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1], Case(*json.loads(sys.argv[2])))
