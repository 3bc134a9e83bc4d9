"""Redraw a convergence study's figure of losses along s from its trajectories.

Usage: python analysis/fig_convergence_loss.py runs/convergence/<hash> [folder to write to, by default the run's own]
"""

import sys

from wgflow.studies.registry import redraw

if __name__ == "__main__":
    print(*redraw("convergence_loss", sys.argv[1:]), sep="\n")
