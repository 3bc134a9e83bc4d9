"""Redraw the adjoint inside its envelope from a run's trajectories.

Usage: python analysis/fig_envelope.py runs/ensemble/<hash> [folder to write to, by default the run's own]
"""

import sys

from wgflow.studies.registry import redraw

if __name__ == "__main__":
    print(*redraw("envelope", sys.argv[1:]), sep="\n")
