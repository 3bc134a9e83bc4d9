"""Redraw how far apart the units of networks of features stay, from a run's trajectories.

Usage: python analysis/fig_degeneracy.py runs/degeneracy/<hash> [folder to write to, by default the run's own]
"""

import sys

from wgflow.studies.registry import redraw

if __name__ == "__main__":
    print(*redraw("degeneracy", sys.argv[1:]), sep="\n")
