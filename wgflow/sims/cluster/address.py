"""The value of ``--cluster``: workers to start here, or the scheduler of a cluster that is there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from wgflow.base.errors import InputError, describe

EXPECTED = "local:N, tcp://HOST:PORT, tls://HOST:PORT or file:SCHEDULER.json"


class Address(NamedTuple):
    """Where a cluster is.

    Attributes
    ----------
    text : str
        As it was given.
    workers : int
        Processes to start on this machine; 0 for a cluster that is there.
    scheduler : str
        Address of its scheduler; empty for one to be started.
    """

    text: str
    workers: int = 0
    scheduler: str = ""


def parse(text: str) -> Address:
    """Address in the value of ``--cluster``.

    Raises
    ------
    InputError
        If it is none, or the file of a scheduler does not name it.
    """
    kind, _, rest = text.partition(":")
    if kind == "local":
        if not re.fullmatch("[0-9]{1,9}", rest) or int(rest) < 1:
            raise InputError(f"--cluster: expected local:N with a whole number N >= 1, got {text!r}")
        return Address(text, workers=int(rest))
    if kind == "file":
        return Address(text, scheduler=_of_file(text, Path(rest).expanduser()))
    _check_scheduler("--cluster", text)
    return Address(text, scheduler=text)


def _of_file(text: str, path: Path) -> str:
    """Address that a scheduler has written to its file (``dask scheduler --scheduler-file``)."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        address = found.get("address") if isinstance(found, dict) else None
    except OSError as error:
        raise InputError(
            f"--cluster {text}: expected a readable file ({(error.strerror or str(error)).lower()}); start the "
            "scheduler with --scheduler-file, and give that file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"--cluster {text}: expected JSON that a scheduler has written ({error})") from error
    if not isinstance(address, str):
        raise InputError(f"--cluster {text}: expected an address in it, got {describe(address)}")
    _check_scheduler(f"--cluster {text}", address)
    return address


def _check_scheduler(place: str, text: str) -> None:
    try:
        found = urlsplit(text)
        valid = found.scheme in ("tcp", "tls") and bool(found.hostname) and bool(found.port)
        plain = not (found.path or found.query or found.fragment or "@" in found.netloc)
    except ValueError:  # a port that is none
        valid = plain = False
    if not (valid and plain):
        raise InputError(f"{place}: expected {EXPECTED}, got {text!r}")
