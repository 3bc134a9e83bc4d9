"""Redraw what the ensemble expansion says of a run's networks from its trajectories.

Usage: python analysis/fig_ensemble.py runs/ensemble/<hash> [folder to write to, by default the run's own]
"""

import sys

from wgflow.studies.registry import redraw

if __name__ == "__main__":
    print(*redraw("ensemble", sys.argv[1:]), sep="\n")
