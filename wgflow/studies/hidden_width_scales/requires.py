"""What the figure of scales needs besides networks of whole states: ridge blocks."""

from __future__ import annotations

from wgflow.base.errors import InputError
from wgflow.sims.members import Planned
from wgflow.studies.requirements import of_members
from wgflow.study.messages import ADVICE


@of_members
def ridge_blocks(name: str, planned: Planned) -> None:
    """Blocks whose output layers and inputs' weights are groups of their own."""
    block = planned.member.samples.block
    if (block["name"] if isinstance(block, dict) else block) != "ridge":
        raise InputError(f"problem.block: expected ridge to draw {name!r}, got {block}{ADVICE}")
