"""Deep networks as ensembles of shallow ones: the expansion's remainders, gradients, paths, and missing blocks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy.special import comb

from wgflow.base.types import Array
from wgflow.base.verdict import Claim, Verdict
from wgflow.report import style
from wgflow.report.figure import Result, as_sentence, figure
from wgflow.report.wording import number, share
from wgflow.studies.ensemble.reduce import DEPTHS, SCALES, SWAPS, Group, Measured, groups, rows
from wgflow.studies.requirements import of_members, unmet
from wgflow.study.grid import RunPlan
from wgflow.theory.expansion import ALPHAS, ORDERS

_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))  # of three kinds of line in one colour
_MARKERS = ("o", "s", "^", "D", "v", "P")
_NEAR = 0.2  # of the exponent q + 1: tolerance within which order q is said to have it

POWERS = Claim(
    "expansion_orders", "largest distance of the slopes in α from 2, 3 and 4", "<", "",
    holds="orders 1, 2 and 3 of the ensemble expansion leave {powers} of the trained network{scope}: the powers "
    "2, 3 and 4 within {right:g}",
    fails="orders 1, 2 and 3 of the ensemble expansion leave {powers} of the trained network{scope}, not the powers 2, "
    "3 and 4",
    unknown="orders 1, 2 and 3 of the ensemble expansion leave {powers} of the trained network{scope}",
)  # fmt: skip
DEPARTS = Claim(
    "training_departs_from_shallow", "what the shallow network misses of the outputs after training", ">", "before",
    holds="{label} training moves the outputs away from those of the shallow network, which misses {first} of them at "
    "the start and {last} at the end, third order {third}",
    fails="{label} training does not move the outputs away from those of the shallow network, which misses {first} of "
    "them at the start and {last} at the end, third order {third}",
    unknown="{label} what the shallow network misses of the outputs is not known",
)  # fmt: skip
DELETION = Claim(
    "deletion_raises_loss", "least E of a run without the layer whose deletion raises it most, over E", ">", "",
    holds="without the layer whose deletion raises it most E changes by {change}: it rises{each}",
    fails="without the layer whose deletion raises it most E changes by {change}: it does not rise{each}",
    unknown="without the layer that matters most E is not finite in {lost} runs",
)  # fmt: skip
EXCHANGE = Claim(
    "exchange_raises_loss", "mean E after the exchanges over E", ">", "",
    holds="after {swaps} exchanges of layers E changes by {share} on average: it rises",
    fails="after {swaps} exchanges of layers E changes by {share} on average: it does not rise",
    unknown="after {swaps} exchanges of layers E is not finite",
)  # fmt: skip


@of_members
def several_layers(name: str, planned: RunPlan) -> None:
    """At least two layers; under Gaps every particle is one."""
    depth = planned.member.depth
    if (planned.member.count if depth.name == "gaps" else getattr(depth, "layers", 1)) < 2:
        got = f"{depth.name} with one; set depth.name = layers and depth.layers = 16, say"
        raise unmet(name, "depth", "several layers", got)


@figure("ensemble", groups, needs=(several_layers,), seconds=11.0)
def ensemble(found: list[Group]) -> Result:
    """Remainders of the ensemble expansion, and ablations: path lengths, block deletion, permutation."""
    middle = _middle(found)
    whose = f"runs of {middle.label}" if middle.label else "all runs"
    caption = (
        "Networks with all weights times α, expanded in α (order 1 is the shallow network of the same measure). Top "
        f"left: what orders 1 to 3 leave of the outputs, {whose}, at the start and the end, with the "
        "slopes at the end over α = 0.05 to 0.4, order 3 without its Hessian term among them. Top middle: the same at "
        "α = 1 along flow time. Top right: cosine between the θ-gradients of the deep and the shallow first variation, "
        "at the particles' θ, along depth. Bottom left: the gradient at the input by the number of layers its paths "
        "pass, compared with the binomial law of blocks that are not small. Bottom middle and right: E without one "
        "layer, and after exchanging layers at random, over E; trained networks. Curves are means over seeds; E and "
        "the outputs are those of the training samples."
    )
    said = [_orders(_middle(found)), *(verdict for group in found for verdict in verdicts(group))]
    return Result(_finding(found), caption, lambda: _draw(found), {"ensemble": list(rows(found))}, said)


def _middle(found: Sequence[Group]) -> Group:
    return found[len(found) // 2]


def _finding(found: Sequence[Group]) -> str:
    parts = [as_sentence(_orders(_middle(found)))]
    for group in found:
        text = "; ".join(verdict.sentence for verdict in verdicts(group))
        parts.append(f"{text[:1].upper()}{text[1:]}.")
    return " ".join(parts)


def verdicts(group: Group) -> list[Verdict]:
    """Whether training moves away from the shallow network, and whether deleting and exchanging layers raises E."""
    first, last = group.frames[0], group.frames[-1]
    misses = [share(value, 1) for value in (first.left[1, 0], last.left[1, 0], last.left[3, 0])]
    about = {"label": f"with {group.label}" if group.label else "at full size"} | dict(
        zip(("first", "last", "third"), misses, strict=True)
    )
    exchanged = float(last.permuted[-1])
    known = exchanged if np.isfinite(exchanged) else np.nan
    return [
        DEPARTS(last.left[1, 0], first.left[1, 0], **about),
        _deletion(group.worst[-1]),
        EXCHANGE(known, 1.0, swaps=SWAPS[-1], share=_signed(exchanged - 1)),
    ]


def _orders(group: Group) -> Verdict:
    """Whether orders 1 to 3 leave powers 2 to 4 of alpha."""
    slopes = group.frames[-1].slope[1:]
    scope = f" ({group.label})" if group.label else ""
    off = np.abs(slopes - np.arange(2.0, 2.0 + len(slopes)))
    worst = float(off.max()) if np.isfinite(off).all() else np.nan
    return POWERS(worst, _NEAR, scope=scope, powers=_powers(group))


def _powers(group: Group) -> str:
    """Powers of alpha of the remainders; none where they are 0."""
    slopes = group.frames[-1].slope[1:]
    if not np.isfinite(slopes).any():
        return "no power of α"
    return ", ".join(f"α^{slope:.2f}" if np.isfinite(slope) else "no power" for slope in slopes)


def _deletion(worst: Array) -> Verdict:
    """Change of E without the layer whose deletion raises it most, as a range over members (S,)."""
    each, lost = " in every run" * (len(worst) > 1), int((~np.isfinite(worst)).sum())
    ends = [_signed(change) for change in (worst.min() - 1, worst.max() - 1)]
    change = (ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}") + (
        f" over {len(worst)} runs" if len(worst) > 1 else ""
    )
    return DELETION(np.nan if lost else worst.min(), 1.0, each=each, change=change, lost=f"{lost} of {len(worst)}")


def _signed(change: float) -> str:
    return f"{'−' if change < 0 else '+'}{share(abs(change), 1)}"


def _draw(found: Sequence[Group]) -> Figure:
    figure, axes = style.panels(3, width=4.9, height=4.0, rows=2)
    ordered = style.sequential_colours(len(found) + 1)[1:]  # without the lightest
    shades = ordered if len(found) > 1 else [style.COLOURS[0]]
    colours = {group.label: shade for group, shade in zip(found, shades, strict=True)}
    _remainders(axes[0], _middle(found))
    _along_training(axes[1], found, colours)
    _gradients(axes[2], found, colours)
    _paths(axes[3], found, colours)
    _deleted(axes[4], found, colours)
    _permuted(axes[5], found, colours)
    if any(colours):
        handles = [
            Line2D([], [], color=colour, marker=marker, ms=5, label=style.literal(label))
            for (label, colour), marker in zip(colours.items(), itertools.cycle(_MARKERS), strict=False)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=6)
    return figure


def _kinds(axes: Axes, labels: Sequence[str], **options: Any) -> None:
    """Legend of line styles; colours are explained once, below the panels."""
    handles = [Line2D([], [], color=style.GREY, ls=ls, label=text) for text, ls in zip(labels, _DASHES, strict=True)]
    axes.legend(handles=handles, fontsize=9, **options)


def _remainders(axes: Axes, group: Group) -> None:
    alpha, (first, last) = np.array(SCALES), (group.frames[0], group.frames[-1])
    for order in range(1, ORDERS):
        colour = style.COLOURS[order - 1]
        axes.plot(alpha, first.left[order], color=colour, ls=_DASHES[2], lw=1.2)
        label = f"order {order}: slope {number(last.slope[order], '.2f')}"
        axes.plot(alpha, last.left[order], color=colour, marker=_MARKERS[order - 1], ms=4.5, label=label)
    label = f"order 3, no Hessian: {number(last.slope_without, '.2f')}"
    axes.plot(alpha, last.left_without, color=style.GREY, ls=_DASHES[1], label=label)
    handles, _ = axes.get_legend_handles_labels()
    handles.append(Line2D([], [], color=style.INK, ls=_DASHES[2], lw=1.2, label="at the start"))
    axes.set(xscale="log", yscale="log", xlabel=r"block scale $\alpha$", ylabel="left of the outputs (rms, relative)")
    axes.set_xticks([*ALPHAS, 1.0], [f"{alpha:g}" for alpha in (*ALPHAS, 1.0)])
    axes.minorticks_off()
    axes.legend(handles=handles, fontsize=9, loc="lower right")
    title = "Order $q$ leaves $\\alpha^{q+1}$" if _orders(group).holds else "What orders 1 to 3 leave"
    axes.set_title(title + (f" ({style.literal(group.label)})" if group.label else ""))


def _along_training(axes: Axes, found: Sequence[Group], colours: dict[str, str]) -> None:
    for group in found:
        s = [frame.s for frame in group.frames]
        for order in range(1, ORDERS):
            left = [frame.left[order, 0] for frame in group.frames]
            axes.plot(s, left, color=colours[group.label], ls=_DASHES[order - 1])
    axes.set(yscale="log", xlabel="flow time $s$", ylabel=r"left at $\alpha = 1$ (rms, relative)")
    low, high = axes.get_ylim()
    axes.set_ylim(low * (low / high) ** 0.12, high)  # room for the legend
    _kinds(axes, [f"order {order}" for order in range(1, ORDERS)], ncols=3, loc="lower center")
    axes.set_title("What orders 1 to 3 leave at full size")


def _gradients(axes: Axes, found: Sequence[Group], colours: dict[str, str]) -> None:
    for group in found:
        first, last = group.frames[0], group.frames[-1]
        for cosine, ls in zip((last.cosine[1], last.cosine[0], first.cosine[0]), _DASHES, strict=True):
            axes.plot(DEPTHS, cosine, color=colours[group.label], ls=ls)
    low, _ = axes.get_ylim()
    bottom = low - 0.35 * (1 - low)  # room for the legend
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set(xlabel="depth $t$", ylabel="cosine", xlim=(0, 1), ylim=(bottom, 1.03))
    _kinds(axes, ["trained, deep residual", "trained, shallow residual", "at the start"], loc="lower left")
    axes.set_title("Deep against shallow gradients")


def _at_the_end(
    axes: Axes, found: Sequence[Group], colours: dict[str, str], curve: Callable[[Measured], tuple[Array, Array]]
) -> None:
    """A curve of every group's trained networks."""
    for group, marker in zip(found, itertools.cycle(_MARKERS), strict=False):
        axes.plot(*curve(group.frames[-1]), color=colours[group.label], marker=marker, ms=4.5)


