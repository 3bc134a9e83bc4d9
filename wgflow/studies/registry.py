"""Figures by name, each a function of a run's folder alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wgflow.base.errors import InputError
from wgflow.base.terminal import say
from wgflow.report import style
from wgflow.report.figure import Drawing
from wgflow.studies.cifar.figure import cifar
from wgflow.studies.convergence.figure import loss, rates, worth
from wgflow.studies.depth_width import figure as depth_width
from wgflow.studies.ensemble.figure import ensemble
from wgflow.studies.envelope.figure import envelope
from wgflow.studies.escape.figure import escape
from wgflow.studies.feature_flow import figure as features
from wgflow.studies.hidden_width import figure as hidden_width
from wgflow.studies.landscape.figure import landscape
from wgflow.studies.loss_and_particles.figure import loss_and_particles
from wgflow.studies.sizing.figure import sizing
from wgflow.studies.switching.figure import switching
from wgflow.studies.theorems.figure import theorems
from wgflow.studies.zero_loss.figure import zero_loss
from wgflow.study.workspace import Workspace

FIGURES: dict[str, Callable[[Workspace], Drawing]] = {
    "loss_and_particles": loss_and_particles,
    "switching": switching,
    "convergence_rates": rates,
    "convergence_loss": loss,
    "convergence_models": worth,
    "theorems": theorems,
    "ensemble": ensemble,
    "envelope": envelope,
    "landscape": landscape,
    "escape": escape,
    "hidden_width": hidden_width.errors,
    "hidden_width_scales": hidden_width.scales,
    "sizing": sizing,
    "feature_flow": features.courses,
    "feature_rate": features.rate,
    "degeneracy": features.degeneracy,
    "depth_width": depth_width.errors,
    "depth_width_clouds": depth_width.apart,
    "zero_loss": zero_loss,
    "cifar": cifar,
}


def redraw(name: str, arguments: list[str]) -> list[str]:
    """Draw a figure of a run from its trajectories: what the scripts in ``analysis/`` do.

    Parameters
    ----------
    name : str
        A name in ``FIGURES``.
    arguments : list of str
        Run folder, and optionally the folder to write to, by default the run's own.

    Returns
    -------
    list of str
        Names of the files written.

    Raises
    ------
    SystemExit
        With 2, after one line, if there are no such arguments, or the folder is no run that the figure can be drawn of.
    """
    try:
        if len(arguments) not in (1, 2):
            raise InputError(f"expected RUN_FOLDER [OUT_FOLDER], got {len(arguments)} arguments")
        with style.drawn(FIGURES[name](Workspace(arguments[0]))) as figure:
            return style.save(figure, Path(arguments[-1]) / name)
    except (InputError, OSError) as error:  # those of a trajectory and of a run folder are OSErrors
        say(str(error))
        raise SystemExit(2) from error
