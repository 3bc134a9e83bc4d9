"""Redraw the randomness, laziness and loss of networks by the scale of their output layers from a run's trajectories.

Usage: python analysis/fig_hidden_width_scales.py runs/hidden_width_scales/<hash> [folder to write to]
"""

import sys

from wgflow.studies.registry import redraw

if __name__ == "__main__":
    print(*redraw("hidden_width_scales", sys.argv[1:]), sep="\n")
