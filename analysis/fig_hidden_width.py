"""Redraw the output errors of networks over depth and width from a run's trajectories.

Usage: python analysis/fig_hidden_width.py runs/hidden_width/<hash> [folder to write to, by default the run's own]
"""

import sys

from wgflow.studies.registry import redraw

if __name__ == "__main__":
    print(*redraw("hidden_width", sys.argv[1:]), sep="\n")
