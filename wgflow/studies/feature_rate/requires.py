"""What the figure of rates needs of a study: networks by descent, and references of ideal particles."""

from __future__ import annotations

from collections.abc import Sequence

from wgflow.base.errors import InputError
from wgflow.base.types import Spec
from wgflow.sims.members import Planned
from wgflow.study.messages import ADVICE
from wgflow.study.schema import Member

_RATES = {  # what members behind rates may differ in
    "particles.count", "seed", "flow.step", "flow.integrator", "network.method", "network.start",
}  # fmt: skip


def gaps_and_reference(name: str, planned: Sequence[Planned]) -> None:
    """Networks by descent of several m and seeds, and for every seed one larger reference of ideal particles.

    Raises
    ------
    InputError
        If there is no such thing.
    """
    fitted = [each.member for each in planned if not each.reference]
    references = {each.member.seed: each.member for each in planned if each.reference}
    sizes = {each.count for each in fitted}
    if len(sizes) < 4 or len({each.seed for each in fitted}) < 4:
        raise InputError(f"grid: expected at least 4 m and 4 seeds to draw {name!r}, got fewer{ADVICE}")
    strange = {key for each in planned for key in each.values} - _RATES
    if strange:
        raise InputError(f"grid.{min(strange)}: expected {', '.join(sorted(_RATES))} alone to draw {name!r}{ADVICE}")
    times = {(each.member.flow.until, str(each.member.flow.every)) for each in planned}
    if len(times) > 1:
        raise InputError(
            f"flow.until, flow.every: expected the same of all members to draw {name!r}, got several{ADVICE}"
        )
    for each in fitted:
        table = each.network
        descends = table is not None and table.method == "descent" and each.flow.integrator == "euler"
        if (
            table is None
            or table.start != "minimum_norm"
            or table.draw != "features"
            or table.ridge
            or not (descends or table.method == "flow")
        ):
            raise InputError(
                "network: expected start = minimum_norm, draw = features, ridge = 0 and descent by euler beside flows "
                f"to draw {name!r}, got another{ADVICE}"
            )
    if not any(each.network is not None and each.network.method == "descent" for each in fitted):
        raise InputError(f"network.method: expected descent to draw {name!r}, got flow alone{ADVICE}")
    for each in fitted:
        limit = references.get(each.seed)
        other = limit is not None and limit.network is not None and limit.problem != each.problem
        if other or (limit is not None and limit.network is not None and _made(limit) != _made(each)):
            raise InputError(f"reference: expected the same problem and network to draw {name!r}, got another{ADVICE}")
        if limit is None or limit.count <= max(sizes) or limit.network is None or limit.network.start != "ideal":
            raise InputError(
                f"reference: expected for every seed one of more than {max(sizes)} units with network.start = ideal to "
                f"draw {name!r}, got none for seed {each.seed}{ADVICE}"
            )


def _made(member: Member) -> Spec:
    """What a network shares with its reference."""
    assert member.network is not None  # the caller looked
    return member.network.model_dump(exclude={"method", "start"})
