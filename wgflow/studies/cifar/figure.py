"""Vanilla and mean-field trainings compared: paired differences of the test error, curves, depths, order switches."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wgflow.base.types import Array, Spec
from wgflow.report import style
from wgflow.report.figure import FILE_ALONE, Plan, Result, TableText, figure
from wgflow.stats.paired_test import MEAN_FIELD, VANILLA, conclusion
from wgflow.studies.cifar.reduce import (
    Comparison,
    comparisons,
    depth_rows,
    pair_key,
    published,
    rows,
    sentence,
    with_sd,
)
from wgflow.studies.requirements import unmet
from wgflow.systems.images.recipe import METHODS
from wgflow.trajectory import Trajectory

_VANILLA, _MEAN_FIELD, _PAPER = style.GREY, style.COLOURS[0], style.COLOURS[1]


def paired(plan: Plan) -> None:
    """Require vanilla and mean-field trainings, alike in everything else, with the same two seeds or more."""
    groups: dict[str, dict[str, set[int]]] = {}
    for planned in plan.members:
        method = planned.member.training.method if planned.member.training else ""
        key = pair_key(planned.member.model_dump(mode="json"))
        groups.setdefault(key, {}).setdefault(method, set()).add(planned.member.seed)
    for methods in groups.values():
        seeds = methods.get(METHODS[0], set())
        if set(methods) != set(METHODS) or any(other != seeds for other in methods.values()) or len(seeds) < 2:
            expected = f"training.method = {list(METHODS)} and the same two seeds or more of each"
            raise unmet(plan.figure, "grid", expected, ", ".join(f"{k}: {len(v)} seeds" for k, v in methods.items()))


def rows_in_words(rows: Sequence[Spec]) -> list[Spec]:
    """Test errors with standard deviations."""
    return [
        {
            "network": row["network"] + (f", {row['variant']}" if row["variant"] else ""),
            "images": row["images"] + ("" if row["verified"] == "yes" else " (re-encoded)"),
            "seeds": row["seeds"],
            "epochs": row["epochs"],
            "vanilla": with_sd(row, "vanilla"),
            "mean-field": with_sd(row, "mean_field"),
            "difference, 95%": f"{row['difference']:+.2f}"
            + (f", {row['low']:+.2f} to {row['high']:+.2f}" if row["seeds"] > 1 else ""),
            "p of signs": f"{row['p_signs']:.2g}" if row["seeds"] > 1 else "",
            "paper": f"{row['paper_vanilla']:.2f}, {row['paper_mean_field']:.2f}" if row["paper_vanilla"] else "",
        }
        for row in rows
    ]


@figure(
    "cifar", comparisons, system="images", needs=(paired,),
    tables={
        "cifar": TableText("Test error in %, vanilla beside mean-field", rows_in_words),
        "cifar_depths": FILE_ALONE,
    },
)  # fmt: skip
def cifar(found: list[Comparison]) -> Result:
    """Four panels: differences of all comparisons; test error, depths and switches of the first one."""
    moved = max(found, key=lambda comparison: float(comparison.switches.sum()))
    caption = (
        "Test error at the last epoch, mean-field minus vanilla with the same seed: a dot a pair, their mean with its "
        "95% interval, and what the paper has; the error along the epochs, a thin line a seed; depths of one network's "
        "blocks, a colour a stage; pairs of blocks that changed places from frame to frame, mean over seeds."
    )
    tables = {"cifar": rows(found), "cifar_depths": depth_rows(found)}
    said = [verdict for of in found for verdict in conclusion(of.test)]
    return Result(" ".join(map(sentence, found)), caption, lambda: _draw(found, moved), tables, said)


def _draw(found: Sequence[Comparison], moved: Comparison) -> Figure:
    figure, (differences, course, depths, switches) = style.panels(2, width=5.5, rows=2)
    _differences(differences, found)
    _course(course, found[0])
    _depths(depths, moved)
    _switches(switches, found)
    return figure


def _differences(axes: Axes, found: Sequence[Comparison]) -> None:
    for place, comparison in enumerate(found):
        at = len(found) - 1 - place
        every = comparison.mean_field[:, -1] - comparison.vanilla[:, -1]
        axes.scatter(every, np.full(len(every), at + 0.18), s=14, color=_MEAN_FIELD, alpha=0.6, lw=0)
        test = comparison.test
        half = test.high - test.difference if test.pairs > 1 else 0.0  # one pair has no interval
        axes.errorbar(test.difference, at, xerr=half, fmt="o", ms=5, color=style.INK, capsize=3)
        paper = published(comparison)
        if paper:
            axes.scatter(paper[1] - paper[0], at - 0.18, marker="D", s=22, color=_PAPER, lw=0)
    axes.axvline(0, color=style.GREY, lw=1)
    names = [comparison.network + (f"\n{comparison.variant}" if comparison.variant else "") for comparison in found]
    axes.set_yticks(range(len(found)), names[::-1])
    axes.set(xlabel="test error, mean-field minus vanilla (points of %)", ylim=(-0.6, len(found) - 0.4))
    axes.grid(axis="y", visible=False)
    marks = [
        Line2D([], [], ls="", marker="o", color=_MEAN_FIELD, alpha=0.6, ms=4, label="a pair"),
        Line2D([], [], marker="o", color=style.INK, ms=5, label="mean, 95%"),
    ]
    if any(map(published, found)):
        marks.append(Line2D([], [], ls="", marker="D", color=_PAPER, ms=5, label="the paper"))
    axes.legend(handles=marks, loc="best")
    axes.set_title(_improved(found))


def _improved(found: Sequence[Comparison]) -> str:
    """Number of comparisons in which mean-field networks have significantly fewer errors, and more."""
    said = [verdict.inequalities[-1].claim for of in found for verdict in conclusion(of.test)[:1] if verdict.holds]
    fewer, more = (said.count(claim.name) for claim in (MEAN_FIELD, VANILLA))
    return f"Significant at 95%: fewer errors in {fewer} of {len(found)}, more in {more}"


def _dot(of: Comparison) -> str:
    """Marker of a line that has one point, which would not be seen otherwise."""
    return "o" if len(of.s) == 2 else ""


def _course(axes: Axes, of: Comparison) -> None:
    for errors, colour, name in ((of.vanilla, _VANILLA, "vanilla"), (of.mean_field, _MEAN_FIELD, "mean-field")):
        for curve in errors:
            axes.plot(of.s[1:], curve[1:], color=colour, lw=0.7, alpha=0.45)
        axes.plot(of.s[1:], errors.mean(axis=0)[1:], color=colour, lw=2, label=name, marker=_dot(of))
    axes.set(xlabel="epoch $s$", ylabel="test error (%)")
    axes.set_yscale("log")
    axes.legend()
    ends = of.vanilla[:, -1].mean(), of.mean_field[:, -1].mean()
    axes.set_title(f"{of.network}: {ends[0]:.2f}% and {ends[1]:.2f}% at the end")


def _depths(axes: Axes, of: Comparison) -> None:
    with Trajectory(of.paths[0]) as trajectory:
        tau: Array = np.stack([frame.tau for frame in trajectory])
        blocks = trajectory.parameters["energy"]["training"]["blocks"]
    for stage, part in enumerate(np.split(tau, np.cumsum(blocks)[:-1], axis=1)):
        colour = style.COLOURS[stage % len(style.COLOURS)]
        axes.plot(of.s, part, color=colour, lw=1.2, alpha=0.85)
        axes.plot([], [], color=colour, label=f"stage {stage + 1}")
    axes.set(xlabel="epoch $s$", ylabel=r"depth $\tau$")
    axes.legend(loc="upper center", ncols=len(blocks), bbox_to_anchor=(0.5, 1.0))
    axes.set_ylim(min(-0.03, float(tau.min())), 1.18 * max(1.0, float(tau.max())))
    name = of.network + (f", {of.variant}" if of.variant else "")
    axes.set_title(f"{name}: depths, seed {of.seeds[0]}")


def _switches(axes: Axes, found: Sequence[Comparison]) -> None:
    for of, colour in zip(found, itertools.cycle(style.COLOURS), strict=False):
        name = of.network + (f", {of.variant}" if of.variant else "")
        course = of.switches.mean(axis=0)[1:]
        axes.plot(of.s[1:], course, color=colour, label=name, drawstyle="steps-pre", marker=_dot(of))
    axes.set(xlabel="epoch $s$", ylabel="pairs that changed places")
    axes.set_ylim(0, max(1.0, 1.05 * max(float(comparison.switches.mean(axis=0).max()) for comparison in found)))
    axes.legend(fontsize=9)
    total = [float(comparison.switches.sum(axis=1).mean()) for comparison in found]
    spread = f"{min(total):.3g} to {max(total):.3g}" if len(found) > 1 else f"{total[0]:.3g}"
    axes.set_title(f"Order switches: {spread} a run")
