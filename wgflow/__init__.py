"""wgflow: mean-field theory of deep residual networks as a particle simulation.

>>> import wgflow
>>> problem = wgflow.Problem([[0.0], [1.0]], [0.0, 1.0])
>>> energy = wgflow.Energy(problem, depth=wgflow.Gaps())
>>> rho = wgflow.Particles.draw(problem, count=4, seed=1)
>>> energy(rho) > 0
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public names and the module each comes from; imported on first use, so that `import wgflow` costs nothing.
_HOME = {
    "Problem": "wgflow.model.problem",
    "Particles": "wgflow.model.particles",
    "Gaps": "wgflow.model.depth",
    "Layers": "wgflow.model.depth",
    "Deposit": "wgflow.model.depth",
    "Shallow": "wgflow.model.depth",
    "check_block": "wgflow.model.blocks",
    "Energy": "wgflow.energy",
    "Flow": "wgflow.flow.flow",
    "Trajectory": "wgflow.trajectory",
    "Frame": "wgflow.base.types",
    "Velocity": "wgflow.base.types",
}
__all__ = [
    "Deposit",
    "Energy",
    "Flow",
    "Frame",
    "Gaps",
    "Layers",
    "Particles",
    "Problem",
    "Shallow",
    "Trajectory",
    "Velocity",
    "check_block",
]

if TYPE_CHECKING:
    from wgflow.base.types import Frame, Velocity
    from wgflow.energy import Energy
    from wgflow.flow.flow import Flow
    from wgflow.model.blocks import check_block
    from wgflow.model.depth import Deposit, Gaps, Layers, Shallow
    from wgflow.model.particles import Particles
    from wgflow.model.problem import Problem
    from wgflow.trajectory import Trajectory


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'wgflow' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
