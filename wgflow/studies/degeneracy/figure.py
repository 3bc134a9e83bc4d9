"""Spread of units against width, layer by layer, for two starts.

Fang, Lee, Yang and Zhang (COLT 2021), Proposition 1: from weights of variance O(1) the units of a middle layer become
one as m grows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Spec
from wgflow.base.verdict import Claim, Verdict
from wgflow.report import style
from wgflow.report.figure import Result, figure
from wgflow.report.member_selection import finished_members
from wgflow.report.wording import interval, span
from wgflow.stats import convergence_rates as rates
from wgflow.stats.convergence_rates import Estimate, estimate
from wgflow.studies.requirements import at_least, observes, only_varies, varies
from wgflow.study.tables import NetworkTable
from wgflow.study.workspace import Workspace
from wgflow.systems.neural_feature_flow.network import KIND_NAMES

_STARTS = {"standard": "weights of variance 1", "minimum_norm": "minimum-norm weights", "ideal": "ideal particles"}

_SHOWN = 0.005  # exponents below it print as 0
APPROACH = Claim(
    "units_approach", "low end of the 95% interval of the slowest layer's exponent", ">", "what prints as 0",
    holds="the units of every layer from 2 to {last} approach each other as m grows; spread, layer by layer: {powers}",
    fails="the units of layers 2 to {last} do not all come closer as m grows; spread, layer by layer: {powers}",
    unknown="whether the units of layers 2 to {last} come closer as m grows is not known; spread, layer by layer: "
    "{powers}",
)  # fmt: skip
SEPARATES = Claim(
    "training_separates_units", "least spread of a seed after training", ">", "at the start",
    holds="training moves the closest units apart in every seed: at m = {m} the spread of the layer with the least is "
    "{first} over {seeds} seeds, and {after} after training",
    fails="training does not move the closest units apart in every seed: at m = {m} the spread of the layer with the "
    "least is {first} over {seeds} seeds, and {after} after training",
    unknown="at m = {m} the spread of the layer with the least is {first} over {seeds} seeds, and {after} after "
    "training",
)  # fmt: skip


class Spread(NamedTuple):
    """Spread of units against width.

    Attributes
    ----------
    kind, start : str
        The networks'.
    units : tuple of int
        m.
    first, last : ndarray (S, n, L - 1)
        Largest difference of two units' features at the start and at the end, layers 2 to L.
    """

    kind: str
    start: str
    units: tuple[int, ...]
    first: Array
    last: Array


def spreads(work: Workspace) -> list[Spread]:
    """Spread of units by kind and start of the network, of members that reached the end.

    Raises
    ------
    InputError
        If a kind and start has fewer than two seeds with all sizes.
    """
    found: dict[tuple[str, str], dict[int, dict[int, tuple[Array, Array]]]] = {}
    for _, study, trajectory in finished_members(work):
        table, spread = study.network or NetworkTable(), trajectory.series("unit_spread")
        sizes = found.setdefault((table.kind, table.start), {})
        sizes.setdefault(study.count, {})[study.seed] = (spread[0], spread[-1])
    out = []
    for (kind, start), sizes in found.items():
        seeds = sorted(set.intersection(*(set(runs) for runs in sizes.values())))
        if len(seeds) < 2:
            raise InputError(f"{kind}, {start}: expected two seeds whose networks all reach the end, got {len(seeds)}")
        units = tuple(sorted(sizes))
        first, last = (np.array([[sizes[m][seed][k] for m in units] for seed in seeds]) for k in (0, 1))
        out.append(Spread(kind, start, units, first, last))
    return out


def falls(found: Spread, layer: int, at_end: bool = False) -> Estimate:
    """Root mean square over seeds of the spread of one layer's units, l = layer + 2, against m, with its exponent."""
    values = (found.last if at_end else found.first)[:, :, layer]
    name = f"spread {found.kind} {found.start} {layer} {at_end}"
    return estimate(found.units, len(values), rates.rms(values**2), name)


def rows(found: Sequence[Spread]) -> Iterator[Spec]:
    """Exponents of every layer at the start and the end, as plain JSON rows."""
    for spread in found:
        for layer in range(spread.first.shape[2]):
            for at in ("start", "end"):
                rate = falls(spread, layer, at == "end").rate
                yield {"kind": spread.kind, "start": spread.start, "layer": layer + 2, "at": at} | rate.columns


