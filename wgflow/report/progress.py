"""Progress of a running study, read from its files: state of each member, time spent and left, display."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from wgflow.base.errors import TrajectoryError, WorkspaceError
from wgflow.base.terminal import printable
from wgflow.base.types import Array
from wgflow.report.gradient_flow_check import diagnosis
from wgflow.report.member_selection import diverged
from wgflow.study.workspace import MemberFile, Workspace
from wgflow.trajectory import Trajectory

if TYPE_CHECKING:
    from rich.console import RenderableType

FINISHED, DIVERGED, RUNNING, WAITING, STOPPED = "finished", "diverged", "running", "waiting", "stopped"
_QUIET = 10.0  # seconds without a change after which a member counts as waiting
_RECENT = 12  # members displayed, the last changed first
_WARNINGS = 3  # members whose departure from the gradient flow is displayed
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # Braille, by row and column


class MemberProgress(NamedTuple):
    """Progress of one member when its file was last read.

    Attributes
    ----------
    label : str
        Its grid values in words.
    frames, until : int, float
        Frames so far, and the flow time at which it ends.
    s, energy : ndarray (F,)
        Flow times of the frames and E at them.
    state : str
        ``"finished"``, ``"running"``, ``"waiting"`` (not written to for a while), ``"stopped"``, ``"diverged"``, or
        what is wrong with its file.
    changed : float
        When the file was last written to, in seconds since the epoch.
    resumable : bool
        Whether the member resumes from its last frame; without particles in its file it starts again.
    warning : str
        How it departs from the gradient flow, if it does.
    """

    label: str
    frames: int
    until: float
    s: Array
    energy: Array
    state: str
    changed: float
    resumable: bool = True
    warning: str = ""

    def share(self) -> float:
        """Share of the member's work that is done, 0 to 1."""
        if self.state in (FINISHED, DIVERGED):
            return 1.0
        if not self.frames or not (self.resumable or self.state == RUNNING):
            return 0.0
        return min(1.0, float(self.s[-1]) / self.until) if self.until > 0 else 0.0


class RunProgress:
    """Progress of a run or a single trajectory; files are read again only if they have changed.

    Parameters
    ----------
    place : Path
        A run folder, a folder of runs (the one changed last is taken), or a trajectory.

    Raises
    ------
    WorkspaceError
        If there is no run.
    """

    def __init__(self, place: Path) -> None:
        self.name = str(place)
        self._known: dict[Path, MemberProgress] = {}
        self._work: Workspace | None = None
        if place.is_file():
            self._members = [MemberFile(place.stem, {}, place)]
            return
        runs = [place] if (place / "study.json").is_file() else [file.parent for file in place.glob("**/study.json")]
        if not runs:
            raise WorkspaceError(f"{place}: expected the folder of a run or a trajectory, got neither")
        self._work = Workspace(max(runs, key=_changed))
        self.name = str(self._work.folder)

    @property
    def total(self) -> int:
        """Members of the run, started or not."""
        return len(self._work.study["members"]) if self._work else 1

    def members(self) -> list[MemberProgress]:
        """Members that have started, the last changed first."""
        for member in self._work.begun() if self._work else self._members:
            changed = _changed(member.path)
            before = self._known.get(member.path)
            if before is None or changed != before.changed:
                self._known[member.path] = self._read(member, changed)
            elif before.state == RUNNING and time.time() - changed > _QUIET:
                self._known[member.path] = before._replace(state=WAITING)
        members = sorted(self._known.values(), key=lambda member: -member.changed)
        events = self._work.events() if self._work else []
        lost = {event.get("member") for event in events if event["event"] == "diverged"}
        members = [member._replace(state=DIVERGED) if member.label in lost else member for member in members]
        stopped = (RUNNING, WAITING) if self._last_event() == "stopped" else ()
        return [member._replace(state=STOPPED) if member.state in stopped else member for member in members]

    def _read(self, member: MemberFile, changed: float) -> MemberProgress:
        try:
            if self._work is not None:
                self._work.check(member)
            with Trajectory(member.path) as trajectory:
                until = trajectory.parameters["study"].get("flow", {}).get("until", np.nan)
                s, energy = trajectory.series("s"), trajectory.series("energy")
                ended = DIVERGED if diverged(trajectory) else FINISHED
                state = ended if trajectory.finished else WAITING if time.time() - changed > _QUIET else RUNNING
                resumable, warning = trajectory.particles > 0, diagnosis(trajectory)
                count = len(trajectory)
        except (TrajectoryError, OSError) as error:
            return MemberProgress(member.label, 0, np.nan, np.empty(0), np.empty(0), str(error), changed)
        return MemberProgress(member.label, count, until, s, energy, state, changed, resumable, warning)

    def done(self) -> bool:
        """Whether nothing will change any more."""
        if self._work is None:
            return self._known[self._members[0].path].state in (FINISHED, DIVERGED)
        return self._last_event() == "done"

    def _last_event(self) -> str:
        events = self._work.events() if self._work else []
        return str(events[-1]["event"]) if events else ""

    def seconds(self) -> tuple[float, float | None]:
        """Seconds spent while running, and seconds left, estimated from the share of the work that is done."""
        if self._work is None:
            return 0.0, None
        spent, work = self._work.seconds_spent(), _work_by_member(self._work)
        share = sum(member.share() * work[member.label] for member in self.members()) / sum(work.values())
        return spent, None if share <= 0 else spent * max(0.0, 1 - share) / share


