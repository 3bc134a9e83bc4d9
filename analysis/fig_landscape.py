"""Redraw the flow from full and from degenerate supports, with its certificates from its trajectories.

Usage: python analysis/fig_landscape.py runs/landscape/<hash> [folder to write to, by default the run's own]
"""

import sys

from wgflow.studies.registry import redraw

if __name__ == "__main__":
    print(*redraw("landscape", sys.argv[1:]), sep="\n")
