"""What the figures need of a study, checked before anything runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from wgflow.errors import InputError, unknown
from wgflow.sims import hidden_width
from wgflow.sims.members import Planned, build
from wgflow.sims.messages import ADVICE
from wgflow.sims.study import LayersTable
from wgflow.theory.separation import kind

if TYPE_CHECKING:
    from wgflow.analysis.drawing import Drawing
    from wgflow.sims.study import FlowTable, TargetTable
    from wgflow.workspace import Workspace

_WITHIN = ("particles.count", "seed", "particles.part")  # what members of one group differ in
_SIZES = ("depth.layers", "particles.per_layer", "particles.count", "particles.within")
_DRAWS = ("seed", "particles.part", "particles.coupling")
_FEWEST_CELLS = 5  # sizes: four constants of the law of E, and one to say how wrong they are
TIMES_LARGER = 8  # N of the reference over the largest N fitted, so that its own error hardly shows


def drawings(
    names: Sequence[str], planned: Sequence[Planned], target: TargetTable | None = None
) -> dict[str, Callable[[Workspace], Drawing]]:
    """Figures of a study by name, after checking that its members and its target are what they need.

    Raises
    ------
    InputError
        If a name is unknown, Matplotlib is missing, or a figure cannot be drawn of these members.
    """
    if list(names) == ["none"]:
        return {}
    try:
        from wgflow.analysis.figures import FIGURES
    except ModuleNotFoundError as error:
        raise InputError(
            f"figure: expected matplotlib to draw {', '.join(names)}, got no such package; pip install "
            "'wgflow[study]', or --set figure=none"
        ) from error
    for name in names:
        if name not in FIGURES:
            raise unknown("figure", name, (*FIGURES, "none"))
        if name not in NUMBERS_SUFFICE and any(each.member.record == "numbers" for each in planned):
            raise InputError(f"record: expected 'particles' to draw {name!r}, got 'numbers'{ADVICE}")
        if name in REQUIREMENTS:
            REQUIREMENTS[name](name, planned)
        if name in TARGETED:
            _seeds_enough(name, planned, target)
    return {name: FIGURES[name] for name in names}


def _every_step_of_gaps(name: str, planned: Sequence[Planned]) -> None:
    for each in planned:
        flow = each.member.flow
        if each.member.depth.name != "gaps" or flow.rule != "constant" or not _every_step(flow):
            raise InputError(
                f"figure: expected depth gaps and a frame at every step to draw {name!r}, got depth "
                f"{each.member.depth.name}, rule {flow.rule}, every {flow.every}{ADVICE}"
            )


def _every_step(flow: FlowTable) -> bool:
    return flow.every in (None, flow.step, {"name": "steps", "n": 1})


def _several_layers(name: str, planned: Sequence[Planned]) -> None:
    for each in planned:
        depth, count = each.member.depth, each.member.count
        if (count if depth.name == "gaps" else getattr(depth, "layers", 1)) < 2:
            raise InputError(
                f"depth: expected several layers to draw {name!r}, got {depth.name} with one; set depth.name = layers "
                f"and depth.layers = 16, say{ADVICE}"
            )


def _counts_steps(flow: FlowTable) -> bool:
    """Whether frames lie at flow times that depend on a member's step lengths."""
    return flow.every is None or (isinstance(flow.every, dict) and flow.every["name"] == "steps")


def _sizes_and_reference(name: str, planned: Sequence[Planned]) -> None:
    """In every group several N, several seeds, one much larger reference that is no draw of theirs."""
    groups: dict[str, list[Planned]] = {}
    for each in planned:
        rest = {key: value for key, value in each.values.items() if key not in _WITHIN}
        groups.setdefault(json.dumps(rest, sort_keys=True), []).append(each)
    alone = [each for each in groups.values() if all(one.reference for one in each)]
    if alone:
        raise InputError(
            f"reference: expected members to compare it with to draw {name!r}, got a reference {alone[0][0].label} "
            f"that differs from them in more than {', '.join(_WITHIN)}{ADVICE}"
        )
    for each_group in groups.values():
        _group(name, each_group)


