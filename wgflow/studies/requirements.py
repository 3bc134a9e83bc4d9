"""Requirements that the figures of several studies share, checked before anything runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from wgflow.base.errors import InputError
from wgflow.report.figure import Figure, Plan, Requirement
from wgflow.study.grid import RunPlan
from wgflow.study.messages import naming


def unmet(figure: str, key: str, expected: str, got: str) -> InputError:
    """Error of a study that a figure cannot be drawn of."""
    return InputError(f"{key}: expected {expected} to draw {figure!r}, got {got}")


def check(figure: Figure, plan: Plan) -> None:
    """Refuse a study that a figure cannot be drawn of.

    Raises
    ------
    InputError
        If its members are of another system or record no particles, or a requirement of the figure is not met.
    """
    members = [planned.member for planned in plan.members]
    systems = {"images" if one.training else "neural_feature_flow" if one.network else "residual" for one in members}
    if figure.system == "residual" and systems != {"residual"}:
        if "images" in systems:
            raise unmet(plan.figure, "training", "residual blocks", "training runs of image networks")
        raise unmet(plan.figure, "network", "residual blocks", "feature networks")
    if figure.system is not None and systems != {figure.system}:
        key = "training" if figure.system == "images" else "network"
        raise unmet(plan.figure, key, "members with one", "residual blocks")
    if figure.particles and any(member.record == "numbers" for member in members):
        raise unmet(plan.figure, "record", "'particles'", "'numbers'")
    for requirement in figure.needs:
        requirement(plan)


def of_members(check_member: Callable[[str, RunPlan], None]) -> Requirement:
    """Requirement of every member, from a function of the figure's name and a member."""

    def requirement(plan: Plan) -> None:
        for planned in plan.members:
            with naming(planned.label):
                check_member(plan.figure, planned)

    return requirement


def varies(*keys: str) -> Requirement:
    """Requirement that the grid has these keys: a figure that compares their values."""

    def requirement(plan: Plan) -> None:
        for key in keys:
            if any(key not in planned.values for planned in plan.members):
                raise unmet(plan.figure, f"grid.{key}", "several values", "none")

    return requirement


def observes(*observables: str) -> Requirement:
    """Requirement that all members record these observables."""

    def requirement(plan: Plan) -> None:
        for name in observables:
            if any(name not in planned.member.observables for planned in plan.members):
                raise InputError(f"observables: expected {name!r} among them to draw {plan.figure!r}; add it")

    return requirement


def only_varies(*keys: str) -> Requirement:
    """Requirement that members differ in these keys alone."""

    def requirement(plan: Plan) -> None:
        others = {key for planned in plan.members for key in planned.values} - set(keys)
        if others:
            raise InputError(f"grid.{min(others)}: expected {', '.join(keys)} alone to draw {plan.figure!r}")

    return requirement


def at_least(least: Mapping[str, int]) -> Requirement:
    """Requirement of so many values of these keys among the members that are no reference."""

    def requirement(plan: Plan) -> None:
        for key, count in least.items():
            got = len({json.dumps(planned.values.get(key)) for planned in plan.fitted})
            if got < count:
                raise unmet(plan.figure, f"grid.{key}", f"at least {count} values", f"{got}; add some")

    return requirement
