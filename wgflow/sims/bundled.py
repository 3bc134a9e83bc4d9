"""The studies that come with the package."""

from __future__ import annotations

import tomllib
from pathlib import Path

from wgflow.base.errors import InputError
from wgflow.base.registry import lookup
from wgflow.base.terminal import console, printable, show


def studies_folder() -> Path:
    """Folder of the bundled studies: inside the installed package, or in the checkout it runs from."""
    installed = Path(__file__).parent / "studies"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "sims"


def study_path(choice: str) -> Path:
    """Path of a study: a bundled name, or a path that ends in .toml.

    Raises
    ------
    InputError
        If there is no such study or file.
    """
    if choice.endswith(".toml"):
        path = Path(choice)
        if not path.is_file():
            raise InputError(
                f"study {choice}: expected a TOML file, got no such file; --list shows the bundled studies"
            )
        return path
    return lookup("study", choice, {path.stem: path for path in studies_folder().glob("*.toml")})


def show_studies(folder: Path) -> None:
    """Print the studies of a folder, quickstart first: name, question, cost; one line each if there is no terminal."""
    from rich.table import Table

    out, table = console(width=None), Table("study", "question", "cost", box=None, pad_edge=False)
    for path in sorted(folder.glob("*.toml"), key=lambda path: (path.stem != "quickstart", path.stem)):
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        row = (path.stem, raw.get("question", ""), raw.get("cost", ""))
        if out.is_terminal:
            table.add_row(*row)
        else:
            show(printable("  ".join(filter(None, row))))
    if out.is_terminal:
        out.print(table)
