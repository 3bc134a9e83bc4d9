"""Check whether a run followed the gradient flow, by its energy balance, and suggest a step length if not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from wgflow.base.energy_balance import ROUNDING, EnergyBalance
from wgflow.base.types import Spec
from wgflow.base.verdict import Claim, Verdict
from wgflow.flow.integrators import EULER, INTEGRATORS
from wgflow.report.member_selection import opened
from wgflow.study.workspace import Workspace
from wgflow.trajectory import Trajectory

_TOLERANCE = 0.05  # largest defect over descent without a warning
_TOLERANCE_AT_SWITCHES = 1.5  # jumps of E alone leave at most about 1; any excess falls with the step length (measured)
_TARGET = 0.01  # defect that the suggested step length aims at
_SHOWN = 3  # members with a warning of their own
COLUMNS = (
    "balance_defect", "energy_rises", "largest_rise", "largest_rise_s", "switch_steps", "balance_at_switches",
    "risen_at_switches",
)  # fmt: skip

FOLLOWED = Claim(
    "gradient_flow_followed", "runs that left it", "<=", "",
    holds="every run followed the gradient flow",
    fails="{left:.0f} of {total} runs left the gradient flow: findings are about the steps they took",
    unknown="whether runs followed the gradient flow was not recorded",
)  # fmt: skip


def balance_columns(trajectory: Trajectory) -> Spec:
    """Energy balance of a run as columns of its summary; empty if none was recorded.

    Returns
    -------
    dict
        ``balance_defect``, the share of the descent that dissipation does not explain; ``energy_rises``, the number of
        steps in which E rose, ``largest_rise`` and ``largest_rise_s``, the s at which; under Gaps ``switch_steps``,
        steps with an order switch, ``balance_at_switches``, their defect, jumps of E included, over the descent, and
        ``risen_at_switches``, the sum of the rises of E in them.
    """
    balance = trajectory.balance
    if balance is None:
        return {}
    numbers = [balance.relative, int(balance.rises), balance.rise, balance.rise_s]
    if balance.switched:
        numbers += [int(balance.switched), _over(balance.at_switches, balance.descent), balance.risen_at_switches]
    return dict(zip(COLUMNS, numbers, strict=False))


def check(work: Workspace, statuses: Mapping[str, str]) -> tuple[Verdict, list[str]]:
    """Whether all members followed the gradient flow, and warnings about those that did not, the worst first.

    Parameters
    ----------
    work : Workspace
        The run.
    statuses : mapping of str to str
        Status of each member by label; diverged members are reported elsewhere and left out.
    """
    warned, total = [], 0
    for member, trajectory in opened(work):
        if statuses.get(member.label) == "diverged" or not (balance := trajectory.balance):
            continue
        total += 1
        if text := diagnosis(trajectory):
            warned.append((_departure(balance), f"{member.label or work.study['name']}: {text}"))
    lines = [line for _, line in sorted(warned, key=lambda entry: -entry[0])]
    verdict = FOLLOWED(len(warned) if total else math.nan, 0.0, total=total)
    if (more := len(lines) - _SHOWN) > 0:
        lines[_SHOWN:] = [f"{more} more of {len(statuses)} runs likewise; see balance_defect in summary.csv."]
    return verdict, lines


def unexplained_by_halving(trajectory: Trajectory) -> float:
    """Largest share of the change in E that dissipation does not explain, over stretches of frames in which E halves.

    Relative to the descent since the start an error late in a run, where E is small, would not be seen. NaN without an
    energy balance, 0 if E never changes.

    Parameters
    ----------
    trajectory : Trajectory
        A run whose loss has the infimum 0.
    """
    if trajectory.balance is None:
        return math.nan
    if _at_rest(trajectory, trajectory.balance):
        return 0.0
    energy, bounds = trajectory.series("energy"), [0]
    for frame, value in enumerate(energy):
        if value <= 0.5 * energy[bounds[-1]]:
            bounds.append(frame)
    bounds = [*(bounds[:-1] or [0]), len(energy) - 1]  # the rest counts with the last halving
    names = EnergyBalance._fields
    sums = np.diff(trajectory.series("balance")[bounds], axis=0)
    descent, defect = sums[:, names.index("descent")], sums[:, names.index("defect")]
    return float(np.max(defect[descent > 0] / descent[descent > 0], initial=0.0))


def diagnosis(trajectory: Trajectory) -> str:
    """How a run departed from the gradient flow, and what to try; empty if it did not.

    A run departs if the change in E and the dissipation integrated over the steps differ by more than 5%, see
    :class:`wgflow.base.energy_balance.EnergyBalance`, if E rose in a step by more than rounding, or if it ended above
    its start. In steps with order switches E jumps by design: of these only the excess over the jumps counts.
    """
    balance = trajectory.balance
    if balance is None or not balance.steps:
        return ""
    energy = trajectory.series("energy")
    signs = [] if _at_rest(trajectory, balance) else [*_differences(balance)]
    if balance.rises:
        signs.append(
            f"E rose in {balance.rises:.0f} of {balance.steps:.0f} steps (by up to {balance.rise:.2g}, at "
            f"s = {balance.rise_s:.4g})"
        )
    if energy[-1] > energy[0] and (signs or balance.risen_at_switches):
        signs.append(f"E ended at {energy[-1]:.3g}, above its start at {energy[0]:.3g}")
    return f"{'; '.join(signs)}; {_advice(trajectory, balance)}." if signs else ""


def _at_rest(trajectory: Trajectory, balance: EnergyBalance) -> bool:
    """Whether E changed by no more than what may be rounding in every step."""
    rounding = ROUNDING[trajectory.parameters["energy"].get("dtype", "float64")] / 8
    return bool(balance.descent <= rounding * balance.steps * np.abs(trajectory.series("energy")).max())


def _differences(balance: EnergyBalance) -> Iterator[str]:
    share = balance.relative
    if share > 1:
        yield f"dissipation differs from the change in E by {_percent(share)}"
    elif share > _TOLERANCE:
        yield f"{_percent(share)} of the change in E is not explained by dissipation"
    share = _over(balance.at_switches, balance.descent)
    if share > _TOLERANCE_AT_SWITCHES:
        yield (
            f"dissipation differs from the change in E by {_percent(share)} in the {balance.switched:.0f} of "
            f"{balance.steps:.0f} steps with order switches, more than jumps of E account for"
        )


def _advice(trajectory: Trajectory, balance: EnergyBalance) -> str:
    """Setting to try: the step length, the tolerances of an adaptive rule, or the depth scheme's shape."""
    flow, depth = trajectory.parameters["flow"], trajectory.parameters["energy"].get("depth", {})
    if isinstance(depth, dict) and depth.get("shape") == "hat":
        return "the hat function has no gradient flow, try depth.shape = 'spline'"
    rule: Any = flow.get("step", 0.0)
    rule = rule if isinstance(rule, dict) else {"name": "constant", "length": rule}
    if rule.get("name") == "descent" and not (balance.rises or [*_differences(balance)]):
        return (
            f"it rose by {balance.risen_at_switches:.3g} in steps with order switches, where it jumps however short "
            "they are, and fell in the others"
        )
    factor = step_factor(balance, min(INTEGRATORS.get(flow.get("integrator", ""), EULER).order, 2))
    if rule.get("name") == "adaptive":
        scale = max(factor**2, 0.1)  # the defect falls in proportion to both
        return f"try flow.rtol = {_digit(scale * rule['rtol']):g} and flow.atol = {_digit(scale * rule['atol']):g}"
    constant = rule.get("name") == "constant"
    h = float(rule["length"] if constant else trajectory.series("s")[-1] / max(1, trajectory.series("step")[-1]))
    if not 0 < h < math.inf:  # frames that were not computed by a flow of wgflow
        return "try shorter steps"
    table = trajectory.parameters["study"].get("flow", {})
    step = f"flow.step = {suggested_step(h, factor, _times(table)):.12g}"
    advice = f"try {step}" if constant else f"try flow.rule = 'constant' with {step}"
    reflects = flow.get("boundary") == "reflect"
    return advice + ", or flow.boundary = 'clip', since particles bounce off a reflecting boundary" * reflects


