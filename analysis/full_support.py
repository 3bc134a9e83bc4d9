"""Full support along a run: the share of fresh draws of the initial law near a particle, compared with iid samples.

The theorems of Lu, Ma, Lu, Lu and Ying (2020) assume full support; N particles have it only approximately. The law is
that of the default initialisation.

Usage: python analysis/full_support.py RUN.h5 [PICTURE.png]
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import wgflow
from wgflow.theory.reference_laws import initial_law
from wgflow.theory.support import SupportEstimator


def analyse(path):
    """Flow times, coverage at each frame, and coverage of iid samples."""
    with wgflow.Trajectory(path) as trajectory:
        estimator = SupportEstimator(initial_law(trajectory.energy().problem), trajectory.particles)
        support = [estimator.measure(frame.theta, frame.tau, frame.mass) for frame in trajectory]
        return trajectory.series("s"), np.array([each.coverage.value for each in support]), support[0].coverage.iid


def draw(s, coverage, iid):
    """Coverage against flow time, with that of iid samples."""
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    axes.plot(s, coverage, label="particles of the run")
    axes.axhline(iid, color="grey", linestyle="--", label="iid samples of the initial law")
    axes.set(xlabel="flow time s", ylabel="coverage", ylim=(0, 1.05))
    axes.legend()
    return figure


if __name__ == "__main__":
    s, coverage, iid = analyse(sys.argv[1])
    print(f"Coverage goes from {coverage[0]:.2f} to {coverage[-1]:.2f}; iid samples have {iid:.2f}.")
    draw(s, coverage, iid).savefig(sys.argv[2] if len(sys.argv) > 2 else "full_support.png", dpi=200)
