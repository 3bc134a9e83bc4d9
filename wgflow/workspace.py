"""The folder of one run: ``runs/<study>/<hash>/``, its lock, its provenance, and files that are never half written."""

from __future__ import annotations

import contextlib
import csv
import datetime
import hashlib
import io
import itertools
import json
import math
import os
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import wgflow
from wgflow.errors import WorkspaceError
from wgflow.files import replaced
from wgflow.kernels import cache
from wgflow.types import Spec

_LONGEST = 150  # characters of a member's file name
_PACKAGES = ("numpy", "scipy", "numba", "h5py")


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
    """

    label: str
    values: Spec
    path: Path
    reference: bool = False


class Workspace:
    """A run folder, existing or to be made.

    Parameters
    ----------
    folder : str or Path
        ``runs/<study>/<hash>``.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

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
            If the folder holds no run.
        """
        try:
            study: Spec = json.loads((self.folder / "study.json").read_text(encoding="utf-8"))
            for entry in study["members"]:
                self.member(**entry)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise WorkspaceError(
                f"{self.folder}: expected the folder of a run, with study.json, got {type(error).__name__}: {error}"
            ) from error
        return study

    def member(self, label: str, values: Spec, reference: bool = False) -> MemberFile:
        """Where a member of that label keeps its trajectory."""
        stem = re.sub(r"[^A-Za-z0-9.+_-]+", "-", label.replace(", ", "_"))
        if len(stem) > _LONGEST:  # systems allow 255
            stem = f"{stem[:_LONGEST]}-{hashlib.sha256(stem.encode()).hexdigest()[:12]}"
        return MemberFile(label, values, self.folder / "members" / f"{stem or 'only'}.h5", reference)

    def members(self) -> list[MemberFile]:
        """Members of the run that have a trajectory, in the study's order."""
        listed = [self.member(**entry) for entry in self.study["members"]]
        return [member for member in listed if member.path.is_file()]

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
        self.write_json("study.json", study)

    def open(self) -> None:
        """Make the folder, if it is not there."""
        (self.folder / "members").mkdir(parents=True, exist_ok=True)

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
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise WorkspaceError(
                    f"{self.folder}: another process is running this study; wait for it, or choose another --out"
                ) from error
            except (ModuleNotFoundError, OSError):
                pass  # no locks on this system or disk; the trajectory files still refuse a second writer
            yield

    def event(self, kind: str, **details: Any) -> None:
        """Append one line to ``events.jsonl``."""
        entry = {"time": _now(), "event": kind} | details
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def events(self) -> list[Spec]:
        """Lines of ``events.jsonl``, with their times; one that a kill has torn, or a bit changed, is left out."""
        try:
            lines = (self.folder / "events.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        out = []
        for line in lines:
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                event = json.loads(line)
                when = datetime.datetime.fromisoformat(event["time"])
                out.append(event | {"time": when.astimezone(datetime.UTC), "event": str(event["event"])})
        return out

    def seconds_spent(self, running: bool = False) -> float:
        """Seconds that all commands so far took, each up to the last thing it told ``events.jsonl``.

        Parameters
        ----------
        running : bool, optional
            Whether the last of them still runs, unless it has told that it is done or stopped.
        """
        told = [(event["event"], event["time"]) for event in self.events()]
        if running and told and told[-1][0] not in ("done", "stopped"):
            told.append(("now", datetime.datetime.now(datetime.UTC)))
        between = (now - before for (_, before), (kind, now) in itertools.pairwise(told) if kind != "started")
        return sum(between, datetime.timedelta()).total_seconds()

    def write_text(self, name: str, text: str) -> Path:
        """Write a file so that a reader sees the old one or the new one, never a part."""
        path = self.folder / name
        with replaced(path) as draft:
            draft.write_text(text, encoding="utf-8", errors="backslashreplace")  # a path may be no text
        return path

    def write_json(self, name: str, content: Any) -> Path:
        """Write plain JSON, NaN and infinities as null."""
        return self.write_text(name, json.dumps(_plain(content), indent=2) + "\n")

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


def digest(content: Spec) -> str:
    """Short name of plain JSON: 12 hex digits of its SHA-256."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def word(value: Any) -> str:
    """Grid value as part of a label: a table by its name and options."""
    if isinstance(value, dict):
        options = ";".join(f"{key}={word(part)}" for key, part in value.items() if key != "name")
        return f"{value.get('name', '')}({options})" if options else str(value.get("name", ""))
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        return "+".join(map(word, value)) or "none"
    return str(value)


def words(values: Sequence[Any]) -> list[str]:
    """Values of one key as parts of labels: tables by their names alone where these tell them apart."""
    names = [_named(value) for value in values]
    alone = None not in names and len(set(names)) == len(names)
    return [str(name) if alone else word(value) for name, value in zip(names, values, strict=True)]


def _named(value: Any) -> str | None:
    """Name of a table, names of a list of tables; None for anything else."""
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        return "+".join(str(part.get("name")) for part in value) or "none"
    name = value.get("name") if isinstance(value, dict) else None
    return name if isinstance(name, str) else None


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Last part of each dotted key, or the whole key where that is ambiguous."""
    lasts = [key.rsplit(".", 1)[-1] for key in keys]
    return {key: last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)}


def provenance(backend: str, threads: int) -> Spec:
    """What made a result: versions, machine, backend."""
    return {
        "wgflow": wgflow.__version__,
        "kernels": cache.fingerprint(),
        "backend": backend,
        "threads": threads,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "started": _now(),
        "command": " ".join(["python -m wgflow.sims.run", *sys.argv[1:]]),
    }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _plain(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
