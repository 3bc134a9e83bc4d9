"""Import of Matplotlib independent of the user's settings; figures use its defaults, see :mod:`.style`."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

from wgflow.base.environment import environment

_NO_SETTINGS = {"MPLBACKEND": "", "MATPLOTLIBRC": os.devnull}  # read by Matplotlib on import


def matplotlib() -> Any:
    """Import Matplotlib, ignoring the user's settings if they make the import fail, e.g. an unknown backend.

    Raises
    ------
    ModuleNotFoundError
        If it is not installed.
    """
    try:
        return importlib.import_module("matplotlib")
    except ValueError as error:
        logging.getLogger(__name__).warning(
            "Matplotlib rejects MPLBACKEND or matplotlibrc (%.80s); both are ignored",
            " ".join(str(error).split()),
        )
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        del sys.modules[name]  # left over from the failed import
    with environment(_NO_SETTINGS), _elsewhere():
        return importlib.import_module("matplotlib")


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    """Work in a folder without a matplotlibrc, which would take precedence over MATPLOTLIBRC."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # the working folder was deleted
            stack.enter_context(contextlib.chdir(os.path.dirname(__file__)))
        yield


mpl = matplotlib()
