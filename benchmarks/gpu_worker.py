"""Worker process for one library's programs on a device; started by gpu.py.

Usage: python benchmarks/gpu_worker.py ORDERS     a file of JSON: device, seconds a program, references, [program, case]

Answers are lines of JSON on standard output, one a program and case; what libraries print goes to standard error.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case
from gpu_programs import ALLOWED, PROGRAMS
from gpu_timing import Program, timed

MOST, FEWEST = 200, 5  # calls


def difference(found: Any, path: str) -> float:
    """Largest difference from the reference in float64 on the CPU, of energy and of gradients; NaN if any is."""
    energy, by_theta, by_weight = found
    with np.load(path) as wanted:
        off = [abs(energy - float(wanted["energy"])) / abs(float(wanted["energy"]))]
        for part, name in ((by_theta, "theta"), (by_weight, "weight")):
            if part is not None:
                off.append(float(np.abs(part - wanted[name]).max() / np.abs(wanted[name]).max()))
    return float(np.max(off))


def measure(program: Program, precision: str, reference: str | None, seconds: float) -> dict[str, Any]:
    """Check a program against the reference, then time it within a limit.

    Raises
    ------
    ArithmeticError
        If it disagrees.
    """
    began = time.perf_counter()
    found = program.run()
    program.wait()
    first = time.perf_counter() - began
    result = program.result(found)
    off = None if result is None or reference is None else difference(result, reference)
    del found, result
    if off is not None and not off < ALLOWED[precision]:
        raise ArithmeticError(f"differs from the reference by {off:.1e}, allowed are {ALLOWED[precision]:.0e}")
    _, warm = timed(program, 2)
    calls = max(FEWEST, min(MOST, round(0.5 * seconds / min(warm))))
    by_events, by_clock = timed(program, calls)
    return {
        "events": quartiles(by_events) if by_events else None,
        "clock": quartiles(by_clock),
        "calls": calls,
        "first": first,
        "memory": program.memory(),
        "difference": off,
    }


def quartiles(times: list[float]) -> list[float]:
    """Median and quartiles."""
    low, median, high = statistics.quantiles(times, n=4)
    return [median, low, high]


def main(path: str) -> None:
    """Process a file of orders."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    orders = json.loads(Path(path).read_text(encoding="utf-8"))
    for name, sizes in orders["queue"]:
        case = Case(*sizes)
        answer: dict[str, Any] = {"program": name, "case": case._asdict()}
        precision = "float64" if name.endswith("64") else "float32"
        try:
            built = PROGRAMS[name].build(case, orders["device"])
            answer |= measure(built, precision, orders["references"].get(case.label), orders["seconds"])
        except Exception as error:  # one program out of memory is no reason to lose the others
            answer["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        built = None
        gc.collect()
        forget()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def forget() -> None:
    """Free the device memory of the last program."""
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    if "cupy" in sys.modules:
        sys.modules["cupy"].get_default_memory_pool().free_all_blocks()


if __name__ == "__main__":
    main(sys.argv[1])
