"""Particle paths in depth and parameters: how residual blocks sort themselves under Algorithm 1.

Usage: python analysis/particle_paths.py RUN.h5 [PICTURE.png]
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import wgflow


def analyse(path):
    """Flow times, depths (F, N) and norms of theta (F, N) of all particles."""
    with wgflow.Trajectory(path) as trajectory:
        frames = list(trajectory)
    tau = np.array([frame.tau for frame in frames])
    return (
        np.array([frame.s for frame in frames]),
        tau,
        np.array([np.linalg.norm(frame.theta, axis=1) for frame in frames]),
    )


def draw(s, tau, norm):
    """Depth of every particle against flow time, coloured by |theta| at the end."""
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    colours = plt.cm.viridis(norm[-1] / norm[-1].max())
    for path, colour in zip(tau.T, colours, strict=True):
        axes.plot(s, path, color=colour, linewidth=0.9)
    axes.set(xlabel="flow time s", ylabel=r"depth $\tau$")
    figure.colorbar(plt.cm.ScalarMappable(plt.Normalize(0, norm[-1].max())), ax=axes, label=r"$|\theta|$ at the end")
    return figure


if __name__ == "__main__":
    s, tau, norm = analyse(sys.argv[1])
    moved = np.sum(np.argsort(tau[0], kind="stable") != np.argsort(tau[-1], kind="stable"))
    print(f"{moved} of {tau.shape[1]} particles end at another place in the order of depths than they started at.")
    draw(s, tau, norm).savefig(sys.argv[2] if len(sys.argv) > 2 else "particle_paths.png", dpi=200)
