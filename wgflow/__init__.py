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

# Modules of the public names; imported on first use, so that `import wgflow` costs nothing.
_HOME = {
    "base.types": ("Frame", "Velocity"),
    "energy": ("Energy",),
    "flow.flow": ("Flow",),
    "model.blocks": ("check_block",),
    "model.depth": ("Deposit", "Gaps", "Intervals", "Layers", "Shallow"),
    "model.particles": ("Particles",),
    "model.problem": ("Problem",),
    "trajectory": ("Trajectory",),
}
__all__ = [
    "Deposit",
    "Energy",
    "Flow",
    "Frame",
    "Gaps",
    "Intervals",
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
    from wgflow.model.depth import Deposit, Gaps, Intervals, Layers, Shallow
    from wgflow.model.particles import Particles
    from wgflow.model.problem import Problem
    from wgflow.trajectory import Trajectory


def __getattr__(name: str) -> Any:
    module = next((module for module, names in _HOME.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module 'wgflow' has no attribute {name!r}")
    return getattr(importlib.import_module(f"wgflow.{module}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