def _group(name: str, planned: Sequence[Planned]) -> None:
    fitted = [each for each in planned if not each.reference]
    sizes = sorted({each.member.count for each in fitted})
    if len(sizes) < 2:
        raise InputError(
            f"grid.particles.count: expected several N to draw {name!r}, got {sizes[0]} alone; "
            f"give a list such as [16, 32, 64, 128]{ADVICE}"
        )
    if len({each.member.seed for each in fitted}) < 2:
        raise InputError(f"grid.seed: expected several seeds to draw {name!r}, got one; give a list{ADVICE}")
    reference = [each.member.count for each in planned if each.reference]
    least = TIMES_LARGER * sizes[-1]
    if not reference or min(reference) < least:
        got = min(reference) if reference else "no reference"
        raise InputError(
            f"reference: expected N of at least {least}, {TIMES_LARGER} times the largest of the grid, got {got}; "
            f"set reference.particles.count = {least}{ADVICE}"
        )
    common = {each.member.seed for each in fitted} & {each.member.seed for each in planned if each.reference}
    if common:
        raise InputError(
            "reference.seed: expected seeds that the grid has not, since a cloud is the beginning of the larger one of "
            f"its seed, got {min(common)} in both; set reference.seed = {1000 + max(one.member.seed for one in fitted)}"
        )
    if any(each.member.flow.rule != "constant" for each in planned) and any(
        _counts_steps(each.member.flow) for each in planned
    ):
        raise InputError(f"flow.every: expected flow times that all members record to draw {name!r}, got none{ADVICE}")


def _sizes_and_heldout(name: str, planned: Sequence[Planned]) -> None:
    _sizes_and_reference(name, planned)
    if any(not each.member.problem.heldout for each in planned):
        raise InputError(
            f"problem.heldout: expected samples held out to draw {name!r}, got 0; set it to 0.25, say{ADVICE}"
        )
    try:
        import sklearn  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            f"figure: expected scikit-learn to draw {name!r}, got no such package; pip install 'wgflow[study]'{ADVICE}"
        ) from error


def _varies(*keys: str) -> Callable[[str, Sequence[Planned]], None]:
    """Requirement that the grid has these keys: a figure that compares their values."""

    def check(name: str, planned: Sequence[Planned]) -> None:
        for key in keys:
            if any(key not in each.values for each in planned):
                raise InputError(f"grid.{key}: expected several values to draw {name!r}, got none{ADVICE}")

    return check


def _homogeneous_in_layers(name: str, planned: Sequence[Planned]) -> None:
    """Several starts of homogeneous blocks whose particles stay in their layers."""
    _varies("particles.support")(name, planned)
    for each in planned:
        if each.member.depth.name not in ("layers", "shallow"):
            raise InputError(
                f"depth: expected layers or shallow to draw {name!r}, where particles keep their depth, got "
                f"{each.member.depth.name}{ADVICE}"
            )
        kind(build(each.member).energy.problem)


