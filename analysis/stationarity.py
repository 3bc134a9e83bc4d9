"""Stationarity along a run: int |grad dE/drho|**2 drho, which vanishes exactly at stationary points of the flow.

Usage: python analysis/stationarity.py RUN.h5 [PICTURE.png]
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import wgflow
from wgflow.theory.stationarity import residual


def analyse(path):
    """Flow times and residuals of all frames."""
    with wgflow.Trajectory(path) as trajectory:
        energy = trajectory.energy()
        return trajectory.series("s"), np.array(
            [residual(energy, frame.particles, frame.s).total for frame in trajectory]
        )


def draw(s, values):
    """Residual against flow time."""
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    axes.plot(s, values)
    axes.set(xlabel="flow time s", ylabel=r"$\int |\nabla \delta E/\delta\rho|^2 d\rho$", yscale="log")
    return figure


if __name__ == "__main__":
    s, values = analyse(sys.argv[1])
    print(f"The residual goes from {values[0]:.3g} at s = {s[0]:g} to {values[-1]:.3g} at s = {s[-1]:g}.")
    draw(s, values).savefig(sys.argv[2] if len(sys.argv) > 2 else "stationarity.png", dpi=200)
