"""Loss and separation along the flow, from starts with the separation property at one depth and from others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from wgflow.base.errors import InputError
from wgflow.base.types import Array
from wgflow.base.verdict import Claim, Verdict
from wgflow.report import style
from wgflow.report.figure import Result, figure
from wgflow.report.wording import counted, span
from wgflow.studies.requirements import of_members, varies
from wgflow.studies.zero_loss.reduce import RESTING, ZERO, Run, assumption_rows, assumptions, rows, runs
from wgflow.study.grid import RunPlan
from wgflow.systems.problem import problems
from wgflow.theory.assumption import Assumption
from wgflow.theory.separation import kind

_LOOKS = {  # of a start: description, colour, marker
    "full": ("full support in every layer", style.COLOURS[0], "o"),
    "one_layer": ("full support in one layer", style.COLOURS[1], "s"),
    "point": ("all at one point", style.COLOURS[2], "D"),
    "one_sided": ("all push one way", style.COLOURS[3], "^"),
    "origin": ("all parameters 0", style.COLOURS[4], "v"),
}
FOLLOWED = Claim(
    "zero_loss_runs_follow_the_flow", "largest share of a halving of E that dissipation does not explain", "<=", "",
    holds="Dissipation explains every halving of E within {right:.0%} in {all}, so they follow the gradient flow",
    fails="{some} do not follow the gradient flow: dissipation differs from a halving of E by more than {right:.0%}",
    unknown="Whether the runs follow the gradient flow is not known",
)  # fmt: skip
TOLERANCE = 0.05  # of a halving of E
_SHADOWS = {"2-homogeneous": r"directions $\theta/|\theta|$", "partially 1-homogeneous": r"inner parameters $(w, b)$"}


@of_members
def homogeneous_in_layers(name: str, planned: RunPlan) -> None:
    """Particles that stay in their layers, and a homogeneity that the theorems cover."""
    if planned.member.depth.name not in ("layers", "shallow"):
        raise InputError(
            f"depth: expected layers or shallow to draw {name!r}, where particles keep their depth, got "
            f"{planned.member.depth.name}"
        )
    kind(problems(planned.member)[0])


@figure(
    "zero_loss", lambda work: (runs(work), assumptions(work)),
    needs=(varies("particles.support"), homogeneous_in_layers),
)  # fmt: skip
def zero_loss(reduced: tuple[list[Run], dict[str, list[Assumption]]]) -> Result:
    """Loss along s above, coverage by the particles at t0 below; a column for each block."""
    found, panel = reduced
    caption = (
        "A column for each block, with the number of checked hypotheses that are refuted. Above, E along the flow, a "
        "line a seed; filled markers start at t0 from a law whose separation property is not refuted in closed form, "
        f"open ones from others. An end below the dotted line, {ZERO:g} of E without blocks, is counted as zero if E "
        f"still falls faster than s^-{RESTING:g}. Dashed, the least E while all blocks push one way. Below, the "
        "fraction of directions (2-homogeneous) or inner parameters (partially 1-homogeneous) of fresh draws that have "
        "a particle near them at t0, of those with |θ₁| ≤ r0 (partially 1-homogeneous), r0 the median of the law plus "
        "the displacement since; in grey two standard deviations about as many iid draws. Finitely many particles "
        "separate nothing, and gather along s; that the law behind them keeps the property is Lemma H.2. Theorems 6.1 "
        "and 6.2 (arXiv:2110.02926) promise E = 0 of a limit if there is one. Of what else they assume: "
        f"{_checks(panel)}."
    )
    tables = {"zero_loss": rows(found), "zero_loss_assumptions": assumption_rows(panel)}
    resolved = followed(found)
    finding = _finding(found, panel) + f" {resolved.sentence}." * bool(resolved.holds)
    return Result(finding, caption, lambda: _draw(found, panel), tables, conditions=[resolved])


def followed(found: Sequence[Run]) -> Verdict:
    """Whether every run follows the gradient flow, the theorems' own, through all halvings of E."""
    shares = np.array([run.unexplained for run in found])
    beyond = dict.fromkeys(run.block for run, share in zip(found, shares, strict=True) if share > TOLERANCE)
    some = f"{counted(int((shares > TOLERANCE).sum()), len(shares))} runs ({', '.join(beyond)})"
    return FOLLOWED.of_all(shares, TOLERANCE, all=f"all {len(found)} runs", some=some.capitalize())


