"""The hidden width of deep residual networks: output errors over L and M."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wgflow.base.errors import InputError
from wgflow.report import style
from wgflow.report.figure import Plan, Result, as_sentence, figure
from wgflow.report.member_selection import evenly_spaced
from wgflow.report.wording import interval, share, span
from wgflow.stats.convergence_rates import MIN_SEEDS, Interval
from wgflow.stats.trends import best_law
from wgflow.studies.hidden_width import claims
from wgflow.studies.hidden_width.reduce import HAND_FIT, Errors, data_rows, error_rows, errors, law_rows
from wgflow.studies.requirements import at_least, observes, of_members, only_varies, unmet
from wgflow.study.grid import RunPlan

_DATA = "problem.seed"
_VARIED = ("depth.layers", "particles.per_layer", "seed", _DATA)
_LEAST = {"depth.layers": 2, "particles.per_layer": 2}  # values, enough to fit two constants
_SHOWN = 4  # curves in a panel at most
_LEGIBLE = 60  # points of a line
_DASHED, _DOTTED = (0, (5, 2)), (0, (1.5, 1.5))


@of_members
def whole_states_in_layers(name: str, planned: RunPlan) -> None:
    """Networks of whole states in layers of a stated width."""
    table = planned.member
    if table.depth.name != "layers" or table.particles.per_layer is None or table.samples.state != "whole":
        raise InputError(
            f"figure: expected depth.name = layers, particles.per_layer and problem.state = whole to draw {name!r}, "
            f"got {table.depth.name}, {table.particles.per_layer} and {table.samples.state}"
        )


def enough_draws(plan: Plan) -> None:
    """As many draws of the data, or initialisations of one, as intervals need."""
    data = {_data_of(planned) for planned in plan.fitted}
    seeds = {planned.member.seed for planned in plan.fitted}
    if len(data) > 1 and len(data) < MIN_SEEDS:
        raise unmet(plan.figure, f"grid.{_DATA}", f"one value or at least {MIN_SEEDS}", f"{len(data)}; add some")
    if len(data) == 1 and len(seeds) < MIN_SEEDS:
        raise unmet(plan.figure, "grid.seed", f"at least {MIN_SEEDS} values for one {_DATA}", f"{len(seeds)}; add some")


def _data_of(planned: RunPlan) -> int:
    return int(getattr(planned.member.problem, "seed", 0))


def independent_reference(plan: Plan) -> None:
    """For every draw of the data one reference of another seed that is no smaller, and independent layers."""
    limits = {_data_of(planned): planned for planned in plan.references}
    missing = {_data_of(planned) for planned in plan.fitted} - limits.keys()
    if missing:
        raise InputError(
            f"reference.{_DATA}: expected those of the grid to draw {plan.figure!r}, got none of {min(missing)}; add it"
        )
    if len(plan.references) != len(limits):
        raise InputError(
            f"reference: expected one network for each {_DATA} to draw {plan.figure!r}, got {len(plan.references)} for "
            f"{len(limits)}"
        )
    for limit in plan.references:
        for key in ("depth.layers", "particles.per_layer"):
            largest = max(planned.values[key] for planned in plan.members)
            if limit.values[key] < largest:
                raise InputError(
                    f"reference.{key}: expected at least {largest}, got {limit.values[key]}; set it to that"
                )
        if any(planned.member.seed == limit.member.seed for planned in plan.fitted):
            raise InputError(
                "reference.seed: expected one that the grid has not, since draws of one seed are nested, got "
                f"{limit.member.seed} in both; set reference.seed = 1000"
            )
    if any(planned.member.particles.coupling != "independent" for planned in plan.members):
        raise InputError(f"particles.coupling: expected independent to draw {plan.figure!r}, got path")


@figure(
    "hidden_width", errors, particles=False,
    needs=(
        whole_states_in_layers, only_varies(*_VARIED), observes("outputs"), at_least(_LEAST), enough_draws,
        independent_reference,
    ),
)  # fmt: skip
def hidden_width(found: Errors) -> Result:
    """Output error against L, against M and against L M, with the law fitted to all sizes, and its constants.

    Curves of several M; of several L; all sizes, and the width term alone; constants of every draw of the data.
    """
    sizes = found.sizes
    assert sizes.reference is not None
    depth, width = sizes.reference
    rows = f"draws of the data with {_times(found.initialisations, 'initialisation')} of each size"
    whole = f"{found.data} {rows}" if found.data > 1 else f"{len(found.squares)} initialisations of each size"
    kept = "draws of the data, each" if found.data > 1 else "initialisations of the one draw of the data, each"
    caption = (
        f"Root mean square over {whole}, samples and outputs of h − h_ref at s = {found.s:g}, the reference having L = "
        f"{depth:g} and M = {width:g}. Lines: c1 √(D/(LM)) + c2/L (arXiv:2509.10167), D = {sizes.dimension}, fitted to "
        f"the logarithms at all sizes at once; 95% intervals from the bootstrap over whole {kept} with all its sizes; "
        "they cover neither the reference's own fluctuation nor a law's own misfit. Dotted: the two terms added in "
        "squares. Third panel: dashed, the width term alone. Fourth: the constants, fitted to all draws with intervals "
        "and to each draw of the data alone. Grey lines and cross: the paper's code draws lines of the first kind with "
        f"c1 = {HAND_FIT[0]} and c2 = {HAND_FIT[1]}, set by hand for its own data. The table has the fit with the "
        "reference's own error in the law, too."
    )
    tables = {"errors": list(error_rows(found)), "law": list(law_rows(found)), "data": list(data_rows(found))}
    return Result(_finding(found), caption, lambda: _draw_errors(found), tables, claims.verdicts(found))


def _finding(found: Errors) -> str:
    root = found.sizes.dimension**0.5
    deeper = f"; without L = {found.sizes.depths[0]}, c2 = {_estimate(found.deeper.depth)}" if found.deeper else ""
    off = dict(zip(found.choice.laws, np.expm1(np.sqrt(found.choice.score)), strict=True))
    return (
        f"{as_sentence(claims.shrinks(found))} {as_sentence(claims.near(found))[:-1]}{deeper}. It predicts sizes left "
        f"out of the fit to {share(off['additive'])}, its terms added in squares predict them to "
        f"{share(off['independent'])}: {best_law(found.choice).sentence}. In squares c1 = "
        f"{_estimate(found.squared.width, root)} and c2 = {_estimate(found.squared.depth)}. {_covered(found)} "
        f"{_by_hand(found)}"
    )


def _times(count: int, noun: str) -> str:
    return f"{'one' if count == 1 else count} {noun}{'' if count == 1 else 's'}"


def _covered(found: Errors) -> str:
    """What the intervals cover, and how far the draw of the data alone moves the constants."""
    if found.data == 1:
        return f"Intervals cover {len(found.squares)} initialisations of one draw of the data, not other data."
    several = "" if found.initialisations == 1 else f", {found.initialisations} of each"
    return (
        f"Intervals cover the draw of the data and of initial weights ({found.data} draws{several}); single draws of "
        f"the data give c1 = {span(found.single[:, 0])} and c2 = {span(found.single[:, 1])}."
    )


def _by_hand(found: Errors) -> str:
    """The constants of the paper's code compared with the fit."""
    rms = found.letter.rms
    there = np.isfinite(rms)
    factor = np.exp(np.sqrt(np.mean(np.log(rms[there] / found.by_hand(*found.sizes.grid)[there]) ** 2)))
    inside = " and ".join(verdict.sentence for verdict in claims.by_hand(found))
    return (
        f"Of the constants set by hand in the paper's code for its own data {inside}; they miss these errors by a "
        f"factor of {factor:.2g} in the mean."
    )


