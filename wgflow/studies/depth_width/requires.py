"""What the figures of depth and width need: a grid over L and M_l of several draws, and a larger reference."""

from __future__ import annotations

from collections.abc import Sequence

from wgflow.report.figure import Plan
from wgflow.studies.requirements import of_members, unmet
from wgflow.study.grid import RunPlan
from wgflow.study.tables import LayersTable

AXES = (("depths", "depth.layers"), ("widths", "particles.per_layer"))
_VARIED = {
    "depth.layers", "particles.per_layer", "particles.count", "particles.within", "seed", "particles.part",
    "particles.coupling",
}  # fmt: skip
Grid = dict[tuple[int, int], list[RunPlan]]


@of_members
def in_layers(name: str, planned: RunPlan) -> None:
    """Networks of layers."""
    if not isinstance(planned.member.depth, LayersTable):
        raise unmet(name, "depth", "layers", planned.member.depth.name)


def layer_grid(plan: Plan) -> None:
    """Networks of layers that differ in size, seed and coupling alone, at least two L and two M_l for each coupling."""
    in_layers(plan)
    others = {key for planned in plan.members for key in planned.values} - _VARIED
    if others:
        raise unmet(plan.figure, f"grid.{min(others)}", "sizes, seeds and couplings alone", "another key")
    for members in by_coupling(plan).values():
        sizes = by_size([planned for planned in members if not planned.reference])
        for (what, key), seen in zip(AXES, sides(sizes), strict=True):
            if len(seen) < 2:
                got = f"{seen}; give a list such as [4, 8, 16]"
                raise unmet(plan.figure, f"grid.{key}", f"at least two {what}", got)


def by_coupling(plan: Plan) -> dict[str, list[RunPlan]]:
    """Members by the coupling of their layers at the start."""
    couplings: dict[str, list[RunPlan]] = {}
    for planned in plan.members:
        couplings.setdefault(planned.member.particles.coupling, []).append(planned)
    return couplings


def by_size(members: Sequence[RunPlan]) -> Grid:
    """Members by L and M_l."""
    sizes: Grid = {}
    for planned in members:
        assert isinstance(planned.member.depth, LayersTable)  # in_layers was asked before
        layers = planned.member.depth.layers
        sizes.setdefault((layers, planned.member.count // layers), []).append(planned)
    return sizes


def sides(sizes: Grid) -> tuple[list[int], list[int]]:
    """All L and all M_l of some sizes, increasing."""
    return sorted({depth for depth, _ in sizes}), sorted({width for _, width in sizes})


def draws_and_reference(plan: Plan) -> None:
    """For every coupling several draws of 5 L and 4 M_l, and a reference that is no smaller."""
    for coupling, members in by_coupling(plan).items():
        fitted = by_size([planned for planned in members if not planned.reference])
        usual = {size: same for size, same in fitted.items() if len(same) >= 4}
        depths, widths = sides(usual)
        if len(depths) < 5 or len(widths) < 4:
            got = f"{len(depths)} and {len(widths)} for coupling {coupling!r}"
            raise unmet(plan.figure, "grid", "5 depths and 4 widths of at least 4 draws each", got)
        largest = (sides(fitted)[0][-1], widths[-1])
        limit = max(by_size([planned for planned in members if planned.reference]), default=None)
        if limit is None or limit[0] < largest[0] or limit[1] < largest[1]:
            got = f"L, M_l = {limit}" if limit else "no reference"
            remedy = "set reference.depth.layers and reference.particles.per_layer"
            expected = f"L and M_l of at least {largest}"
            raise unmet(plan.figure, "reference", expected, f"{got} for coupling {coupling!r}; {remedy}")
