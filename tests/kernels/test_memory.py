"""Memory of one evaluation at N = M = 20,000 and D = 16, in a process of its own."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np, wgflow
rng = np.random.default_rng(0)
problem = wgflow.Problem(rng.normal(size=(20_000, 16)), rng.normal(size=20_000))
name = sys.argv[1]
spec = {"name": name, "layers": 50} if name in ("layers", "deposit") else name
rho = wgflow.Particles.draw(problem, 20_000, tau="uniform")
if name == "layers":
    rho = wgflow.Particles.draw_layers(problem, 50, 400)
velocity = wgflow.Energy(problem, spec, threads=2).velocity(rho)
assert np.isfinite(velocity.theta).all() and velocity.energy > 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("name", ["gaps", "layers", "deposit", "shallow"])
def test_a_large_evaluation_stays_within_one_gibibyte(name):
    """The whole process, interpreter and data included."""
    out = subprocess.run([sys.executable, "-c", SCRIPT, name], capture_output=True, text=True, check=False, timeout=300)
    assert out.returncode == 0, out.stderr
    assert int(out.stdout) < 2**20, f"{int(out.stdout) / 1024:.0f} MiB"
