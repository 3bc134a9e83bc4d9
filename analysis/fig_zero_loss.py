"""Redraw loss and separation along the flow, from starts with the separation property and without.

Usage: python analysis/fig_zero_loss.py runs/zero_loss/<hash> [folder to write to, by default the run's own]
"""

import sys

from wgflow.studies.registry import redraw

if __name__ == "__main__":
    print(*redraw("zero_loss", sys.argv[1:]), sep="\n")
