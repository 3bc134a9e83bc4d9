"""Redraw how far training takes particles from those of the reference, from a run's trajectories.

Usage: python analysis/fig_depth_width_clouds.py runs/depth_width/<hash> [folder to write to, by default the run's own]
"""

import sys

from wgflow.studies.registry import redraw

if __name__ == "__main__":
    print(*redraw("depth_width_clouds", sys.argv[1:]), sep="\n")
