"""Identity of a file: the resolved study it should hold, compared with the one stored in it.

The resolved study has everything that determines a run's numbers: problem, data (by their SHA-256), start, scheme,
flow, seed, precision, observables. It is sealed in the file, so that a file that was copied over another, or whose
folder was renamed, can still be identified.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from wgflow.base.errors import TrajectoryError, describe
from wgflow.base.types import Spec
from wgflow.trajectory import layout

DATA = "sha256:"  # in front of the digest that stands for a path of data
ADVICE = "move it away or delete it: the same command then runs this member (--fresh runs all again)"
_TABLES = 2  # depth in a resolved study down to which a missing key has its default


class Difference(NamedTuple):
    """First key in which two resolved studies differ, dotted, and its values."""

    key: str
    expected: Any
    found: Any


def difference(expected: Any, found: Any, key: str = "", depth: int = 0) -> Difference | None:
    """First difference between two resolved studies.

    A key of a table that only one of them has is not compared, since versions of wgflow differ in their options. Nor is
    a path of data, which older versions have in place of the digest: data may be moved.
    """
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        table = depth < _TABLES or "name" in expected
        for name in [*expected, *(name for name in found if name not in expected)]:
            place = f"{key}.{name}" if key else str(name)
            if name in expected and name in found:
                differs = difference(expected[name], found[name], place, depth + 1)
                if differs:
                    return differs
            elif not table:
                return Difference(place, expected.get(name), found.get(name))
        return None
    if isinstance(expected, list | tuple) and isinstance(found, list | tuple) and len(expected) == len(found):
        pairs = zip(expected, found, strict=True)
        return next((differs for pair in pairs if (differs := difference(*pair, key, depth + 1))), None)
    if key == "problem.path" and not all(str(value).startswith(DATA) for value in (expected, found)):
        return None
    same = expected == found and isinstance(expected, bool) == isinstance(found, bool)
    return None if same else Difference(key, expected, found)


def placed(study: Spec, values: Mapping[str, Any]) -> Spec:
    """Resolved study with some values replaced, by dotted key; the tables on the way are copied."""
    out = dict(study)
    for key, value in values.items():
        *parents, last = key.split(".")
        table = out
        for parent in parents:
            within = table.get(parent)
            table[parent] = table = dict(within) if isinstance(within, Mapping) else {}
        table[last] = value
    return out


def value(study: Spec, key: str) -> Any:
    """Value of a resolved study at a dotted key."""
    for part in key.split("."):
        study = study[part]
    return study


def read(path: Path) -> Spec:
    """Resolved study stored in a file, {} if there is none; raises OSError if the file is missing or damaged."""
    state = path.stat()
    return _read(path, (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns))


@functools.lru_cache(maxsize=2**14)  # all figures of a run read the same files
def _read(path: Path, state: tuple[int, ...]) -> Spec:
    del state  # a key of the cache: a file that has changed is read again
    with layout.opened(path) as file:
        stored = layout.read(file)
        return stored.document(file, "study") if "parameters/study" in stored.places else {}


def require(path: Path, expected: Spec, found: Spec) -> None:
    """Raise TrajectoryError for a file whose resolved study is not the expected one, or that has none."""
    if not found:
        raise TrajectoryError(
            f"{path}: expected the member it is named after, got a file that does not say whose it is; {ADVICE}"
        )
    differs = difference(expected, found)
    if differs:
        key, ours, theirs = differs
        raise TrajectoryError(
            f"{path}: expected the member it is named after, with {key} = {describe(ours)}, got the file of another "
            f"run, with {key} = {describe(theirs)}; {ADVICE}"
        )
