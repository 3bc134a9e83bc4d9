"""The folder of one run: ``runs/<study>/<hash>/``, its lock, its events, and files that are never half written."""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wgflow.base.errors import InputError, TrajectoryError, WorkspaceError
from wgflow.base.files import atomic_write, file_name, lock, remove_drafts, sanitised
from wgflow.base.types import Spec
from wgflow.study.labels import word
from wgflow.study.provenance import digest, now, plain

_HASH = re.compile(r"[0-9a-f]{12}")
LATEST = "latest"  # beside run folders: the one begun last


class MemberFile(NamedTuple):
    """One member of a run on disk.

    Attributes
    ----------
    label : str
        Its grid values in words, e.g. ``"count=32, seed=1"``.
    values : dict
        Its grid values by key.
    path : Path
        Its trajectory, which may not exist yet.
    reference : bool
        Whether it is there for the others to be compared with.
    holds : dict
        What its file holds at the grid's keys, with the digest of data in place of their path, if that is known.
    """

    label: str
    values: Spec
    path: Path
    reference: bool = False
    holds: Spec | None = None


class Workspace:
    """A run folder, existing or to be made.

    Parameters
    ----------
    folder : str or Path
        ``runs/<study>/<hash>``, or ``runs/<study>/latest`` for the run begun last.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = _followed(Path(folder))

    @classmethod
    def of(cls, root: str | Path, study: str, resolved: Spec) -> Workspace:
        """Folder of a resolved study under a root; nothing is created."""
        return cls(Path(root) / study / digest(resolved))

    @property
    def study(self) -> Spec:
        """The resolved study this folder belongs to.

        Raises
        ------
        WorkspaceError
            If the folder holds no run, or one that belongs under another name.
        """
        try:
            study: Spec = json.loads((self.folder / "study.json").read_text(encoding="utf-8"))
            for entry in study["members"]:
                self.member(**entry)
            seal = study.pop("sha256", None)  # older versions wrote none
            if seal not in (None, digest(study)):
                raise ValueError("it has changed since it was written; the study's command writes it again")
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            gone = isinstance(error, FileNotFoundError | NotADirectoryError)
            got = "no such file" if gone else f"{type(error).__name__}: {error}"
            raise WorkspaceError(f"{self.folder}: expected the folder of a run (with study.json), got {got}") from error
        if _HASH.fullmatch(self.folder.name):
            self._refuse_another(study.get("hash"))
        return study

    def check_name(self) -> None:
        """Refuse a folder that was renamed to this one's hash.

        Raises
        ------
        WorkspaceError
            If its study.json is another run's; one that cannot be read says nothing.
        """
        self._refuse_another(self._hash())

    def _hash(self) -> str | None:
        """Name of the folder when the run was made, as far as study.json can say it."""
        with contextlib.suppress(OSError, ValueError, RecursionError, AttributeError):
            found = json.loads((self.folder / "study.json").read_text(encoding="utf-8")).get("hash")
            return found if isinstance(found, str) else None
        return None

    def _refuse_another(self, found: str | None) -> None:
        if found not in (None, self.folder.name):
            raise WorkspaceError(
                f"{self.folder}: expected the run {self.folder.name}, got the study.json of {found}; rename the folder "
                f"to {found}, or delete study.json if the members are those of {self.folder.name} (--fresh deletes all)"
            )

    def member(self, label: str, values: Spec, reference: bool = False, holds: Spec | None = None) -> MemberFile:
        """Where a member of that label keeps its trajectory."""
        path = self.folder / "members" / f"{file_name(label)}.h5"
        before = path.with_name(f"{sanitised(label)}.h5")  # as older versions, which named two labels alike, had it
        if before != path and before.is_file() and not path.is_file() and _agrees(values, before):
            path = before
        return MemberFile(label, values, path, reference, holds)

    def members(self) -> list[MemberFile]:
        """Members of the run that have a trajectory, in the study's order.

        Raises
        ------
        TrajectoryError
            If one of them is the file of another run; one that cannot be read is left to whoever opens it.
        """
        study, found = self.study, self.begun()
        for member in found:
            self.check(member, study)
        return found

    def begun(self) -> list[MemberFile]:
        """Members of the run that have a file, whatever is in it, in the study's order."""
        listed = [self.member(**entry) for entry in self.study["members"]]
        return [member for member in listed if member.path.is_file()]

    def check(self, member: MemberFile, study: Spec | None = None) -> None:
        """Refuse a member's file that is another run's.

        Raises
        ------
        TrajectoryError
            If it is; one that cannot be read says nothing.
        """
        from wgflow.trajectory import identity

        try:
            found = identity.read(member.path)
        except (OSError, TrajectoryError):
            return
        identity.require(member.path, identity.placed(study or self.study, member.holds or member.values), found)

    def check_distinct(self, labels: Sequence[str]) -> None:
        """See that no two members share a file, where case counts or not.

        Raises
        ------
        InputError
            If two do.
        """
        seen: dict[str, str] = {}
        for label in labels:
            other = seen.setdefault(file_name(label).casefold(), label)
            if other != label:
                raise InputError(f"grid: expected members whose files differ in name, got {other!r} and {label!r}")

    def trajectories(self) -> list[Path]:
        """Trajectories of the run, in the study's order.

        Raises
        ------
        WorkspaceError
            If there is none yet.
        """
        found = [member.path for member in self.members()]
        if not found:
            raise WorkspaceError(f"{self.folder}: expected at least one trajectory, got none; run the study first")
        return found

    def create(self, study: Spec) -> None:
        """Make the folder and write the resolved study into it."""
        self.open()
        content = plain(study | {"hash": self.folder.name})
        self.write_json("study.json", content | {"sha256": digest(content)})
        _point_at(self.folder)

    def open(self) -> None:
        """Make the folder, if it is not there.

        Raises
        ------
        WorkspaceError
            If a file, or a link to a folder that is gone, stands in its place.
        """
        folder = self.folder / "members"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise WorkspaceError(
                f"{folder}: expected a folder, got a file or a link that leads nowhere; make the folder that it leads "
                "to, or remove it"
            ) from error

    def clear(self, paths: Iterable[Path]) -> None:
        """Remove the trajectories of earlier runs, and what lies beside them, so that a run can start again.

        A linked ``members/`` stays linked, and loses the files of the given members alone, since others may share that
        folder. Of a linked file the link is removed and not what it leads to.

        Parameters
        ----------
        paths : iterable of Path
            The members' trajectories.

        Raises
        ------
        OSError
            If something cannot be removed.
        """
        folder = self.folder / "members"
        if not folder.is_symlink():
            shutil.rmtree(folder)
            return
        for path in paths:
            for file in (path, path.with_suffix(".checkpoint")):
                file.unlink(missing_ok=True)
                remove_drafts(file)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process.

        Raises
        ------
        WorkspaceError
            If another process holds it.
        """
        with (self.folder / ".lock").open("ab") as file:
            try:
                lock(file)  # without locks the trajectory files still refuse a second writer
            except BlockingIOError as error:
                raise WorkspaceError(
                    f"{self.folder}: another process is running this study; wait for it, or choose another --out"
                ) from error
            yield

    def event(self, kind: str, **details: Any) -> None:
        """Append one line to ``events.jsonl``."""
        entry = {"time": now(), "event": kind} | details
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def events(self) -> list[Spec]:
        """Lines of ``events.jsonl``, with their times; those of another run, torn by a kill or changed are left out."""
        try:
            lines = (self.folder / "events.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        out, own, run = [], True, self._hash()
        for line in lines:
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError, OverflowError):
                event = json.loads(line)
                when = datetime.datetime.fromisoformat(event["time"])
                if event["event"] == "started":
                    own = None in (run, event.get("run")) or event["run"] == run
                if own:
                    out.append(event | {"time": when.astimezone(datetime.UTC), "event": str(event["event"])})
        return out

    def seconds_spent(self) -> float:
        """Seconds that all commands so far took, each until its last recorded activity.

        That is what it told ``events.jsonl`` last or, if this was not its end, when a member's file was written to: a
        command that is killed tells nothing, and time in which nothing runs does not count.
        """
        entries = [(event["event"], event["time"].timestamp()) for event in self.events()]
        starts = [k for k, (kind, _) in enumerate(entries) if kind == "started"]
        written = [path.stat().st_mtime for path in self.folder.glob("members/*.h5")]
        total = 0.0
        for k, after in itertools.pairwise([*starts, len(entries)]):
            begun, (last, ended) = entries[k][1], entries[after - 1]
            if last not in ("done", "stopped"):
                until = entries[after][1] if after < len(entries) else math.inf
                ended = max([ended, *(when for when in written if when < until)])
            total += max(0.0, ended - begun)
        return total

    def write_text(self, name: str, text: str) -> Path:
        """Write a file so that a reader sees the old one or the new one, never a part."""
        path = self.folder / name
        with atomic_write(path) as draft:
            draft.write_text(text, encoding="utf-8", errors="backslashreplace")  # a path may be no text
        return path

    def write_json(self, name: str, content: Any) -> Path:
        """Write plain JSON, NaN and infinities as null."""
        return self.write_text(name, json.dumps(plain(content), indent=2) + "\n")

    def write_csv(self, name: str, rows: Sequence[Spec]) -> Path:
        """Write rows under a header of all their keys; what a row lacks is left empty."""
        buffer = io.StringIO()
        keys = list(dict.fromkeys(key for row in rows for key in row))
        writer = csv.DictWriter(buffer, keys, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            tables = {key: word(value) for key, value in row.items() if isinstance(value, dict | list)}
            writer.writerow(row | tables)
        return self.write_text(name, buffer.getvalue())


def _followed(folder: Path) -> Path:
    """Run folder that ``latest`` stands for; any other folder as it is."""
    if folder.name != LATEST:
        return folder
    with contextlib.suppress(OSError, ValueError):
        name = os.readlink(folder) if folder.is_symlink() else folder.read_text(encoding="utf-8").strip()
        if _HASH.fullmatch(name):
            return folder.with_name(name)
    return folder


def _point_at(folder: Path) -> None:
    """Have ``latest`` point at a run folder: a link, or a text file with its name where there are no links."""
    latest = folder.with_name(LATEST)
    if latest.is_dir() and not latest.is_symlink():
        return  # somebody's own folder
    draft = latest.with_name(f".{LATEST}.{os.getpid()}.new")
    with contextlib.suppress(OSError):  # a run does without it
        try:
            draft.symlink_to(folder.name, target_is_directory=True)
            os.replace(draft, latest)
        except (OSError, NotImplementedError):
            draft.unlink(missing_ok=True)
            with atomic_write(latest) as text:
                text.write_text(f"{folder.name}\n", encoding="utf-8")


def _agrees(values: Spec, path: Path) -> bool:
    """Whether the member in a file has these values of the grid."""
    from wgflow.trajectory import identity

    try:
        found = identity.read(path)
    except (OSError, TrajectoryError):
        return False
    return bool(found) and identity.difference(identity.placed({}, values), found) is None
