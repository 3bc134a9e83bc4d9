"""Hypotheses and conclusion of Theorem 8 along runs: changes over doubling windows, eigenvalues, loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wgflow.base.verdict import Claim, Verdict
from wgflow.report import style
from wgflow.report.figure import Plan, Result, TableText, figure
from wgflow.report.series_change import change, courses, joint_change
from wgflow.report.wording import listed, number
from wgflow.studies.feature_convergence.reduce import Run, panel, rows, runs
from wgflow.studies.requirements import observes, unmet
from wgflow.theory.assumption import Finding

_ROUNDING = 1e-12
SETTLE = Claim(
    "top_features_settle", "largest change of β_L over the last doubling window", "<", "over the one before",
    holds="β_L changes less from s = {low:g} to {high:g} than over the window before, by up to {now} after "
    "{before}, and v_(L+1) by {outer} on average",
    fails="β_L changes no less from s = {low:g} to {high:g} than over the window before, by up to {now} after "
    "{before}, and v_(L+1) by {outer} on average",
    unknown="whether β_L settles is not known",
)  # fmt: skip
INDEPENDENT = Claim(
    "top_features_independent", "least eigenvalue of the top features' Gram matrix", ">", "rounding",
    holds="no eigenvalue of the top features' Gram matrix is below {left:.2g} at the {times} times recorded",
    fails="the top features' Gram matrix is singular up to rounding at some of the {times} times recorded",
    unknown="no eigenvalue of the top features' Gram matrix is known",
)  # fmt: skip


def resnets(plan: Plan) -> None:
    """Theorem 8 is about Res-Nets."""
    if any(planned.member.network and planned.member.network.kind != "resnet" for planned in plan.members):
        raise unmet(plan.figure, "network.kind", "resnet", "dnn")


@figure(
    "feature_convergence", runs, system="neural_feature_flow", particles=False,
    needs=(observes("top", "outputs", "eigenvalues"), resnets),
    tables={
        "feature_convergence": TableText("Changes over doubling windows"),
        "feature_assumptions": TableText("Assumptions, condition by condition"),
    },
)  # fmt: skip
def feature_convergence(found: list[Run]) -> Result:
    """Changes of top features and last weights over doubling windows, eigenvalues, loss above its infimum."""
    if not found:
        return Result("No network has two frames.", "", lambda: style.empty_panel(style.panels(1)[1][0], "no frames"))
    caption = (
        "Left: largest change within windows [S/2, S] of flow time, measured from the state at S; full: sup over units "
        "and points of β_L, dashed: mean over units of v_(L+1). Where they converge these tend to 0. Middle: smallest "
        "eigenvalue of the Gram matrix of the top features, (1/m) Σ h₁(β_L) h₁(β_L)ᵀ. Right: mean loss above its "
        "infimum, what Theorem 8 takes to 0. Fang, Lee, Yang and Zhang (2021), Theorem 8; suprema over m units bound "
        "those over p from below."
    )
    tables = {"feature_convergence": list(rows(found)), "feature_assumptions": list(panel(found))}
    said = [verdict for run in found for verdict in verdicts(run)]
    return Result(_said(found), caption, lambda: _draw(found), tables, said)


def _said(found: Sequence[Run]) -> str:
    undecided = list(dict.fromkeys(name for run in found for name in _conditions(run, "not checked")))
    text = " ".join(map(_of_run, found))
    return text + (f" Neither proved nor refuted in some run: {listed(undecided)}." if undecided else "")


def _of_run(run: Run) -> str:
    went = joint_change([change(run.s, run.gap, run.diverged)])
    settle, independent = verdicts(run)[-2:]
    text = f"{_subject(run)} {went} by s = {run.s[-1]:g}"
    text += f"; {settle.sentence}" * (settle.holds is not None) + f"; {independent.sentence}. "
    refuted = _conditions(run, "refuted")
    return text + (f"Refuted: {listed(refuted)}." if refuted else "Nothing refuted.")


def _subject(run: Run) -> str:
    return f"{run.label}: the loss above its infimum"


def verdicts(run: Run) -> list[Verdict]:
    """What the loss above its infimum does, whether top features settle, and whether they stay independent."""
    settle = SETTLE(np.nan, np.nan)
    if len(run.windows) > 1:
        before, last = run.windows[-2:]
        about = {"low": last.low, "high": last.high, "outer": number(last.outer)}
        settle = SETTLE(last.beta, before.beta, now=number(last.beta), before=number(before.beta), **about)
    least = float(run.eigenvalue.min())
    return [
        *courses(_subject(run), [change(run.s, run.gap, run.diverged)]), settle,
        INDEPENDENT(least, _ROUNDING, times=len(run.s)),
    ]  # fmt: skip


def _conditions(run: Run, finding: Finding) -> list[str]:
    return [
        f"{condition.name} ({one.name.split(':')[0]})"
        for one in run.verdicts
        for condition in one.conditions
        if condition.finding == finding
    ]


def _draw(found: Sequence[Run]) -> Figure:
    figure, (left, middle, right) = style.panels(3, width=4.9, height=4.0)
    for run, colour in zip(found, (style.COLOURS[k % len(style.COLOURS)] for k in range(len(found))), strict=True):
        ends = [window.high for window in run.windows]
        left.plot(ends, [window.beta for window in run.windows], "o-", color=colour, ms=4, lw=1.4)
        left.plot(ends, [window.outer for window in run.windows], "o--", color=colour, ms=4, lw=1.2, mfc="none")
        middle.plot(run.s, run.eigenvalue, color=colour, lw=1.4)
        later = run.s > 0
        right.plot(run.s[later], np.maximum(run.gap[later], 1e-16), color=colour, lw=1.4, label=run.label)
    changes = [change for run in found for window in run.windows for change in (window.beta, window.outer)]
    if changes and min(changes) > 0:  # NaN is not
        left.set_yscale("log")
    style.particle_axis(left, sorted({window.high for run in found for window in run.windows}))
    left.set(xlabel="end $S$ of the window $[S/2, S]$", ylabel="change within the window")
    middle.set(xlabel="flow time $s$", ylabel=r"smallest eigenvalue of $\hat K_L$")
    if not any((run.eigenvalue > _ROUNDING).any() for run in found):
        middle.clear()
        style.empty_panel(middle, "$\\hat K_L$ is singular up to rounding\nat all recorded times")
    elif all((run.eigenvalue > 0).all() for run in found):
        middle.set_yscale("log")
    right.set(xlabel="flow time $s$", ylabel="loss above its infimum", xscale="log", yscale="log")
    left.set_title("Do the top features converge?")
    middle.set_title("Do they stay independent?")
    right.set_title("Does the loss go to its infimum?")
    keys = [
        Line2D([], [], color=style.GREY, label=r"$\beta_L$, largest"),
        Line2D([], [], color=style.GREY, ls="--", label=r"$v_{L+1}$, mean"),
    ]
    left.legend(handles=keys, fontsize=9.5)
    right.legend(fontsize=9.5)
    return figure
