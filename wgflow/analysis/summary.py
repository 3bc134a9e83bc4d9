"""One row a member: where it started, where it ended, and what happened on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from wgflow.analysis.switching import order_switching, records_every_step
from wgflow.trajectory import Trajectory
from wgflow.types import Spec
from wgflow.workspace import Workspace, short_names, word

if TYPE_CHECKING:
    from rich.table import Table


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
        had one, how many went up, the sum of their sizes, and the sum of those that went up.
    """
    return [_row(member.values, member.path, status[member.label]) for member in work.members()]


def _row(values: Spec, path: object, status: str) -> Spec:
    with Trajectory(str(path)) as trajectory:
        if not len(trajectory):  # not finite from the start
            return values | {"status": status}
        first, last = trajectory[0], trajectory[-1]
        row = values | {
            "N": len(last.tau),
            "steps": last.step,
            "s": last.s,
            "energy_first": first.energy,
            "energy_last": last.energy,
        }
        for name in last.observables:
            row |= {f"{name}_first": first.observables[name], f"{name}_last": last.observables[name]}
        row |= {"dissipation_last": last.dissipation, "switches": last.switches}
        gaps = trajectory.parameters["energy"]["depth"]["name"] == "gaps"
        if gaps and trajectory.holds_data and records_every_step(trajectory):
            jump = order_switching(trajectory).jump
            row |= {"jumps": len(jump), "jumps_up": int((jump > 0).sum())}
            row |= {"jump_sum": float(np.abs(jump).sum()), "jump_sum_up": float(jump[jump > 0].sum())}
        return row | {"status": status}


def table(title: str, question: str, rows: list[Spec]) -> Table:
    """The rows as a table for a terminal of 80 columns: first and last numbers share a column."""
    from rich.table import Table

    out = Table(title=f"{title}: {question}" if question else title, box=None, pad_edge=False, title_justify="left")
    short = short_names([key for key in dict.fromkeys(key for row in rows for key in row) if key not in _HIDDEN])
    cells = [_cells(row, short) for row in rows]
    names = sorted(dict.fromkeys(name for row in cells for name in row), key=lambda name: name == "status")
    for name in names:
        out.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for row in cells:
        out.add_row(*(row.get(name, "") for name in names))
    return out


_HIDDEN = ("N", "steps", "s", "jump_sum_up")  # in the files; the grid columns say which member a row is


def _cells(row: Spec, short: Mapping[str, str]) -> dict[str, str]:
    """Text of a row's columns by short name."""
    cells = {}
    for key, value in row.items():
        if key.endswith("_first"):
            name = key.removesuffix("_first")
            cells[name] = f"{_cell(value)} -> {_cell(row[name + '_last'])}"
        elif key not in _HIDDEN and not key.endswith("_last"):
            cells[short[key]] = _cell(value)
    return cells


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else word(value)
