"""Redraw vanilla beside mean-field trainings, from its trajectories.

Usage: python analysis/fig_cifar.py runs/digits_resnet/<hash> [folder to write to, by default the run's own]
"""

import sys

from wgflow.studies.registry import redraw

if __name__ == "__main__":
    print(*redraw("cifar", sys.argv[1:]), sep="\n")
