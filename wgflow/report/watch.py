"""Follow a running study: a table of its members and the live loss curve, without hurting the writer.

Usage: python -m wgflow.analysis.watch RUN
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from wgflow.base.errors import InputError, TrajectoryError, WorkspaceError
from wgflow.base.terminal import Parser, console, printable, say
from wgflow.base.types import Array
from wgflow.report.braille import curve
from wgflow.report.gradient_flow_check import diagnosis
from wgflow.report.member_selection import diverged
from wgflow.study.workspace import MemberFile, Workspace
from wgflow.trajectory import Trajectory

if TYPE_CHECKING:
    from rich.console import RenderableType

_FINISHED, _DIVERGED, _RUNNING, _WAITING, _STOPPED = "finished", "diverged", "running", "waiting", "stopped"
_QUIET = 10.0  # seconds after which a member that has not moved is called waiting
_RECENT = 12  # members shown, the last changed first
_SAID = 3  # members of which it is said that they do not follow the gradient flow


class Look(NamedTuple):
    """A member as it was when its file was last looked at.

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
    lasting : bool
        Whether the member goes on from its last frame after a stop; without particles in its file it starts again.
    said : str
        What shows that it does not follow the gradient flow, if anything does.
    """

    label: str
    frames: int
    until: float
    s: Array
    energy: Array
    state: str
    changed: float
    lasting: bool = True
    said: str = ""

    def share(self) -> float:
        """Share of the member that need not be computed any more, 0 to 1."""
        if self.state in (_FINISHED, _DIVERGED):  # a member that diverged has come to its end before
            return 1.0
        if not self.frames or not (self.lasting or self.state == _RUNNING):
            return 0.0
        return min(1.0, float(self.s[-1]) / self.until) if self.until > 0 else 0.0


class Watch:
    """A run, or a single trajectory, that is looked at again and again; files that have not changed are not read.

    Parameters
    ----------
    place : Path
        A run folder, a folder of runs of a study (the one changed last), or a trajectory.

    Raises
    ------
    WorkspaceError
        If there is no run.
    """

    def __init__(self, place: Path) -> None:
        self.name = str(place)
        self._looks: dict[Path, Look] = {}
        self._work: Workspace | None = None
        if place.is_file():
            self._members = [MemberFile(place.stem, {}, place)]
            return
        found = [place] if (place / "study.json").is_file() else [each.parent for each in place.glob("**/study.json")]
        if not found:
            raise WorkspaceError(f"{place}: expected the folder of a run or a trajectory, got neither")
        self._work = Workspace(max(found, key=_changed))
        self.name = str(self._work.folder)

    @property
    def total(self) -> int:
        """Members of the run, begun or not."""
        return len(self._work.study["members"]) if self._work else 1

    def look(self) -> list[Look]:
        """Members that have begun, the last changed first."""
        members = self._work.begun() if self._work else self._members
        for member in members:
            changed = _changed(member.path)
            before = self._looks.get(member.path)
            if before is None or changed != before.changed:
                self._looks[member.path] = self._look(member, changed)
            elif before.state == _RUNNING and time.time() - changed > _QUIET:
                self._looks[member.path] = before._replace(state=_WAITING)
        looks = sorted(self._looks.values(), key=lambda each: -each.changed)
        events = self._work.events() if self._work else []
        diverged = {event.get("member") for event in events if event["event"] == "diverged"}
        looks = [each._replace(state=_DIVERGED) if each.label in diverged else each for each in looks]
        if self._last_event() == "stopped":
            return [each._replace(state=_STOPPED) if each.state in (_RUNNING, _WAITING) else each for each in looks]
        return looks

    def _look(self, member: MemberFile, changed: float) -> Look:
        try:
            if self._work is not None:
                self._work.check(member)
        except TrajectoryError as error:
            return Look(member.label, 0, np.nan, np.empty(0), np.empty(0), str(error), changed)
        return _look(member, changed)

    def done(self) -> bool:
        """Whether nothing will change any more."""
        if self._work is None:
            return self._looks[self._members[0].path].state in (_FINISHED, "diverged")
        return self._last_event() == "done"

    def _last_event(self) -> str:
        events = self._work.events() if self._work else []
        return str(events[-1]["event"]) if events else ""

    def seconds(self) -> tuple[float, float | None]:
        """Seconds that the run has taken while it ran, and seconds left by the share of its work that is done."""
        if self._work is None:
            return 0.0, None
        spent, work = self._work.seconds_spent(), self._work_of_members()
        share = sum(each.share() * work[each.label] for each in self.look()) / sum(work.values())
        return spent, None if share <= 0 else spent * max(0.0, 1 - share) / share

    def _work_of_members(self) -> dict[str, float]:
        """Work of each member in units that take about equally long, as the run's command told it; else 1."""
        assert self._work is not None  # the caller looked
        labels = [str(entry["label"]) for entry in self._work.study["members"]]
        told = [event.get("work") for event in self._work.events() if event["event"] == "started"]
        work = told[-1] if told else None
        fits = isinstance(work, list) and len(work) == len(labels)
        if not fits or not all(isinstance(each, int | float) and 0 < each < np.inf for each in work or []):
            return dict.fromkeys(labels, 1.0)
        return {label: float(each) for label, each in zip(labels, work or [], strict=True)}


