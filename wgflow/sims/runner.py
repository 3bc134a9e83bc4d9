"""Running the members of a study into a workspace, each taken up where its file ends."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import NamedTuple

from wgflow.errors import DivergenceError, InputError
from wgflow.sims.members import Planned, Setup
from wgflow.sims.observables import OBSERVABLES
from wgflow.trajectory import Trajectory, TrajectoryWriter
from wgflow.types import Frame, Spec
from wgflow.workspace import Workspace

logger = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """How a member ended.

    Attributes
    ----------
    status : str
        ``"finished"`` or ``"diverged"``.
    message : str
        For a divergence, what happened.
    """

    status: str
    message: str = ""


def check_provenance(work: Workspace, labels: list[Planned], now: Spec, *, keep: bool, mixed: bool) -> None:
    """Refuse to mix results of different code or backends without being told to.

    Raises
    ------
    InputError
        If a member on disk was made by another version, other kernels or another backend.
    """
    for planned in labels:
        path = work.member(planned.label, planned.values).path
        if not path.is_file():
            continue
        with Trajectory(path) as trajectory:
            then = trajectory.parameters["provenance"]
        if then["backend"] != now["backend"] and not mixed:
            raise InputError(
                f"{path}: made by backend {then['backend']!r}, now {now['backend']!r}; "
                f"use --backend {then['backend']}, or --mixed to go on with both, or --fresh to start again"
            )
        if (then["wgflow"], then["kernels"]) != (now["wgflow"], now["kernels"]) and not keep:
            raise InputError(
                f"{path}: made by wgflow {then['wgflow']} (kernels {then['kernels']}), now {now['wgflow']} "
                f"(kernels {now['kernels']}); use --keep to go on with it or --fresh to start again"
            )


def steps_done(work: Workspace, planned: Planned) -> int:
    """Steps that a member's file already holds."""
    path = work.member(planned.label, planned.values).path
    if not path.is_file():
        return 0
    with Trajectory(path) as trajectory:
        return trajectory[-1].step if len(trajectory) else 0


def run_member(
    work: Workspace,
    planned: Planned,
    setup: Setup,
    *,
    study: Spec,
    provenance: Spec,
    advance: Callable[[int], None],
    check: Callable[[bool], None],
) -> Outcome:
    """Run one member to its end, or on from its last committed frame.

    Parameters
    ----------
    work : Workspace
        Where its trajectory goes.
    planned, setup : Planned, Setup
        The member and its objects.
    study, provenance : dict
        Documents stored with the trajectory.
    advance : callable
        Told the number of steps newly taken.
    check : callable
        Called after every step, with whether a frame has been committed since the call began; raises to stop the run.

    Returns
    -------
    Outcome
        A divergence is an outcome, not an error: the other members go on.
    """
    path = work.member(planned.label, planned.values).path
    measured = tuple(planned.member.observables)
    if path.is_file():
        writer = TrajectoryWriter.resume(path)
    else:
        writer = TrajectoryWriter.create(
            path,
            setup.energy,
            len(setup.start),
            flow=setup.flow.spec(),
            study=study,
            provenance=provenance,
            heldout=setup.heldout.problem if setup.heldout else None,
            observables=measured,
            capacity=planned.frames,
        )

    def record(frame: Frame) -> None:
        numbers = {name: OBSERVABLES[name](setup, frame) for name in measured}
        writer.append(dataclasses.replace(frame, observables=numbers))

    with writer:
        last = writer.last()
        before, step = writer.frames, last.step if last else 0
        logger.info("%s: from step %d of %d", planned.label, step, planned.steps)
        if last and last.step >= planned.steps:
            writer.finish()
            return Outcome("finished")
        try:
            for frame in setup.flow.run(last or setup.start, planned.member.flow.until):
                if last is not None and frame.step == last.step:
                    continue  # the file has it
                if planned.records(frame.step):
                    record(frame)
                advance(frame.step - step)
                step = frame.step
                check(writer.frames > before)
        except DivergenceError as error:
            recorded = writer.last()
            if error.frame is not None and (recorded is None or error.frame.step > recorded.step):
                record(error.frame)
            writer.finish()
            return Outcome("diverged", str(error))
        writer.finish()
    return Outcome("finished")
