"""One row a member: where it started, where it ended, and what happened on the way."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wgflow.base.terminal import printable
from wgflow.base.types import Spec
from wgflow.report import gradient_flow_check
from wgflow.report.figure import FILE_ALONE, Figure, TableText
from wgflow.report.member_selection import opened, particle_count
from wgflow.report.switch_jumps import order_switching, records_every_step
from wgflow.report.wording import cell
from wgflow.study.labels import code, short_names, words
from wgflow.study.workspace import Workspace
from wgflow.trajectory import Trajectory

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


VERDICTS = "verdicts"  # name of the table of all claims with the inequalities that decided them
NO_FILE = "no file"  # of a member that was not begun, or whose file was removed


def rows(work: Workspace, status: Mapping[str, str]) -> list[Spec]:
    """Summaries of a run's members from their trajectories.

    Parameters
    ----------
    work : Workspace
        The run.
    status : mapping of str to str
        How each member ended, by label.

    Returns
    -------
    list of dict
        Plain JSON: the grid values; N, steps and s at the end; energy and held-out loss first and last; dissipation
        at the end; switches. With a frame at every step under Gaps also the jumps of E at switches: how many steps
        had one, how many went up, the sum of their sizes, and the sum of those that went up. Without noise and
        minibatches also the energy balance, see :func:`wgflow.report.gradient_flow_check.balance_columns`. A member
        without a file has its grid values and this status alone.
    """
    numbers = {file.label: _numbers(trajectory) | {"status": status[file.label]} for file, trajectory in opened(work)}
    return [entry["values"] | numbers.get(entry["label"], {"status": NO_FILE}) for entry in work.study["members"]]


def _numbers(trajectory: Trajectory) -> Spec:
    if not len(trajectory):  # not finite from the start
        return {}
    first, last = trajectory[0], trajectory[-1]
    row = {"N": particle_count(trajectory), "steps": last.step, "s": last.s}
    row |= {"energy_first": first.energy, "energy_last": last.energy}
    for name in (name for name, value in last.observables.items() if np.ndim(value) == 0):
        row |= {f"{name}_first": first.observables[name], f"{name}_last": last.observables[name]}
    row |= {"dissipation_last": last.dissipation, "switches": last.switches}
    gaps = trajectory.parameters["energy"]["depth"]["name"] == "gaps"
    if gaps and trajectory.holds_data and records_every_step(trajectory):
        jump = order_switching(trajectory).jump
        row |= {"jumps": len(jump), "jumps_up": int((jump > 0).sum())}
        row |= {"jump_sum": float(np.abs(jump).sum()), "jump_sum_up": float(jump[jump > 0].sum())}
    return row | gradient_flow_check.balance_columns(trajectory)


def table(rows: list[Spec]) -> Table:
    """The rows as a table for a terminal of 80 columns: first and last numbers share a column."""
    from rich.table import Table

    if len(rows) > _LONG:
        return _plain_table(averages(rows))
    out = Table(box=None, pad_edge=False)
    short = short_names([key for key in dict.fromkeys(key for row in rows for key in row) if key not in _HIDDEN])
    cells = [_cells(row, short) for row in rows]
    names = sorted(dict.fromkeys(name for row in cells for name in row), key=lambda name: name == "status")
    for name in names:
        out.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for row in cells:
        out.add_row(*(row.get(name, "") for name in names))
    return out


def averages(rows: Sequence[Spec]) -> list[Spec]:
    """Means over seeds and parts of a study with many members: one row for each combination of the other keys."""
    grouped: dict[str, list[Spec]] = {}
    keys = [key for key in rows[0] if key not in _DRAWN and ("." in key or isinstance(rows[0][key], dict))]
    for row in rows:
        grouped.setdefault(json.dumps([row.get(key) for key in keys]), []).append(row)
    said = {key: _as_cells([row.get(key) for row in rows]) for key in keys}
    out = []
    for same in grouped.values():
        means: Spec = {key: said[key][code(same[0].get(key))] for key in keys} | {"runs": len(same)}
        whole = [row for row in same if row.get("status") != "diverged"]  # the others' last numbers say nothing
        for key in ("energy_first", "energy_last", "heldout_last"):
            numbers = [row[key] for row in whole if isinstance(row.get(key), float)]
            if numbers:
                means[key.replace("_", " ")] = float(np.mean(numbers))
        if len(whole) < len(same):
            means["diverged"] = len(same) - len(whole)
        out.append(means)
    return out


def _plain_table(rows: Sequence[Spec]) -> Table:
    """Rows as they are, keys as headings; what a row lacks is left empty."""
    from rich.table import Table

    out = Table(box=None, pad_edge=False)
    short = short_names(list(dict.fromkeys(key for row in rows for key in row)))
    for key, name in short.items():
        textual = any(isinstance(row.get(key), str) for row in rows)
        out.add_column(name, justify="left" if textual else "right", no_wrap=True)
    for row in rows:
        out.add_row(*(_cell(row.get(key)) for key in short))
    return out


def _as_cells(values: Sequence[Any]) -> dict[str, Any]:
    """Values of a column by content, tables in words: by their names alone where these tell them apart."""
    distinct = {code(value): value for value in values}
    if not all(isinstance(value, dict) for value in distinct.values()):
        return distinct
    return dict(zip(distinct, words(list(distinct.values())), strict=True))


def tables(
    title: str, question: str, found: Mapping[str, Sequence[Spec]], figures: Iterable[Figure]
) -> list[RenderableType]:
    """What a terminal shows: the question, the members' table, and those of the figures in short."""
    from rich.text import Text

    out: list[RenderableType] = [Text(f"{title}: {question}" if question else title), table(list(found["members"]))]
    others = {name: rows for name, rows in found.items() if name not in ("members", VERDICTS)}
    return out + [_plain_table(rows) for rows in readable(others, figures).values() if rows]