def _estimate(found: Interval, unit: float = 1.0) -> str:
    return interval(found.value / unit, found.low / unit, found.high / unit, ".3g")


def _draw_errors(found: Errors) -> Figure:
    figure, (left, middle, right, constants) = style.panels(2, width=5.6, rows=2)
    _curves(left, found, along_depth=True)
    left.set(xlabel="depth $L$", ylabel=f"rms of $h - h_{{ref}}$ at $s = {found.s:g}$")
    left.set_title(f"More depth: {claims.along(found.letter.rms, 'width').sentence}")
    _curves(middle, found, along_depth=False)
    middle.set_xlabel("width $M$")
    middle.set_title(f"More width: {claims.stops(found).sentence}")
    _together(right, found)
    right.set_ylabel(left.get_ylabel())
    right.set_title(claims.traded(found).sentence)
    for panel in (middle, right):
        panel.set_ylim(left.get_ylim())
    _constants(constants, found)
    return figure


def _constants(axes: Axes, found: Errors) -> None:
    """c1 and c2 of every draw of the data, of all of them with intervals, and of the paper's code."""
    if found.data > 1:
        axes.plot(*found.single.T, "o", ms=5, color=style.COLOURS[1], alpha=0.8, label="single draws of the data")
    law = found.letter
    ends = [[[each.value - each.low], [each.high - each.value]] for each in (law.width, law.depth)]
    axes.errorbar(
        law.width.value, law.depth.value, np.nan_to_num(ends[1]), np.nan_to_num(ends[0]), fmt="s", ms=6,
        color=style.INK, lw=1.4, capsize=3, label="all draws, 95%" if found.data > 1 else "all initialisations, 95%",
    )  # fmt: skip
    axes.plot(*HAND_FIT, "X", ms=10, color=style.GREY, label="the paper's, by hand")
    top = max(HAND_FIT[1], law.depth.value, float(np.nanmax(found.single[:, 1], initial=0.0)))
    axes.set(xlabel="$c_1$", ylabel="$c_2$", xlim=(0, None), ylim=(0, 1.7 * top))  # room for the legend
    axes.set_title(claims.data_matters(found).sentence)
    axes.legend(fontsize=9.5, loc="upper left")


