"""What the figure of rates needs: networks by descent of several sizes, and references of ideal particles."""

from __future__ import annotations

from wgflow.base.errors import InputError
from wgflow.base.types import Spec
from wgflow.report.figure import Plan
from wgflow.study.messages import ADVICE
from wgflow.study.tables import NetworkTable

VARIED = (
    "flow.integrator", "flow.step", "network.method", "network.start", "particles.count", "seed",
)  # fmt: skip


def networks(plan: Plan) -> None:
    """At least four m and seeds at common flow times, by descent from minimum-norm weights, flows allowed."""
    name, fitted = plan.figure, [planned.member for planned in plan.fitted]
    if min(len({member.count for member in fitted}), len({member.seed for member in fitted})) < 4:
        raise InputError(f"grid: expected at least 4 m and 4 seeds to draw {name!r}, got fewer{ADVICE}")
    if len({(planned.member.flow.until, str(planned.member.flow.every)) for planned in plan.members}) > 1:
        raise InputError(
            f"flow.until, flow.every: expected the same of all members to draw {name!r}, got several{ADVICE}"
        )
    for member in fitted:
        table = member.network or NetworkTable()
        by_euler = table.method == "flow" or member.flow.integrator == "euler"
        if table.start != "minimum_norm" or table.draw != "features" or table.ridge or not by_euler:
            raise InputError(
                "network: expected start = minimum_norm, draw = features, ridge = 0 and descent by euler beside flows "
                f"to draw {name!r}, got another{ADVICE}"
            )
    if not any(member.network and member.network.method == "descent" for member in fitted):
        raise InputError(f"network.method: expected descent to draw {name!r}, got flow alone{ADVICE}")


def references(plan: Plan) -> None:
    """For every seed one larger reference of ideal particles, of the same problem and network."""
    name, limits = plan.figure, {planned.member.seed: planned.member for planned in plan.references}
    most = max(planned.member.count for planned in plan.fitted)
    for member in (planned.member for planned in plan.fitted):
        limit = limits.get(member.seed)
        if limit and (limit.problem != member.problem or _architecture(limit.network) != _architecture(member.network)):
            raise InputError(f"reference: expected the same problem and network to draw {name!r}, got another{ADVICE}")
        if limit is None or limit.count <= most or limit.network is None or limit.network.start != "ideal":
            raise InputError(
                f"reference: expected for every seed one of more than {most} units with network.start = ideal to "
                f"draw {name!r}, got none for seed {member.seed}{ADVICE}"
            )


def _architecture(network: NetworkTable | None) -> Spec:
    """What a network shares with its reference."""
    return network.model_dump(exclude={"method", "start"}) if network else {}