def _paths(axes: Axes, found: Sequence[Group], colours: dict[str, str]) -> None:
    _at_the_end(axes, found, colours, lambda last: (np.arange(0.0, len(last.share)), last.share))
    layers, longest = len(found[0].frames[-1].deleted), len(found[0].frames[-1].share) - 1
    law = comb(layers, np.arange(longest + 1)) * 0.5**layers
    axes.plot(law, color=style.GREY, ls=_DASHES[1], label=f"binomial({layers}, 1/2)")
    axes.set(xlabel="layers on a path", ylabel="share of the gradient at the input", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=9)
    axes.set_title("Path lengths in the gradient")


def _deleted(axes: Axes, found: Sequence[Group], colours: dict[str, str]) -> None:
    _at_the_end(
        axes, found, colours, lambda last: ((np.arange(len(last.deleted)) + 0.5) / len(last.deleted), last.deleted)
    )
    axes.axhline(1.0, color=style.GREY, lw=0.9)
    axes.set(xlabel="depth of the layer taken out", ylabel="$E$ without it / $E$", xlim=(0, 1))
    axes.set_title("One layer taken out")


def _by_order(last: Measured) -> tuple[Array, Array]:
    """Kendall's tau of the orders from their own on, and E in them over E."""
    kendall, energy = np.append(1.0, last.kendall), np.append(1.0, last.permuted)
    place = np.argsort(-kendall, kind="stable")
    return kendall[place], energy[place]


def _permuted(axes: Axes, found: Sequence[Group], colours: dict[str, str]) -> None:
    _at_the_end(axes, found, colours, _by_order)
    axes.axhline(1.0, color=style.GREY, lw=0.9)
    axes.set(xlabel=r"Kendall's $\tau$ of the orders (1: own, 0: random)", ylabel="$E$ in that order / $E$")
    axes.invert_xaxis()
    axes.set_title("Layers exchanged at random")
