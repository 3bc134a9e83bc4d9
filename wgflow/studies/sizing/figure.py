"""Depths and widths that meet a target: phase diagram, and failure probability along its columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from wgflow.base.errors import InputError
from wgflow.base.types import Spec
from wgflow.base.verdict import Claim, Verdict
from wgflow.report import style
from wgflow.report.figure import Plan, Result, TableText, as_sentence, figure
from wgflow.stats.exceedance import ALPHA, FAILS, MEETS, UNDECIDED, detectable, min_seeds, monotonicity_violations
from wgflow.stats.extrapolation import MIN_LEVELS, failure_probability
from wgflow.studies.depth_width.requires import AXES, by_coupling, by_size, layer_grid, sides
from wgflow.studies.sizing.reduce import NO_TARGET, Sizing, rows, summarise

_COLOUR = {MEETS: style.COLOURS[2], FAILS: style.COLOURS[1], UNDECIDED: style.GREY}
_RISES = 0.05  # p-value below which a larger network that fails more often is mentioned


MET = Claim(
    "target_met", "p-value", "<=", "level",
    holds="the smallest network shown to meet {target} has L = {depth}, M_l = {width}, {depth_times_width} particles",
    fails="no network on the grid is shown to meet {target}: the first in the fixed order of testing, L = {depth}, "
    "M_l = {width}, is not",
    unknown="no network was tested for {target}",
)  # fmt: skip

MONOTONE = Claim(
    "larger_fails_more_often", "p-value, corrected for all neighbouring sizes", "<", "",
    holds="L = {larger[0]}, M_l = {larger[1]} fails more often than L = {smaller[0]}, M_l = {smaller[1]} "
    "(p = {left:.2g})",
    fails="no network fails significantly more often than a smaller neighbour",
    unknown="networks of neighbouring sizes were not compared",
)  # fmt: skip


def grid_and_one_coupling(plan: Plan) -> None:
    """A grid over L and M_l that a law with four constants can be fitted to, and one coupling."""
    if len(by_coupling(plan)) > 1:
        raise InputError(f"grid.particles.coupling: expected one coupling to draw {plan.figure!r}, got several")
    sizes = by_size(plan.members)
    for (what, key), seen in zip(AXES, sides(sizes), strict=True):
        if len(seen) < MIN_LEVELS:
            raise InputError(
                f"grid.{key}: expected at least {MIN_LEVELS} {what} to draw {plan.figure!r}, got {seen}: too few to "
                f"tell a law of E by; enlarge the grid"
            )
    fewest = min(map(len, sizes.values()))
    if fewest < 4:
        raise InputError(f"grid.seed: expected at least 4 seeds to draw {plan.figure!r}, got {fewest}")


def target_and_seeds(plan: Plan) -> None:
    """A target, and as many seeds as could ever show that it is met."""
    if plan.target is None:
        raise InputError(NO_TARGET)
    seeds, least = len({planned.member.seed for planned in plan.members}), min_seeds(plan.target.eta)
    if seeds < least:
        raise InputError(
            f"grid.seed: expected at least {least} seeds for target.eta = {plan.target.eta:g}, got {seeds}: even "
            f"without a single failure {seeds} could not show it; give more, or raise target.eta"
        )


def rows_in_words(rows: Sequence[Spec]) -> list[Spec]:
    """Sizes with how many seeds miss the target."""
    return [
        {
            "L": row["layers"],
            "M_l": row["per_layer"],
            "particles": row["particles"],
            "mean E": row["mean_energy"],
            "miss it": f"{row['failed']} of {row['seeds']}",
            "95% interval": f"{row['low']:.2f} to {row['high']:.2f}",
            "this size alone": row["verdict"] + (_more_seeds(row) if row["verdict"] == UNDECIDED else ""),
            "sequence": f"{row['order']}: {_in_sequence(row)}" if row["order"] else "",
            "predicted": f"{row['predicted']:.2f}",
        }
        for row in rows
    ]


def _in_sequence(row: Spec) -> str:
    return {True: "meets", False: "not shown", None: "not tested"}[row["passed"]]


def _more_seeds(row: Spec) -> str:
    return f" ({row['needed']} seeds)" if row["needed"] else " (at η)"


@figure(
    "sizing", summarise, needs=(layer_grid, grid_and_one_coupling, target_and_seeds), particles=False,
    tables={"sizing": TableText("Sizes", rows_in_words)},
)  # fmt: skip
def sizing(found: Sizing) -> Result:
    """Failure probabilities over L and M_l against the target, and the smallest size that meets it."""
    law = "M_l" if found.model.coupling == "path" else "L M_l"
    caption = (
        f"Left: networks of every size over {len(found.energies)} seeds, how many end above ε, and what the "
        "Clopper-Pearson bounds (95%) say of each size alone, which errs at 5% each; dashed: sizes tested one after "
        "the other from the largest down, until one is not shown to meet the target (cross), which errs at 5% "
        "altogether; solid: where the fitted model puts the probability η; dotted: sizes of as many particles as the "
        "smallest shown to meet it. Right: probability of ending above ε with "
        "95% intervals, one colour for each L, and the model: E normal in the "
        f"{found.model.scale} scale with mean E_inf + a/L + b/{law} and variance c^2/{law}."
    )
    said = [verdict(found), *monotone(found)]
    return Result(_answer(found), caption, lambda: _draw(found), {"sizing": list(rows(found))}, said)


def _answer(found: Sizing) -> str:
    """Observation, prediction and the theorem's bound, in words."""
    seen = _tested(found)
    predicted = found.answer.text
    bound = f" The theorem's form, {found.bound.text}." if found.bound else ""
    more = "".join(f" {as_sentence(odd)}" for odd in monotone(found) if odd.holds)
    return f"{seen} {predicted[0].upper()}{predicted[1:]}.{bound}{more}"


