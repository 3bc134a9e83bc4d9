"""Time wgflow beside its peers, and write docs/benchmarks.json, docs/benchmarks.md and their figure.

Usage: python benchmarks/run.py [--quick]     (needs the extra `bench`; about a quarter of an hour)

--quick is a rehearsal with small sizes, printed and not written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import page
from cases import Case
from turns import Timing, compare

HERE = Path(__file__).parent
SCANS = ["jax", "jax_remat"]
TORCH = ["torch", "torch_compiled"]
SOLVERS = ["diffrax", "torchdiffeq"]
OWN, PEAKS = ["wgflow", "wgflow32"], ["dgemm", "sgemm"]
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
MEMORY = (10_000, 100_000)  # M at N = 100,000, D = 16


def machine() -> dict[str, Any]:
    """What the numbers belong to."""
    names = ("wgflow", "numpy", "numba", "jax", "jaxlib", "diffrax", "torch", "torchdiffeq")
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "blas": f"{blas['name']} {blas['version']}",
        "versions": {name: version(name) for name in names},
    }


def processor() -> str:
    """Name of the processor, with its widest vectors where Linux tells them."""
    try:
        lines = dict(
            line.split(":", 1) for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if ":" in line
        )
    except OSError:
        return platform.processor() or platform.machine()
    fields = {name.strip(): text.strip() for name, text in lines.items()}
    flags = fields.get("flags", "").split()
    vectors = next((name for name in ("avx512f", "avx2") if name in flags), "")
    return " ".join(filter(None, [fields.get("model name", platform.machine()), vectors]))


def table(cases: list[tuple[Case, list[str]]], turns: int = 5) -> list[dict[str, Any]]:
    """Timings of all programs on all cases."""
    rows = []
    for case, programs in cases:
        began = time.monotonic()
        timings = compare(case, [*programs, *PEAKS], turns)
        rows.append({"case": case._asdict(), "timings": as_json(timings)})
        print(f"{case.label}  ({time.monotonic() - began:.0f} s)", file=sys.stderr)
        for name, timing in timings.items():
            print(f"    {name:16} {1e3 * timing.median:12.3f} ms  x{timing.calls}", file=sys.stderr)
    return rows


def as_json(timings: dict[str, Timing]) -> dict[str, Any]:
    """Plain numbers."""
    return {name: timing._asdict() for name, timing in timings.items()}


def alone(script: str, *arguments: str) -> Any:
    """What another script says, in a process of its own."""
    command = [sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8")
    return json.loads(done.stdout)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, printed and not written")
    options = parser.parse_args()
    if options.quick:
        print(page.markdown({"machine": machine(), "table": table(QUICK, 2)}))
        return
    results = {
        "machine": machine(),
        "table": table(CASES),
        "curves": {axis: table([(case, ["wgflow", "jax"]) for case in cases], 3) for axis, cases in CURVES.items()},
        "flow": alone("flow.py", "step"),
        "blocks": alone("blocks.py"),
        "memory": [alone("flow.py", "memory", str(samples)) for samples in MEMORY],
    }
    page.write(results, HERE.parent / "docs")


if __name__ == "__main__":
    main()
