"""Hot loops use the vectors of processors that are not at hand: their assembly is looked at, not run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
PROCESSORS = {
    "wide": {"cascadelake": X86, "sapphirerapids": X86, "znver4": X86},
    "narrow": {"haswell": X86, "neoverse-n1": ARM},
}


@pytest.fixture(scope="module")
def counts():
    found = {}
    for width, processors in PROCESSORS.items():
        program = [sys.executable, str(Path(__file__).with_name("assembly.py")), width]
        program += [f"{triple}:{cpu}" for cpu, triple in processors.items()]
        environment = os.environ | {"NUMBA_OPT": "0", "WGFLOW_CACHE": "off"}
        run = subprocess.run(program, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        found |= json.loads(run.stdout)
    return found


@pytest.mark.parametrize(
    ("cpu", "width"),
    [("cascadelake", 512), ("sapphirerapids", 512), ("znver4", 512), ("haswell", 256), ("neoverse-n1", 128)],
)
def test_hot_loops_use_the_widest_vectors(counts, cpu, width):
    found = counts[cpu]
    assert not any(row["library"] for row in found.values()), "a function of the C library takes one number at a time"
    for name, least in (("activate", 250), ("pull_back", 6), ("multiply", 40), ("correlate", 40)):
        assert found[name][str(width)] >= least, (name, found[name])
