"""Energy balance along a run: the decrease of E compared with the integral of the dissipation.

For the gradient flow E(0) - E(s) = int_0^s dissipation; steps that are too long, noise and order switches break it.

Usage: python analysis/energy_balance.py RUN.h5 [PICTURE.png]
"""

import sys

import matplotlib.pyplot as plt

import wgflow
from wgflow.theory.stationarity import balance


def analyse(path):
    """Balance on the recorded frames."""
    with wgflow.Trajectory(path) as trajectory:
        return balance(*(trajectory.series(name) for name in ("s", "energy", "dissipation", "switches")))


def draw(found):
    """Decrease of E and integrated dissipation against flow time."""
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    axes.plot(found.s, found.drop, label=r"$E(0) - E(s)$")
    axes.plot(found.s, found.dissipated, "--", label=r"$\int_0^s$ dissipation")
    axes.set(xlabel="flow time s", ylabel="energy")
    axes.legend()
    return figure


if __name__ == "__main__":
    found = analyse(sys.argv[1])
    print(f"The largest defect is {found.relative:.1%} of the decrease of E.")
    print(f"Order switches account for {found.at_switches[-1]:.2g} of the final defect of {found.defect[-1]:.2g}.")
    draw(found).savefig(sys.argv[2] if len(sys.argv) > 2 else "energy_balance.png", dpi=200)
