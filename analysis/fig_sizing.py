"""Redraw which depth and width meet a study's target, from its trajectories.

Usage: python analysis/fig_sizing.py runs/sizing/<hash> [folder to write to, by default the run's own]
"""

import sys

from wgflow.studies.registry import redraw

if __name__ == "__main__":
    print(*redraw("sizing", sys.argv[1:]), sep="\n")
