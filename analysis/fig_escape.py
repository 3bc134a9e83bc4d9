"""Redraw the loss under transport of mass and the times to fit from its trajectories.

Usage: python analysis/fig_escape.py runs/escape/<hash> [folder to write to, by default the run's own]
"""

import sys

from wgflow.studies.registry import redraw

if __name__ == "__main__":
    print(*redraw("escape", sys.argv[1:]), sep="\n")
