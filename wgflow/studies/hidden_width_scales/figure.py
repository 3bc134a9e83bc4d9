"""Outputs, displacements and losses of networks by the scale of their output layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from wgflow.base.errors import InputError
from wgflow.base.verdict import Claim, Verdict
from wgflow.report import style
from wgflow.report.figure import Result, figure
from wgflow.report.series_change import FALLS, change, shift
from wgflow.report.wording import counted, number, share
from wgflow.studies.hidden_width.figure import whole_states_in_layers
from wgflow.studies.hidden_width_scales.reduce import Guide, Scale, guide, rows, scales
from wgflow.studies.requirements import at_least, observes, of_members, only_varies
from wgflow.study.grid import RunPlan

_NEAR = 1.5  # factor by which displacements may differ from the line and still be said to follow it
_FLAT = 1.5  # factor up to which a deviation counts as flat
FLAT = Claim(
    "deviation_flat", "change of the deviation over the smaller third of α", "<", "",
    holds="Randomness flat for small α",
    fails="Randomness not flat for small α: a factor of {left:.2g}",
    unknown="Randomness of the outputs",
)  # fmt: skip
GROWS = Claim(
    "deviation_grows", "growth of the deviation from there to the largest controlled α", ">", "",
    holds="Randomness flat for small α, then {left:.2g} times or more",
    fails="Randomness flat for small α, then {left:.2g} times",
    unknown="Growth of the outputs' randomness",
)  # fmt: skip
LAZY = Claim(
    "lazy", "largest factor between the displacement of u and the line", "<", "",
    holds="Lazy: u moves like 1/α within {left:.2g} times",
    fails="u moves like 1/α only within {left:.2g} times",
    unknown="How far u moves",
)  # fmt: skip
_DOTTED = (0, (1.5, 1.5))


@of_members
def ridge_blocks(name: str, planned: RunPlan) -> None:
    """Blocks whose output layers and inputs' weights are groups of their own."""
    block = planned.member.samples.block
    if (block["name"] if isinstance(block, dict) else block) != "ridge":
        raise InputError(f"problem.block: expected ridge to draw {name!r}, got {block}")


@figure(
    "hidden_width_scales", scales, particles=False,
    needs=(
        whole_states_in_layers,
        only_varies("problem.width", "particles.scale.a", "seed"),
        observes("outputs", "displacement"),
        at_least({"particles.scale.a": 2, "seed": 2}),
        ridge_blocks,
    ),
)  # fmt: skip
def hidden_width_scales(found: list[Scale]) -> Result:
    """Standard deviation of the outputs, displacement of the inputs' weights and loss, by scale of the output layers.

    A colour for each width of the state D; crosses and dotted lines where alpha >= sqrt(L M / D).
    """
    line = guide(found)
    blocks = " and ".join(str(count) for count in sorted({scale.blocks for scale in found}))
    caption = (
        f"Networks with LM = {blocks} blocks whose output layers v start with entries of standard deviation α √D, "
        f"at s = {found[0].s[-1]:g} (arXiv:2509.10167). Crosses and dotted "
        "lines: α ≥ √(LM/D), where the outputs' randomness at the start is no longer small. Left: standard deviation "
        "of the outputs across repeats, root mean square over samples and outputs; lines: (c₀ + (c₁ + c₂ α) √D)/√(LM), "
        f"fitted to all D at once: c₀ = {number(line.constant)}, c₁ = {number(line.flat)}, c₂ = {number(line.slope)} "
        "(the paper's code draws 0.4, 0.05 and 0.3, set by hand for other data). Middle: root mean square displacement "
        f"of an entry of u, whose initial size is √D; line: {number(line.travel)} min(1, 1/α). Right: mean over "
        "samples, outputs and repeats of the squared error, a line for each α."
    )
    tables = {"scales": list(rows(found))}
    said = [*map(spread, found), flatness(found), laziness(found, line)]
    return Result(_answer(found), caption, lambda: _draw_scales(found, line), tables, said)


def _answer(found: Sequence[Scale]) -> str:
    """The three panels in numbers."""
    sentences = []
    for scale in found:
        kept = np.flatnonzero(scale.controlled | ~scale.controlled.any())
        first, last = kept[0], kept[-1]
        sentences.append(
            f"{spread(scale).sentence}, while u moves by "
            f"{number(scale.displacement[first])} and {number(scale.displacement[last])} an entry, "
            f"{share(scale.displacement[first] / scale.dimension**0.5)} and "
            f"{share(scale.displacement[last] / scale.dimension**0.5)} of its initial size"
        )
    drawn = " One draw of the data for each D: other data would move these numbers."
    return "; ".join(sentences) + "." + _across(found) + drawn


def spread(scale: Scale) -> Verdict:
    """Whether the outputs' standard deviation rises or falls from the smallest controlled scale to the largest."""
    kept = np.flatnonzero(scale.controlled | ~scale.controlled.any())
    first, last = kept[0], kept[-1]
    subject = (
        f"D = {scale.dimension}: from α = {scale.alpha[first]:.2g} to {scale.alpha[last]:.2g} the outputs' standard "
        "deviation"
    )
    return shift(subject, float(scale.deviation[first]), float(scale.deviation[last]))


