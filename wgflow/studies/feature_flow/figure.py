"""Networks of features: the flow beside gradient descent, its rates, and how far apart units stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wgflow.base.types import Array, Spec
from wgflow.report import style
from wgflow.report.figure import Drawing
from wgflow.report.member_selection import diverged, particle_count
from wgflow.report.series_change import change
from wgflow.report.wording import interval, number
from wgflow.stats.convergence_rates import Estimate
from wgflow.studies.feature_flow import reduce as features
from wgflow.studies.feature_flow.reduce import Gaps, Spread
from wgflow.study.workspace import Workspace
from wgflow.trajectory import Trajectory

_NAMES = {"resnet": "Res-Net", "dnn": "DNN"}
_STARTS = {"standard": "weights of variance 1", "minimum_norm": "minimum-norm weights", "ideal": "ideal particles"}
_DETACHED = 0.02  # defect over spread of units from which on the flow counts as not resolved
_DASH = {"resnet": "-", "dnn": (0, (4, 2))}


class _Course(NamedTuple):
    kind: str
    units: int
    method: str
    s: Array
    energy: Array
    defect: Array
    spread: Array  # (F, L - 1)
    weights: Array  # (F,), loss of the network that the weights make
    heldout: float  # loss on held-out samples at the end; NaN without any
    diverged: bool = False


def courses(work: Workspace) -> Drawing:
    """Loss along s by gradient descent and by the flow, the flow's constraint defect, and the spread of units."""
    found = _courses(work)
    if not found:
        return Drawing("No network has two frames.", "", lambda: style.empty_panel(style.panels(1)[1][0], "no frames"))
    caption = (
        "Left: mean loss along flow time; lines: scaled gradient descent, circles: the neural feature flow as a "
        "particle system of weights and features with states of their own; one colour for each m, Res-Net solid, DNN "
        "dashed. Middle: how far the flow's features are from those its weights give (largest over units and points). "
        "Right: largest difference of two units' features in each layer of the widest network. Fang, Lee, Yang and "
        "Zhang (2021), Algorithms 1 and 3, Definition 2."
    )
    said, table = _said(found) + _bounds_said(features.bounded(work)), [_row(each) for each in found]
    return Drawing(said, caption, lambda: _draw_courses(found), {"feature_flow": table})


def _courses(work: Workspace) -> list[_Course]:
    """Members of a run with two frames."""
    found = []
    for member in work.members():
        with Trajectory(member.path) as trajectory:
            table = trajectory.parameters["study"]["network"]
            series = [trajectory.series(name) for name in ("s", "energy", "defect", "unit_spread", "loss_of_weights")]
            if len(series[0]) > 1:
                held = float(trajectory.series("heldout")[-1]) if "heldout" in trajectory.observables else np.nan
                about = (table["kind"], particle_count(trajectory), table["method"])
                s, energy, defect, spread, weights = series
                found.append(_Course(*about, s, energy, defect, spread, weights, held, diverged(trajectory)))
    return found


def _resolved(course: _Course) -> float:
    """Flow time up to which features are those of their weights: a defect below 2% of the units' spread."""
    off = ~(course.defect <= _DETACHED * course.spread.min(axis=1))  # what is no number is not resolved
    return float(course.s[max(0, int(np.argmax(off)) - 1)] if off.any() else course.s[-1])


def _how_resolved(flow: _Course) -> str:
    until, least = _resolved(flow), flow.spread.min(axis=1)
    share = float(np.max(flow.defect / np.where(least > 0, least, np.inf)))
    if until < flow.s[-1] or not (least > 0).all():
        where = "where its features leave its weights (smaller steps go on)"
        return (
            f"the flow being resolved until s = {until:g} only, {where}"
            if until > flow.s[0]
            else "the flow not being resolved"
        )
    return f"the flow's features staying those of its weights within {share:.1g} of the units' spread"


def _bounds_said(found: Sequence[features.Bounded]) -> str:
    return "".join(
        f" On its own features the {_NAMES[each.kind]} of m = {each.units} is {number(each.gap[0])} above the convex "
        f"optimum at the start and {number(each.gap[1])} at the end (regularisers of strength {features.STRENGTH:g})."
        for each in found
    )


def _row(course: _Course) -> Spec:
    return {
        "kind": course.kind, "m": course.units, "method": course.method, "s": float(course.s[-1]),
        "loss_first": float(course.energy[0]), "loss_last": float(course.energy[-1]),
        "loss_of_weights_last": float(course.weights[-1]), "defect_largest": float(course.defect.max()),
        "resolved_until": _resolved(course), "spread_least": float(course.spread[-1].min()),
    }  # fmt: skip


