"""Order switching under Algorithm 1: how often neighbours exchange their places, and how E falls meanwhile.

Usage: python analysis/order_switching.py RUN.h5 [PICTURE.png]
"""

import sys

import matplotlib.pyplot as plt

import wgflow


def analyse(path):
    """Flow times, order switches up to each frame, and E."""
    with wgflow.Trajectory(path) as trajectory:
        return tuple(trajectory.series(name) for name in ("s", "switches", "energy"))


def draw(s, switches, energy):
    """E and the number of switches against flow time."""
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    axes.semilogy(s, energy, color="tab:blue")
    axes.set(xlabel="flow time s", ylabel="E")
    count = axes.twinx()
    count.step(s, switches, where="post", color="tab:orange")
    count.set_ylabel("order switches", color="tab:orange")
    return figure


if __name__ == "__main__":
    s, switches, energy = analyse(sys.argv[1])
    print(
        f"{switches[-1]:g} order switches up to s = {s[-1]:g}, while E falls from {energy[0]:.3g} to {energy[-1]:.3g}."
    )
    draw(s, switches, energy).savefig(sys.argv[2] if len(sys.argv) > 2 else "order_switching.png", dpi=200)
