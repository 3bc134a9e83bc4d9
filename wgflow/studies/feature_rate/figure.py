"""Rates at which gradient descent approaches the neural feature flow in width and learning rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wgflow.base.types import Spec
from wgflow.base.verdict import Claim, Verdict
from wgflow.report import style
from wgflow.report.figure import Plan, Result, TableText, as_sentence, figure
from wgflow.report.wording import interval
from wgflow.stats.convergence_rates import Estimate
from wgflow.stats.trends import decay
from wgflow.studies.feature_rate.reduce import Gaps, envelope, gaps, rows
from wgflow.studies.requirements import observes, only_varies, unmet
from wgflow.study.tables import NetworkTable
from wgflow.systems.neural_feature_flow.network import KIND_NAMES

VARIED = (
    "flow.integrator", "flow.step", "network.method", "network.start", "particles.count", "seed",
)  # fmt: skip

_QUANTITIES = ("weights", "features", "outputs", "loss", "epsilon")  # one colour each
_ROUNDING = 1e-12

GRAM = Claim(
    "gram_matrices_positive", "least eigenvalue of a layer's Gram matrix at the recorded times", ">", "rounding",
    holds="no layer's Gram matrix has an eigenvalue below {left:.2g} at the recorded times",
    fails="some layer's Gram matrix is singular up to rounding at a recorded time",
    unknown="the eigenvalues of the layers' Gram matrices were not recorded",
)  # fmt: skip


def networks(plan: Plan) -> None:
    """At least four m and seeds at common flow times, by descent from minimum-norm weights, flows allowed."""
    name, fitted = plan.figure, [planned.member for planned in plan.fitted]
    if min(len({member.count for member in fitted}), len({member.seed for member in fitted})) < 4:
        raise unmet(name, "grid", "at least 4 m and 4 seeds", "fewer")
    if len({(planned.member.flow.until, str(planned.member.flow.every)) for planned in plan.members}) > 1:
        raise unmet(name, "flow.until, flow.every", "the same of all members", "several")
    for member in fitted:
        table = member.network or NetworkTable()
        by_euler = table.method == "flow" or member.flow.integrator == "euler"
        if table.start != "minimum_norm" or table.draw != "features" or table.ridge or not by_euler:
            expected = "start = minimum_norm, draw = features, ridge = 0 and descent by euler beside flows"
            raise unmet(name, "network", expected, "another")
    if not any(member.network and member.network.method == "descent" for member in fitted):
        raise unmet(name, "network.method", "descent", "flow alone")


def references(plan: Plan) -> None:
    """For every seed one larger reference of ideal particles, of the same problem and network."""
    name, limits = plan.figure, {planned.member.seed: planned.member for planned in plan.references}
    most = max(planned.member.count for planned in plan.fitted)
    for member in (planned.member for planned in plan.fitted):
        limit = limits.get(member.seed)
        if limit and (limit.problem != member.problem or _architecture(limit.network) != _architecture(member.network)):
            raise unmet(name, "reference", "the same problem and network", "another")
        if limit is None or limit.count <= most or limit.network is None or limit.network.start != "ideal":
            expected = f"for every seed one of more than {most} units with network.start = ideal"
            raise unmet(name, "reference", expected, f"none for seed {member.seed}")


def _architecture(network: NetworkTable | None) -> Spec:
    """What a network shares with its reference."""
    return network.model_dump(exclude={"method", "start"}) if network else {}


def rows_in_words(rows: Sequence[Spec]) -> list[Spec]:
    """Rows with the symbol of the quantity that has one."""
    return [row | {"quantity": "ε₁"} if row.get("quantity") == "epsilon" else row for row in rows]


@figure(
    "feature_rate", gaps, system="neural_feature_flow", particles=False,
    needs=(observes("units", "outputs"), only_varies(*VARIED), networks, references),
    tables={"feature_rate": TableText("Exponents in m and η", rows_in_words)},
)  # fmt: skip
def feature_rate(found: list[Gaps]) -> Result:
    """Distance of gradient descent to the flow against m and against the learning rate, with exponents."""
    theory = {
        "resnet": "Fang, Lee, Yang and Zhang 2021, Theorems 6 and 7: the largest distances are O(m^(-1/2) + η)",
        "dnn": "Fang, Lee, Yang and Zhang 2021, Theorem 33, for the loss alone: O(m^(-1/2) + η)",
    }[found[-1].kind]
    caption = (
        f"{KIND_NAMES[found[-1].kind]}. Left: root mean squares over seeds, units and points with 95% intervals at the "
        "last flow time; gradient descent on m units from minimum-norm weights against the flow of a larger ensemble "
        "of ideal particles whose first units have the same v_1 and the same Gaussian numbers; lines: C m^-r. Middle: "
        "largest distance over units or pairs of units, points and recorded flow times, mean over seeds, for the m "
        "whose units are all on file. Right: root mean squares against the flow of the same m units, by learning "
        f"rate. Theory ({theory}, up to logarithms)."
    )
    tables = {"feature_rate": list(rows(found))}
    return Result(_rates_said(found), caption, lambda: _draw_rates(found), tables, verdicts(found))


def _rates_said(found: Sequence[Gaps]) -> str:
    last = found[-1]
    text = f"{KIND_NAMES[last.kind]}: at s = {last.s:g} the rms distance of gradient descent to the flow "
    text += _falls(last.by_units, "m^-")
    if last.by_rate:
        text += f"; at m = {last.m} it {_falls(last.by_rate, 'η^')}"
    largest = _largest(found)
    if largest:
        sizes = next(iter(largest.values())).sizes
        root, log = (f"m^-{envelope(sizes, power):.2f}" for power in (0.5, 1.0))
        text += (
            f". From m = {sizes[0]:g} to {sizes[-1]:g} the largest distance over units, points and {len(found)} "
            f"recorded times {_falls(largest, 'm^-')}; for comparison, √(log m/m) is {root} there and log m/√m {log}"
        )
    text += ". Intervals cover initial weights, for these data"
    if last.refuted:
        text += f". The theorem's assumptions do not hold: {', '.join(last.refuted)}"
    gram = _gram(found)
    return f"{text}." if gram.holds is None else f"{text}. {as_sentence(gram)}"


def verdicts(found: Sequence[Gaps]) -> list[Verdict]:
    """Whether each distance falls with m, and with the learning rate, and whether Gram matrices stay regular."""
    last, out = found[-1], []
    for what, each, letter in (
        ("rms distance in {} to the flow", last.by_units, "m^-"),
        (f"rms distance in {{}} to the flow at m = {last.m}", last.by_rate, "η^"),
        ("largest distance in {} to the flow", _largest(found), "m^-"),
    ):
        for name, one in each.items():
            out.append(decay(one.rate, f"the {what.format(name)}", f"{letter}{interval(*one.rate[:3])}"))
    return [*out, _gram(found)]


def _gram(found: Sequence[Gaps]) -> Verdict:
    least = float(np.min([each.eigenvalue for each in found]))
    return GRAM(least if np.isfinite(least) else np.nan, _ROUNDING)


def _largest(found: Sequence[Gaps]) -> dict[str, Estimate]:
    """Largest distances at the last time, and at the first one."""
    both = [*found[-1].largest.items(), *found[0].largest.items()]
    return {"ε₁ at the start" if name == "epsilon" else name: one for name, one in both}


def _falls(found: dict[str, Estimate], letter: str) -> str:
    """Rates fitted to quantities whose distance falls, and the quantities without one."""
    near = [f"{letter}{interval(*one.rate[:3])} in {name}" for name, one in found.items() if one.rate]
    rest = [f"{name} ({one.rate.reason})" for name, one in found.items() if not one.rate]
    parts = [f"falls like {', '.join(near)}"] if near else []
    if rest:
        parts.append(f"has no fitted rate in {', '.join(rest)}")
    return " and ".join(parts)


def _draw_rates(found: Sequence[Gaps]) -> Figure:
    figure, (left, middle, right) = style.panels(3, width=4.9, height=4.0)
    last = found[-1]
    _powers(left, last.by_units, "units of a layer $m$", 0.5, "$m^{-1/2}$")
    left.set_title("More units: nearer to the flow as $m^{-1/2}$?")
    if last.largest:
        _powers(middle, last.largest, "units of a layer $m$", 0.5, "$m^{-1/2}$")
        sizes = np.array(next(iter(last.largest.values())).sizes, float)
        first = next(iter(last.largest.values())).value[0]
        shape = np.log(sizes) / np.sqrt(sizes)
        middle.plot(sizes, 1.6 * first * shape / shape[0], color=style.GREY, lw=1.1, ls=":", label=r"$\log m/\sqrt{m}$")
        middle.legend(fontsize=9.5, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16), columnspacing=1.0)
        middle.set(ylabel="largest distance")
    else:
        style.empty_panel(middle, "no m whose units are all on file")
    middle.set_title("The farthest too, up to logarithms?")
    if last.by_rate:
        _powers(right, last.by_rate, r"1 / learning rate $\eta$", 1.0, r"$\eta$")
        right.set_title(r"Smaller steps: nearer as $\eta$?")
    else:
        style.empty_panel(right, "no members with other steps")
    return figure


def _powers(axes: Axes, found: dict[str, Estimate], label: str, power: float, guide: str) -> None:
    """Distances of several quantities with intervals, fitted powers, and the theoretical one in grey."""
    for name, one in found.items():
        n, colour = np.array(one.sizes, float), style.COLOURS[_QUANTITIES.index(name)]
        bars = [np.clip(np.nan_to_num(one.value - one.low), 0, 0.95 * one.value), np.nan_to_num(one.high - one.value)]
        shown = "ε₁" if name == "epsilon" else name
        text = f"{shown}: {one.rate.exponent:.2f}" if one.rate else f"{shown}: no rate"
        axes.errorbar(n, one.value, bars, fmt="o", color=colour, ms=4.5, lw=1.0, capsize=2.5, label=text)
        if one.rate:
            axes.plot(n, one.rate.constant * n**-one.rate.exponent, color=colour, lw=1.2)
    first = next(iter(found.values()))
    n = np.array(first.sizes, float)
    axes.plot(n, 1.6 * first.value[0] * (n / n[0]) ** -power, color=style.GREY, lw=1.1, ls=(0, (4, 3)), label=guide)
    axes.set_yscale("log")
    style.particle_axis(axes, first.sizes, label)
    axes.set_ylabel("rms distance")
    axes.legend(fontsize=9.5, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16), columnspacing=1.0)