def _said(found: Sequence[_Course]) -> str:
    out = []
    for kind in dict.fromkeys(each.kind for each in found):
        largest = max(each.units for each in found if each.kind == kind)
        same = {each.method: each for each in found if (each.kind, each.units) == (kind, largest)}
        one = same.get("descent", next(iter(same.values())))
        text = (
            f"With m = {largest} the {_NAMES[kind]}'s loss {change(one.s, one.energy, one.diverged)} "
            f"by s = {one.s[-1]:g}" + (f" (held out: {one.heldout:.2g})" if np.isfinite(one.heldout) else "")
        )
        if {"descent", "flow"} <= set(same):
            text += f", {_how_resolved(same['flow'])}; gradient descent and the flow {_near(one.s, same)}"
        out.append(text + ".")
    return " ".join(out)


def _near(s: Array, same: dict[str, _Course]) -> str:
    """Until when the losses of descent and of the flow are alike."""
    descent, flow = same["descent"].energy, same["flow"].energy
    until = features.together(s, descent, flow)
    if until is None:
        return "differ by more than a fifth from the start"
    return f"stay within a fifth of each other until s = {until:g}"


@style.styled
def _draw_courses(found: Sequence[_Course]) -> Figure:
    figure, (left, middle, right) = style.panels(3, width=4.9, height=4.0)
    sizes = sorted({each.units for each in found})
    colour = {size: style.COLOURS[k % len(style.COLOURS)] for k, size in enumerate(sizes)}
    for each in found:
        shade, dash = colour[each.units], _DASH[each.kind]
        if each.method == "descent":
            left.plot(each.s, each.energy, ls=dash, color=shade, lw=1.4)
        else:
            thin = max(1, len(each.s) // 12)
            left.plot(each.s[::thin], each.energy[::thin], "o", color=shade, ms=4, mfc="none")
            middle.plot(each.s[1:], np.maximum(each.defect[1:], 1e-16), ls=dash, color=shade, lw=1.4)
    widest = [each for each in found if each.units == sizes[-1] and each.method == "descent"] or found[-1:]
    layers = style.sequence(widest[0].spread.shape[1])
    for each in widest:
        for k, shade in enumerate(layers):
            right.plot(each.s, each.spread[:, k], color=shade, ls=_DASH[each.kind], lw=1.4)
    left.set(xlabel="flow time $s$", ylabel="mean loss", yscale="log")
    middle.set(xlabel="flow time $s$", ylabel="constraint defect", yscale="log")
    right.set(xlabel="flow time $s$", ylabel="largest difference of two units", ylim=(0, None))
    left.set_title("Does gradient descent follow the flow?")
    middle.set_title("Do the flow's features stay their weights'?")
    right.set_title(f"Do units stay apart (m = {widest[0].units})?")
    kinds = [
        Line2D([], [], color=style.GREY, ls=_DASH[kind], label=_NAMES[kind])
        for kind in dict.fromkeys(each.kind for each in found)
    ]
    left.legend(
        handles=[
            *(Line2D([], [], color=colour[size], label=f"m = {size}") for size in sizes),
            *kinds,
            Line2D([], [], color=style.GREY, marker="o", mfc="none", ls="", label="the flow"),
        ],
        fontsize=9.5,
    )
    right.legend(
        handles=[Line2D([], [], color=shade, label=f"layer {k + 2}") for k, shade in enumerate(layers)], fontsize=9.5
    )
    return figure


def rate(work: Workspace) -> Drawing:
    """Distance of gradient descent to the flow against m and against the learning rate, with exponents."""
    found = features.gaps(work)
    caption = (
        "At the last flow time, root mean squares over seeds with 95% intervals. Left: gradient descent on m units "
        "from minimum-norm weights against the flow of a larger cloud of ideal particles whose first units have the "
        "same v_1 and the same Gaussian numbers; lines: C m^-r. Middle: the largest distance of a feature over units "
        "and points, with the envelope sqrt(log m / m). Right: gradient descent against the flow of the same m units, "
        "by learning rate. Theory (Fang, Lee, Yang and Zhang 2021, Theorems 6 and 7): O(m^-1/2 + eta) up to "
        "logarithms."
    )
    return Drawing(
        _rates_said(found), caption, lambda: _draw_rates(found), {"feature_rate": list(features.rows(found))}
    )


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
    """In which quantities descent nears the flow, and in which no rate was found."""
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
    """Distances of several quantities with intervals and fitted powers, and theory's in grey."""
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


def degeneracy(work: Workspace) -> Drawing:
    """Largest difference of two units' features against m, layer by layer, for two starts."""
    found = features.spreads(work)
    caption = (
        "Largest difference of two units' features over units and training points, mean over seeds, layer by layer "
        "from the second on; full: at the start, open: after training. Grey: m^(-1/2). Fang, Lee, Yang and Zhang "
        "(2021), Proposition 1."
    )
    table = [
        _exponent_row({"kind": each.kind, "start": each.start, "layer": k + 2, "at": ("start", "end")[at]},
                      features.falls(each, k, bool(at)))
        for each in found for k in range(each.first.shape[2]) for at in (0, 1)
    ]  # fmt: skip
    return Drawing(_degenerate_said(found), caption, lambda: _draw_degeneracy(found), {"degeneracy": table})


def _exponent_row(about: Spec, found: Estimate) -> Spec:
    rate = found.rate
    return about | {"exponent": rate.exponent, "low": rate.low, "high": rate.high, "no_rate": rate.reason}


def _degenerate_said(found: Sequence[Spread]) -> str:
    out = []
    for each in found:
        layers = range(each.first.shape[2])
        said = [_decay(features.falls(each, k)) for k in layers]
        ends = each.first.mean(axis=0)[-1].min(), each.last.mean(axis=0)[-1].min()
        out.append(
            f"{_NAMES[each.kind]} from {_STARTS[each.start]}: at the start the spread of units of layers 2 to "
            f"{1 + len(said)} goes like {', '.join(said)}; at m = {each.units[-1]} the least of a layer is "
            f"{number(float(ends[0]))}, and {number(float(ends[1]))} after training."
        )
    return " ".join(out)


def _decay(found: Estimate) -> str:
    rate = found.rate
    return f"m^-{rate.exponent:.2f} ({rate.low:.2f} to {rate.high:.2f})" if rate else "no power that falls"


@style.styled
def _draw_degeneracy(found: Sequence[Spread]) -> Figure:
    kinds, starts = (list(dict.fromkeys(values)) for values in zip(*((f.kind, f.start) for f in found), strict=True))
    figure, axes = style.panels(len(starts), width=5.4, height=4.0, rows=len(kinds))
    for panel, (kind, start) in zip(axes, [(kind, start) for kind in kinds for start in starts], strict=True):
        each = next((one for one in found if (one.kind, one.start) == (kind, start)), None)
        if each is None:
            style.empty_panel(panel, "no members")
            continue
        n = np.array(each.units, float)
        for k, shade in enumerate(style.sequence(each.first.shape[2])):
            panel.plot(n, each.first.mean(axis=0)[:, k], "o-", color=shade, ms=4.5, lw=1.2, label=f"layer {k + 2}")
            panel.plot(n, each.last.mean(axis=0)[:, k], "o", color=shade, ms=4.5, mfc="none")
        begin = each.first.mean(axis=0)[0].max()
        panel.plot(n, begin * (n / n[0]) ** -0.5, color=style.GREY, lw=1.0, ls=(0, (4, 3)), zorder=1)
        style.log_ticks(panel)
        style.particle_axis(panel, each.units, "units of a layer $m$")
        panel.set_ylabel("largest difference of two units")
        what = _what_becomes(each)
        panel.set_title(f"{_NAMES[kind]}, {_STARTS[start]}: {what}")
        panel.legend(fontsize=9.5)
    return figure


def _what_becomes(each: Spread) -> str:
    """What widening does to the units of the last layer, at the start and after training."""
    layer = each.first.shape[2] - 1
    first, last = (_falling(features.falls(each, layer, at)) for at in (False, True))
    if first is None or last is None:
        return "some units are one already"
    if first:
        return "units become one" if last else "one, until training"
    return "units become one in training" if last else "units stay apart"


def _falling(found: Estimate) -> bool | None:
    """Whether values fall over the sizes there are, by the slope alone: seeds may scatter too far for an interval.

    None where a value is not positive, so that there is no slope.
    """
    if not (np.isfinite(found.value) & (found.value > 0)).all():
        return None
    return float(np.polyfit(np.log(found.sizes), np.log(found.value), 1)[0]) < -_FALLS


_FALLS = 0.2  # exponent of the last layer from which on units are said to become one
