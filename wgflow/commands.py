"""What all commands have in common: one line for bad input, errors on stderr."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from wgflow.errors import InputError


class Parser(argparse.ArgumentParser):
    """Command line whose errors are raised, to be said in one line.

    Raises
    ------
    InputError
        From ``parse_args``, if the arguments do not fit.
    """

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print with the whole usage."""
        raise InputError(f"{message}; see --help")


def say(text: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write(f"wgflow: {' '.join(text.split())}\n")
