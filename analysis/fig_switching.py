"""Redraw the jumps of E under Algorithm 1 from a run's trajectories.

Usage: python analysis/fig_switching.py runs/order_switching/<hash> [folder to write to, by default the run's own]
"""

import sys
from pathlib import Path

from wgflow.analysis import style
from wgflow.analysis.figures import switching
from wgflow.workspace import Workspace

if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    run, out = Path(sys.argv[1]), Path(sys.argv[-1])
    print(*style.save(switching(Workspace(run)), out / "switching"), sep="\n")
