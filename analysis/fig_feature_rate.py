"""Redraw how near gradient descent is to the neural feature flow, from a run's trajectories.

Usage: python analysis/fig_feature_rate.py runs/feature_rate/<hash> [folder to write to, by default the run's own]
"""

import sys

from wgflow.studies.registry import redraw

if __name__ == "__main__":
    print(*redraw("feature_rate", sys.argv[1:]), sep="\n")
