"""Outputs along a run as an xarray data set: how far the network's outputs are from those at the end.

Needs the observable "outputs" in the study and the package xarray.

Usage: python analysis/outputs.py RUN.h5 [PICTURE.png]
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import wgflow


def analyse(path):
    """Flow times, and rms distance of the outputs to the last frame's."""
    with wgflow.Trajectory(path) as trajectory:
        data = trajectory.to_xarray(particles=False)
    outputs = data["outputs"]
    away = outputs - outputs.isel(frame=-1)
    return data["s"].values, np.sqrt((away**2).mean([dim for dim in outputs.dims if dim != "frame"])).values


def draw(s, away):
    """Distance against flow time."""
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    axes.plot(s[:-1], away[:-1])
    axes.set(xlabel="flow time s", ylabel="rms distance to the last outputs", yscale="log")
    return figure


if __name__ == "__main__":
    s, away = analyse(sys.argv[1])
    print(f"At s = {s[0]:g} the outputs are {away[0]:.3g} (rms) from those at s = {s[-1]:g}.")
    draw(s, away).savefig(sys.argv[2] if len(sys.argv) > 2 else "outputs.png", dpi=200)
