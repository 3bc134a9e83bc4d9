"""Memory of one evaluation at N = M = 20,000 and D = 16, in a process of its own."""

import subprocess
import sys

import pytest

# Not ru_maxrss: a process starts with that of the one that made it, which may hold half a dozen libraries by now.
MOST = """
def most():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
"""
SCRIPT = (
    MOST
    + """
import sys
import numpy as np, wgflow
rng = np.random.default_rng(0)
samples = 20_000 if sys.argv[2] == "ridge" else 256  # other blocks cost more units; the tape does not depend on M
problem = wgflow.Problem(rng.normal(size=(samples, 16)), rng.normal(size=samples), sys.argv[2])
name = sys.argv[1]
spec = {"name": name, "layers": 50} if name in ("layers", "deposit") else name
rho = wgflow.Particles.draw(problem, 20_000, tau="uniform")
if name == "layers":
    rho = wgflow.Particles.draw_layers(problem, 50, 400)
velocity = wgflow.Energy(problem, spec, threads=2).velocity(rho)
assert np.isfinite(velocity.theta).all() and velocity.energy > 0
print(most())
"""
)


LARGE = (
    MOST
    + """
import sys
import numpy as np, wgflow
small = wgflow.Problem(np.zeros((8, 16)), np.zeros(8))
wgflow.Energy(small).velocity(wgflow.Particles.draw(small, 8))
samples = int(sys.argv[1])
rng = np.random.default_rng(0)
problem = wgflow.Problem(rng.normal(size=(samples, 16)), rng.normal(size=samples))
rho = wgflow.Particles.draw(problem, 100_000, tau="uniform")
energy = wgflow.Energy(problem, threads=2)
before = most()
energy.velocity(rho)
print(most() - before)
"""
)


def test_memory_does_not_depend_on_the_number_of_samples():
    """N = 100,000 and D = 16 under Gaps: less than 1 GiB above the inputs."""
    used = []
    for samples in (512, 2048):
        out = subprocess.run([sys.executable, "-c", LARGE, str(samples)], capture_output=True, text=True, check=False)
        assert out.returncode == 0, out.stderr
        used.append(int(out.stdout) * 1024)
    assert max(used) < 2**30
    assert used[1] < used[0] + 2**26


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("gaps", "ridge"),
        pytest.param("layers", "ridge", marks=pytest.mark.slow),
        ("deposit", "ridge"),
        pytest.param("shallow", "ridge", marks=pytest.mark.slow),
        ("gaps", "matrix"),
        ("deposit", "two_layer"),
    ],
)
def test_a_large_evaluation_stays_within_one_gibibyte(name, block):
    """The whole process, interpreter and data included."""
    out = subprocess.run([sys.executable, "-c", SCRIPT, name, block], capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    assert int(out.stdout) < 2**20, f"{int(out.stdout) / 1024:.0f} MiB"
