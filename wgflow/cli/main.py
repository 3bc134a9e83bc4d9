"""The command ``wgflow``: subcommands, help and version. Each subcommand is imported when it is called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from wgflow import __version__
from wgflow.base.exit_codes import BAD_INPUT, DONE
from wgflow.base.registry import suggest
from wgflow.base.terminal import say, show

# name: (module with main(arguments), arguments that come first, help)
COMMANDS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "run": ("wgflow.sims.run", (), "run a study, or resume it"),
    "list": ("wgflow.sims.run", ("--list",), "list the bundled studies"),
    "figure": ("wgflow.cli.figure", (), "draw a figure of a run again"),
    "report": ("wgflow.cli.report", (), "add the theorems along one run to a study's page"),
    "watch": ("wgflow.cli.watch", (), "follow a running study"),
    "export": ("wgflow.cli.export", (), "write a study or a trajectory as NetCDF, or particles in 3-D"),
    "check": ("wgflow.cli.trajectory", ("check",), "check trajectory files against their digests"),
    "repair": ("wgflow.cli.trajectory", ("repair",), "copy the intact frames of a damaged trajectory"),
    "schema": ("wgflow.cli.trajectory", ("schema",), "print the schema of trajectory files"),
    "doctor": ("wgflow.cli.doctor", (), "show processors, GPUs and packages, and what will be used"),
}


def usage() -> str:
    """Help text of the command."""
    lines = [f"  {name:<8} {text}" for name, (_, _, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: wgflow COMMAND ...   (wgflow COMMAND --help explains one; wgflow --version)",
            "",
            *lines,
            "",
            "Start with: wgflow run quickstart",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code; a study's name or file alone means ``run``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        show(usage())
        return DONE
    if given[0] in ("-V", "--version"):
        show(f"wgflow {__version__}")
        return DONE
    module, first, _ = COMMANDS.get(given[0], (None, (), ""))
    if module is None:  # `wgflow quickstart`, `wgflow mine.toml`, `wgflow --list`
        module = "wgflow.sims.run"
        near = suggest(given[0], COMMANDS)
        if near and not given[0].startswith("-"):
            say(f"unknown command {given[0]!r}: {near}wgflow --help lists all")
            return BAD_INPUT
    else:
        given = [*first, *given[1:]]
    code: int = importlib.import_module(module).main(given)
    return code
