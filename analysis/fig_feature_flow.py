"""Redraw networks of features by gradient descent and by their flow, from a run's trajectories.

Usage: python analysis/fig_feature_flow.py runs/feature_flow/<hash> [folder to write to, by default the run's own]
"""

import sys

from wgflow.studies.registry import redraw

if __name__ == "__main__":
    print(*redraw("feature_flow", sys.argv[1:]), sep="\n")
