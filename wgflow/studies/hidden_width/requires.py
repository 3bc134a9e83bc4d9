"""What the figure of the hidden width needs: networks of whole states in layers, of several sizes and seeds."""

from __future__ import annotations

from wgflow.base.errors import InputError
from wgflow.report.figure import Plan
from wgflow.studies.requirements import of_members
from wgflow.study.grid import RunPlan
from wgflow.study.messages import ADVICE

VARIED = ("depth.layers", "particles.per_layer", "seed")
LEAST = {"depth.layers": 2, "particles.per_layer": 2, "seed": 4}  # values, enough to fit two constants with intervals


@of_members
def whole_states_in_layers(name: str, planned: RunPlan) -> None:
    """Networks of whole states in layers of a stated width."""
    table = planned.member
    if table.depth.name != "layers" or table.particles.per_layer is None or table.samples.state != "whole":
        raise InputError(
            f"figure: expected depth.name = layers, particles.per_layer and problem.state = whole to draw {name!r}, "
            f"got {table.depth.name}, {table.particles.per_layer} and {table.samples.state}{ADVICE}"
        )


def independent_reference(plan: Plan) -> None:
    """One reference of another seed that is no smaller, and independent layers."""
    if len(plan.references) != 1:
        raise InputError(f"reference: expected one network to draw {plan.figure!r}, got {len(plan.references)}{ADVICE}")
    limit = plan.references[0]
    for key in ("depth.layers", "particles.per_layer"):
        largest = max(planned.values[key] for planned in plan.members)
        if limit.values[key] < largest:
            raise InputError(f"reference.{key}: expected at least {largest}, got {limit.values[key]}; set it to that")
    if any(planned.member.seed == limit.member.seed for planned in plan.fitted):
        raise InputError(
            "reference.seed: expected one that the grid has not, since draws of one seed are nested, got "
            f"{limit.member.seed} in both; set reference.seed = 1000"
        )
    if any(planned.member.particles.coupling != "independent" for planned in plan.members):
        raise InputError(f"particles.coupling: expected independent to draw {plan.figure!r}, got path{ADVICE}")
