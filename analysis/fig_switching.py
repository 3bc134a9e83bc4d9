"""Redraw the jumps of E under Algorithm 1 from its trajectories.

Usage: python analysis/fig_switching.py runs/order_switching/<hash> [folder to write to, by default the run's own]
"""

import sys

from wgflow.studies.registry import redraw

if __name__ == "__main__":
    print(*redraw("switching", sys.argv[1:]), sep="\n")
