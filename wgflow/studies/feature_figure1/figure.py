"""Loss along t for a scan of the unprinted constants, beside the values read off the paper's Figure 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wgflow.base.verdict import Claim, Verdict
from wgflow.report import style
from wgflow.report.figure import Plan, Result, TableText, figure
from wgflow.report.wording import number, span
from wgflow.studies.feature_figure1.reduce import (
    ACCURACY,
    FIGURE_1,
    Compared,
    Run,
    compared,
    factors,
    losses,
    nearest,
    rows,
    runs,
)  # fmt: skip
from wgflow.studies.requirements import only_varies, unmet
from wgflow.study.tables import NetworkTable, SineTable
from wgflow.systems.neural_feature_flow.network import KIND_NAMES

_VARIED = (
    "network.kind", "particles.count", "network.sigma", "network.outer", "network.last", "flow.step", "seed",
    "problem.seed",
)  # fmt: skip
_ALGORITHM = {"dnn": "Algorithm 3", "resnet": "Algorithm 1"}
_DASH = (0, (4, 2))
_BELOW: dict[str, Any] = {
    "ncols": 2,
    "loc": "upper center",
    "bbox_to_anchor": (0.5, -0.16),
    "columnspacing": 1.0,
}
_MARKS = {30: "o", 1000: "D"}  # of the values read off

IN_RANGE = Claim(
    "figure1_in_range", "factor by which it lies outside", "<=", "accuracy of reading it off",
    holds="Figure 1's {value:g} at m = {printed}, t = {t:g} lies within the {kind}'s losses at m = {m}, {losses}",
    fails="Figure 1's {value:g} at m = {printed}, t = {t:g} does not lie within the {kind}'s losses at m = {m}, "
    "{losses}",
    unknown="no {kind} of m = {m} has a loss at t = {t:g} to compare with Figure 1's {value:g} at m = {printed}",
)  # fmt: skip
ONE_SETTING = Claim(
    "figure1_one_setting", "largest factor between its losses and the figure's", "<=", "accuracy of reading them off",
    holds="one setting gives the {kind} all values of Figure 1 at {sizes}: {setting}",
    fails="no setting of the scan gives the {kind} all values of Figure 1 at {sizes}; {setting} comes nearest, off by "
    "a factor of up to {left:.2g}",
    unknown="no setting of the {kind} has losses at all times of Figure 1's values",
)  # fmt: skip
RATE_DECIDES = Claim(
    "figure1_rate_decides", "largest factor between learning rates at one start", ">",
    "largest factor between starts at one learning rate",
    holds="of what the paper does not print, η changes the last loss of the {kind} of m = {m} more than σ₁ and the "
    "last layer do",
    fails="of what the paper does not print, σ₁ and the last layer change the last loss of the {kind} of m = {m} at "
    "least as much as η does",
    unknown="no last losses of the {kind} of m = {m} differ in η alone, or none in σ₁ and the last layer alone",
)  # fmt: skip


def protocol(plan: Plan) -> None:
    """The experiment of Figure 1: its data, loss and algorithm."""
    for member in (planned.member for planned in plan.members):
        data, table = member.problem, member.network or NetworkTable()
        if not isinstance(data, SineTable) or data.spacing != "random" or data.standardise or data.loss != "squared":
            expected = "the sine with spacing = random, standardise = false and the squared loss"
            raise unmet(plan.figure, "problem", expected, "another")
        if table.method != "descent" or table.start != "minimum_norm" or member.flow.integrator != "euler":
            raise unmet(plan.figure, "network", "descent by euler from minimum_norm weights", "another")


@figure(
    "feature_figure1",
    runs,
    system="neural_feature_flow",
    particles=False,
    needs=(only_varies(*_VARIED), protocol),
    tables={"feature_figure1": TableText("Losses, run by run")},
)
def figure_1(found: list[Run]) -> Result:
    """Loss along t of DNN and Res-Net over a scan of sigma_1, C_3 and eta, and what the paper's Figure 1 shows."""
    if not found:
        return Result("No network has two frames.", "", lambda: style.empty_panel(style.panels(1)[1][0], "no frames"))
    beside = compared(found)
    verdicts = said(found, beside)
    caption = (
        "Left and middle: (1/N) Σ |y′ − y|² along t = kη of scaled gradient descent, a line for each setting of σ₁, C₃ "
        "and η; coloured by η; full: the widest, dashed: smaller m. Right: median over 900 ≤ t ≤ 1000, by η. Black "
        "marks and lines: values read off Figure 1 of Fang, Lee, Yang and Zhang (2021), circle m = 30, diamonds "
        f"m = 1000, within a factor of {ACCURACY:g}; σ₁, C₃ and η are not printed there."
    )
    return Result(_finding(found, verdicts), caption, lambda: _draw(found), {"feature_figure1": list(rows(found))},
                  verdicts)  # fmt: skip


