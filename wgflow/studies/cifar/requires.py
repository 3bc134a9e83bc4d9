"""What the figure of vanilla and mean-field trainings needs: pairs of them."""

from __future__ import annotations

from wgflow.base.errors import InputError
from wgflow.report.figure import Plan
from wgflow.studies.cifar.reduce import pair_key
from wgflow.study.messages import ADVICE
from wgflow.systems.images.recipe import METHODS


def paired(plan: Plan) -> None:
    """Vanilla and mean-field trainings, alike in everything else, with the same two seeds or more."""
    groups: dict[str, dict[str, set[int]]] = {}
    for planned in plan.members:
        method = planned.member.training.method if planned.member.training else ""
        key = pair_key(planned.member.model_dump(mode="json"))
        groups.setdefault(key, {}).setdefault(method, set()).add(planned.member.seed)
    for methods in groups.values():
        seeds = methods.get(METHODS[0], set())
        if set(methods) != set(METHODS) or any(other != seeds for other in methods.values()) or len(seeds) < 2:
            raise InputError(
                f"grid: expected training.method = {list(METHODS)} and the same two seeds or more of each to draw "
                f"{plan.figure!r}, got {', '.join(f'{k}: {len(v)} seeds' for k, v in methods.items())}{ADVICE}"
            )
