"""What the figures of the hidden width need of a study: networks of whole states in layers, sizes, scales, repeats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from wgflow.base.errors import InputError
from wgflow.sims.members import Planned
from wgflow.study.messages import ADVICE, naming

_FEWEST_SEEDS = 4  # from which on intervals are given


def _hidden_width(name: str, planned: Sequence[Planned], observables: Sequence[str], varied: Sequence[str]) -> None:
    """Networks of whole states in layers of a stated width, which differ in nothing but these keys."""
    for each in planned:
        with naming(each.label):
            table, got = each.member, set(each.values) - set(varied)
            if table.depth.name != "layers" or table.particles.per_layer is None or table.samples.state != "whole":
                raise InputError(
                    f"figure: expected depth.name = layers, particles.per_layer and problem.state = whole to draw "
                    f"{name!r}, got {table.depth.name}, {table.particles.per_layer} and {table.samples.state}{ADVICE}"
                )
            if got:
                raise InputError(
                    f"grid: expected {', '.join(varied)} alone to draw {name!r}, got {min(got)} too{ADVICE}"
                )
            missing = [one for one in observables if one not in table.observables]
            if missing:
                raise InputError(f"observables: expected {missing[0]!r} among them to draw {name!r}, got none{ADVICE}")


def _several(name: str, planned: Sequence[Planned], least: Mapping[str, int]) -> None:
    """At least so many values of these keys among the members that are no reference."""
    for key, count in least.items():
        values = {json.dumps(each.values.get(key)) for each in planned if not each.reference}
        if len(values) < count:
            raise InputError(
                f"grid.{key}: expected at least {count} values to draw {name!r}, got {len(values)}; add some{ADVICE}"
            )


def depths_and_widths(name: str, planned: Sequence[Planned]) -> None:
    """Several L, M_l and seeds, enough to fit two constants with intervals, and one reference that is no smaller."""
    _hidden_width(name, planned, ["outputs"], ["depth.layers", "particles.per_layer", "seed"])
    _several(name, planned, {"depth.layers": 2, "particles.per_layer": 2, "seed": _FEWEST_SEEDS})
    references = [each for each in planned if each.reference]
    if len(references) != 1:
        raise InputError(f"reference: expected one network to draw {name!r}, got {len(references)}{ADVICE}")
    limit = references[0]
    for key in ("depth.layers", "particles.per_layer"):
        largest = max(each.values[key] for each in planned)
        if limit.values[key] < largest:
            raise InputError(f"reference.{key}: expected at least {largest}, got {limit.values[key]}; set it to that")
    if any(each.member.seed == limit.member.seed for each in planned if not each.reference):
        raise InputError(
            "reference.seed: expected one that the grid has not, since draws of one seed are nested, got "
            f"{limit.member.seed} in both; set reference.seed = 1000"
        )
    if any(each.member.particles.coupling != "independent" for each in planned):
        raise InputError(f"particles.coupling: expected independent to draw {name!r}, got path{ADVICE}")


def scales_and_repeats(name: str, planned: Sequence[Planned]) -> None:
    """Several scales of a and seeds, outputs and displacements of ridge blocks."""
    keys = ["problem.width", "particles.scale.a", "seed"]
    _hidden_width(name, planned, ["outputs", "displacement"], keys)
    _several(name, planned, {"particles.scale.a": 2, "seed": 2})
    for each in planned:
        with naming(each.label):
            block = each.member.samples.block
            if (block["name"] if isinstance(block, dict) else block) != "ridge":
                raise InputError(f"problem.block: expected ridge to draw {name!r}, got {block}{ADVICE}")
