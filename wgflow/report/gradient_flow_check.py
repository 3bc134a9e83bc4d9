"""Whether a run followed the gradient flow: its balance of energy in words, and a step length to try."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wgflow.base.energy_balance import EnergyBalance
from wgflow.base.types import Spec
from wgflow.flow.integrators import EULER, INTEGRATORS
from wgflow.study.workspace import Workspace
from wgflow.trajectory import Trajectory

_MOST = 0.05  # defect over descent that is still called small
_MOST_AT_SWITCHES = 1.5  # jumps alone leave about 1 or less; what is beyond falls with the step length (measured)
_AIM = 0.01  # defect to aim at by another step length
_SHOWN = 3  # members that get a sentence of their own
COLUMNS = (
    "balance_defect", "energy_rises", "largest_rise", "largest_rise_s", "switch_steps", "balance_at_switches",
)  # fmt: skip


def balance_columns(trajectory: Trajectory) -> Spec:
    """Balance of energy of a run as columns of its summary; empty where there is none.

    Parameters
    ----------
    trajectory : Trajectory
        The run.

    Returns
    -------
    dict
        ``balance_defect``, the part of the descent that the dissipation does not explain; ``energy_rises``, in how many
        steps E rose, ``largest_rise`` and the ``s`` at which; under Gaps ``switch_steps``, steps with an order switch,
        and ``balance_at_switches``, what is left unexplained in them, jumps of E included, over the descent.
    """
    found = trajectory.balance
    if found is None:
        return {}
    row = {"balance_defect": found.relative, "energy_rises": int(found.rises)}
    row |= {"largest_rise": found.rise, "largest_rise_s": found.rise_s}
    if found.switched:
        row |= {"switch_steps": int(found.switched), "balance_at_switches": _over(found.at_switches, found.descent)}
    return row


def warnings(work: Workspace, statuses: Mapping[str, str]) -> list[str]:
    """Sentences on the members of a run that left the gradient flow, those that did so most in front.

    Parameters
    ----------
    work : Workspace
        The run.
    statuses : mapping of str to str
        How each member ended, by label; a member that diverged is said to have done so elsewhere.
    """
    found = []
    for member in work.members():
        with Trajectory(member.path) as trajectory:
            said = diagnosis(trajectory) if statuses.get(member.label) != "diverged" else ""
            if said and (balance := trajectory.balance):
                found.append((_size(balance), f"{member.label or work.study['name']}: {said}"))
    lines = [line for _, line in sorted(found, key=lambda each: -each[0])]
    if len(lines) > _SHOWN:
        more = len(lines) - _SHOWN
        rest = f"{more} more of {len(statuses)} runs likewise; see balance_defect in summary.csv."
        return [*lines[:_SHOWN], rest]
    return lines


def diagnosis(trajectory: Trajectory) -> str:
    """What shows that a run did not follow the gradient flow, and what to try; empty if nothing does.

    Said is where the change in E over the steps and its dissipation differ by more than 5 percent, see
    :class:`wgflow.base.energy_balance.EnergyBalance`, where E rose in a step by more than rounding, and where it
    ended above its
    start. In steps with order switches E jumps by design: of these only what jumps cannot account for is said.
    """
    found = trajectory.balance
    if found is None or not found.steps:
        return ""
    energy = trajectory.series("energy")
    said = [*_differences(found), *_rises(found)]
    if energy[-1] > energy[0] and (said or found.risen_at_switches):
        said.append(f"E ended at {energy[-1]:.3g}, above its start at {energy[0]:.3g}")
    return f"{'; '.join(said)}; {_advice(trajectory, found)}." if said else ""


def _differences(found: EnergyBalance) -> Iterator[str]:
    share = found.relative
    if share > 1:
        yield f"dissipation differs from the change in E by {_percent(share)}"
    elif share > _MOST:
        yield f"{_percent(share)} of the change in E is not explained by dissipation"
    share = _over(found.at_switches, found.descent)
    if share > _MOST_AT_SWITCHES:
        yield (
            f"dissipation differs from the change in E by {_percent(share)} in the {found.switched:.0f} of "
            f"{found.steps:.0f} steps with order switches, more than jumps of E account for"
        )


def _rises(found: EnergyBalance) -> Iterator[str]:
    if found.rises:
        yield (
            f"E rose in {found.rises:.0f} of {found.steps:.0f} steps (by up to {found.rise:.2g}, at "
            f"s = {found.rise_s:.4g})"
        )


def _advice(trajectory: Trajectory, found: EnergyBalance) -> str:
    """Step length, or whatever else sets it, to try."""
    flow, depth = trajectory.parameters["flow"], trajectory.parameters["energy"].get("depth", {})
    if isinstance(depth, dict) and depth.get("shape") == "hat":
        return "the hat function has no gradient flow, try depth.shape = 'spline'"
    rule: Any = flow.get("step", 0.0)
    rule = rule if isinstance(rule, dict) else {"name": "constant", "length": rule}
    factor = step_factor(found, min(INTEGRATORS.get(flow.get("integrator", ""), EULER).order, 2))
    if rule.get("name") == "adaptive":
        scale = max(factor**2, 0.1)  # the defect falls in proportion to both
        return f"try flow.rtol = {_digit(scale * rule['rtol']):g} and flow.atol = {_digit(scale * rule['atol']):g}"
    constant = rule.get("name") == "constant"
    h = float(rule["length"] if constant else trajectory.series("s")[-1] / max(1, trajectory.series("step")[-1]))
    if not 0 < h < math.inf:  # a file of frames that no flow of wgflow made
        return "try shorter steps"
    table = trajectory.parameters["study"].get("flow", {})
    said = f"flow.step = {suggested_step(h, factor, _times(table)):.12g}"
    said = f"try {said}" if constant else f"try flow.rule = 'constant' with {said}"
    reflects = flow.get("boundary") == "reflect"
    return said + ", or flow.boundary = 'clip', since particles bounce off a reflecting end" * reflects


def step_factor(found: EnergyBalance, order: int) -> float:
    """Factor by which to shorten steps, 0.1 to 0.5.

    The defect falls like h**order, so (1% / defect)**(1 / order) brings it to about 1%; where E rose steps are too long
    for that law, and a quarter of them is the next to try.
    """
    if found.rises or not found.relative > _MOST:
        return 0.25
    return min(max(math.pow(_AIM / found.relative, 1 / order), 0.1), 0.5)


def suggested_step(h: float, factor: float, times: Sequence[float] = ()) -> float:
    """Step length of about ``factor`` h, <= 1, of one digit, of which all times between frames are whole numbers.

    Where there is no such length within a factor of 10 it is h divided by a whole number, of which they all are if they
    are multiples of h.

    Parameters
    ----------
    h, factor : float
        Step length so far, > 0, and what to multiply it by.
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
    """Flow times that have to be whole numbers of steps, from a study's table."""
    every = flow.get("every")
    if isinstance(every, dict):
        every = every.get("s")
    times = every if isinstance(every, list) else [every]
    return [float(time) for time in (flow.get("until"), *times) if time]


def _whole(ratio: float) -> bool:
    return abs(ratio - round(ratio)) < 1e-9 * max(1.0, ratio)


def _digit(number: float) -> float:
    """Largest number of one digit that is not above a positive one."""
    digit, exponent = _split(number)
    return float(f"{digit}e{exponent}")


def _split(number: float) -> tuple[int, int]:
    """First digit of a positive number and its power of ten."""
    exponent = math.floor(math.log10(number) + 1e-12)
    return max(1, math.floor(number / 10.0**exponent + 1e-9)), exponent


def _size(found: EnergyBalance) -> float:
    """How far a run is from the gradient flow, to put the worst in front."""
    parts = (found.defect, found.at_switches / _MOST_AT_SWITCHES, found.risen)
    return max(_over(part, found.descent) for part in parts if not math.isnan(part))


def _over(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%" if share < 1 else f"{100 * share:.0f}%" if share < 100 else f"{share:.2g} times it"
