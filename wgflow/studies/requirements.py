"""What the figures need of a study, checked before anything runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from wgflow.base.errors import InputError
from wgflow.base.extras import install
from wgflow.base.registry import unknown
from wgflow.sims.members import Planned, problems
from wgflow.studies.cifar.requires import paired
from wgflow.studies.feature_rate.requires import gaps_and_reference
from wgflow.studies.hidden_width import requires as hidden_width
from wgflow.studies.sizing.requires import (
    cells_and_one_coupling,
    depths_widths_and_reference,
    seeds_enough,
    with_outputs,
)
from wgflow.study.messages import ADVICE, naming
from wgflow.theory.separation import kind

if TYPE_CHECKING:
    from wgflow.report.figure import Drawing
    from wgflow.study.schema import TargetTable
    from wgflow.study.tables import FlowTable
    from wgflow.study.workspace import Workspace

_WITHIN = ("particles.count", "seed", "particles.part")  # what members of one group differ in
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
        from wgflow.studies.registry import FIGURES
    except ModuleNotFoundError as error:
        raise InputError(
            f"figure: expected matplotlib to draw {', '.join(names)}, got no such package; "
            f"{install('study')}, or --set figure=none"
        ) from error
    for name in names:
        if name not in FIGURES:
            raise unknown("figure", name, (*FIGURES, "none"))
        networks = [each.member.network is not None for each in planned]
        if name in NETWORKS and not all(networks):
            raise InputError(f"network: expected members with one to draw {name!r}, got residual blocks{ADVICE}")
        images = [each.member.training is not None for each in planned]
        if name in TRAININGS and not all(images):
            raise InputError(f"training: expected members with one to draw {name!r}, got residual blocks{ADVICE}")
        if name not in (*TRAININGS, *EITHER) and any(images):
            raise InputError(f"training: expected residual blocks to draw {name!r}, got trainings of images{ADVICE}")
        if name not in (*NETWORKS, *EITHER) and any(networks):
            raise InputError(f"network: expected residual blocks to draw {name!r}, got networks of features{ADVICE}")
        if name not in NUMBERS_SUFFICE and any(each.member.record == "numbers" for each in planned):
            raise InputError(f"record: expected 'particles' to draw {name!r}, got 'numbers'{ADVICE}")
        if name in REQUIREMENTS:
            REQUIREMENTS[name](name, planned)
        if name in TARGETED:
            seeds_enough(name, planned, target)
    return {name: FIGURES[name] for name in names}


def _every_step_of_gaps(name: str, planned: Sequence[Planned]) -> None:
    for each in planned:
        with naming(each.label):
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
        with naming(each.label):
            depth, count = each.member.depth, each.member.count
            if (count if depth.name == "gaps" else getattr(depth, "layers", 1)) < 2:
                raise InputError(
                    f"depth: expected several layers to draw {name!r}, got {depth.name} with one; set depth.name = "
                    f"layers and depth.layers = 16, say{ADVICE}"
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
    if any(not each.member.samples.heldout for each in planned):
        raise InputError(
            f"problem.heldout: expected samples held out to draw {name!r}, got 0; set it to 0.25, say{ADVICE}"
        )
    try:
        import sklearn  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            f"figure: expected scikit-learn to draw {name!r}, got no such package; {install('study')}{ADVICE}"
        ) from error


def _varies(*keys: str) -> Callable[[str, Sequence[Planned]], None]:
    """Requirement that the grid has these keys: a figure that compares their values."""

    def check(name: str, planned: Sequence[Planned]) -> None:
        for key in keys:
            if any(key not in each.values for each in planned):
                raise InputError(f"grid.{key}: expected several values to draw {name!r}, got none{ADVICE}")

    return check


def _measured(*observables: str) -> Callable[[str, Sequence[Planned]], None]:
    """Requirement that members record these observables."""

    def check(name: str, planned: Sequence[Planned]) -> None:
        for wanted in observables:
            if any(wanted not in each.member.observables for each in planned):
                raise InputError(f"observables: expected {wanted!r} among them to draw {name!r}; add it{ADVICE}")

    return check


def _alone(*keys: str) -> Callable[[str, Sequence[Planned]], None]:
    """Requirement that members differ in these keys alone."""

    def check(name: str, planned: Sequence[Planned]) -> None:
        strange = {key for each in planned for key in each.values} - set(keys)
        if strange:
            raise InputError(f"grid.{min(strange)}: expected {', '.join(keys)} alone to draw {name!r}{ADVICE}")

    return check


def _several(key: str, least: int) -> Callable[[str, Sequence[Planned]], None]:
    """Requirement of so many values of a key."""

    def check(name: str, planned: Sequence[Planned]) -> None:
        got = len({json.dumps(each.values.get(key)) for each in planned})
        if got < least:
            raise InputError(f"grid.{key}: expected at least {least} values to draw {name!r}, got {got}{ADVICE}")

    return check


def _all(*checks: Callable[[str, Sequence[Planned]], None]) -> Callable[[str, Sequence[Planned]], None]:
    """Several requirements."""

    def check(name: str, planned: Sequence[Planned]) -> None:
        for each in checks:
            each(name, planned)

    return check


def _homogeneous_in_layers(name: str, planned: Sequence[Planned]) -> None:
    """Several starts of homogeneous blocks whose particles stay in their layers."""
    _varies("particles.support")(name, planned)
    for each in planned:
        with naming(each.label):
            if each.member.depth.name not in ("layers", "shallow"):
                raise InputError(
                    f"depth: expected layers or shallow to draw {name!r}, where particles keep their depth, got "
                    f"{each.member.depth.name}{ADVICE}"
                )
            kind(problems(each.member)[0])


NETWORKS = frozenset({"feature_flow", "feature_rate", "degeneracy"})  # figures of networks of features
TRAININGS = frozenset({"cifar"})  # figures of trainings of networks of images
EITHER = frozenset({"loss_and_particles"})  # figures of these and of residual blocks
# figures that need no particles
NUMBERS_SUFFICE = frozenset({"depth_width", "sizing", "hidden_width", "hidden_width_scales", *NETWORKS})
TARGETED = frozenset({"sizing"})  # figures that hold a study against its target
REQUIREMENTS: MappingProxyType[str, Callable[[str, Sequence[Planned]], None]] = MappingProxyType(
    {
        "switching": _every_step_of_gaps,
        "convergence_rates": _sizes_and_reference,
        "convergence_loss": _sizes_and_reference,
        "convergence_models": _sizes_and_heldout,
        "ensemble": _several_layers,
        "landscape": _varies("particles.support"),
        "depth_width": with_outputs(depths_widths_and_reference),
        "depth_width_clouds": depths_widths_and_reference,
        "feature_flow": _all(
            _measured("defect", "loss_of_weights", "unit_spread"),
            _alone("network.kind", "particles.count", "network.method", "record", "flow.integrator", "flow.step"),
        ),
        "feature_rate": _all(_measured("units", "outputs"), gaps_and_reference),
        "degeneracy": _all(
            _measured("unit_spread"),
            _varies("particles.count", "network.start"),
            _alone("network.kind", "network.start", "particles.count", "seed"),
            _several("particles.count", 4),
            _several("seed", 4),
        ),
        "sizing": cells_and_one_coupling,
        "escape": _varies("flow.ingredients", "particles.support"),
        "zero_loss": _homogeneous_in_layers,
        "cifar": paired,
        "hidden_width": hidden_width.depths_and_widths,
        "hidden_width_scales": hidden_width.scales_and_repeats,
    }
)
