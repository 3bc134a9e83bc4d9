"""Wall-clock time of whole commands: --help, and a bundled study with and without compiled kernels.

Usage: python benchmarks/startup.py

Whole processes, medians of 10 for --help and of 3 for the study; the study once more with an empty kernel cache, as on
a machine that has never run wgflow.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

COMMAND = [sys.executable, "-m", "wgflow.sims.run"]


def seconds(arguments: list[str], **environment: str) -> float:
    began = time.perf_counter()
    subprocess.run([*COMMAND, *arguments], check=True, capture_output=True, env=os.environ | environment)
    return time.perf_counter() - began


if __name__ == "__main__":
    print(f"--help                        {statistics.median(seconds(['--help']) for _ in range(10)):6.2f} s")
    with tempfile.TemporaryDirectory() as place:
        study = ["quickstart", "--fresh", "--out", place]
        print(f"quickstart, nothing compiled  {seconds(study, XDG_CACHE_HOME=place):6.2f} s")
        print(f"quickstart, kernels cached    {statistics.median(seconds(study) for _ in range(3)):6.2f} s")
