"""What the figure of scales needs besides networks of whole states: ridge blocks."""

from __future__ import annotations

from wgflow.base.errors import InputError
from wgflow.studies.requirements import of_members
from wgflow.study.grid import RunPlan
from wgflow.study.messages import ADVICE


@of_members
def ridge_blocks(name: str, planned: RunPlan) -> None:
    """Blocks whose output layers and inputs' weights are groups of their own."""
    block = planned.member.samples.block
    if (block["name"] if isinstance(block, dict) else block) != "ridge":
        raise InputError(f"problem.block: expected ridge to draw {name!r}, got {block}{ADVICE}")