def picture(watch: Watch, width: int, height: int) -> RenderableType:
    """Draw the run as it is now: table, loss curve of the member changed last, how long it takes."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    looks = watch.look()
    table = Table("member", "frames", "s", "of", "E", "E at the start", "state", box=None, pad_edge=False)
    for each in looks[:_RECENT]:
        s, last, first = (
            f"{a[k]:.4g}" if each.frames else "" for a, k in ((each.s, -1), (each.energy, -1), (each.energy, 0))
        )
        table.add_row(printable(each.label), str(each.frames), s, f"{each.until:g}", last, first, printable(each.state))
    ended, lost = (sum(each.state == state for each in looks) for state in (_FINISHED, _DIVERGED))
    spent, left = watch.seconds()
    words = f"{ended} of {watch.total} finished" + (f", {lost} diverged" if lost else "")
    if len(looks) > _RECENT:
        words += f", {len(looks) - _RECENT} more have begun"
    if spent:
        words += f"; {_clock(spent)} spent"
        words += f", about {_clock(left)} left" if left and not watch.done() else ""
    parts: list[RenderableType] = [Text(printable(watch.name), style="bold"), table, Text(words)]
    told = [f"{each.label or 'the only run'}: {each.said}" for each in looks if each.said]
    parts += [Text(printable(each)) for each in told[:_SAID]]
    shown = next((each for each in looks if each.frames > 1), None)
    if shown is not None:
        lines = curve(shown.s, shown.energy, width, max(4, height - len(looks[:_RECENT]) - 8))
        parts += [Text(f"\nE along s, {printable(shown.label) or 'the only member'}"), *(Text(line) for line in lines)]
    return Group(*parts)


def _look(member: MemberFile, changed: float) -> Look:
    none = np.empty(0)
    try:
        with Trajectory(member.path) as trajectory:
            until = trajectory.parameters["study"].get("flow", {}).get("until", np.nan)
            s, energy = trajectory.series("s"), trajectory.series("energy")
            still = time.time() - changed > _QUIET
            ended = _DIVERGED if diverged(trajectory) else _FINISHED
            state = ended if trajectory.finished else _WAITING if still else _RUNNING
            lasting, said = trajectory.particles > 0, diagnosis(trajectory)
            return Look(member.label, len(trajectory), until, s, energy, state, changed, lasting, said)
    except (TrajectoryError, OSError) as error:
        return Look(member.label, 0, np.nan, none, none, str(error), changed)


def _changed(path: Path) -> float:
    """When a file was written to last; when the newest file of a folder was."""
    inside = [path, *path.glob("members/*.h5")] if path.is_dir() else [path]
    return max((each.stat().st_mtime for each in inside if each.exists()), default=0.0)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Follow a run until it is done or Ctrl-C; 0, or 2 with one line for bad input."""
    make = Parser(prog="python -m wgflow.analysis.watch", description="Follow a running study.")
    make.add_argument("run", type=Path, help="folder of a run, of a study's runs (the latest), or a trajectory")
    make.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="between two looks (default: 1)")
    make.add_argument("--once", action="store_true", help="one look, as where the output is no terminal")
    from rich.live import Live

    out = console(width=None)
    try:
        options = make.parse_args(arguments)
        if not 0 < options.interval <= 86400:
            raise InputError(f"--interval: expected seconds > 0, at most a day, got {options.interval}")
        watch = Watch(options.run)

        def now() -> RenderableType:
            return picture(watch, out.width, min(out.height, 30))

        if options.once or not out.is_terminal:
            out.print(now())
            return 0
        with Live(now(), console=out, auto_refresh=False) as live:
            while not watch.done():
                time.sleep(options.interval)
                live.update(now(), refresh=True)
    except KeyboardInterrupt:
        return 0  # the run goes on
    except (InputError, OSError) as error:  # the folder may be deleted meanwhile
        say(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
