"""The landscape at the end of a run: the first variation along depth, and whether a direction of descent exists.

The certificate bounds inf <dE/drho, nu - rho> over measures on a ball (the Frank-Wolfe gap for convex E). The signed
direction is the one in the proof that local minimisers are global (Ding, Chen, Li and Wright 2021, Proposition 6.1).

Usage: python analysis/landscape.py RUN.h5 [PICTURE.png]
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import wgflow
from wgflow.theory.certificate import certificate
from wgflow.theory.signed_direction import signed_direction


def analyse(path):
    """Depths, the first variation of the last particles there, the certificate and the signed direction at t = 1/2."""
    with wgflow.Trajectory(path) as trajectory:
        energy, rho = trajectory.energy(), trajectory[-1].particles
    t = np.linspace(0, 1, 101)
    values = np.array([energy.first_variation(rho, rho.theta, np.full(len(rho), depth)) for depth in t])
    return t, values, certificate(energy, rho, starts=16), signed_direction(energy, rho, t=0.5)


def draw(t, values, found, signed):
    """First variation of every particle against depth."""
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    axes.plot(t, values, color="tab:blue", alpha=0.4, linewidth=0.8)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set(
        xlabel="depth t",
        ylabel=r"$\delta E/\delta\rho\,(\theta_i, t)$",
        title=f"steepest slope found: {found.value:.2g}",
    )
    return figure


if __name__ == "__main__":
    t, values, found, signed = analyse(sys.argv[1])
    print(f"Certificate: {found.verdict}.")
    print(f"Signed direction at t = 1/2: slope {signed.value:.2g}; features miss {signed.residual:.0%} of the adjoint.")
    draw(t, values, found, signed).savefig(sys.argv[2] if len(sys.argv) > 2 else "landscape.png", dpi=200)
