"""The neural feature flow compared with gradient descent: losses, constraint defect, spread of units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wgflow.base.verdict import Claim, Verdict
from wgflow.report import style
from wgflow.report.figure import Result, as_sentence, figure
from wgflow.report.series_change import change, courses
from wgflow.report.wording import number
from wgflow.studies.feature_flow.reduce import (
    DETACHED,
    STRENGTH,
    Bounded,
    FlowAndDescent,
    Run,
    apart,
    feature_flow,
    row,
)  # fmt: skip
from wgflow.studies.requirements import observes, only_varies
from wgflow.systems.neural_feature_flow.network import KIND_NAMES

_DASH = {"resnet": "-", "dnn": (0, (4, 2))}
_NEAR = 0.2  # of the smaller of two losses

RESOLVED = Claim(
    "flow_resolved", "largest distance of its features from those of its weights, over the units' spread", "<=", "",
    holds="the flow of the {kind} of m = {units} is resolved: its features stay those of its weights within {left:.1g} "
    "of the units' spread",
    fails="the flow of the {kind} of m = {units} is resolved {until}, where its features leave its weights (smaller "
    "steps go on)",
    unknown="whether the flow of the {kind} of m = {units} is resolved is not known",
)  # fmt: skip
TOGETHER = Claim(
    "descent_follows_flow", "largest difference of the two losses over the smaller", "<=", "",
    holds="gradient descent and the flow stay within a fifth of each other until s = {until}, the end",
    fails="gradient descent and the flow {until}",
    unknown="gradient descent and the flow have no common frame",
)  # fmt: skip
NEARER = Claim(
    "convex_gap_shrinks", "bound of the gap at the end", "<", "at the start",
    holds="on its own features the {kind} of m = {units} comes nearer to the convex optimum: it is at most {first} "
    "above it at the start and at most {last} at the end (regularisers of strength {strength:g})",
    fails="on its own features the {kind} of m = {units} comes no nearer to the convex optimum: it is at most {first} "
    "above it at the start and at most {last} at the end (regularisers of strength {strength:g})",
    unknown="how far the {kind} of m = {units} is from the convex optimum on its own features is not known",
)  # fmt: skip


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
    table, resolved, said = [row(run) for run in found], [], []
    for kind in dict.fromkeys(run.kind for run in found):
        one, flow = _widest(found, kind)
        said.append(verdicts(one, flow))
        resolved += [is_resolved(flow)] if flow else []
    said.append([nearer(net) for net in reduced.bounded])
    every = [verdict for part in said for verdict in part]
    return Result(_said(found, said), caption, lambda: _draw(found), {"feature_flow": table}, every, resolved)


def _widest(found: Sequence[Run], kind: str) -> tuple[Run, Run | None]:
    """Networks of a kind with the most units: by descent if there is one, and by the flow if both are there."""
    largest = max(run.units for run in found if run.kind == kind)
    same = {run.method: run for run in found if (run.kind, run.units) == (kind, largest)}
    one = same.get("descent", next(iter(same.values())))
    return one, same["flow"] if {"descent", "flow"} <= set(same) else None


def is_resolved(flow: Run) -> Verdict:
    """Whether the features of a flow stay those of its weights, up to the end."""
    least, until = flow.spread.min(axis=1), flow.resolved
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(least > 0, flow.defect / least, np.inf)
    when = f"until s = {until:g} only" if until > flow.s[0] else "at no time"
    worst = float(np.where(np.isnan(ratio), np.inf, ratio).max())
    return RESOLVED(worst, DETACHED, kind=KIND_NAMES[flow.kind], units=flow.units, until=when)


def verdicts(one: Run, flow: Run | None) -> list[Verdict]:
    """What the loss of a network does, and whether gradient descent and the flow stay together."""
    subject = f"with m = {one.units} the {KIND_NAMES[one.kind]}'s loss"
    out = courses(subject, [change(one.s, one.energy, one.diverged)])
    if flow is None:
        return out
    difference = apart(one.energy, flow.energy)
    near = np.flatnonzero(difference > _NEAR)
    until = f"{one.s[len(difference) - 1]:g}"
    if len(near):
        until = "differ by more than a fifth from the start"
        if near[0]:
            until = f"stay within a fifth of each other until s = {one.s[near[0] - 1]:g} only"
    return [*out, TOGETHER(float(difference.max(initial=0.0)), _NEAR, until=until)]


def nearer(net: Bounded) -> Verdict:
    """Whether a network comes nearer to the optimum over its own features."""
    first, last = (number(gap) for gap in net.gap)
    about = {"kind": KIND_NAMES[net.kind], "units": net.units, "strength": STRENGTH, "first": first, "last": last}
    return NEARER(float(net.gap[1]), float(net.gap[0]), **about)


def _said(found: Sequence[Run], said: Sequence[Sequence[Verdict]]) -> str:
    out = []
    for kind, (went, *follows) in zip(dict.fromkeys(run.kind for run in found), said, strict=False):
        one, _ = _widest(found, kind)
        heldout = f" (held out: {one.heldout:.2g})" if np.isfinite(one.heldout) else ""
        text = "; ".join([f"{went.sentence} by s = {one.s[-1]:g}{heldout}", *(each.sentence for each in follows)])
        out.append(f"{text[:1].upper()}{text[1:]}.")
    return " ".join([*out, *map(as_sentence, said[-1])])


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
