"""Import of Matplotlib that does not depend on the user's settings; figures use its defaults, see :mod:`.style`."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

_NOTHING_SET = {"MPLBACKEND": "", "MATPLOTLIBRC": os.devnull}  # what Matplotlib reads when it is imported


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
            "Matplotlib refuses MPLBACKEND or matplotlibrc (%.80s); figures need neither",
            " ".join(str(error).split()),
        )
    for name in [each for each in sys.modules if each.partition(".")[0] == "matplotlib"]:
        del sys.modules[name]  # parts of what could not be imported as a whole
    with _environment(_NOTHING_SET), _elsewhere():
        return importlib.import_module("matplotlib")


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    """Work in a folder without a matplotlibrc, which Matplotlib reads before the one it is told of."""
    try:
        before = os.open(".", os.O_RDONLY)
    except OSError:  # a working folder that was deleted holds none
        yield
        return
    os.chdir(os.path.dirname(__file__))
    try:
        yield
    finally:
        os.chdir(before)
        os.close(before)


@contextlib.contextmanager
def _environment(changed: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


mpl = matplotlib()