def _work_by_member(run: Workspace) -> dict[str, float]:
    """Work of each member, in units of about the same duration, as recorded at the start; otherwise 1."""
    labels = [str(entry["label"]) for entry in run.study["members"]]
    recorded = [event.get("work") for event in run.events() if event["event"] == "started"]
    work = recorded[-1] if recorded else None
    if isinstance(work, list) and len(work) == len(labels):
        if all(isinstance(amount, int | float) and 0 < amount < np.inf for amount in work):
            return dict(zip(labels, map(float, work), strict=True))
    return dict.fromkeys(labels, 1.0)


def _changed(path: Path) -> float:
    """Modification time of a file, or of the newest file of a run folder."""
    inside = [path, *path.glob("members/*.h5")] if path.is_dir() else [path]
    return max((file.stat().st_mtime for file in inside if file.exists()), default=0.0)


def render(progress: RunProgress, width: int, height: int) -> RenderableType:
    """Table of the runs, time spent and left, and the loss curve of the run changed last."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    members = progress.members()
    table = Table("run", "frames", "s", "of", "E", "E at the start", "state", box=None, pad_edge=False)
    for member in members[:_RECENT]:
        ends = (member.s, -1), (member.energy, -1), (member.energy, 0)
        s, last, first = (f"{series[k]:.4g}" if member.frames else "" for series, k in ends)
        label, state = printable(member.label), printable(member.state)
        table.add_row(label, str(member.frames), s, f"{member.until:g}", last, first, state)
    finished, lost = (sum(member.state == state for member in members) for state in (FINISHED, DIVERGED))
    spent, left = progress.seconds()
    status = f"{finished} of {progress.total} finished" + (f", {lost} diverged" if lost else "")
    if len(members) > _RECENT:
        status += f", {len(members) - _RECENT} more have started"
    if spent:
        status += f"; {_clock(spent)} elapsed"
        status += f", about {_clock(left)} left" if left and not progress.done() else ""
    parts: list[RenderableType] = [Text(printable(progress.name), style="bold"), table, Text(status)]
    warnings = [f"{member.label or 'the only run'}: {member.warning}" for member in members if member.warning]
    parts += [Text(printable(warning)) for warning in warnings[:_WARNINGS]]
    latest = next((member for member in members if member.frames > 1), None)
    if latest is not None:
        lines = curve(latest.s, latest.energy, width, max(4, height - len(members[:_RECENT]) - 8))
        parts += [Text(f"\nE along s, {printable(latest.label) or 'the only run'}"), *(Text(line) for line in lines)]
    return Group(*parts)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def curve(x: Array, y: Array, width: int, height: int) -> list[str]:
    """Plot y against x as lines of Braille characters; y is on a logarithmic scale if it is positive throughout.

    Parameters
    ----------
    x, y : ndarray (F,)
        Points; those that are not finite are left out.
    width, height : int
        Columns and lines available, axes included.

    Returns
    -------
    list of str
        From the top down; empty for fewer than two points.
    """
    good = np.isfinite(x) & np.isfinite(y)
    x, y = x[good], y[good]
    if len(x) < 2:
        return []
    labels = [f"{y.max():.3g}", f"{y.min():.3g}"]
    margin = max(map(len, labels)) + 1
    columns, rows = max(8, width - margin - 1), max(2, height - 2)
    heights = np.log(y) if (y > 0).all() else y
    across = np.linspace(x.min(), x.max(), 2 * columns)
    order = np.argsort(x, kind="stable")
    at = np.interp(across, x[order], heights[order])
    span = at.max() - at.min()
    down = np.rint((at.max() - at) / (span if span > 0 else 1.0) * (4 * rows - 1)).astype(int)
    cells = np.zeros((rows, columns), int)
    for k, dot in enumerate(down):
        before = down[k - 1] if k else dot  # no gaps where the curve is steep
        for row in range(min(dot, before), max(dot, before) + 1):
            cells[row // 4, k // 2] |= _DOTS[row % 4, k % 2]
    lines = []
    for row, marks in enumerate(cells):
        label = labels[0] if row == 0 else labels[1] if row == rows - 1 else ""
        lines.append(label.rjust(margin - 1) + " │" + "".join(chr(0x2800 + mark) for mark in marks))
    left, right = f"{x.min():.3g}", f"s = {x.max():.3g}"
    lines.append(" " * margin + "└" + "─" * columns)
    lines.append(" " * (margin + 1) + left + right.rjust(columns - len(left)))
    return lines
