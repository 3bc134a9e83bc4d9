"""The neural feature flow compared with gradient descent: losses, constraint defect, spread of units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wgflow.report import style
from wgflow.report.figure import Result, figure
from wgflow.report.series_change import change
from wgflow.report.wording import number
from wgflow.studies.feature_flow.reduce import STRENGTH, Bounded, FlowAndDescent, Run, feature_flow, row, together
from wgflow.studies.requirements import observes, only_varies
from wgflow.systems.neural_feature_flow.network import KIND_NAMES

_DASH = {"resnet": "-", "dnn": (0, (4, 2))}


@figure(
    "feature_flow", feature_flow, system="neural_feature_flow", particles=False,
    needs=(
        observes("defect", "loss_of_weights", "unit_spread"),
        only_varies("network.kind", "particles.count", "network.method", "record", "flow.integrator", "flow.step"),
    ),
)  # fmt: skip
def flow_and_descent(reduced: FlowAndDescent) -> Result:
    """Loss along s by gradient descent and by the flow, the flow's constraint defect, and the spread of units."""
    found = reduced.runs
    if not found:
        return Result("No network has two frames.", "", lambda: style.empty_panel(style.panels(1)[1][0], "no frames"))
    caption = (
        "Left: mean loss along flow time; lines: scaled gradient descent, circles: the neural feature flow as a "
        "particle system of weights and features with states of their own; one colour for each m, Res-Net solid, DNN "
        "dashed. Middle: how far the flow's features are from those its weights give (largest over units and points). "
        "Right: largest difference of two units' features in each layer of the widest network. Fang, Lee, Yang and "
        "Zhang (2021), Algorithms 1 and 3, Definition 2."
    )
    said, table = _said(found) + _bounds_said(reduced.bounded), [row(run) for run in found]
    return Result(said, caption, lambda: _draw(found), {"feature_flow": table})


def _how_resolved(flow: Run) -> str:
    until, least = flow.resolved, flow.spread.min(axis=1)
    share = float(np.max(flow.defect / np.where(least > 0, least, np.inf)))
    if until < flow.s[-1] or not (least > 0).all():
        if not until > flow.s[0]:
            return "the flow not being resolved"
        where = "where its features leave its weights (smaller steps go on)"
        return f"the flow being resolved until s = {until:g} only, {where}"
    return f"the flow's features staying those of its weights within {share:.1g} of the units' spread"


def _bounds_said(found: Sequence[Bounded]) -> str:
    return "".join(
        f" On its own features the {KIND_NAMES[net.kind]} of m = {net.units} is at most {number(net.gap[0])} "
        f"above the convex optimum at the start and at most {number(net.gap[1])} at the end (regularisers of strength "
        f"{STRENGTH:g})."
        for net in found
    )


def _said(found: Sequence[Run]) -> str:
    out = []
    for kind in dict.fromkeys(run.kind for run in found):
        largest = max(run.units for run in found if run.kind == kind)
        same = {run.method: run for run in found if (run.kind, run.units) == (kind, largest)}
        one = same.get("descent", next(iter(same.values())))
        text = (
            f"With m = {largest} the {KIND_NAMES[kind]}'s loss {change(one.s, one.energy, one.diverged)} "
            f"by s = {one.s[-1]:g}" + (f" (held out: {one.heldout:.2g})" if np.isfinite(one.heldout) else "")
        )
        if {"descent", "flow"} <= set(same):
            until = together(one.s, same["descent"].energy, same["flow"].energy)
            near = "differ by more than a fifth from the start"
            if until is not None:
                near = f"stay within a fifth of each other until s = {until:g}"
            text += f", {_how_resolved(same['flow'])}; gradient descent and the flow {near}"
        out.append(text + ".")
    return " ".join(out)


def _draw(found: Sequence[Run]) -> Figure:
    figure, (left, middle, right) = style.panels(3, width=4.9, height=4.0)
    sizes = sorted({run.units for run in found})
    colour = {size: style.COLOURS[k % len(style.COLOURS)] for k, size in enumerate(sizes)}
    for run in found:
        shade, dash = colour[run.units], _DASH[run.kind]
        if run.method == "descent":
            left.plot(run.s, run.energy, ls=dash, color=shade, lw=1.4)
        else:
            thin = max(1, len(run.s) // 12)
            left.plot(run.s[::thin], run.energy[::thin], "o", color=shade, ms=4, mfc="none")
            middle.plot(run.s[1:], np.maximum(run.defect[1:], 1e-16), ls=dash, color=shade, lw=1.4)
    widest = [run for run in found if run.units == sizes[-1] and run.method == "descent"] or found[-1:]
    layers = style.sequential_colours(widest[0].spread.shape[1])
    for run in widest:
        for k, shade in enumerate(layers):
            right.plot(run.s, run.spread[:, k], color=shade, ls=_DASH[run.kind], lw=1.4)
    left.set(xlabel="flow time $s$", ylabel="mean loss", yscale="log")
    middle.set(xlabel="flow time $s$", ylabel="constraint defect", yscale="log")
    right.set(xlabel="flow time $s$", ylabel="largest difference of two units", ylim=(0, None))
    left.set_title("Does gradient descent follow the flow?")
    middle.set_title("Do the flow's features stay their weights'?")
    right.set_title(f"Do units stay apart (m = {widest[0].units})?")
    keys = [Line2D([], [], color=colour[size], label=f"m = {size}") for size in sizes]
    for kind in dict.fromkeys(run.kind for run in found):
        keys.append(Line2D([], [], color=style.GREY, ls=_DASH[kind], label=KIND_NAMES[kind]))
    keys.append(Line2D([], [], color=style.GREY, marker="o", mfc="none", ls="", label="the flow"))
    left.legend(handles=keys, fontsize=9.5)
    keys = [Line2D([], [], color=shade, label=f"layer {k + 2}") for k, shade in enumerate(layers)]
    right.legend(handles=keys, fontsize=9.5)
    return figure
