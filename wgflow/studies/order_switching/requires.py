"""What the figure of order switching needs: Algorithm 1 with a frame at every step."""

from __future__ import annotations

from wgflow.base.errors import InputError
from wgflow.studies.requirements import of_members
from wgflow.study.grid import RunPlan
from wgflow.study.messages import ADVICE


@of_members
def gaps_at_every_step(name: str, planned: RunPlan) -> None:
    """Depth by gaps, and a frame at every step of constant length."""
    flow, depth = planned.member.flow, planned.member.depth
    if (
        depth.name != "gaps"
        or flow.rule != "constant"
        or flow.every not in (None, flow.step, {"name": "steps", "n": 1})
    ):
        raise InputError(
            f"figure: expected depth gaps and a frame at every step to draw {name!r}, got depth "
            f"{depth.name}, rule {flow.rule}, every {flow.every}{ADVICE}"
        )
