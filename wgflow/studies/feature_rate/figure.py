"""Rates at which gradient descent approaches the neural feature flow in width and learning rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wgflow.report import style
from wgflow.report.figure import Result, figure
from wgflow.report.wording import interval
from wgflow.stats.convergence_rates import Estimate
from wgflow.studies.feature_rate.reduce import Gaps, gaps, rows
from wgflow.studies.feature_rate.requires import VARIED, networks, references
from wgflow.studies.requirements import observes, only_varies


@figure(
    "feature_rate", gaps, system="neural_feature_flow", particles=False,
    needs=(observes("units", "outputs"), only_varies(*VARIED), networks, references),
)  # fmt: skip
def feature_rate(found: list[Gaps]) -> Result:
    """Distance of gradient descent to the flow against m and against the learning rate, with exponents."""
    caption = (
        "At the last flow time, root mean squares over seeds with 95% intervals. Left: gradient descent on m units "
        "from minimum-norm weights against the flow of a larger ensemble of ideal particles whose first units have the "
        "same v_1 and the same Gaussian numbers; lines: C m^-r. Middle: the largest distance of a feature over units "
        "and points, with the envelope sqrt(log m / m). Right: gradient descent against the flow of the same m units, "
        "by learning rate. Theory (Fang, Lee, Yang and Zhang 2021, Theorems 6 and 7): O(m^-1/2 + eta) up to "
        "logarithms."
    )
    return Result(_rates_said(found), caption, lambda: _draw_rates(found), {"feature_rate": list(rows(found))})


def _rates_said(found: Sequence[Gaps]) -> str:
    last = found[-1]
    units = last.by_units | {name: one for name, one in found[0].by_units.items() if name == "epsilon"}
    units = {"epsilon_1 at the start" if name == "epsilon" else name: one for name, one in units.items()}
    text = f"At s = {last.s:g} gradient descent {_nears(units, 'm^-')}"
    if last.by_rate:
        text += f"; at m = {last.m} it {_nears(last.by_rate, 'eta^')}"
    least = float(np.min([each.eigenvalue for each in found]))
    if not np.isfinite(least):
        return f"{text}."
    return f"{text}. No layer's Gram matrix has an eigenvalue below {least:.2g}."


def _nears(found: dict[str, Estimate], letter: str) -> str:
    """Quantities in which descent approaches the flow with a rate, and those without one."""
    near = [f"{name} like {letter}{interval(*one.rate[:3])}" for name, one in found.items() if one.rate]
    rest = [f"{name} ({one.rate.reason})" for name, one in found.items() if not one.rate]
    said = [f"nears the flow in {', '.join(near)}"] if near else []
    said += (
        [
            f"at no fitted rate in {', '.join(rest)}"
            if near
            else f"nears the flow at no fitted rate in {', '.join(rest)}"
        ]
        if rest
        else []
    )
    return ", ".join(said)


@style.styled
def _draw_rates(found: Sequence[Gaps]) -> Figure:
    figure, (left, middle, right) = style.panels(3, width=4.9, height=4.0)
    last = found[-1]
    _powers(left, last.by_units, "units of a layer $m$", 0.5, "$m^{-1/2}$")
    left.set_title("More units: nearer to the flow as $m^{-1/2}$?")
    sizes = np.array(next(iter(last.by_units.values())).sizes, float)
    middle.plot(sizes, last.largest, "o", color=style.COLOURS[2], ms=5)
    envelope = np.sqrt(np.log(sizes) / sizes)
    if (last.largest > 0).all():
        scale = np.exp(np.mean(np.log(last.largest / envelope)))
        middle.plot(sizes, scale * envelope, color=style.GREY, lw=1.2, ls=(0, (4, 3)))
    style.log_ticks(middle)
    style.particle_axis(middle, [int(size) for size in sizes], "units of a layer $m$")
    middle.set(ylabel="largest distance of a feature")
    middle.set_title(r"Even the farthest, like $\sqrt{\log m/m}$?")
    if last.by_rate:
        _powers(right, last.by_rate, r"1 / learning rate $\eta$", 1.0, r"$\eta$")
        right.set_title(r"Smaller steps: nearer as $\eta$?")
    else:
        style.empty_panel(right, "no members with other steps")
    return figure


def _powers(axes: Axes, found: dict[str, Estimate], label: str, power: float, guide: str) -> None:
    """Distances of several quantities with intervals, fitted powers, and the theoretical one in grey."""
    for k, (name, one) in enumerate(found.items()):
        n, colour = np.array(one.sizes, float), style.COLOURS[k]
        bars = [np.clip(np.nan_to_num(one.value - one.low), 0, 0.95 * one.value), np.nan_to_num(one.high - one.value)]
        text = f"{name}: {one.rate.exponent:.2f}" if one.rate else f"{name}: no rate"
        axes.errorbar(n, one.value, bars, fmt="o", color=colour, ms=4.5, lw=1.0, capsize=2.5, label=text)
        if one.rate:
            axes.plot(n, one.rate.constant * n**-one.rate.exponent, color=colour, lw=1.2)
    first = next(iter(found.values()))
    n = np.array(first.sizes, float)
    axes.plot(n, 1.6 * first.value[0] * (n / n[0]) ** -power, color=style.GREY, lw=1.1, ls=(0, (4, 3)), label=guide)
    style.log_ticks(axes)
    style.particle_axis(axes, first.sizes, label)
    axes.set_ylabel("rms distance")
    axes.legend(fontsize=9.5, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16), columnspacing=1.0)
