"""The hidden width of deep residual networks: output errors over L and M."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wgflow.base.errors import InputError
from wgflow.base.types import Array
from wgflow.report import style
from wgflow.report.figure import Plan, Result, figure
from wgflow.report.member_selection import evenly_spaced
from wgflow.report.wording import between, interval, share, span
from wgflow.stats.convergence_rates import MIN_SEEDS, Interval
from wgflow.studies.hidden_width.reduce import HAND_FIT, Errors, data_rows, error_rows, errors, law_rows
from wgflow.studies.requirements import at_least, observes, of_members, only_varies, unmet
from wgflow.study.grid import RunPlan

_DATA = "problem.seed"
_VARIED = ("depth.layers", "particles.per_layer", "seed", _DATA)
_LEAST = {"depth.layers": 2, "particles.per_layer": 2}  # values, enough to fit two constants
_SHOWN = 4  # curves in a panel at most
_LEGIBLE = 60  # points of a line
_NEAR, _FAR = 1.5, 3.0  # factors by which a law may miss the errors in the mean, and at any size
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
    return Result(_finding(found), caption, lambda: _draw_errors(found), tables)


def _finding(found: Errors) -> str:
    sizes, law, root = found.sizes, found.letter, found.sizes.dimension**0.5
    ratio = law.rms / law.predicted
    there = np.argwhere(np.isfinite(law.rms))
    least, most = ((sizes.depths[i], sizes.widths[j]) for i, j in (there[0], there[-1]))
    deeper = f"; without L = {sizes.depths[0]}, c2 = {_estimate(found.deeper.depth)}" if found.deeper else ""
    off = dict(zip(found.choice.laws, np.expm1(np.sqrt(found.choice.score)), strict=True))
    sure = "" if found.choice.decided else ", which these draws do not tell apart"
    ends = between(float(law.rms[tuple(there[0])]), float(law.rms[tuple(there[-1])]))
    return (
        f"From (L, M) = {least} to {most} the rms output error {ends}. The law c1 √(D/(LM)) + c2/L fits it with c1 = "
        f"{_estimate(law.width)} and c2 = {_estimate(law.depth)}, "
        f"within a factor of {np.nanmax(np.maximum(ratio, 1 / ratio)):.2g} at every size and of "
        f"{np.exp(law.residual**0.5):.2g} in the mean{deeper}. It predicts sizes left out of the fit to "
        f"{share(off['additive'])}, its terms added in squares predict them to {share(off['independent'])}{sure}: then "
        f"c1 = {_estimate(found.squared.width, root)} and c2 = {_estimate(found.squared.depth)}. {_covered(found)} "
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
    letter = found.letter
    there = np.isfinite(letter.rms)
    by_hand = found.by_hand(*found.sizes.grid)
    factor = np.exp(np.sqrt(np.mean(np.log(letter.rms[there] / by_hand[there]) ** 2)))
    inside = [
        name
        for name, constant, of_paper in zip(("c1", "c2"), (letter.width, letter.depth), HAND_FIT, strict=True)
        if constant.low <= of_paper <= constant.high
    ]
    within = "both inside these intervals" if len(inside) == 2 else (
        f"of which {inside[0]} alone is inside its interval" if inside else "both outside these intervals"
    )  # fmt: skip
    return (
        f"The constants set by hand in the paper's code for its own data, c1 = {HAND_FIT[0]} and c2 = {HAND_FIT[1]}, "
        f"{within if np.isfinite(letter.width.low) else 'have no interval to compare with'}, miss these errors by a "
        f"factor of {factor:.2g} in the mean."
    )


def _estimate(found: Interval, unit: float = 1.0) -> str:
    return interval(found.value / unit, found.low / unit, found.high / unit, ".3g")


def _draw_errors(found: Errors) -> Figure:
    figure, (left, middle, right, constants) = style.panels(2, width=5.6, rows=2)
    _curves(left, found, along_depth=True)
    left.set(xlabel="depth $L$", ylabel=f"rms of $h - h_{{ref}}$ at $s = {found.s:g}$")
    left.set_title(f"More depth: {_falls_at(found.letter.rms, 'width')}")
    _curves(middle, found, along_depth=False)
    middle.set_xlabel("width $M$")
    middle.set_title("More width: it stops at $c_2/L$" if _stops(found) else
                     f"More width: {_falls_at(found.letter.rms.T, 'depth')}")  # fmt: skip
    _together(right, found)
    right.set_ylabel(left.get_ylabel())
    right.set_title("Depth and width traded: $LM$ decides until $c_2/L$" if _holds(found) else
                    "Error against the number of blocks")  # fmt: skip
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
    axes.set(xlabel="$c_1$", ylabel="$c_2$", xlim=(0, None), ylim=(0, 1.25 * axes.get_ylim()[1]))  # room for the legend
    axes.set_title("Constants: the draw of the data matters" if _data_matters(found) else "Constants of the law")
    axes.legend(fontsize=9.5, loc="upper left")


def _data_matters(found: Errors) -> bool:
    """Whether both constants differ by a factor of 1.5 between single draws of the data."""
    single = found.single[np.isfinite(found.single).all(axis=1)]
    return len(single) > 1 and bool((single.max(axis=0) > _NEAR * single.min(axis=0)).all())


def _falling(rms: Array) -> list[bool]:
    """Whether the last is below the first, for each column of errors (n, m) that has two."""
    columns = [column[np.isfinite(column)] for column in rms.T]
    return [bool(column[-1] < column[0]) for column in columns if len(column) > 1]


def _falls_at(rms: Array, of: str) -> str:
    """At how many of the columns of errors, (n, m), the last is below the first."""
    falls = _falling(rms)
    if falls and all(falls):
        return f"the error falls at every {of}"
    return f"the error falls at {sum(falls)} of {len(falls)} {of}s" if any(falls) else f"the error falls at no {of}"


def _holds(found: Errors) -> bool:
    """Whether both terms of the law are significant, and it is near the errors in the mean."""
    law = found.letter
    return bool(law.depth.low > 0 and law.width.low > 0 and np.exp(law.residual**0.5) < _NEAR)


def _stops(found: Errors) -> bool:
    """Whether more width lowers every error, and none far below the law's term of depth."""
    term = found.letter.depth.value / np.array(found.sizes.depths, float)[:, None]
    return _holds(found) and all(_falling(found.letter.rms.T)) and bool(np.nanmin(found.letter.rms / term) > 1 / _FAR)


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
