"""The command ``wgflow``: subcommands, help and version. Each subcommand is imported when it is called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from wgflow import __version__
from wgflow.base.exit_codes import BAD_INPUT, DONE
from wgflow.base.registry import suggest
from wgflow.base.terminal import say, show

# name: (module:function of the arguments, arguments that come first, help)
COMMANDS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "run": ("wgflow.sims.run:main", (), "run a study, or resume it"),
    "list": ("wgflow.sims.run:main", ("--list",), "list the bundled studies"),
    "figure": ("wgflow.cli.runs:figure", (), "draw a figure of a run again"),
    "report": ("wgflow.cli.runs:report", (), "add the theorems along one run to a study's page"),
    "watch": ("wgflow.cli.runs:watch", (), "follow a running study"),
    "export": ("wgflow.cli.runs:export", (), "write a study or a trajectory as NetCDF, or particles in 3-D"),
    "check": ("wgflow.cli.trajectory:main", ("check",), "check trajectory files against their digests"),
    "repair": ("wgflow.cli.trajectory:main", ("repair",), "copy the intact frames of a damaged trajectory"),
    "schema": ("wgflow.cli.trajectory:main", ("schema",), "print the schema of trajectory files"),
    "doctor": ("wgflow.cli.doctor:main", (), "show processors, GPUs and packages, and what will be used"),
}


def usage() -> str:
    """Help text of the command."""
    lines = [f"  {name:<8} {text}" for name, (_, _, text) in COMMANDS.items()]
    head = "usage: wgflow COMMAND ...   (wgflow COMMAND --help explains one; wgflow --version)"
    return "\n".join([head, "", *lines, "", "Start with: wgflow run quickstart"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code; a study's name or file alone means ``run``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        show(usage())
        return DONE
    if given[0] in ("-V", "--version"):
        show(f"wgflow {__version__}")
        return DONE
    name, rest = given[0], given[1:]
    if name not in COMMANDS:  # `wgflow quickstart`, `wgflow mine.toml`, `wgflow --list`
        near = suggest(name, COMMANDS)
        if near and not name.startswith("-"):
            say(f"unknown command {name!r}: {near}wgflow --help lists all")
            return BAD_INPUT
        name, rest = "run", given
    entry, first, _ = COMMANDS[name]
    module, _, function = entry.partition(":")
    code: int = getattr(importlib.import_module(module), function)([*first, *rest])
    return code
