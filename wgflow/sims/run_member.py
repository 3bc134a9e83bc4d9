"""Running the members of a study into a workspace, each resumed from the end of its file."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wgflow.base.errors import DivergenceError, InputError, LostError, TrajectoryError
from wgflow.base.types import Frame, Spec
from wgflow.study.grid import RunPlan
from wgflow.study.workspace import Workspace
from wgflow.systems import members
from wgflow.systems.members import system_of
from wgflow.systems.protocol import Setup
from wgflow.trajectory import Trajectory, TrajectoryWriter, identity

logger = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """How a member ended.

    Attributes
    ----------
    status : str
        ``"finished"`` or ``"diverged"``.
    message : str
        For a divergence, what happened.
    repaired : str
        What was wrong with its file and was computed again, if anything.
    """

    status: str
    message: str = ""
    repaired: str = ""


def check_files(
    work: Workspace, labels: Sequence[RunPlan], documents: Sequence[Spec], now: Spec, *, keep: bool, mixed: bool
) -> None:
    """Refuse files of other runs, and to mix results of different code or backends without being told to.

    Raises
    ------
    InputError
        If a member on disk was made by another version, other kernels, another backend or another device.
    TrajectoryError
        If its file is damaged, or another run's.
    """
    for planned, document in zip(labels, documents, strict=True):
        path = work.member(planned.label, planned.values).path
        if not path.is_file():
            continue
        try:
            with Trajectory(path) as trajectory:
                then, found = trajectory.parameters["provenance"], trajectory.parameters
        except TrajectoryError as error:
            raise TrajectoryError(f"{error}, or delete it: the same command then runs this member again") from error
        _check_identity(path, planned, document, found)
        if not then:
            if not (keep and mixed):
                raise InputError(
                    f"{path}: its provenance was lost in a repair, so nothing says what made it; use --keep and "
                    "--mixed to go on with it, or --fresh to start again"
                )
            continue
        if then["backend"] != now["backend"] and not mixed:
            raise InputError(
                f"{path}: made by backend {then['backend']!r}, now {now['backend']!r}; "
                f"use --backend {then['backend']}, or --mixed to go on with both, or --fresh to start again"
            )
        if then.get("device") != now.get("device") and not mixed:  # sums have another order on another model
            raise InputError(
                f"{path}: made on a device {then.get('device')!r}, now {now.get('device')!r}; use that device, or "
                "--mixed to go on with both, or --fresh to start again"
            )
        if (then["wgflow"], then["kernels"]) != (now["wgflow"], now["kernels"]) and not keep:
            raise InputError(
                f"{path}: made by wgflow {then['wgflow']} (kernels {then['kernels']}), now {now['wgflow']} "
                f"(kernels {now['kernels']}); use --keep to go on with it or --fresh to start again"
            )


def _check_identity(path: Path, planned: RunPlan, document: Spec, found: Mapping[str, Spec]) -> None:
    """Refuse the documents of a file that is not this member's."""
    identity.require(path, document, found["study"])
    path_of_data = getattr(planned.member.problem, "path", None)
    if path_of_data is not None and not found["study"]["problem"]["path"].startswith(identity.DATA):
        # An older version kept the path, which may hold other data by now; the energy's spec has the arrays' digests.
        data = system_of(planned.member).data
        if data(members.build(planned.member).energy.spec()) != data(found["energy"]):
            raise TrajectoryError(
                f"{path}: expected the member it is named after, with the data of {path_of_data}, got a file with "
                f"other data; {identity.ADVICE}"
            )


_NO_START = "no particles to go on from; it starts again from s = 0"


class OnDisk(NamedTuple):
    """How far a member has come in its file.

    Attributes
    ----------
    s : float
        Flow time from which it goes on.
    finished : bool
        Whether the file is, at the end or with a divergence.
    restart : str
        Why it must start again from the beginning, as a sentence; empty if it need not.
    """

    s: float = 0.0
    finished: bool = False
    restart: str = ""


