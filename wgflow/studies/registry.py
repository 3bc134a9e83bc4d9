"""Figures of all studies by name, found in the folders of this package."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from wgflow import studies
from wgflow.base.errors import InputError
from wgflow.base.extras import install
from wgflow.base.registry import unknown
from wgflow.report.figure import Figure, Plan
from wgflow.studies.requirements import check
from wgflow.study.grid import RunPlan
from wgflow.study.schema import TargetTable


@functools.cache
def figures() -> Mapping[str, Figure]:
    """Every :class:`Figure` in a module ``figure`` of this package's folders, by name; imports Matplotlib."""
    importlib.import_module("wgflow.report.matplotlib_import")  # before the figures: the user's settings may be invalid
    modules = [
        importlib.import_module(f"{studies.__name__}.{folder.name}.figure")
        for folder in pkgutil.iter_modules(studies.__path__)
        if folder.ispkg
    ]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Figure)]
    return MappingProxyType({figure.name: figure for figure in found})


def required(names: Sequence[str], members: Sequence[RunPlan], target: TargetTable | None = None) -> dict[str, Figure]:
    """Figures of a study by name, after checking that its members and its target are what they need.

    Raises
    ------
    InputError
        If a name is unknown, Matplotlib is missing, or a figure cannot be drawn of these members.
    """
    if list(names) == ["none"]:
        return {}
    try:
        known = figures()
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "wgflow":
            raise
        raise InputError(
            f"figure: expected matplotlib to draw {', '.join(names)}, got no such package; "
            f"{install('study')}, or --set figure=none"
        ) from error
    for name in names:
        if name not in known:
            raise unknown("figure", name, (*known, "none"))
        check(known[name], Plan(name, members, target))
    return {name: known[name] for name in names}
