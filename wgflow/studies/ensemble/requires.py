"""What the figure of ensembles needs: networks of several layers."""

from __future__ import annotations

from wgflow.base.errors import InputError
from wgflow.studies.requirements import of_members
from wgflow.study.grid import RunPlan
from wgflow.study.messages import ADVICE


@of_members
def several_layers(name: str, planned: RunPlan) -> None:
    """At least two layers; under Gaps every particle is one."""
    depth = planned.member.depth
    if (planned.member.count if depth.name == "gaps" else getattr(depth, "layers", 1)) < 2:
        raise InputError(
            f"depth: expected several layers to draw {name!r}, got {depth.name} with one; set depth.name = "
            f"layers and depth.layers = 16, say{ADVICE}"
        )