def _curves(axes: Axes, found: Errors, along_depth: bool) -> None:
    """Error along one size, a curve for each of several values of the other."""
    depths, widths = found.sizes.depths, found.sizes.widths
    along, shown, letter = (depths, widths, "M") if along_depth else (widths, depths, "L")
    rms = found.letter.rms if along_depth else found.letter.rms.T
    fine = np.geomspace(along[0], along[-1], _LEGIBLE)
    places = evenly_spaced(len(shown), _SHOWN)
    for place, colour in zip(places, style.sequential_colours(len(places)), strict=True):
        axes.plot(along, rms[:, place], "o", ms=5, color=colour, label=f"${letter} = {shown[place]}$")
        other = np.full(len(fine), float(shown[place]))
        size = (fine, other) if along_depth else (other, fine)
        by_hand = axes.plot(fine, found.by_hand(*size), color=style.GREY, lw=0.7, zorder=1)
        axes.plot(fine, found.law(*size), color=colour, lw=1.4)
        axes.plot(fine, found.in_squares(*size), color=colour, lw=1.0, ls=_DOTTED)
    by_hand[0].set_label("the paper's, by hand")
    axes.set(xscale="log", yscale="log")
    axes.legend(fontsize=9.5, loc="lower left")


def _together(axes: Axes, found: Errors) -> None:
    """All sizes against the number of blocks, a colour for each depth."""
    widths, depths = np.array(found.sizes.widths, float), found.sizes.depths
    fine, colours = np.geomspace(widths[0], widths[-1], _LEGIBLE), style.sequential_colours(len(depths))
    for place, depth in enumerate(depths):
        marker = "os"[place % 2]  # there may be more depths than colours
        at = np.full(len(fine), float(depth))
        axes.plot(depth * widths, found.letter.rms[place], marker, ms=4, color=colours[place], label=str(depth))
        axes.plot(depth * fine, found.law(at, fine), color=colours[place], lw=1.0)
    ends = np.array([found.sizes.depths[0] * widths[0], found.sizes.depths[-1] * widths[-1]])
    bound = found.letter.width.value * np.sqrt(found.sizes.dimension / ends)
    axes.plot(ends, bound, color=style.INK, ls=_DASHED, lw=1.2)
    axes.set(xscale="log", yscale="log", xlabel="blocks $L M$")
    axes.legend(title="$L$", fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
