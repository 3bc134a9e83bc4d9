"""Losses of scaled gradient descent in the letters of Figure 1 of Fang, Lee, Yang and Zhang (COLT 2021).

The paper's phi = |y' - y|^2 is twice the squared loss here, and so is its gradient: a step of h in s is one of the
paper's learning rate eta = h / 2 in its time t = s / 2, exactly. The values of the figure are read off the picture, to
within ``ACCURACY``; sigma_1, C_3 and eta are not printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from wgflow.base.types import Array, Spec
from wgflow.report.member_selection import diverged, opened, particle_count
from wgflow.study.schema import Member
from wgflow.study.tables import NetworkTable
from wgflow.study.workspace import Workspace
from wgflow.trajectory import Trajectory

ACCURACY = 1.25  # factor to within which a value can be read off the figure
_RECENT = 0.9  # the loss at t is the median over [0.9 t, t]: it fluctuates where eta is large


class ReadOff(NamedTuple):
    """A value read off Figure 1: the loss of m units at time t."""

    units: int
    t: float
    loss: float


FIGURE_1 = (ReadOff(30, 1000.0, 0.15), ReadOff(1000, 150.0, 0.05), ReadOff(1000, 1000.0, 0.007))


class Setting(NamedTuple):
    """What the paper does not print: sigma_1, C_3 (None for a regressed last layer) and eta."""

    sigma: float
    outer: float | None
    eta: float

    def __str__(self) -> str:
        """In the paper's letters."""
        last = "v_(L+1) regressed" if self.outer is None else f"C₃ = {self.outer:g}"
        return f"σ₁ = {self.sigma:g}, {last}, η = {self.eta:g}"


class Run(NamedTuple):
    """A network by scaled gradient descent, in the paper's letters.

    Attributes
    ----------
    kind, units, setting : str, int, Setting
        Network, m, and the constants that are scanned.
    t, loss : ndarray (F,)
        Time k eta, and (1/N) sum |y' - y|^2.
    diverged : bool
        Whether it diverged after its last frame.
    """

    kind: str
    units: int
    setting: Setting
    t: Array
    loss: Array
    diverged: bool = False

    def at(self, t: float) -> float:
        """Median loss over the recorded times in [0.9 t, t]; NaN if the run ends before t."""
        recent = (self.t >= _RECENT * t) & (self.t <= t)
        return float(np.median(self.loss[recent])) if recent.any() and self.t[-1] >= t else np.nan


class Compared(NamedTuple):
    """A value of the figure beside the runs of one kind of network.

    Attributes
    ----------
    figure, kind, units : ReadOff, str, int
        The value, the network, and m of the runs, the nearest to the figure's own.
    losses : dict of Setting to float
        Loss at the figure's time, geometric mean over seeds; settings that diverged or ended before are left out.
    """

    figure: ReadOff
    kind: str
    units: int
    losses: dict[Setting, float]

    @property
    def outside(self) -> float:
        """Factor by which the figure's value lies outside the range of losses, 1 within; NaN without any loss."""
        if not self.losses:
            return np.nan
        low, high = min(self.losses.values()), max(self.losses.values())
        return max(self.figure.loss / high, low / self.figure.loss, 1.0)

    def factor(self, setting: Setting) -> float:
        """Factor between the figure's value and a setting's loss, >= 1; infinite where that has none."""
        if setting not in self.losses:
            return np.inf
        ratio = self.losses[setting] / self.figure.loss
        return max(ratio, 1.0 / ratio) if ratio > 0 else np.inf


def runs(work: Workspace) -> list[Run]:
    """Runs with two frames or more."""
    return [_run(trajectory) for _, trajectory in opened(work) if len(trajectory) > 1]


def _run(trajectory: Trajectory) -> Run:
    member = Member.of(trajectory.parameters["study"])
    table = member.network or NetworkTable()
    outer = table.outer if table.last == "constant" else None
    setting = Setting(table.sigma, outer, member.flow.step / 2)
    s, energy = trajectory.series("s"), trajectory.series("energy")
    return Run(table.kind, particle_count(trajectory), setting, s / 2, 2 * energy, diverged(trajectory))


def compared(found: Sequence[Run]) -> list[Compared]:
    """Values of the figure beside the runs, for each kind of network."""
    out = []
    for kind in dict.fromkeys(run.kind for run in found):
        sizes = {run.units for run in found if run.kind == kind}
        for figure in FIGURE_1:
            units = min(sizes, key=lambda size: abs(np.log(size / figure.units)))
            out.append(Compared(figure, kind, units, losses(found, kind, units, figure.t)))
    return out


def losses(found: Sequence[Run], kind: str, units: int, t: float) -> dict[Setting, float]:
    """Loss at t by setting, geometric mean over seeds, of those settings of which no run diverged or ended before."""
    by_setting: dict[Setting, list[float]] = {}
    for run in found:
        if (run.kind, run.units) == (kind, units):
            by_setting.setdefault(run.setting, []).append(run.at(t))
    means = {setting: float(np.exp(np.mean(np.log(values)))) for setting, values in by_setting.items()}
    return {setting: mean for setting, mean in means.items() if np.isfinite(mean)}


def nearest(found: Sequence[Compared]) -> tuple[Setting | None, float]:
    """Setting whose worst factor to the figure's values is least, and that factor; None, NaN if none has them all."""
    settings = dict.fromkeys(setting for one in found for setting in one.losses)
    worst = {setting: max(one.factor(setting) for one in found) for setting in settings}
    best = min(worst, key=lambda setting: worst[setting], default=None)
    return (None, np.nan) if best is None or np.isinf(worst[best]) else (best, worst[best])


def factors(found: dict[Setting, float]) -> tuple[float, float]:
    """Largest factor between losses that differ in eta alone, and in the start alone; NaN where no two do."""
    same_start: dict[tuple[float, float | None], list[float]] = {}
    same_rate: dict[float, list[float]] = {}
    for (sigma, outer, eta), loss in found.items():
        same_start.setdefault((sigma, outer), []).append(loss)
        same_rate.setdefault(eta, []).append(loss)
    return _largest(same_start.values()), _largest(same_rate.values())


def _largest(groups: Iterable[Sequence[float]]) -> float:
    return max((max(group) / min(group) for group in groups if len(group) > 1), default=np.nan)


def rows(found: Sequence[Run]) -> Iterator[Spec]:
    """Runs as plain JSON rows: setting, and losses at the times of the figure's values."""
    times = sorted({figure.t for figure in FIGURE_1})
    for run in found:
        sigma, outer, eta = run.setting
        yield {
            "kind": run.kind, "m": run.units, "sigma_1": sigma, "C_3": outer, "eta": eta,
            "loss_first": float(run.loss[0]), **{f"loss_at_{t:g}": run.at(t) for t in times},
            "rising": float(np.mean(np.diff(run.loss) > 0)), "diverged": run.diverged,
        }  # fmt: skip
