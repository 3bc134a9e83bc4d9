"""Redraw a run's loss curves and particle paths from its trajectories.

Usage: python analysis/fig_loss_and_particles.py runs/quickstart/<hash> [folder to write to, by default the run's own]
"""

import sys

from wgflow.studies.registry import redraw

if __name__ == "__main__":
    print(*redraw("loss_and_particles", sys.argv[1:]), sep="\n")
