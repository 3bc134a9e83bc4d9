"""Redraw a convergence study's figure of losses beside other models from its trajectories.

Usage: python analysis/fig_convergence_models.py runs/convergence/<hash> [folder to write to, by default the run's own]
"""

import sys

from wgflow.studies.registry import redraw

if __name__ == "__main__":
    print(*redraw("convergence_models", sys.argv[1:]), sep="\n")