def step_factor(balance: EnergyBalance, order: int) -> float:
    """Factor by which to shorten steps, 0.1 to 0.5.

    The defect is of order h**order, so (1% / defect)**(1 / order) brings it to about 1%. Without such a defect, because
    E rose alone, a quarter of the length is tried, and never more than that where E rose.
    """
    if not balance.relative > _TOLERANCE:
        return 0.25
    return min(max(math.pow(_TARGET / balance.relative, 1 / order), 0.1), 0.25 if balance.rises else 0.5)


def suggested_step(h: float, factor: float, times: Sequence[float] = ()) -> float:
    """Step length near ``factor`` h with one significant digit that divides all ``times``.

    If there is none within a factor of 10, h divided by a whole number, which divides them if h does.

    Parameters
    ----------
    h, factor : float
        Present step length, > 0, and the factor, <= 1.
    times : sequence of float, optional
        Flow times at which steps have to end.
    """
    digit, exponent = _split(factor * h)
    for k in range(9):
        place, more = divmod(digit - 1 - k, 9)
        length = float(f"{more + 1}e{exponent + place}")
        if all(_whole(time / length) for time in times):
            return length
    return h / math.ceil(1 / factor)


def _times(flow: Spec) -> list[float]:
    """Flow times in a study's table that have to be multiples of the step."""
    every = flow.get("every")
    if isinstance(every, dict):
        every = every.get("s")
    times = every if isinstance(every, list) else [every]
    return [float(time) for time in (flow.get("until"), *times) if time]


def _whole(ratio: float) -> bool:
    return abs(ratio - round(ratio)) < 1e-9 * max(1.0, ratio)


def _digit(number: float) -> float:
    """Positive number rounded down to one significant digit."""
    digit, exponent = _split(number)
    return float(f"{digit}e{exponent}")


def _split(number: float) -> tuple[int, int]:
    """Leading digit and decimal exponent of a positive number."""
    exponent = math.floor(math.log10(number) + 1e-12)
    return max(1, math.floor(number / 10.0**exponent + 1e-9)), exponent


def _departure(balance: EnergyBalance) -> float:
    """Departure from the gradient flow, by which warnings are sorted."""
    parts = (balance.defect, balance.at_switches / _TOLERANCE_AT_SWITCHES, balance.risen)
    return max(_over(part, balance.descent) for part in parts if not math.isnan(part))


def _over(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%" if share < 1 else f"{100 * share:.0f}%" if share < 100 else f"{share:.2g} times it"
