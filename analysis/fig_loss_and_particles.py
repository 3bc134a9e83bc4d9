"""Redraw a run's loss curves and particle paths from its trajectories.

Usage: python analysis/fig_loss_and_particles.py runs/quickstart/<hash> [folder to write to, by default the run's own]
"""

import sys
from pathlib import Path

from wgflow.analysis import style
from wgflow.analysis.figures import loss_and_particles
from wgflow.workspace import Workspace

if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    run, out = Path(sys.argv[1]), Path(sys.argv[-1])
    print(*style.save(loss_and_particles(Workspace(run)), out / "loss_and_particles"), sep="\n")