@figure(
    "degeneracy", spreads, system="neural_feature_flow", particles=False,
    needs=(
        observes("unit_spread"),
        varies("particles.count", "network.start"),
        only_varies("network.kind", "network.start", "particles.count", "seed"),
        at_least({"particles.count": 4, "seed": 4}),
    ),
)  # fmt: skip
def degeneracy(found: list[Spread]) -> Result:
    """Largest difference of two units' features against m, layer by layer, for two starts."""
    caption = (
        "Largest difference of two units' features over units and training points, mean over seeds, layer by layer "
        "from the second on; full: at the start, open: after training. Grey: m^(−1/2). Titles: the last layer's "
        "power of m by least squares at the start and after training. Fang, Lee, Yang and Zhang (2021), Proposition 1."
    )
    said = [verdict for spread in found for verdict in verdicts(spread)]
    return Result(_said(found), caption, lambda: _draw_degeneracy(found), {"degeneracy": list(rows(found))}, said)


def _said(found: Sequence[Spread]) -> str:
    out = []
    for spread in found:
        at_start, trained = (verdict.sentence for verdict in verdicts(spread))
        out.append(
            f"{KIND_NAMES[spread.kind]} from {_STARTS[spread.start]}, m = {spread.units[0]} to {spread.units[-1]}: at "
            f"the start {at_start}; {trained}."
        )
    return " ".join([*out, "Intervals cover initial weights, for these data."])


def verdicts(spread: Spread) -> list[Verdict]:
    """Whether at the start units come closer as m grows in every layer, and whether training moves them apart.

    Where every layer's 95% interval is asked to exclude 0, the error is at most that of one of them.
    """
    laws = [falls(spread, layer).rate for layer in range(spread.first.shape[2])]
    powers = [f"m^-{interval(*rate[:3])}" if rate else rate.reason for rate in laws]
    tested = np.array([rate.tested for rate in laws])
    slowest = np.nan if np.isnan(tested).any() and not (tested <= _SHOWN).any() else np.nanmin(tested)
    ends = [at[:, -1].min(axis=1) for at in (spread.first, spread.last)]  # least of the layers, for each seed
    about = {"m": spread.units[-1], "seeds": len(ends[0]), "first": span(ends[0]), "after": span(ends[1])}
    known = np.isfinite(ends).all()
    return [
        APPROACH(slowest, _SHOWN, last=1 + len(powers), powers=", ".join(powers)),
        SEPARATES.of_all(ends[1] if known else np.nan, ends[0], **about),
    ]


def _draw_degeneracy(found: Sequence[Spread]) -> Figure:
    kinds, starts = (list(dict.fromkeys(values)) for values in zip(*((f.kind, f.start) for f in found), strict=True))
    figure, axes = style.panels(len(starts), width=5.4, height=4.0, rows=len(kinds))
    for panel, (kind, start) in zip(axes, [(kind, start) for kind in kinds for start in starts], strict=True):
        spread = next((one for one in found if (one.kind, one.start) == (kind, start)), None)
        if spread is None:
            style.empty_panel(panel, "no members")
            continue
        n = np.array(spread.units, float)
        for k, shade in enumerate(style.sequential_colours(spread.first.shape[2])):
            panel.plot(n, spread.first.mean(axis=0)[:, k], "o-", color=shade, ms=4.5, lw=1.2, label=f"layer {k + 2}")
            panel.plot(n, spread.last.mean(axis=0)[:, k], "o", color=shade, ms=4.5, mfc="none")
        begin = spread.first.mean(axis=0)[0].max()
        guide = begin * (n / n[0]) ** -0.5
        panel.plot(n, guide, color=style.GREY, lw=1.0, ls=(0, (4, 3)), zorder=1, label="$m^{-1/2}$")
        panel.plot([], [], "o", color=style.GREY, ms=4.5, mfc="none", label="trained")
        panel.set_yscale("log")
        style.particle_axis(panel, spread.units, "units of a layer $m$")
        panel.set_ylabel("largest difference of two units")
        panel.set_title(f"{KIND_NAMES[kind]}, {_STARTS[start]}: {_powers(spread)}")
        panel.legend(fontsize=9.5)
    return figure


def _powers(spread: Spread) -> str:
    """Powers of m fitted to the spread of the last layer's units at the start and after training."""
    layer = spread.first.shape[2] - 1
    slopes = [_slope(falls(spread, layer, at)) for at in (False, True)]
    if not np.isfinite(slopes).all():
        return "some units are equal"
    first, last = (f"m^{{{round(slope, 1) + 0.0:.1f}}}" for slope in slopes)
    return f"${first}$, trained ${last}$"


def _slope(found: Estimate) -> float:
    """Exponent of the values by least squares, with no interval; NaN where a value is not positive."""
    if not (np.isfinite(found.value) & (found.value > 0)).all():
        return float("nan")
    return float(np.polyfit(np.log(found.sizes), np.log(found.value), 1)[0])
