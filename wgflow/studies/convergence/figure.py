"""Convergence of E and of the outputs in N: rates, losses along s, comparison with other models."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wgflow.base.types import Array, Spec
from wgflow.base.verdict import Claim, Verdict
from wgflow.report import style
from wgflow.report.figure import Result, TableText, as_sentence, figure
from wgflow.report.series_change import Change, change, courses
from wgflow.report.wording import interval, listed, number
from wgflow.stats.convergence_rates import Estimate, Rate
from wgflow.stats.trends import decay
from wgflow.studies.convergence import baselines
from wgflow.studies.convergence.baselines import Score
from wgflow.studies.convergence.reduce import QUANTITIES, Group, groups, rows
from wgflow.studies.convergence.requires import heldout_and_sklearn, sizes_and_reference

_LOOK = {  # colour and marker of each quantity, the same in every panel
    "rms_energy": (style.COLOURS[0], "o"),
    "spread_energy": (style.COLOURS[5], "D"),
    "bias_energy": (style.COLOURS[1], "s"),
    "rms_outputs": (style.COLOURS[2], "o"),
    "bias_outputs": (style.COLOURS[3], "s"),
}
_THEORY = (0.5, 1.0)  # exponents of independent fluctuations and of a bias of second order


def rates_in_words(rows: Sequence[Spec]) -> list[Spec]:
    """Rates at the last flow time."""
    last = {row["group"]: row["s"] for row in rows}
    return [
        {
            "group": row["group"],
            "quantity": QUANTITIES.get(row["quantity"], row["quantity"]),
            "s": row["s"],
            "rate": "none" if row["no_rate"] else f"N^-{row['exponent']:.2f}",
            "95% interval": "" if row["no_rate"] else f"{row['low']:.2f} to {row['high']:.2f}",
            "N": row["no_rate"] or f"{row['N_least']} to {row['N_most']}",
        }
        for row in rows
        if row["s"] == last[row["group"]]
    ]


@figure(
    "convergence_rates", groups, needs=(sizes_and_reference,), seconds=11.0,
    tables={"rates": TableText("Rates in N at the last flow time", rates_in_words)},
)  # fmt: skip
def rates(found: list[Group]) -> Result:
    """Bias and fluctuation of E and of the outputs against N at the last s, and their exponents along s."""
    caption = (
        "Root mean square over seeds of the distance to the reference (less the reference's own error), standard "
        "deviation of E over seeds (spread), "
        f"and bias, with 95% intervals, at the last flow time. {_bias_in_words(found)} Lines: fitted C/N^r. Right: "
        "exponents r with 95% intervals at several flow times; grey lines mark 1/2 and 1."
    )
    said = [verdict for group in found for verdict in verdicts(group)]
    return Result(_answer(found), caption, lambda: _draw_rates(found), {"rates": list(rows(found))}, said)


def _bias_in_words(found: Sequence[Group]) -> str:
    if all(group.coupled for group in found):
        return (
            "The bias at N is the mean of two ensembles of N particles minus one of 2N that starts as their union, "
            "which cancels fluctuations of first order."
        )
    return "The bias is the mean over seeds minus the reference, whose own error is as large, so it has no rate."


def _answer(found: Sequence[Group]) -> str:
    """Rates at the last s, one sentence for each group."""
    out = []
    for group in found:
        outputs, bias = verdicts(group)
        of = f"On {group.label}, at" if group.label else "At"
        energy, reference = group.curves[group.sizes[-1]], group.curves[group.reference]
        mean, limit = (float(np.mean(curve.energy[:, -1])) for curve in (energy, reference))
        distance = group.estimates["rms_outputs"][-1]
        ends = " and ".join(f"{number(float(distance.value[k]))} at N = {distance.sizes[k]}" for k in (0, -1))
        out.append(
            f"{of} s = {group.s[-1]:g} {outputs.sentence}, {ends}; {bias.sentence}; at N = {group.sizes[-1]} E is "
            f"{number(mean, '.4g')}, {number(abs(mean - limit), '.1g')} from its reference."
        )
    return " ".join([*out, "Intervals cover initial particles, for these data and this reference."])


def verdicts(group: Group) -> list[Verdict]:
    """Claims on the outputs' distance to the reference and on the bias of E at the last s."""
    what = {
        "rms_outputs": f"the outputs' distance to those of N = {group.reference}",
        "bias_energy": "the bias of E",
    }
    rates = {name: group.estimates[name][-1].rate for name in what}
    return [decay(rate, what[name], _power(rate)) for name, rate in rates.items()]


