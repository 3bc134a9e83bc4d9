"""Redraw what the theorems say along one member of a run from its trajectory; takes up to a minute.

Usage: python analysis/fig_theorems.py runs/<study>/<hash> [folder to write to, by default the run's own]
"""

import sys

from wgflow.studies.registry import redraw

if __name__ == "__main__":
    print(*redraw("theorems", sys.argv[1:]), sep="\n")
