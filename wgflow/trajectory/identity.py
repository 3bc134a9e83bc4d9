"""What a file is to hold: a member's resolved study, compared with the one that lies in the file.

The resolved study names everything that decides a member's numbers: problem, data (by their SHA-256), start, scheme,
flow, seed, precision, observables. It is under the file's seal, so that a file that was copied over another, or whose
folder was renamed, still says whose it is.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from wgflow.base.errors import TrajectoryError, describe
from wgflow.base.types import Spec
from wgflow.trajectory import layout
from wgflow.trajectory.reader import opened

DATA = "sha256:"  # in front of the digest that stands for a path of data
ADVICE = "move it away or delete it: the same command then runs this member (--fresh runs all again)"
_TABLES = 2  # depth in a resolved study down to which a key that is missing has its default


class Difference(NamedTuple):
    """First key in which two resolved studies differ, dotted, and its values."""

    key: str
    expected: Any
    found: Any


def difference(expected: Any, found: Any, key: str = "", depth: int = 0) -> Difference | None:
    """First difference of two resolved studies.

    A key of a table that only one of them has is not compared: versions of wgflow differ in the options they know. Nor
    is a path of data, which older versions have in place of the digest: data may be moved.
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
        return next((each for pair in pairs if (each := difference(*pair, key, depth + 1))), None)
    if key == "problem.path" and not (_is_digest(expected) and _is_digest(found)):
        return None
    same = expected == found and isinstance(expected, bool) == isinstance(found, bool)
    return None if same else Difference(key, expected, found)


def placed(study: Spec, values: Mapping[str, Any]) -> Spec:
    """Resolved study with values in place of its own at dotted keys; the tables on the way are copied."""
    out = dict(study)
    for key, value in values.items():
        *parents, last = key.split(".")
        place = out
        for parent in parents:
            within = place.get(parent)
            place[parent] = place = dict(within) if isinstance(within, Mapping) else {}
        place[last] = value
    return out


def value(study: Spec, key: str) -> Any:
    """Value of a resolved study at a dotted key."""
    found: Any = study
    for part in key.split("."):
        found = found[part]
    return found


def read(path: Path) -> Spec:
    """Resolved study that lies in a file, {} if none does.

    Raises
    ------
    TrajectoryError
        If there is no such file, or it is damaged.
    OSError
        If it cannot be read.
    """
    state = path.stat()
    return _read(path, (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns))


@functools.lru_cache(maxsize=2**14)  # all figures of a run ask for the same ones again
def _read(path: Path, state: tuple[int, ...]) -> Spec:
    del state  # a file that has changed is read again
    with opened(path) as file:
        found = layout.read(path, file)
        if "parameters/study" not in found.places:
            return {}
        return layout.document(bytes(found.array(file, "parameters/study")[()]), path, "study")


def require(path: Path, expected: Spec, found: Spec) -> None:
    """Refuse the resolved study of a file that is not the one it is to hold.

    Raises
    ------
    TrajectoryError
        If it is another's, or the file has none.
    """
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


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(DATA)
