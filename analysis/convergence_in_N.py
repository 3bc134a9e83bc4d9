"""Convergence in the number of particles: rms over seeds of E_N - E_ref at the end, and its exponent.

The reference is the largest network of the study. A straight fit without interval: for intervals over seeds, the
bias and the reference's own error see wgflow.stats.convergence_rates.

Usage: python analysis/convergence_in_N.py RUN_FOLDER [PICTURE.png]
"""

import sys
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import wgflow


def analyse(folder):
    """Numbers of particles, rms errors of E, and the exponent r of N**-r."""
    energies = defaultdict(list)
    for path in sorted(Path(folder).glob("members/*.h5")):
        with wgflow.Trajectory(path) as trajectory:
            energies[trajectory.particles].append(trajectory.series("energy")[-1])
    *sizes, largest = sorted(energies)
    limit = np.mean(energies[largest])
    rms = np.array([np.sqrt(np.mean((np.array(energies[n]) - limit) ** 2)) for n in sizes])
    return np.array(sizes), rms, -np.polyfit(np.log(sizes), np.log(rms), 1)[0]


def draw(n, rms, exponent):
    """Errors against N on logarithmic axes."""
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    axes.loglog(n, rms, "o")
    axes.loglog(n, rms[0] * (n / n[0]) ** -exponent, "--", label=rf"$N^{{-{exponent:.2f}}}$")
    axes.set(xlabel="particles N", ylabel=r"rms of $E_N - E_\mathrm{ref}$")
    axes.legend()
    return figure


if __name__ == "__main__":
    n, rms, exponent = analyse(sys.argv[1])
    print(f"The rms error of E falls like N^-{exponent:.2f} from N = {n[0]} to {n[-1]}.")
    draw(n, rms, exponent).savefig(sys.argv[2] if len(sys.argv) > 2 else "convergence_in_N.png", dpi=200)
