"""Time wgflow and other programs, and write docs/benchmarks.json, docs/benchmarks.md and their figures.

Usage: python benchmarks/run.py [--quick | --only PART ...]     (needs the extra `bench`; about half an hour)

--quick is a rehearsal with small sizes. It is printed and not written, and so is a run of some parts alone.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import page
import targets
from cases import Case
from turns import Timing, compare

HERE = Path(__file__).parent
SCANS = ["jax", "jax_remat"]
TORCH = ["torch", "torch_compiled"]
SOLVERS = ["diffrax", "torchdiffeq"]
OWN, PEAKS = ["wgflow", "wgflow32"], ["dgemm", "sgemm"]
STEPS, ACTIVATIONS = ["flow_step", "numpy_step"], ["wgflow", "own_activation"]
ARITHMETIC = ["dgemm", "tanh"]  # what a step consists of
NEEDS = {"jax": "jax", "jax_remat": "jax", "torch": "torch", "torch_compiled": "torch"} | {
    name: name for name in SOLVERS
}
# Programs that keep every state, or step in Python, are left out where that means many GiB or a minute a call.
CASES = [
    (Case("gaps", 1000, 1024, 16), [*OWN, *SCANS, *TORCH, *SOLVERS, "reference"]),
    (Case("gaps", 4096, 4096, 16), [*OWN, *SCANS, "torch"]),
    (Case("gaps", 1000, 1024, 64), [*OWN, *SCANS, *TORCH, *SOLVERS]),
    (Case("gaps", 1024, 4096, 256), [*OWN, *SCANS]),
    (Case("layers", 6400, 1024, 64, layers=100), [*OWN, *SCANS, *TORCH, "reference"]),
    (Case("gaps", 256, 256, 4), [*OWN, *SCANS, *TORCH, *SOLVERS, "reference"]),
    (Case("gaps", 1000, 1024, 16, batch=64), [*OWN, *SCANS, *TORCH, *SOLVERS, "reference"]),
]
QUICK = [
    (Case("gaps", 100, 128, 16), [*OWN, *SCANS, *TORCH, *SOLVERS, "reference"]),
    (Case("layers", 640, 128, 8, layers=10), [*OWN, *SCANS, *TORCH, "reference"]),
]
CURVES = {  # axis: sizes over two decades, about N, M, D = 1000, 1024, 16
    "particles": [Case("gaps", size, 1024, 16) for size in (32, 100, 320, 1000, 3200)],
    "samples": [Case("gaps", 1000, size, 16) for size in (32, 100, 320, 1000, 3200)],
    "width": [Case("gaps", 320, 1024, size) for size in (4, 12, 40, 128, 400)],
}
SAMPLES = {  # step by number of samples, from 1 to 1e5
    "layers": [Case("layers", 5000, 10**power, 10, layers=50, plain=True) for power in range(6)],
    "gaps": [Case("gaps", 1000, 10**power, 16) for power in range(6)],
}
MEMORY = (10_000, 100_000)  # M at N = 100,000, D = 16
THREADS = (1, 2)  # of the programs that step


def machine() -> dict[str, Any]:
    """Machine and versions of the measurement."""
    names = ("wgflow", "numpy", "numba", "jax", "jaxlib", "diffrax", "torch", "torchdiffeq")
    versions = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "blas": f"{blas['name']} {blas['version']}",
        "versions": versions,
    }


def processor() -> str:
    """Name of the processor, with its vector extension if Linux reports it."""
    try:
        lines = dict(
            line.split(":", 1) for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if ":" in line
        )
    except OSError:
        return platform.processor() or platform.machine()
    fields = {name.strip(): text.strip() for name, text in lines.items()}
    flags = fields.get("flags", "").split()
    vectors = next((name for name in ("avx512f", "avx2") if name in flags), "")
    name = fields.get("model name", platform.machine())
    if {"cpu family", "model"} <= fields.keys():  # a virtual machine's name may not tell the generation
        name += f" (family {fields['cpu family']}, model {fields['model']})"
    return ", ".join(filter(None, [name, vectors]))


def table(
    cases: list[tuple[Case, list[str]]], turns: int = 3, threads: int | None = None, peaks: Sequence[str] = PEAKS
) -> list[dict[str, Any]]:
    """Timings of all programs that are installed on all cases."""
    rows = []
    for case, programs in cases:
        began = time.monotonic()
        timings = compare(case, [*filter(installed, programs), *peaks], turns, threads)
        rows.append({"case": case._asdict(), "threads": threads, "timings": as_json(timings)})
        on = f", {threads} threads" if threads else ""
        print(f"{case.label}{on}  ({time.monotonic() - began:.0f} s)", file=sys.stderr)
        for name, timing in timings.items():
            print(f"    {name:16} {1e3 * timing.median:12.3f} ms  x{timing.calls}", file=sys.stderr)
    return rows


def installed(program: str) -> bool:
    """Whether the library of a program can be imported."""
    return program not in NEEDS or importlib.util.find_spec(NEEDS[program]) is not None


def by_threads(cases: Sequence[Case], programs: list[str], turns: int = 3) -> list[dict[str, Any]]:
    """Timings of cases on one thread and on two."""
    return [row for case in cases for threads in THREADS for row in table([(case, programs)], turns, threads, peaks=())]


def as_json(timings: dict[str, Timing]) -> dict[str, Any]:
    """Timings as plain JSON."""
    return {name: timing._asdict() for name, timing in timings.items()}


def alone(script: str, *arguments: str) -> Any:
    """Output of another script, run in its own process."""
    command = [sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8")
    return json.loads(done.stdout)


PARTS: dict[str, Callable[[], Any]] = {  # of the results
    "table": lambda: table(CASES),
    "steps": lambda: by_threads(list(targets.STEPS), STEPS + ARITHMETIC),
    "samples": lambda: {
        name: table([(case, STEPS) for case in cases], 3, threads=1, peaks=()) for name, cases in SAMPLES.items()
    },
    "activation": lambda: by_threads(list(targets.ACTIVATIONS), ACTIVATIONS),
    "curves": lambda: {axis: table([(case, ["wgflow", "jax"]) for case in cases], 3) for axis, cases in CURVES.items()},
    "flow": lambda: [alone("flow.py", "step", str(threads)) for threads in THREADS],
    "blocks": lambda: alone("blocks.py"),
    "memory": lambda: [alone("flow.py", "memory", str(samples)) for samples in MEMORY],
}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, printed and not written")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help="these parts, printed and not written")
    options = parser.parse_args()
    if options.quick:
        small = [Case("gaps", 16, 32, 1), Case("shallow", 6, 100, 2)]
        print(
            page.markdown(
                {"machine": machine(), "table": table(QUICK, 2), "steps": by_threads(small, STEPS + ARITHMETIC, 2)}
            )
        )
        return
    if options.only:
        results = {name: PARTS[name]() for name in options.only}
        print("\n".join([targets.section(results), *(page.SECTIONS[name](part) for name, part in results.items())]))
        return
    page.write({"machine": machine()} | {name: part() for name, part in PARTS.items()}, HERE.parent / "docs")


if __name__ == "__main__":
    main()
