"""What the figure of vanilla and mean-field trainings needs of a study: pairs of them."""

from __future__ import annotations

from collections.abc import Sequence

from wgflow.base.errors import InputError
from wgflow.sims.members import Planned
from wgflow.studies.cifar.reduce import pair_key
from wgflow.study.messages import ADVICE
from wgflow.systems.images.recipe import METHODS


def paired(name: str, planned: Sequence[Planned]) -> None:
    """Trainings that come in pairs: vanilla and mean-field, alike in everything else, at least two seeds.

    Raises
    ------
    InputError
        If there is no such thing.
    """
    groups: dict[str, dict[str, set[int]]] = {}
    for each in planned:
        method = each.member.training.method if each.member.training else ""
        key = pair_key(each.member.model_dump(mode="json"))
        groups.setdefault(key, {}).setdefault(method, set()).add(each.member.seed)
    for methods in groups.values():
        seeds = methods.get(METHODS[0], set())
        if set(methods) != set(METHODS) or any(other != seeds for other in methods.values()) or len(seeds) < 2:
            raise InputError(
                f"grid: expected training.method = {list(METHODS)} and the same two seeds or more of each to draw "
                f"{name!r}, got {', '.join(f'{k}: {len(v)} seeds' for k, v in methods.items())}{ADVICE}"
            )