def monotone(found: Sizing) -> list[Verdict]:
    """Larger networks that fail significantly more often than a smaller neighbour, or that there are none."""
    odd = monotonicity_violations(found.energies, found.sizes, found.eps)
    said = [MONOTONE(each.p, _RISES, larger=each.larger, smaller=each.smaller) for each in odd]
    return [each for each in said if each.holds] or [MONOTONE(min((each.p for each in odd), default=1.0), _RISES)]


def verdict(found: Sizing) -> Verdict:
    """Whether a network is shown to meet the target, by the p-value of the last to pass or, if none did, the first."""
    tested = found.phase.tested
    place = max(tested.passed - 1, 0)
    depth, width = tested.order[place]
    target = f"P(E > {found.eps:g}) ≤ {found.eta:g} at s = {found.s:g}"
    return MET(float(tested.p[place]), ALPHA, target=target, depth=depth, width=width, depth_times_width=depth * width)


def _tested(found: Sizing) -> str:
    """Smallest size shown to meet the target, with the error rate of the test that names it, and its power."""
    tested, decided = found.phase.tested, str(verdict(found))
    seeds = len(found.energies)
    said = f"{decided[0].upper()}{decided[1:]}; {_missed(found, tested.smallest or tested.order[0])}."
    if tested.smallest:
        said += (
            f" It is the last to pass of {len(tested.order)} sizes tested in a fixed order from L = "
            f"{tested.order[0][0]}, M_l = {tested.order[0][1]} down"
        )
        if tested.stopped:
            stopped = f"L = {tested.stopped[0]}, M_l = {tested.stopped[1]} ({_missed(found, tested.stopped)})"
            said += f", the first not to pass being {stopped}"
        said += f": for a target set before the runs, at most {ALPHA:.0%} of studies name a size that does not meet it."
    else:
        first = _place(found, tested.order[0])
        if found.phase.verdict[first] == UNDECIDED and np.isfinite(found.phase.needed[first]):
            said += f" About {int(found.phase.needed[first])} seeds would decide."
    within = detectable(seeds, found.eta)
    said += " Probabilities are over initial particles, for these data."
    return f"{said} With {seeds} seeds a size passes in 80% of studies if P(E > ε) is {within:.2g}."


def _place(found: Sizing, size: tuple[int, int]) -> tuple[int, int]:
    """Indices of an L and an M_l."""
    return found.sizes.depths.index(size[0]), found.sizes.widths.index(size[1])


def _missed(found: Sizing, size: tuple[int, int]) -> str:
    at = _place(found, size)
    return f"{found.failures.failed[at]} of {found.failures.seeds[at]} seeds miss it"


def _draw(found: Sizing) -> Figure:
    figure, (left, right) = style.panels(2, width=6.0, height=4.6)
    _draw_diagram(left, found)
    _draw_columns(right, found)
    return figure