def _checks(panel: dict[str, list[Assumption]]) -> str:
    """Verdicts in a clause, e.g. "homogeneity passes for relu, tanh"."""
    by: dict[tuple[str, str], list[str]] = {}
    for block, lines in panel.items():
        for line in lines:
            by.setdefault((line.name, line.verdict), []).append(block)
    said = {"pass": "passes", "fail": "fails", "unknown": "stays open"}
    parts = [f"{name} {said[verdict]} for {', '.join(blocks)}" for (name, verdict), blocks in by.items()]
    return "; ".join(parts) if parts else "nothing was checked, for want of a member that starts from the law at t0"


def _finding(found: list[Run], panel: dict[str, list[Assumption]]) -> str:
    """Outcome of the starts with the property, by what was refuted for their block, and of those without."""
    having, lacking = ([run for run in found if run.separated == is_so] for is_so in (True, False))
    sentences = []
    if having:
        known = "proved" if all(run.separates.verdict == "pass" for run in having) else "not refuted"
        sentences.append(
            f"From starts whose separation at t0 = {span(run.t0 for run in having)} is {known}, E is "
            f"{span(run.energy[-1] for run in having)} at s = {span((run.s[-1] for run in having), 'g')}, "
            f"zero (at most {ZERO:g} of E without blocks, and falling) in "
            f"{sum(run.zero for run in having)} of {len(having)} runs, {_falling(having)}."
        )
        sentences += _by_hypotheses(having, panel)
    if lacking:
        blocks = dict.fromkeys(run.block for run in lacking)
        ends = (_without([run for run in lacking if run.block == block], block) for block in blocks)
        sentences.append(f"Without the property: {'; '.join(ends)}.")
        if any(run.zero for run in lacking) and all(run.zero for run in having):
            sentences.append("In these runs every start with the property goes to zero, and so do some without it.")
    return " ".join(sentences)


def _by_hypotheses(having: list[Run], panel: dict[str, list[Assumption]]) -> list[str]:
    """Separated runs of blocks for which no hypothesis was refuted, and of those for which one was."""
    refuted = {block: [line.name for line in lines if line.verdict == "fail"] for block, lines in panel.items()}
    sentences = []
    for names, said in ((False, "no hypothesis that was checked is refuted"), (True, "one is refuted")):
        runs = [run for run in having if run.block in refuted and bool(refuted[run.block]) == names]
        if runs:
            blocks = dict.fromkeys(run.block for run in runs)
            listed = (f"{block} ({', '.join(refuted[block])})" if names else block for block in blocks)
            zero = sum(run.zero for run in runs)
            sentences.append(f"Where {said}, {'; '.join(listed)}, it is zero in {zero} of {len(runs)}.")
    return sentences


def _falling(runs: list[Run]) -> str:
    """Number of runs whose E falls at the end, and the powers of s."""
    rates = sorted(run.rate for run in runs if run.falls and np.isfinite(run.rate))
    if not rates:
        return "falling there in none"
    powers = f"s^-{rates[0]:.1f} to s^-{rates[-1]:.1f}"
    return f"falling there {'' if len(rates) == len(runs) else f'in {counted(len(rates), len(runs))} '}like {powers}"


def _without(runs: list[Run], block: str) -> str:
    """Outcome of one block's starts without the property."""
    zero, floored = ([run for run in runs if getattr(run, name)] for name in ("zero", "on_floor"))
    stuck = [run for run in runs if np.isclose(run.energy[-1], run.energy[0], rtol=1e-12, atol=0.0)]
    rest = [run for run in runs if not any(run is other for other in (*zero, *floored, *stuck))]
    said = []
    if floored:
        level = span((run.energy[-1] for run in floored), ".3g")
        said.append(f"{len(floored)} at {level}, the least that blocks of one sign can have")
    if zero:
        said.append(f"{len(zero)} at zero")
    if rest:
        turned = all(run.one_sided[0] and not run.one_sided[-1] for run in rest)
        still = " at rest" if all(run.rate <= RESTING for run in rest) else ""
        changed = " after some a changed sign" if turned else ""
        said.append(f"{len(rest)}{still} at {span(run.energy[-1] for run in rest)}{changed}")
    if stuck:
        said.append(f"{len(stuck)} where they started")
    return f"of {len(runs)} runs with {block} {', '.join(said)}"


