"""What the figure of zero loss needs: homogeneous blocks whose particles keep their depth."""

from __future__ import annotations

from wgflow.base.errors import InputError
from wgflow.studies.requirements import of_members
from wgflow.study.grid import RunPlan
from wgflow.study.messages import ADVICE
from wgflow.systems.problem import problems
from wgflow.theory.separation import kind


@of_members
def homogeneous_in_layers(name: str, planned: RunPlan) -> None:
    """Particles that stay in their layers, and a homogeneity that the theorems cover."""
    if planned.member.depth.name not in ("layers", "shallow"):
        raise InputError(
            f"depth: expected layers or shallow to draw {name!r}, where particles keep their depth, got "
            f"{planned.member.depth.name}{ADVICE}"
        )
    kind(problems(planned.member)[0])
