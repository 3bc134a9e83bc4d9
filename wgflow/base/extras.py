"""Optional dependencies: the command that installs an extra."""

from __future__ import annotations

import re
import shlex
from importlib import metadata
from pathlib import Path


def install(extra: str) -> str:
    """Command that installs an extra of the package.

    It does not assume that wgflow is on an index: from a checkout it names that folder, otherwise the packages.

    Parameters
    ----------
    extra : str
        Name in ``pyproject.toml``, e.g. ``"study"``.
    """
    checkout = Path(__file__).parents[2]
    if (checkout / "pyproject.toml").is_file():
        place = "." if checkout == Path.cwd() else str(checkout)
        return f"pip install {shlex.quote(f'{place}[{extra}]')}"
    try:
        listed = metadata.requires("wgflow") or []
    except metadata.PackageNotFoundError:
        listed = []
    wanted = [line.partition(";")[0].strip() for line in listed if re.search(rf"extra == ['\"]{extra}['\"]", line)]
    return f"pip install {shlex.join(wanted or [f'wgflow[{extra}]'])}"
