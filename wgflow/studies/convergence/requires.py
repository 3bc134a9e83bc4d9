"""What the figures of convergence in N need: groups of several N and seeds, each with a much larger reference."""

from __future__ import annotations

from wgflow.base.errors import InputError
from wgflow.base.extras import install
from wgflow.report.figure import Plan
from wgflow.studies.convergence.reduce import COUNT, PART, SEED
from wgflow.studies.requirements import unmet
from wgflow.study.labels import code
from wgflow.study.tables import FlowTable

_WITHIN = (COUNT, SEED, PART)  # what members of one group differ in
TIMES_LARGER = 8  # N of the reference over the largest N fitted, so that its own error hardly shows


def sizes_and_reference(plan: Plan) -> None:
    """In every group several N, several seeds, one much larger reference that is no draw of theirs."""
    groups: dict[str, Plan] = {}
    for planned in plan.members:
        key = code({key: value for key, value in planned.values.items() if key not in _WITHIN})
        group = groups.get(key, Plan(plan.figure, []))
        groups[key] = group._replace(members=[*group.members, planned])
    for group in groups.values():
        if not group.fitted:
            got = f"a reference {group.members[0].label} that differs from them in more than {', '.join(_WITHIN)}"
            raise unmet(plan.figure, "reference", "members to compare it with", got)
    for group in groups.values():
        _sizes(group)


def _sizes(group: Plan) -> None:
    sizes = sorted({planned.member.count for planned in group.fitted})
    seeds = {planned.member.seed for planned in group.fitted}
    if len(sizes) < 2:
        got = f"{sizes[0]} alone; give a list such as [16, 32, 64, 128]"
        raise unmet(group.figure, "grid.particles.count", "several N", got)
    if len(seeds) < 2:
        raise unmet(group.figure, "grid.seed", "several seeds", "one; give a list")
    least = TIMES_LARGER * sizes[-1]
    limit = min((planned.member.count for planned in group.references), default=None)
    if limit is None or limit < least:
        raise InputError(
            f"reference: expected N of at least {least}, {TIMES_LARGER} times the largest of the grid, got "
            f"{limit or 'no reference'}; set reference.particles.count = {least}"
        )
    common = seeds & {planned.member.seed for planned in group.references}
    if common:
        raise InputError(
            "reference.seed: expected seeds that the grid has not, since a sample of particles is the beginning of the "
            f"larger one of its seed, got {min(common)} in both; set reference.seed = {1000 + max(seeds)}"
        )
    flows = [planned.member.flow for planned in group.members]
    if any(flow.rule != "constant" for flow in flows) and any(map(_counts_steps, flows)):
        raise unmet(group.figure, "flow.every", "flow times that all members record", "none")


def _counts_steps(flow: FlowTable) -> bool:
    """Whether frames lie at flow times that depend on a member's step lengths."""
    return flow.every is None or (isinstance(flow.every, dict) and flow.every["name"] == "steps")


def heldout_and_sklearn(plan: Plan) -> None:
    """Samples held out, and scikit-learn for the models to compare with."""
    if any(not planned.member.samples.heldout for planned in plan.members):
        raise unmet(plan.figure, "problem.heldout", "samples held out", "0; set it to 0.25, say")
    try:
        import sklearn  # noqa: F401
    except ModuleNotFoundError as error:
        raise unmet(plan.figure, "figure", "scikit-learn", f"no such package; {install('study')}") from error