def _power(rate: Rate) -> str:
    return f"N^-{interval(*rate[:3])}"


def _draw_rates(found: Sequence[Group]) -> Figure:
    figure, axes = style.panels(3, width=4.7, height=3.9, rows=len(found))
    for row, group in enumerate(found):
        left, middle, right = axes[3 * row : 3 * row + 3]
        _against_n(left, group, ("rms_energy", "spread_energy", "bias_energy"), "lower left")
        _against_n(middle, group, ("rms_outputs", "bias_outputs"), "upper right")
        _along_s(right, group)
        prefix = _prefix(group.label)
        left.set(title=prefix + _short("bias of $E$", group.estimates["bias_energy"][-1]), ylabel="distance of $E$")
        middle.set(title=prefix + _short("outputs' rms", group.estimates["rms_outputs"][-1]))
        middle.set(ylabel="distance of outputs")
        right.set_title(f"{prefix}exponents along the flow")
    return figure


def _short(name: str, found: Estimate) -> str:
    return f"{name} falls as $N^{{-{found.rate.exponent:.2f}}}$" if found.rate else f"{name}: no rate"


def _prefix(label: str) -> str:
    """Start of a panel's title."""
    return style.literal(label) + ": " if label else ""


def _against_n(axes: Axes, group: Group, names: Sequence[str], legend: Literal["lower left", "upper right"]) -> None:
    """Values of some quantities at the last s, with intervals and fitted lines."""
    for name in names:
        found, (colour, marker) = group.estimates[name][-1], _LOOK[name]
        n, value = np.asarray(found.sizes), found.value
        positive = value > 0
        low = np.clip(np.nan_to_num(found.low), 0.02 * np.abs(value), None)  # those that reach 0 end at the axis
        high = np.where(np.isfinite(found.high), found.high, value)
        bars = [value[positive] - np.minimum(low, value)[positive], (high - value)[positive]]
        word = QUANTITIES[name].split(" of ")[0]
        rate = found.rate
        label = f"{word}: r = {rate.exponent:.2f} ({rate.low:.2f} to {rate.high:.2f})" if rate else f"{word}: no rate"
        axes.errorbar(
            n[positive], value[positive], bars, fmt=marker, color=colour, ms=5, lw=1.1, capsize=2.5, label=label
        )
        if rate:
            reach = np.array([rate.sizes[0], rate.sizes[-1]], float)
            axes.plot(reach, rate.constant * reach**-rate.exponent, color=colour, lw=1.3)
    axes.set_yscale("log")
    style.particle_axis(axes, group.sizes)
    axes.margins(y=0.12)
    axes.legend(fontsize=9.5, handletextpad=0.3, loc=legend)


def _along_s(axes: Axes, group: Group) -> None:
    """Exponents with intervals at the stated flow times."""
    for level, label in zip(_THEORY, ("1/2 and 1, theory", None), strict=True):
        axes.axhline(level, color=style.GREY, lw=1.0, ls=(0, (4, 3)), zorder=1, label=label)
    step = (group.s[-1] - group.s[0]) or 1.0
    for k, (name, estimates) in enumerate(group.estimates.items()):
        colour, marker = _LOOK[name]
        fitted = [(s, *each.rate[:3]) for s, each in zip(group.s, estimates, strict=True) if each.rate]
        if not fitted:
            continue
        s, r, low, high = np.array(fitted).T
        place = s + step * 0.013 * (k - 2)  # shifted to keep intervals apart
        bars, label = [r - low, high - r], QUANTITIES[name]
        axes.errorbar(place, r, bars, fmt=marker, color=colour, ms=4.5, lw=1.1, capsize=2, label=label)
    axes.set(xlabel="flow time $s$", ylabel="exponent $r$", ylim=(0, 1.75))
    if any(each.rate for estimates in group.estimates.values() for each in estimates):
        axes.legend(fontsize=9, ncols=2, loc="upper center", handletextpad=0.2, columnspacing=0.8)
    else:
        style.empty_panel(axes, "no rate could be fitted")


