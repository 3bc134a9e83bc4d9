"""What the figures of depth and width need of a study: grids over L and M_l, draws, references, a target."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wgflow.base.errors import InputError
from wgflow.sims.members import Planned
from wgflow.stats.extrapolation import MIN_LEVELS
from wgflow.study.messages import ADVICE, naming
from wgflow.study.schema import TargetTable
from wgflow.study.tables import LayersTable

_SIZES = ("depth.layers", "particles.per_layer", "particles.count", "particles.within")
_DRAWS = ("seed", "particles.part", "particles.coupling")
_AXES = (("depths", "depth.layers", 0), ("widths", "particles.per_layer", 1))


def _layers_over(name: str, planned: Sequence[Planned]) -> dict[tuple[int, int], list[Planned]]:
    """Members by L and M_l, which are all they may differ in beside draws and couplings; at least two of each."""
    sizes: dict[tuple[int, int], list[Planned]] = {}
    for each in planned:
        with naming(each.label):
            if not isinstance(each.member.depth, LayersTable):
                raise InputError(f"depth: expected layers to draw {name!r}, got {each.member.depth.name}{ADVICE}")
            layers = each.member.depth.layers
        sizes.setdefault((layers, each.member.count // layers), []).append(each)
    strange = {key for each in planned for key in each.values} - {*_SIZES, *_DRAWS}
    if strange:
        raise InputError(
            f"grid.{min(strange)}: expected sizes, seeds and couplings alone to draw {name!r}, got another key{ADVICE}"
        )
    for what, key, place in _AXES:
        seen = sorted({size[place] for size, listed in sizes.items() if not all(each.reference for each in listed)})
        if len(seen) < 2:
            raise InputError(
                f"grid.{key}: expected at least two {what} to draw {name!r}, got {seen}; give a list such as "
                f"[4, 8, 16]{ADVICE}"
            )
    return sizes


def cells_and_one_coupling(name: str, planned: Sequence[Planned]) -> None:
    """A grid over L and M_l that a law with four constants can be fitted to, and one coupling."""
    sizes = _layers_over(name, planned)
    if len({each.member.particles.coupling for each in planned}) > 1:
        raise InputError(f"grid.particles.coupling: expected one coupling to draw {name!r}, got several{ADVICE}")
    for what, key, place in _AXES:
        seen = sorted({size[place] for size in sizes})
        if len(seen) < MIN_LEVELS:
            raise InputError(
                f"grid.{key}: expected at least {MIN_LEVELS} {what} to draw {name!r}, got {seen}: too few to tell a "
                f"law of E by; enlarge the grid{ADVICE}"
            )
    fewest = min(len(listed) for listed in sizes.values())
    if fewest < 4:
        raise InputError(f"grid.seed: expected at least 4 seeds to draw {name!r}, got {fewest}{ADVICE}")


def seeds_enough(name: str, planned: Sequence[Planned], target: TargetTable | None) -> None:
    """A target, and as many seeds as could ever show that it is met."""
    from wgflow.stats.exceedance import min_seeds

    if target is None:
        raise InputError(
            f"target: expected eps and eta to draw {name!r}, got none; --set target.eps=0.1 --set target.eta=0.1, say"
        )
    seeds, least = len({each.member.seed for each in planned}), min_seeds(target.eta)
    if seeds < least:
        raise InputError(
            f"grid.seed: expected at least {least} seeds for target.eta = {target.eta:g}, got {seeds}: even without a "
            f"single failure {seeds} could not show it; give more, or raise target.eta{ADVICE}"
        )


def depths_widths_and_reference(name: str, planned: Sequence[Planned]) -> None:
    """For every coupling a grid over L and M_l of several draws, and a larger reference."""
    couplings: dict[str, list[Planned]] = {}
    for each in planned:
        couplings.setdefault(each.member.particles.coupling, []).append(each)
    for coupling, listed in couplings.items():
        sizes = _layers_over(name, listed)
        fitted = {size: [one for one in its if not one.reference] for size, its in sizes.items()}
        fitted = {size: its for size, its in fitted.items() if its}
        usual = [size for size, its in fitted.items() if len(its) >= 4]
        if len({depth for depth, _ in usual}) < 5 or len({width for _, width in usual}) < 4:
            raise InputError(
                f"grid: expected 5 depths and 4 widths of at least 4 draws each to draw {name!r}, got "
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


def with_outputs(check: Callable[[str, Sequence[Planned]], None]) -> Callable[[str, Sequence[Planned]], None]:
    """Requirement that members also record their outputs."""

    def both(name: str, planned: Sequence[Planned]) -> None:
        if any("outputs" not in each.member.observables for each in planned):
            raise InputError(f"observables: expected 'outputs' among them to draw {name!r}; add it{ADVICE}")
        check(name, planned)

    return both
