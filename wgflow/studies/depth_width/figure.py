"""Distance of finite networks to their limit in depth and width: of outputs, and of particles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wgflow.base.types import Array, Spec
from wgflow.base.verdict import Claim, Verdict
from wgflow.report import style
from wgflow.report.figure import FILE_ALONE, Result, TableText, figure
from wgflow.report.wording import interval, number
from wgflow.stats.convergence_rates import Estimate, Interval
from wgflow.stats.trends import best_law, decay, trend
from wgflow.studies.depth_width.particle_distances import particle_distances
from wgflow.studies.depth_width.reduce import Family, FamilyFit, energies, laws, rows
from wgflow.studies.depth_width.requires import draws_and_reference, layer_grid
from wgflow.studies.requirements import observes

_SHOWN = 0.005  # exponents below it print as 0
_GAIN = {"path": 0.0, "independent": 0.5}  # exponent in L of the fluctuations, by theory
NEARER = Claim(
    "larger_network_nearer", "distance of {largest} per parameter", "<", "of {smallest}",
    holds="the particles of L, M_l = {largest} end nearer to themselves in the reference than those of {smallest}: "
    "{large} against {small} per parameter",
    fails="the particles of L, M_l = {largest} end no nearer to themselves in the reference than those of {smallest}: "
    "{large} against {small} per parameter",
    unknown="how far the particles of L, M_l = {largest} and {smallest} end from themselves in the reference is not "
    "known",
)  # fmt: skip
_WIDE, _DEEP = "particles of a layer $M_l$", "layers $L$"


def exponents_in_words(rows: Sequence[Spec]) -> list[Spec]:
    """Exponents at the last flow time."""
    return [
        {
            "start": row["coupling"],
            "s": row["s"],
            "of": row["quantity"],
            "exponent": row["no_rate"] or f"{row['exponent']:.2f}",
            "95% interval": "" if row["no_rate"] or row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}",
        }
        for row in rows
        if row["s"] == rows[-1]["s"]
    ]


@figure(
    "depth_width", laws, needs=(observes("outputs"), layer_grid, draws_and_reference), particles=False,
    tables={
        "depth_width": TableText("Exponents at the last flow time", exponents_in_words),
        "depth_width_energy": FILE_ALONE,
    },
)  # fmt: skip
def depth_width(found: list[tuple[Family, list[FamilyFit]]]) -> Result:
    """Distance of the outputs to those of the reference over L and M_l, with exponents and the law that predicts it."""
    depth, width = found[0][0].largest
    caption = (
        "At the last flow time. Left: root mean square over draws, samples and outputs of the distance to the outputs "
        f"of L = {depth}, M_l = {width}, one colour for each L; lines: the law that best predicts sizes left out of a "
        "fit. Middle: the error of depth alone (paths: distance to the deepest network of the same paths; independent "
        "layers: norm of the mean over draws of the distance to the reference), with 95% intervals and the fitted "
        "power of 1/L - 1/L_ref. Right: standard deviation over draws; grey: what theory has. "
        "Bounds of Ding, Chen, Li and Wright (2021), Theorem 5.1, and Chizat (2025)."
    )
    tables = {
        "depth_width": list(rows(found)),
        "depth_width_energy": [row for family, _ in found for row in energies(family)],
    }
    said = [verdict for family, at in found for verdict in verdicts(family, at[-1])]
    return Result(_answer(found), caption, lambda: _draw(found), tables, said)


def _answer(found: Sequence[tuple[Family, list[FamilyFit]]]) -> str:
    out = []
    for family, at in found:
        width, depth, gain, law = verdicts(family, at[-1])
        alone = ""
        if family.coupling == "path" and at[-1].depth.rate and np.isfinite(at[-1].alone):
            alone = f", to the reference with all of its paths like L{_power(at[-1].alone)}"
        out.append(f"{_start(family.coupling)} at s = {at[-1].s:g} {width}; {depth}{alone}; {gain}; {law}.")
    return " ".join([*out, "Intervals cover initial particles, for these data and this reference."])


def verdicts(family: Family, found: FamilyFit) -> list[Verdict]:
    """Claims on width, on depth, on the fluctuation over draws, and on the law that predicts best."""
    size = "M_l" if family.coupling == "path" else "(L M_l)"
    exponent, rate = found.fitted.exponents[1], found.depth.rate
    alone = f"the mean over draws at M_l = {found.depth_width}"
    if family.coupling == "path":
        alone = f"to the deepest network of the same {found.depth_width} paths a layer"
    return [
        trend(exponent, "the outputs' distance to the reference", f"{size}{_interval(exponent)} in width"),
        decay(rate, f"that of depth alone ({alone})", f"L{_interval(Interval(*rate[:3]))}"),
        found.gain.verdict,
        best_law(found.chosen),
    ]


def _start(coupling: str) -> str:
    return "With one path through all layers" if coupling == "path" else "With independent layers"


def _interval(each: Interval) -> str:
    low, high = sorted((-each.low + 0.0, -each.high + 0.0))
    return _power(each.value) + (f" ({low:.2f} to {high:.2f})" if np.isfinite(high - low) else "")


def _power(exponent: float) -> str:
    """Power of a decay with that exponent."""
    if not np.isfinite(exponent):
        return "^?"
    return f"^{-exponent:.2f}" if abs(exponent) >= _SHOWN else "^0.00"


def _draw(found: Sequence[tuple[Family, list[FamilyFit]]]) -> Figure:
    figure, axes = style.panels(3, width=4.9, height=4.0, rows=len(found))
    for row, (family, at) in enumerate(found):
        left, middle, right = axes[3 * row : 3 * row + 3]
        last = at[-1]
        _over_sizes(left, family, last)
        name, size = ("paths", "M_l") if family.coupling == "path" else ("independent layers", "(L M_l)")
        power = _power(last.fitted.exponents[1].value)[1:]
        left.set_title(f"{name}: error of width ~ ${size}^{{{power}}}$")
        _against_depth(middle, last.depth)
        rate = last.depth.rate
        middle.set(ylabel="error of depth", xlabel=f"{_DEEP} ($M_l$ = {last.depth_width})")
        middle.set_title(f"error of depth ~ $L^{{-{rate.exponent:.2f}}}$" if rate else "error of depth: no rate")
        _gained(right, family, last)
    return figure


def _over_sizes(axes: Axes, family: Family, found: FamilyFit) -> None:
    """Rms distance at every size, and the law."""
    sizes, fit = family.sizes(), found.law
    colours = style.sequential_colours(len(sizes.depths))
    for k, (depth, colour) in enumerate(zip(sizes.depths, colours, strict=True)):
        axes.plot(sizes.widths, fit.rms[k], "o", color=colour, ms=4.5, label=str(depth))
        axes.plot(sizes.widths, fit.predicted[k], color=colour, lw=1.2)
    axes.set_yscale("log")
    style.particle_axis(axes, sizes.widths, _WIDE)
    axes.set_ylabel("rms distance of the outputs")
    axes.legend(title="$L$", ncols=2, fontsize=9, loc="lower left", handletextpad=0.1, columnspacing=0.8)


def _against_depth(axes: Axes, found: Estimate) -> None:
    """Error of depth with intervals, the fitted line, and 1/L in grey."""
    n, value, colour = np.array(found.sizes, float), found.value, style.COLOURS[0]
    low = np.clip(np.nan_to_num(found.low), 0.02 * np.abs(value), None)
    bars = [value - np.minimum(low, value), np.nan_to_num(found.high - value)]
    there = value > 0
    look: Any = {"fmt": "o", "color": colour, "ms": 5, "lw": 1.1, "capsize": 2.5, "zorder": 3}
    axes.errorbar(n[there], value[there], [each[there] for each in bars], **look)
    if not there.all():  # what is not above 0 has no place on a logarithmic axis, but the end of its interval has
        ends = np.where(np.isfinite(found.high), found.high, np.nan)[~there]
        axes.plot(n[~there], ends, "v", color=colour, ms=5, mfc="none", label="upper end, estimate ≤ 0")
        axes.legend(fontsize=9)
    if found.rate:
        axes.plot(n, found.rate.constant * n**-found.rate.exponent, color=colour, lw=1.3)
    axes.plot(n, value[0] * n[0] / n, color=style.GREY, lw=1.2, ls=(0, (4, 3)), zorder=1)
    if value[0] > 0:
        axes.annotate("$1/L$", (n[1], value[0] * n[0] / n[1]), (-26, -12), textcoords="offset points", color=style.GREY)
    axes.set_yscale("log")
    style.particle_axis(axes, found.sizes, _DEEP)


def _gained(axes: Axes, family: Family, found: FamilyFit) -> None:
    """Fluctuation over draws against L, with the theoretical power."""
    gain, power = found.gain, _GAIN.get(family.coupling, 0.0)
    n = np.array(gain.depths, float)
    guide = gain.spread[0] * (n / n[0]) ** -power
    axes.plot(n, guide, color=style.GREY, lw=1.2, ls=(0, (4, 3)), zorder=1)
    text = "$L^{-1/2}$" if power else "no gain"
    place = (n[1], guide[1]) if power else (n[0], guide[0])
    axes.annotate(text, place, (-30, -16) if power else (0, 8), textcoords="offset points", color=style.GREY)
    axes.plot(n, gain.spread, "o", color=style.COLOURS[1], ms=5)
    axes.set_yscale("log")
    if np.isfinite(gain.spread).all():
        axes.set_ylim(min(gain.spread.min(), guide.min()) / 2, gain.spread.max() * 2)
    style.particle_axis(axes, gain.depths, f"{_DEEP} ($M_l$ = {gain.width})")
    axes.set_ylabel("standard deviation over draws")
    axes.set_title(f"$L$ from {gain.depths[0]} to {gain.depths[-1]}: fluctuation ÷ {interval(*gain.factor)}")


@figure(
    "depth_width_clouds", particle_distances, needs=(layer_grid, draws_and_reference),
    tables={"depth_width_clouds": FILE_ALONE},
)  # fmt: skip
def distances(rows: list[Spec]) -> Result:
    """Distances between the particles of finite networks and the same ones in the reference; smoothness in depth."""
    caption = (
        "At the last flow time. Left and middle: root mean square per parameter of the distance between the particles "
        "of a network and the same particles in the reference (circles), and the conditional Wasserstein distance of "
        "the two clouds, which forgets which is which (triangles): they coincide where no particle comes nearer to "
        "another's place than to its own. Against M_l at the largest L, against L at the largest M_l of the grid; "
        "grey: power 1/2. Right: L times the rms step of a particle from layer to layer, which stays as L grows where "
        "particles run smoothly through depth; the reference is the last point. The table has d1, the largest distance "
        "of a layer, at the last flow time and the largest d1 of all recorded ones, a lower bound of d2, which is the "
        "supremum over all flow times."
    )
    said = list(verdicts_of_distances(rows).values())
    tables = {"depth_width_clouds": rows}
    return Result(_finding_of_distances(rows), caption, lambda: _draw_distances(rows), tables, said)


def verdicts_of_distances(rows: Sequence[Spec]) -> dict[str, Verdict]:
    """Whether the particles of the largest network end nearer to the reference's than the smallest's, by coupling."""
    out = {}
    for coupling in dict.fromkeys(row["coupling"] for row in rows):
        near = [row for row in rows if row["coupling"] == coupling and "coupled" in row]
        if near:
            largest, smallest = (end(near, key=lambda row: row["layers"] * row["per_layer"]) for end in (max, min))
            names = {"largest": _name(largest), "smallest": _name(smallest)}
            numbers = {"large": number(largest["coupled"]), "small": number(smallest["coupled"])}
            out[coupling] = NEARER(largest["coupled"], smallest["coupled"], **names, **numbers)
    return out


def _finding_of_distances(rows: Sequence[Spec]) -> str:
    out = []
    for coupling, verdict in verdicts_of_distances(rows).items():
        holder = next(row for row in rows if row["coupling"] == coupling).get("holder")
        smooth = f"; along depth the reference's have a Hölder exponent of {holder:.2f}" if holder is not None else ""
        out.append(f"{_start(coupling)} {verdict.sentence}{smooth}.")
    return " ".join(out) or "No network is a sub-sample of the reference, so its particles have no twins there."


def _name(row: Spec) -> str:
    return f"{row['layers']}, {row['per_layer']}"


def _draw_distances(rows: Sequence[Spec]) -> Figure:
    figure, (left, middle, right) = style.panels(3, width=4.9, height=4.0)
    couplings = list(dict.fromkeys(row["coupling"] for row in rows))
    near = [row for row in rows if "coupled" in row]
    if not near:
        for axes in (left, middle):
            style.empty_panel(axes, "no sub-samples of the reference")
    for k, coupling in enumerate(couplings):
        colour, mine = style.COLOURS[k], _grid([row for row in near if row["coupling"] == coupling])
        if mine:
            deepest = [row for row in mine if row["layers"] == max(each["layers"] for each in mine)]
            common = max(row["per_layer"] for row in deepest)
            _of(left, deepest, "per_layer", _WIDE, colour)
            _of(middle, [row for row in mine if row["per_layer"] == common], "layers", _DEEP, colour)
        smooth = [row for row in rows if row["coupling"] == coupling and "lipschitz" in row]
        depths, values = _means(smooth, "layers", "lipschitz")
        right.plot(depths, values, "o-", color=colour, ms=4.5, lw=1.2)
    for axes in (left, middle):
        axes.set_ylabel("distance per parameter")
        axes.set_yscale("log")
    style.particle_axis(right, [row["layers"] for row in rows if "lipschitz" in row], _DEEP)
    right.set(yscale="log", ylabel=r"$L\,(E|\theta_{l+1}-\theta_l|^2)^{1/2}$")
    left.set_title("Do wider networks move as the limit does?")
    middle.set_title("Does depth bring particles nearer?")
    right.set_title("Do particles run smoothly through depth?")
    named = [Line2D([], [], color=style.COLOURS[k], label=each) for k, each in enumerate(couplings)]
    kinds = {"o": "same particles", "^": "clouds ($W_2$)"}
    markers = [
        Line2D([], [], color=style.GREY, marker=marker, mfc="none", ls="", label=kind) for marker, kind in kinds.items()
    ]
    guide = Line2D([], [], color=style.GREY, lw=1.0, ls=(0, (4, 3)), label="power −1/2")
    left.legend(handles=[*named, *markers, guide], fontsize=9.5)
    right.legend(handles=named)
    return figure


def _grid(rows: Sequence[Spec]) -> list[Spec]:
    """Rows of the sizes with the most draws; the others serve one error alone."""
    draws = {_name(row): sum(_name(each) == _name(row) for each in rows) for row in rows}
    return [row for row in rows if draws[_name(row)] == max(draws.values())]


def _of(axes: Axes, rows: Sequence[Spec], key: str, label: str, colour: str) -> None:
    """Two distances against L or M_l, with a guide of power 1/2."""
    for name, marker in (("coupled", "o"), ("conditional", "^")):
        sizes, values = _means(rows, key, name)
        axes.plot(sizes, values, marker, color=colour, ms=4.5 if marker == "o" else 7, mfc="none", ls="-", lw=1.1)
    style.particle_axis(axes, [int(size) for size in sizes], label)
    axes.plot(sizes, values[0] * (sizes / sizes[0]) ** -0.5, color=style.GREY, lw=1.0, ls=(0, (4, 3)), zorder=1)


def _means(rows: Sequence[Spec], key: str, value: str) -> tuple[Array, Array]:
    """Root mean squares over rows of one size, by size."""
    sizes = sorted({row[key] for row in rows})
    squares = [np.mean([row[value] ** 2 for row in rows if row[key] == size]) for size in sizes]
    return np.array(sizes, float), np.sqrt(np.array(squares))
