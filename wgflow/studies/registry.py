"""Figures of all studies by name, found in the folders of this package."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence

from wgflow import studies
from wgflow.base.errors import InputError
from wgflow.base.extras import install
from wgflow.base.registry import check_name
from wgflow.report.figure import Figure, Plan
from wgflow.studies.requirements import check
from wgflow.study.grid import RunPlan
from wgflow.study.schema import Member, Study, TargetTable
from wgflow.study.workspace import Workspace
from wgflow.trajectory.identity import placed


class _Figures(Mapping[str, Figure]):
    """Figures by name; one in a folder of its own name is imported without the others."""

    @functools.cached_property
    def _all(self) -> dict[str, Figure]:
        return {name: figure for folder in _folders() for name, figure in _figures_in(folder).items()}

    def __getitem__(self, name: str) -> Figure:
        own = _figures_in(name) if name in _folders() else {}
        return own[name] if name in own else self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)


def _folders() -> tuple[str, ...]:
    return tuple(folder.name for folder in pkgutil.iter_modules(studies.__path__) if folder.ispkg)


def _figures_in(folder: str) -> dict[str, Figure]:
    module = importlib.import_module(f"{studies.__name__}.{folder}.figure")
    return {value.name: value for value in vars(module).values() if isinstance(value, Figure)}


@functools.cache
def figures() -> Mapping[str, Figure]:
    """Every :class:`Figure` in a module ``figure`` of this package's folders, by name.

    Raises
    ------
    InputError
        If Matplotlib is missing.
    """
    try:  # before the figures are imported: the user's settings may be invalid
        importlib.import_module("wgflow.report.matplotlib_import")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "wgflow":
            raise
        raise InputError(f"figure: expected matplotlib, got no such package; {install('study')}") from error
    return _Figures()


def required(
    names: Sequence[str],
    members: Sequence[RunPlan],
    target: TargetTable | None = None,
    otherwise: str = "--set figure=none runs it without figures",
) -> dict[str, Figure]:
    """Figures of a study by name, after checking that its members and its target are what they need.

    Raises
    ------
    InputError
        If a name is unknown, Matplotlib is missing, or a figure cannot be drawn of these members; what to do
        ``otherwise`` is added to the remedy.
    """
    if list(names) == ["none"]:
        return {}
    try:
        known = figures()
        for name in names:
            if (figure := known.get(name)) is not None:
                check(figure, Plan(name, members, target))
    except InputError as error:
        raise InputError(f"{error}; {otherwise}") from error
    for name in names:
        if name not in known:
            check_name("figure", name, (*known, "none"))
    return {name: known[name] for name in names}


def required_of_run(name: str, work: Workspace) -> Figure:
    """Figure of a name, after checking it against the study of a run, whose members may not have run yet.

    Raises
    ------
    InputError
        As :func:`required`.
    WorkspaceError
        If the folder holds no run.
    """
    study = work.study
    members = [
        RunPlan(member.label, member.values, Member.of(placed(study, member.values)), member.reference)
        for member in (work.member(**entry) for entry in study["members"])
    ]
    otherwise = "run a study that has it, or draw another figure of this run"
    return required([name], members, Study.of(study).target, otherwise)[name]
