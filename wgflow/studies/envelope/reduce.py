"""The adjoint and its bounds along depth and along training, for some members of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from wgflow.base.types import Spec
from wgflow.report.member_selection import evenly_spaced, undiverged_members
from wgflow.study.workspace import MemberFile, Workspace
from wgflow.theory.envelope import Envelope, adjoint_envelope
from wgflow.trajectory import Trajectory

_LEGIBLE = 3  # members drawn at most: the first, one in the middle, the last
_FRAMES = 25  # of each at most


class Run(NamedTuple):
    """A member with the envelope of its adjoint at some frames.

    Attributes
    ----------
    label : str
        Its grid values in words.
    s : list of float
        Flow times.
    found : list of Envelope
        Envelopes there.
    """

    label: str
    s: list[float]
    found: list[Envelope]


def runs(work: Workspace) -> list[Run]:
    """Up to three members that did not diverge, the first and the last among them.

    Raises
    ------
    InputError
        If all diverged.
    """
    files = undiverged_members(work)
    return [_measured(files[place]) for place in evenly_spaced(len(files), _LEGIBLE)]


def _measured(file: MemberFile) -> Run:
    with Trajectory(file.path) as trajectory:
        energy, frames = trajectory.energy(), [trajectory[number] for number in evenly_spaced(len(trajectory), _FRAMES)]
    found = [adjoint_envelope(energy, frame.particles) for frame in frames]
    return Run(file.label, [frame.s for frame in frames], found)


def rows(members: Sequence[Run]) -> list[Spec]:
    """The first and the last frame of each member, at t = 0, as plain JSON rows."""
    return [
        {
            "member": member.label,
            "s": member.s[place],
            "ratio": float(member.found[place].ratio[0]),
            "lower": float(member.found[place].lower[0]),
            "upper": float(member.found[place].upper[0]),
            "largest cJ": float(member.found[place].norm.max()),
        }
        for member in members
        for place in (0, -1)
    ]