def said(found: Sequence[Run], beside: Sequence[Compared]) -> list[Verdict]:
    """Verdicts for each kind of network: every value of the figure, all of them together, and what decides the end."""
    verdicts, end = [], max(value.t for value in FIGURE_1)
    for kind in dict.fromkeys(one.kind for one in beside):
        own, name = [one for one in beside if one.kind == kind], KIND_NAMES[kind]
        for one in own:
            values = one.losses.values()
            text = span(values)
            where = {"kind": name, "m": one.units, "printed": one.figure.units, "t": one.figure.t}
            verdicts.append(IN_RANGE(one.outside, ACCURACY, value=one.figure.loss, losses=text, **where))
        setting, factor = nearest(own)
        sizes = " and ".join(
            f"m = {one.units}" + (f" (for {one.figure.units})" if one.units != one.figure.units else "")
            for one in {value.figure.units: value for value in own}.values()
        )
        verdicts.append(ONE_SETTING(factor, ACCURACY, kind=name, setting=setting, sizes=sizes))
        widest = max(one.units for one in own)
        ends = losses(found, kind, widest, end)
        verdicts.append(RATE_DECIDES(*factors(ends), kind=name, m=widest))
    return verdicts


def _finding(found: Sequence[Run], verdicts: Sequence[Verdict]) -> str:
    """All sentences on the first kind of network, and whether one setting gives the others the figure's values."""
    first = len(verdicts) // len({run.kind for run in found})
    rest = [one for one in verdicts[first:] if one.inequalities[0].claim == ONE_SETTING.name]
    text = " ".join(f"{one.sentence[0].upper()}{one.sentence[1:]}." for one in [*verdicts[:first], *rest])
    lost = sum(run.diverged for run in found)
    return text + (f" {lost} of {len(found)} runs diverged." if lost else "")


def _draw(found: Sequence[Run]) -> Figure:
    drawing, (left, middle, right) = style.panels(3, width=4.9, height=4.2)
    rates = sorted({run.setting.eta for run in found})
    colours = dict(zip(rates, style.sequential_colours(len(rates)), strict=True))
    sizes = sorted({run.units for run in found})
    for axes, kind in ((left, "dnn"), (middle, "resnet")):
        own = [run for run in found if run.kind == kind]
        if not own:
            style.empty_panel(axes, f"no {KIND_NAMES[kind]}")
            continue
        for run in own:
            dash = "-" if run.units == sizes[-1] else _DASH
            axes.plot(run.t, run.loss, ls=dash, color=colours[run.setting.eta], lw=0.9, alpha=0.8)
        _read_off(axes)
        axes.set(xlabel="time $t = k\\eta$", ylabel="mean of $|y' - y|^2$", yscale="log")
        axes.set_title(f"{KIND_NAMES[kind]} ({_ALGORITHM[kind]})")
    bounds = [bound for axes in (left, middle) if axes.lines for bound in axes.get_ylim()]
    rated = [Line2D([], [], color=colours[eta], label=rf"$\eta$ = {eta:g}") for eta in rates]
    drawn = [
        Line2D([], [], color=style.GREY, ls="-" if size == sizes[-1] else _DASH, label=f"m = {size}") for size in sizes
    ]
    drawn += [
        Line2D([], [], color="black", marker=mark, ls="", mfc="none", label=f"read off, m = {units}")
        for units, mark in _MARKS.items()
    ]
    for axes, keys in ((left, rated), (middle, drawn)):
        axes.set_ylim(min(bounds), max(bounds))
        axes.legend(handles=keys, fontsize=9, **_BELOW)
    _ends(right, found, sizes)
    return drawing


def _read_off(axes: Axes) -> None:
    """Values of the paper's figure, with the accuracy of reading them off."""
    for value in FIGURE_1:
        bars = [[value.loss * (1 - 1 / ACCURACY)], [value.loss * (ACCURACY - 1)]]
        axes.errorbar([value.t], [value.loss], bars, fmt=_MARKS[value.units], color="black", mfc="none", ms=6, zorder=5)


def _ends(axes: Axes, found: Sequence[Run], sizes: Sequence[int]) -> None:
    """Last losses against the learning rate, one mark a run."""
    end = max(value.t for value in FIGURE_1)
    if not any(run.at(end) > 0 for run in found):
        style.empty_panel(axes, f"no run reaches t = {end:g}")
        return
    for run in found:
        colour = style.COLOURS[list(KIND_NAMES).index(run.kind)]
        filled = colour if run.units == sizes[-1] else "none"
        axes.plot([run.setting.eta], [run.at(end)], "o", color=colour, mfc=filled, ms=5, alpha=0.8)
    for value in FIGURE_1:
        if value.t == end:
            axes.axhline(value.loss, color="black", lw=0.9, ls=":")
            text = f"read off, m = {value.units}"
            axes.annotate(text, (0.02, value.loss), (0, 2), axes.get_yaxis_transform(), "offset points", fontsize=8.5)
    axes.set(xlabel=r"learning rate $\eta$", ylabel=f"median loss up to $t$ = {number(end, 'g')}", xscale="log",
             yscale="log")  # fmt: skip
    rates = sorted({run.setting.eta for run in found})
    axes.set_xticks(rates, [f"{eta:g}" for eta in rates])
    axes.minorticks_off()
    axes.set_title("Last loss by learning rate")
    keys = [
        Line2D([], [], color=style.COLOURS[k], marker="o", ls="", label=name)
        for k, name in enumerate(KIND_NAMES.values())
    ]
    keys += [
        Line2D([], [], color=style.GREY, marker="o", ls="", mfc=style.GREY if size == sizes[-1] else "none",
               label=f"m = {size}")
        for size in sizes
    ]  # fmt: skip
    axes.legend(handles=keys, fontsize=9, **_BELOW)