@figure("convergence_loss", groups, needs=(sizes_and_reference,))
def loss(found: list[Group]) -> Result:
    """Loss along s for every N, and its distance to the reference's."""
    said, verdicts = [], [closer(group) for group in found]
    for group in found:
        held = group.curves[group.reference].heldout
        also = f" (held out: {number(float(held[:, -1].mean()), '.3g')})" if held.size else ""
        of = f"on {group.label} " if group.label else ""
        (went,) = courses(f"{of}the loss of N = {group.reference}", [_reference(group, ".3g")])
        said.append(f"{went.sentence}{also}")
        verdicts.append(went)
    caption = (
        "Left: loss along flow time, mean over seeds, one colour for each N; held-out loss dashed. Right: root mean "
        "square over seeds of the difference to the reference's loss at the same flow time."
    )
    text = "; ".join(said)
    return Result(f"{text[0].upper()}{text[1:]}.", caption, lambda: _draw_loss(found), verdicts=verdicts)


def _reference(group: Group, form: str) -> Change:
    """Change of the reference's loss along s."""
    curve = group.curves[group.reference]
    return change(curve.s, curve.energy.mean(axis=0), form=form)


CLOSER = Claim(
    "larger_is_closer", "largest rms distance to the reference over that of the next smaller N, over all s", "<", "",
    holds="more particles, closer to N = {reference}, at every s",
    fails="more particles, closer to N = {reference}, at {share} of all s",
    unknown="distance to N = {reference}",
)  # fmt: skip


def closer(group: Group) -> Verdict:
    """Whether the rms distance of E to the reference falls from each N to the next larger one, at all s."""
    gaps = list(distances(group).values())
    count = min(len(gap) for gap in gaps)
    with np.errstate(all="ignore"):
        ratio = np.array([larger[:count] / smaller[:count] for smaller, larger in pairwise(gaps)])
    return CLOSER.of_all(ratio, 1.0, reference=group.reference, share=f"{np.mean((ratio < 1).all(axis=0)):.0%}")


def distances(group: Group) -> dict[int, Array]:
    """Root mean square over seeds of the difference to the reference's loss along s, by N."""
    limit = group.curves[group.reference].energy.mean(axis=0)
    of = {n: curve.energy - limit[: curve.energy.shape[1]] for n, curve in group.curves.items() if n in group.sizes}
    return {n: np.sqrt((gap**2).mean(axis=0)) for n, gap in of.items()}


def _draw_loss(found: Sequence[Group]) -> Figure:
    figure, axes = style.panels(2, width=6.0, height=3.9, rows=len(found))
    for row, group in enumerate(found):
        left, right = axes[2 * row : 2 * row + 2]
        colours = dict(zip(group.sizes, style.sequential_colours(len(group.sizes)), strict=True))
        reference, gaps = group.curves[group.reference], distances(group)
        for n, curve in group.curves.items():
            colour, width = colours.get(n, style.INK), 1.3 if n in colours else 1.8
            left.plot(curve.s, curve.energy.mean(axis=0), color=colour, lw=width)
            if curve.heldout.size:
                left.plot(curve.s, curve.heldout.mean(axis=0), color=colour, lw=width - 0.2, ls=(0, (4, 2)))
            if n in gaps:
                right.plot(curve.s, gaps[n], color=colour, lw=1.3)
        prefix = _prefix(group.label)
        left.set(xlabel="flow time $s$", ylabel="loss $E$")
        if reference.energy.min() >= 0:
            left.set_ylim(0, None)
        left.set_title(f"{prefix}loss {_reference(group, '.2f').brief}")
        right.set(xlabel="flow time $s$", ylabel=f"rms of $E_N - E_{{{group.reference}}}$", yscale="log")
        right.set_title(f"{prefix}{closer(group).sentence}")
        handles = [Line2D([], [], color=colours.get(n, style.INK), label=str(n)) for n in group.curves]
        right.legend(handles=handles, title="$N$", loc="center left", bbox_to_anchor=(1.0, 0.5))
        looks = {"training": "-", "held out": (0, (4, 2))}
        left.legend(handles=[Line2D([], [], color=style.GREY, ls=ls, label=label) for label, ls in looks.items()])
    return figure


def scores_in_words(rows: Sequence[Spec]) -> list[Spec]:
    """Rows with spaces in their headings."""
    return [{k.replace("_", " "): v for k, v in row.items()} for row in rows]