def readable(found: Mapping[str, Sequence[Spec]], figures: Iterable[Figure]) -> dict[str, list[Spec]]:
    """Tables under their headings as they read on a page: in the words of their figures, means over seeds."""
    texts = {VERDICTS: TableText("Claims and the inequalities that decided them", _inequalities)}
    texts |= {name: text for figure in figures for name, text in figure.tables.items()}
    out: dict[str, list[Spec]] = {}
    for name, rows in found.items():
        if name == "members" and len(rows) > _LONG:
            out["Runs, means over seeds"] = averages(rows)
        elif (text := texts.get(name, TableText("Runs" if name == "members" else name.capitalize()))) is not FILE_ALONE:
            out[text.heading] = text.rows(rows)
    return out


def _inequalities(rows: Sequence[Spec]) -> list[Spec]:
    """Claims of the figures as they read on a page."""
    said = {True: "yes", False: "no", None: "undecided"}
    return [
        {"claim": row["sentence"], "checked": row["inequality"], "holds": said[row["holds"]]}
        for row in {code(row): row for row in rows}.values()
    ]


_LONG = 30  # members beyond which a table shows means over seeds
_DRAWN = ("seed", "particles.part")  # what only says which draw a member is
# In the files; the grid columns say which member a row is, and sentences what is wrong with its balance.
_HIDDEN = ("N", "steps", "s", "jump_sum_up", *gradient_flow_check.COLUMNS)


def _cells(row: Spec, short: Mapping[str, str]) -> dict[str, str]:
    """Text of a row's columns by short name."""
    cells = {}
    for key, value in row.items():
        if key.endswith("_first"):
            name = key.removesuffix("_first")
            cells[name] = f"{_cell(value)} → {_cell(row[name + '_last'])}"
        elif key not in _HIDDEN and not key.endswith("_last"):
            cells[short[key]] = _cell(value)
    return cells


def _cell(value: object) -> str:
    return printable(cell(value, 3))