def _draw(found: list[Run], panel: dict[str, list[Assumption]]) -> Figure:
    blocks = list(dict.fromkeys(run.block for run in found))
    figure, axes = style.panels(len(blocks), width=4.9, height=3.7, rows=2)
    energies = np.concatenate([run.energy[np.isfinite(run.energy)] for run in found])
    low, high = (energies.min(), energies.max()) if len(energies) else (1.0, 1.0)
    for k, block in enumerate(blocks):
        runs = [run for run in found if run.block == block]
        _losses(axes[k], runs, f"{block}\n{runs[0].kind}{_count(panel.get(block, []))}")
        axes[k].set_ylim(0.1 * max(low, 1e-12), 3 * min(max(high, 1e-12), 1e300))
        _covered(axes[len(blocks) + k], runs)
    handles, labels = axes[0].get_legend_handles_labels()
    once = [handles[labels.index(label)] for label in dict.fromkeys(labels)]
    band = Patch(color=style.GREY, alpha=0.25, lw=0, label="iid draws, ± 2 standard deviations")
    figure.legend(handles=[*once, band], loc="outside lower center", ncols=6, fontsize=9.5)
    return figure


def _losses(axes: Axes, runs: list[Run], title: str) -> None:
    _lines(axes, runs, lambda run: (run.s, run.energy))
    floor, empty = runs[0].floor, runs[0].empty
    axes.axhline(ZERO * empty, color=style.INK, lw=0.8, ls=":")
    if np.isfinite(floor):
        axes.axhline(floor, color=style.INK, lw=1.0, ls="--")
        axes.text(0.99, floor / 1.3, "least $E$ of one sign", **(_right(axes) | {"va": "top"}))
    axes.text(0.01, ZERO * empty * 1.15, "counts as zero", **(_right(axes) | {"ha": "left"}))
    arrow = {"arrowstyle": "->", "color": style.GREY}
    axes.annotate("", (0.97, 0.0), (0.97, 0.1), "axes fraction", arrowprops=arrow)
    axes.text(0.95, 0.02, "0, promised of a limit", **(_right(axes) | {"transform": axes.transAxes}))
    axes.set(yscale="log", ylabel="loss $E$")
    axes.set_title(title)


def _count(lines: list[Assumption]) -> str:
    """Number of hypotheses refuted, in a clause for a title; nothing where none was checked."""
    refuted = sum(line.verdict == "fail" for line in lines)
    return f"; {counted(refuted, len(lines))} refuted" if lines else ""


def _covered(axes: Axes, runs: list[Run]) -> None:
    _lines(axes, runs, lambda run: (run.at, np.array([one.covered.value for one in run.separation])))
    iid = runs[0].separation[0].covered
    axes.axhspan(iid.iid - 2 * iid.spread, min(1.0, iid.iid + 2 * iid.spread), color=style.GREY, alpha=0.25, lw=0)
    axes.set(ylim=(0, 1.03), ylabel="covered at $t_0$")
    axes.set_title(f"are all {_SHADOWS[runs[0].kind]} still there at $t_0$?")


def _lines(axes: Axes, runs: list[Run], values: Callable[[Run], tuple[Array, Array]]) -> None:
    for run in runs:
        start, colour, marker = _LOOKS[run.support]
        axes.plot(
            *values(run), label=start, marker=marker, ms=4, lw=1.2, color=colour, alpha=0.85, markevery=2,
            markerfacecolor=colour if run.separated else style.PAPER,
        )  # fmt: skip
    style.flow_time_axis(axes, max(float(run.s[-1]) for run in runs))


def _right(axes: Axes) -> dict[str, Any]:
    return {
        "transform": axes.get_yaxis_transform(), "ha": "right", "va": "bottom", "fontsize": 9, "color": style.GREY,
    }  # fmt: skip