def _draw_diagram(axes: Axes, found: Sizing) -> None:
    """Cells of the grid by verdict, the model's line of probability eta, the hyperbola of the smallest size."""
    sizes, counted = found.sizes, found.failures
    image = np.ones((len(sizes.widths), len(sizes.depths), 4))
    for (i, j), verdict in np.ndenumerate(found.phase.verdict):
        if verdict:
            image[j, i] = to_rgba(_COLOUR[str(verdict)], 0.28)
            text = f"{counted.failed[i, j]}/{counted.seeds[i, j]}"
            halo = [withStroke(linewidth=3, foreground=to_rgba(style.PAPER, 0.8))]
            axes.text(i, j, text, ha="center", va="center", fontsize=9.5, zorder=5, path_effects=halo)
        else:
            image[j, i, 3] = 0.0
    axes.imshow(image, origin="lower", aspect="auto", interpolation="nearest")
    fine, grids = [], []
    for axis in (sizes.depths, sizes.widths):
        fine.append(np.linspace(0, len(axis) - 1, 80))
        grids.append(np.exp(np.interp(fine[-1], np.arange(len(axis)), np.log(axis))))
    probability = failure_probability(found.model, found.eps, grids[0][:, None], grids[1][None, :])[0]
    if probability.min() < found.eta < probability.max():
        axes.contour(*fine, probability.T, [found.eta], colors=[style.INK], linewidths=1.6)
    tested = found.phase.tested
    walked = np.array([_place(found, size) for size in tested.order[: tested.passed + 1]])
    axes.plot(*walked.T, color=style.GREY, lw=1.3, ls=(0, (4, 2)), zorder=2)
    if tested.stopped:
        axes.plot(*walked[-1], marker="x", ms=22, color=style.GREY, mew=1.1, alpha=0.7, zorder=2, ls="")
    handles = [Line2D([], [], color=style.INK, label=f"predicted probability {found.eta:g}")]
    handles.append(Line2D([], [], color=style.GREY, lw=1.3, ls=(0, (4, 2)), label="order of testing"))
    if tested.stopped:
        handles.append(Line2D([], [], color=style.GREY, marker="x", ms=9, ls="", label="first not shown to meet"))
    handles += [
        Line2D([], [], color=colour, alpha=0.4, marker="s", ms=9, ls="", label=verdict)
        for verdict, colour in _COLOUR.items()
    ]
    if found.phase.smallest:
        depth, width = found.phase.smallest
        axes.plot(*_place(found, (depth, width)), marker="s", ms=30, mfc="none", mec=style.INK, mew=1.6)
        same = np.interp(np.log(depth * width / grids[0]), np.log(sizes.widths), np.arange(len(sizes.widths)))
        inside = (depth * width / grids[0] >= sizes.widths[0]) & (depth * width / grids[0] <= sizes.widths[-1])
        axes.plot(fine[0][inside], same[inside], color=style.GREY, lw=1.1, ls=(0, (1, 2)))
        handles.append(
            Line2D([], [], color=style.INK, marker="s", mfc="none", ms=9, ls="", label="smallest shown to meet")
        )
        handles.append(Line2D([], [], color=style.GREY, lw=1.1, ls=(0, (1, 2)), label="as many particles"))
    axes.grid(visible=False)
    axes.set(xlabel="layers $L$", ylabel="particles of a layer $M_l$")
    axes.set_xticks(range(len(sizes.depths)), list(map(str, sizes.depths)))
    axes.set_yticks(range(len(sizes.widths)), list(map(str, sizes.widths)))
    axes.set_title(f"Which sizes meet $P(E > {found.eps:g}) \\leq {found.eta:g}$?")
    axes.legend(handles=handles, fontsize=9, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.14))


def _draw_columns(axes: Axes, found: Sizing) -> None:
    """Probability against M_l for every L, observed and by the model."""
    sizes, counted = found.sizes, found.failures
    fine = np.geomspace(sizes.widths[0], sizes.widths[-1], 200)
    colours = style.sequential_colours(len(sizes.depths))
    for i, (depth, colour) in enumerate(zip(sizes.depths, colours, strict=True)):
        axes.plot(fine, failure_probability(found.model, found.eps, depth, fine)[0], color=colour, lw=1.3)
        there = counted.seeds[i] > 0
        x = np.array(sizes.widths)[there] * (1 + 0.03 * (i - (len(sizes.depths) - 1) / 2))
        rate, low, high = (each[i][there] for each in (counted.rate, counted.low, counted.high))
        axes.errorbar(
            x, rate, [rate - low, high - rate], fmt="o", color=colour, ms=4.5, lw=0.9, capsize=2, label=str(depth)
        )
    axes.axhline(found.eta, color=style.GREY, lw=1.1, ls=(0, (4, 3)), zorder=1)
    axes.annotate(r"$\eta$", (0.01, found.eta), (0, 3), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                  color=style.GREY)  # fmt: skip
    style.particle_axis(axes, sizes.widths, "particles of a layer $M_l$")
    axes.set(ylabel=f"$P(E > {found.eps:g})$", ylim=(-0.03, 1.03))
    axes.set_title("How does the risk change with width and depth?")
    axes.legend(title="$L$", fontsize=9, loc="upper right")