def _across(found: Sequence[Scale]) -> str:
    """Growth of the deviation with D compared with sqrt(D), at the largest alpha controlled for all."""
    first, last = found[0], found[-1]
    common = np.intersect1d(first.alpha[first.controlled], last.alpha[last.controlled])
    if len(found) < 2 or not len(common):
        return ""
    low, high = (float(scale.deviation[scale.alpha == common[-1]][0]) for scale in (first, last))
    if not (low > 0 and np.isfinite(high)):
        return ""
    return (
        f" At α = {common[-1]:.2g} it is {high / low:.2g} times as large for D = {last.dimension} as for D = "
        f"{first.dimension}; the bound's √D would make it {(last.dimension / first.dimension) ** 0.5:.2g} times."
    )


def _draw_scales(found: Sequence[Scale], line: Guide) -> Figure:
    figure, (left, middle, right) = style.panels(3, width=5.0)
    for scale, colour in zip(found, style.COLOURS, strict=False):
        kept = scale.controlled
        for panel, values in ((left, scale.deviation), (middle, scale.displacement)):
            panel.plot(scale.alpha[kept], values[kept], "o", ms=5, color=colour, label=f"$D = {scale.dimension}$")
            panel.plot(scale.alpha[~kept], values[~kept], "x", ms=5, color=colour)
        fitted = line.deviation(scale.alpha, scale.dimension, scale.blocks)
        left.plot(scale.alpha[kept], fitted[kept], color=colour, lw=1.3)
        join = np.flatnonzero(kept)[-1:].tolist() + np.flatnonzero(~kept).tolist()
        left.plot(scale.alpha[join], fitted[join], color=colour, lw=1.0, ls=_DOTTED)
        for controlled, loss in zip(kept, scale.loss, strict=True):
            look = {"color": colour, "ls": "-"} if controlled else {"color": style.GREY, "ls": _DOTTED}
            right.plot(scale.s, loss, lw=0.9, alpha=0.9, **look)
    alpha = np.unique(np.concatenate([scale.alpha for scale in found]))
    kept = alpha <= max(scale.alpha[scale.controlled].max(initial=0.0) for scale in found)
    label = rf"{number(line.travel)} $\min(1, 1/\alpha)$"
    middle.plot(alpha[kept], line.displacement(alpha[kept]), color=style.INK, lw=1.2, label=label)
    beyond = alpha[max(int(kept.sum()) - 1, 0) :]
    middle.plot(beyond, line.displacement(beyond), color=style.INK, lw=1.0, ls=_DOTTED)
    if any((~scale.controlled).any() for scale in found):
        left.plot([], [], "x", ms=5, color=style.GREY, label=r"$\alpha \geq \sqrt{LM/D}$")
        right.plot([], [], color=style.GREY, lw=0.9, ls=_DOTTED, label=r"$\alpha \geq \sqrt{LM/D}$")
        right.legend(fontsize=9.5)
    for panel in (left, middle):
        panel.set(xscale="log", yscale="log", xlabel="scale of the output layers $\\alpha$")
    left.legend(fontsize=9.5, loc="upper left")
    middle.legend(handles=middle.get_legend_handles_labels()[0][-1:], fontsize=9.5)
    left.set(ylabel="standard deviation of the outputs")
    left.set_title(flatness(found).sentence)
    middle.set(ylabel="rms displacement of an entry of $u$")
    middle.set_title(laziness(found, line).sentence)
    right.set(yscale="log", xlabel="flow time $s$", ylabel="squared error")
    right.set_title(_losses(found))
    return figure


def flatness(found: Sequence[Scale]) -> Verdict:
    """Whether for every D the deviation is flat over the smaller third of the controlled scales and then grows.

    It is flat if it changes by a factor below 1.5, and grows if it ends above 1.5 times that.
    """
    flat, grows = [], []
    for kept in (scale.deviation[scale.controlled] for scale in found):
        usable = len(kept) >= 3 and (np.isfinite(kept) & (kept > 0)).all()
        third = kept[len(kept) // 3] if usable else np.nan
        flat.append(max(third / kept[0], kept[0] / third) if usable else np.nan)
        grows.append(kept[-1] / third if usable else np.nan)
    if np.isnan(flat).any():
        return FLAT(np.nan, np.nan)
    level = FLAT.of_all(flat, _FLAT)
    if not level.holds:
        return level
    growth = GROWS.of_all(grows, _FLAT)
    return Verdict(growth.sentence, level.inequalities + growth.inequalities)


def laziness(found: Sequence[Scale], line: Guide) -> Verdict:
    """Whether u moves within a factor of 1.5 like min(1, 1/alpha) at controlled scales, which exceed 1 for all D."""
    with np.errstate(divide="ignore", invalid="ignore"):
        off = [np.abs(np.log(scale.displacement / line.displacement(scale.alpha)))[scale.controlled] for scale in found]
        factor = np.exp(np.concatenate(off))
    large = all(scale.alpha[scale.controlled].max(initial=0.0) > 1 for scale in found)
    return LAZY.of_all(factor if large and not np.isnan(factor).any() else np.nan, _NEAR)


def _losses(found: Sequence[Scale]) -> str:
    """Number of controlled scales at which the loss falls."""
    falls = [change(scale.s, loss).kind == FALLS for scale in found for loss in scale.loss[scale.controlled]]
    return f"Loss falls at {counted(sum(falls), len(falls))} controlled scales" if any(falls) else "Loss along the flow"
