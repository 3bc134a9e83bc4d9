"""What the figure of sizing needs: a grid over L and M_l, enough seeds, and a target."""

from __future__ import annotations

from wgflow.base.errors import InputError
from wgflow.report.figure import Plan
from wgflow.stats.exceedance import min_seeds
from wgflow.stats.extrapolation import MIN_LEVELS
from wgflow.studies.depth_width.requires import AXES, by_coupling, by_size, sides
from wgflow.study.messages import ADVICE

NO_TARGET = (
    "target: expected eps and eta to draw 'sizing', got none; run the study with --set target.eps=0.05 "
    "--set target.eta=0.1"
)


def grid_and_one_coupling(plan: Plan) -> None:
    """A grid over L and M_l that a law with four constants can be fitted to, and one coupling."""
    if len(by_coupling(plan)) > 1:
        raise InputError(f"grid.particles.coupling: expected one coupling to draw {plan.figure!r}, got several{ADVICE}")
    sizes = by_size(plan.members)
    for (what, key), seen in zip(AXES, sides(sizes), strict=True):
        if len(seen) < MIN_LEVELS:
            raise InputError(
                f"grid.{key}: expected at least {MIN_LEVELS} {what} to draw {plan.figure!r}, got {seen}: too few to "
                f"tell a law of E by; enlarge the grid{ADVICE}"
            )
    fewest = min(map(len, sizes.values()))
    if fewest < 4:
        raise InputError(f"grid.seed: expected at least 4 seeds to draw {plan.figure!r}, got {fewest}{ADVICE}")


def target_and_seeds(plan: Plan) -> None:
    """A target, and as many seeds as could ever show that it is met."""
    if plan.target is None:
        raise InputError(NO_TARGET)
    seeds, least = len({planned.member.seed for planned in plan.members}), min_seeds(plan.target.eta)
    if seeds < least:
        raise InputError(
            f"grid.seed: expected at least {least} seeds for target.eta = {plan.target.eta:g}, got {seeds}: even "
            f"without a single failure {seeds} could not show it; give more, or raise target.eta{ADVICE}"
        )