@figure(
    "convergence_models", baselines.scores, needs=(sizes_and_reference, heldout_and_sklearn), seconds=16.0,
    tables={"models": TableText("Compared with other models", scores_in_words)},
)  # fmt: skip
def models(found: list[tuple[str, list[Score]]]) -> Result:
    """Training and held-out loss compared with other models."""
    said = [beats(label, scores) for label, scores in found]
    rows = [{"group": label} | score._asdict() for label, scores in found for score in scores]
    caption = (
        "Training (open) and held-out (filled) loss, for classes the fraction of wrong ones. Ridge regression, kernel "
        "ridge and the perceptron come from scikit-learn, tuned on the training samples; the perceptron has as many "
        "parameters as the network of the largest fitted N."
    )
    return Result(" ".join(map(as_sentence, said)), caption, lambda: _draw_models(found), {"models": rows}, said)


BEATS = Claim(
    "network_beats_models", "held-out {measure} of the network", "<", "of the best other model",
    holds="{of} {model} has a lower held-out {measure} than any other model: {ours}, the best of them, "
    "{best}, {theirs}",
    fails="{of} {model} has a held-out {measure} of {ours}, no lower than that of {best}: {theirs}",
    unknown="{of} {model} has a held-out {measure} of {ours}; the best other model, {best}, {theirs}",
)  # fmt: skip


def beats(label: str, scores: Sequence[Score]) -> Verdict:
    """Whether the network has a lower held-out loss or error rate than all other models."""
    key, measure = _measure(scores)
    best, least = _best(scores, key)
    ours, of = float(getattr(scores[0], key)), f"on {label} the" if label else "the"
    about = {"of": of, "model": scores[0].model, "measure": measure, "best": best}
    return BEATS(ours, least, ours=number(ours, ".3g"), theirs=number(least, ".3g"), **about)


def _best(scores: Sequence[Score], key: str) -> tuple[str, float]:
    """Other models with the least held-out loss or error rate, and that value."""
    values = {score.model: float(getattr(score, key)) for score in scores[2:]}
    known = {model: value for model, value in values.items() if np.isfinite(value)}
    least = min(known.values(), default=np.nan)
    return listed([model for model, value in known.items() if value == least]) or "none", least


def _measure(scores: Sequence[Score]) -> tuple[str, str]:
    """Field and name of the held-out measure: for classes the error rate, which every model has."""
    classes = not np.isnan(scores[0].heldout_error)
    return ("heldout_error", "error rate") if classes else ("heldout", "loss")


def _draw_models(found: Sequence[tuple[str, list[Score]]]) -> Figure:
    figure, axes = style.panels(len(found), width=6.6, height=3.3)
    for panel, (label, scores) in zip(axes, found, strict=True):
        key, measure = _measure(scores)
        place = np.arange(len(scores))[::-1]
        train, heldout = ([getattr(score, name) for score in scores] for name in (key.replace("heldout", "train"), key))
        colours = [style.COLOURS[0] if k < 2 else style.GREY for k in range(len(scores))]
        form = ".1%" if key == "heldout_error" else ".3f"
        panel.hlines(place, train, heldout, color=style.GRID, lw=2.5, zorder=1)
        panel.scatter(train, place, s=36, facecolors=style.PAPER, edgecolors=colours, lw=1.4, zorder=2)
        panel.scatter(heldout, place, s=36, color=colours, zorder=3)
        for y, value in zip(place, heldout, strict=True):
            text = number(value, form)
            panel.annotate(text, (value, y), (7, 0), textcoords="offset points", va="center", fontsize=9.5)
        panel.set_yticks(place, [score.model for score in scores])
        panel.set(xlabel=measure, ylim=(-0.6, len(scores) - 0.4))
        panel.grid(axis="y", visible=False)
        panel.margins(x=0.18)
        ours, theirs = (number(value, form) for value in (heldout[0], _best(scores, key)[1]))
        panel.set_title(f"{_prefix(label)}held out {ours}, best other {theirs}")
    looks = {"training": style.PAPER, "held out": style.GREY}
    handles = [
        Line2D([], [], ls="", marker="o", ms=6, mec=style.GREY, mfc=filled, label=name)
        for name, filled in looks.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9.5)
    return figure