def on_disk(work: Workspace, planned: RunPlan) -> OnDisk:
    """How far a member has come in its file, if it has one."""
    path = work.member(planned.label, planned.values).path
    if not path.is_file():
        return OnDisk()
    with Trajectory(path) as trajectory:
        kept, finished = trajectory.particles > 0, trajectory.finished
        try:
            s = trajectory[-1].s if len(trajectory) else 0.0
        except TrajectoryError:  # if there are particles, the run will find a frame to go on from
            return OnDisk(restart="" if kept else f"{path}: its last frame is damaged and {_NO_START}")
    if s <= 0 or planned.member.reached(s):
        return OnDisk(s, finished)
    if not kept:
        return OnDisk(restart=f"{path}: has numbers up to s = {s:g} and {_NO_START}")
    return OnDisk(s, finished, system_of(planned.member).not_resumable(path, s))


def share_left(work: Workspace, planned: RunPlan) -> float:
    """Share of a member's flow time that is still to be run, 0 to 1; 0 also if it has diverged."""
    try:
        s, finished, _ = on_disk(work, planned)
    except TrajectoryError:  # the run will say what is wrong with the file
        return 1.0
    return 0.0 if finished and s > 0 else 1.0 - min(s / planned.member.flow.until, 1.0)


def run_member(
    work: Workspace,
    planned: RunPlan,
    setup: Setup,
    *,
    study: Spec,
    provenance: Spec,
    advance: Callable[[float], None],
    check: Callable[[bool], None],
) -> Outcome:
    """Run one member to its end, or on from its last committed frame.

    Parameters
    ----------
    work : Workspace
        Where its trajectory goes.
    planned, setup : RunPlan, Setup
        The member and its objects.
    study, provenance : dict
        Documents stored with the trajectory.
    advance : callable
        Told the flow time s after every step.
    check : callable
        Called after every step, with whether a frame to go on from has been committed since the call began; raises to
        stop the run.

    Returns
    -------
    Outcome
        A divergence is an outcome, not an error: the other members go on.

    Raises
    ------
    LostError
        If its file is another run's, or is removed or exchanged while it runs.
    """
    path = work.member(planned.label, planned.values).path
    if path.is_file():
        found = identity.read(path)
        try:
            identity.require(path, study, found)
        except TrajectoryError as error:  # it was looked at when the run began
            raise LostError(f"{error}; it was exchanged while the study ran") from error
    setup.system.keep_beside(setup, path)
    measured = tuple(planned.member.observables)
    kept = len(setup.start) if planned.member.record == "particles" else 0
    repaired = ""

    def create() -> TrajectoryWriter:
        return TrajectoryWriter.create(
            path,
            setup.energy,
            kept,
            flow=setup.flow.spec(),
            study=study,
            provenance=provenance,
            heldout=setup.heldout.problem if setup.heldout else None,
            observables=setup.shapes(measured),
            capacity=planned.frames,
        )

    if path.is_file() and (kept or planned.member.reached(on_disk(work, planned).s)):
        writer = TrajectoryWriter.resume(path)
        if writer.dropped:
            after = f"it and {writer.dropped - 1} after it are" if writer.dropped > 1 else "it is"
            after = f"{after} computed again" if kept else f"there are {_NO_START}"
            repaired = f"{path}: frame {writer.frames} is damaged; {after}"
            if not kept:
                writer.close()
                writer = create()
    else:  # without particles there is no frame to go on from
        writer = create()

    def record(frame: Frame) -> None:
        with np.errstate(all="ignore"):  # the last good frame of a divergence may overflow here
            numbers = setup.measure(frame, measured)
        writer.append(dataclasses.replace(frame, observables=numbers))

    with writer:
        last, before, until = writer.last(), writer.frames, planned.member.flow.until
        logger.info("%s: from s = %g to %g", planned.label, last.s if last else 0.0, until)
        if last and planned.member.reached(last.s):
            writer.finish()
            return Outcome("finished", repaired=repaired)

        def on_step(step: int, s: float) -> None:
            advance(s)
            check(kept > 0 and writer.frames > before)

        try:
            for frame in setup.run(last, planned.member, on_step):
                if last is None or frame.step > last.step:  # otherwise the file has it
                    record(frame)
        except DivergenceError as error:
            recorded = writer.last()
            if error.frame is not None and (recorded is None or error.frame.step > recorded.step):
                record(error.frame)
            writer.finish()
            return Outcome("diverged", str(error), repaired)
        writer.finish()
    return Outcome("finished", repaired=repaired)