def _layers_over(name: str, planned: Sequence[Planned]) -> dict[tuple[int, int], list[Planned]]:
    """Members by L and M_l, which are all they may differ in beside draws and couplings; at least two of each."""
    sizes: dict[tuple[int, int], list[Planned]] = {}
    for each in planned:
        if not isinstance(each.member.depth, LayersTable):
            raise InputError(f"depth: expected layers to draw {name!r}, got {each.member.depth.name}{ADVICE}")
        layers = each.member.depth.layers
        sizes.setdefault((layers, each.member.count // layers), []).append(each)
    strange = {key for each in planned for key in each.values} - {*_SIZES, *_DRAWS}
    if strange:
        raise InputError(
            f"grid.{min(strange)}: expected sizes, seeds and couplings alone to draw {name!r}, got another key{ADVICE}"
        )
    for what, key, place in (("depths", "depth.layers", 0), ("widths", "particles.per_layer", 1)):
        seen = sorted({size[place] for size, listed in sizes.items() if not all(each.reference for each in listed)})
        if len(seen) < 2:
            raise InputError(
                f"grid.{key}: expected at least two {what} to draw {name!r}, got {seen}; give a list such as "
                f"[4, 8, 16]{ADVICE}"
            )
    return sizes


def _target(name: str, planned: Sequence[Planned]) -> None:
    """A grid over L and M_l that a law with four constants can be fitted to, and one coupling."""
    sizes = _layers_over(name, planned)
    if len({each.member.particles.coupling for each in planned}) > 1:
        raise InputError(f"grid.particles.coupling: expected one coupling to draw {name!r}, got several{ADVICE}")
    if len(sizes) < _FEWEST_CELLS:
        raise InputError(
            f"grid: expected at least {_FEWEST_CELLS} sizes (L, M_l) to draw {name!r}, got {len(sizes)}; enlarge the "
            f"grid{ADVICE}"
        )
    fewest = min(len(listed) for listed in sizes.values())
    if fewest < 4:
        raise InputError(f"grid.seed: expected at least 4 seeds to draw {name!r}, got {fewest}{ADVICE}")


def _seeds_enough(name: str, planned: Sequence[Planned], target: TargetTable | None) -> None:
    """A target, and as many seeds as could ever show that it is met."""
    from wgflow.analysis.failure import fewest_seeds

    if target is None:
        raise InputError(
            f"target: expected eps and eta to draw {name!r}, got none; --set target.eps=0.1 --set target.eta=0.1, say"
        )
    seeds, least = len({each.member.seed for each in planned}), fewest_seeds(target.eta)
    if seeds < least:
        raise InputError(
            f"grid.seed: expected at least {least} seeds for target.eta = {target.eta:g}, got {seeds}: even without a "
            f"single failure {seeds} could not show it; give more, or raise target.eta{ADVICE}"
        )


def _depths_widths_and_reference(name: str, planned: Sequence[Planned]) -> None:
    """For every coupling a grid over L and M_l of several draws, and a larger reference."""
    couplings: dict[str, list[Planned]] = {}
    for each in planned:
        couplings.setdefault(each.member.particles.coupling, []).append(each)
    for coupling, listed in couplings.items():
        sizes = _layers_over(name, listed)
        fitted = {size: [one for one in its if not one.reference] for size, its in sizes.items()}
        fitted = {size: its for size, its in fitted.items() if its}
        usual = [size for size, its in fitted.items() if len(its) >= 4]
        if len({depth for depth, _ in usual}) < 4 or len({width for _, width in usual}) < 4:
            raise InputError(
                f"grid: expected 4 depths and 4 widths of at least 4 draws each to draw {name!r}, got "
                f"{len({depth for depth, _ in usual})} and {len({width for _, width in usual})} for coupling "
                f"{coupling!r}{ADVICE}"
            )
        references = [size for size, its in sizes.items() if any(one.reference for one in its)]
        largest = (max(depth for depth, _ in fitted), max(width for _, width in usual))
        if not references or max(references)[0] < largest[0] or max(references)[1] < largest[1]:
            got = f"L, M_l = {max(references)}" if references else "no reference"
            raise InputError(
                f"reference: expected L and M_l of at least {largest} to draw {name!r}, got {got} for coupling "
                f"{coupling!r}; set reference.depth.layers and reference.particles.per_layer{ADVICE}"
            )


def _outputs(check: Callable[[str, Sequence[Planned]], None]) -> Callable[[str, Sequence[Planned]], None]:
    """Requirement that members also record their outputs."""

    def both(name: str, planned: Sequence[Planned]) -> None:
        if any("outputs" not in each.member.observables for each in planned):
            raise InputError(f"observables: expected 'outputs' among them to draw {name!r}; add it{ADVICE}")
        check(name, planned)

    return both


NUMBERS_SUFFICE = frozenset(
    {"depth_width", "sizing", "hidden_width", "hidden_width_scales"}
)  # figures that need no particles
TARGETED = frozenset({"sizing"})  # figures that hold a study against its target
REQUIREMENTS: MappingProxyType[str, Callable[[str, Sequence[Planned]], None]] = MappingProxyType(
    {
        "switching": _every_step_of_gaps,
        "convergence_rates": _sizes_and_reference,
        "convergence_loss": _sizes_and_reference,
        "convergence_models": _sizes_and_heldout,
        "ensemble": _several_layers,
        "landscape": _varies("particles.support"),
        "depth_width": _outputs(_depths_widths_and_reference),
        "depth_width_clouds": _depths_widths_and_reference,
        "sizing": _target,
        "escape": _varies("flow.ingredients", "particles.support"),
        "zero_loss": _homogeneous_in_layers,
        "hidden_width": hidden_width.depths_and_widths,
        "hidden_width_scales": hidden_width.scales_and_repeats,
    }
)
