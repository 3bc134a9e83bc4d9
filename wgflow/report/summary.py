"""One row a member: where it started, where it ended, and what happened on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wgflow.base.terminal import printable
from wgflow.base.types import Spec
from wgflow.report import gradient_flow_check
from wgflow.report.member_selection import particle_count
from wgflow.studies.switching.reduce import order_switching, records_every_step
from wgflow.study.workspace import Workspace, short_names, word, words
from wgflow.trajectory import Trajectory

if TYPE_CHECKING:
    from rich.table import Table


NO_FILE = "no file"  # of a member that was not begun, or whose file was removed
QUANTITIES = {
    "rms_energy": "rms of E",
    "spread_energy": "spread of E",
    "bias_energy": "bias of E",
    "rms_outputs": "rms of the outputs",
    "bias_outputs": "bias of the outputs",
}


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
    there = {member.label: member for member in work.members()}
    return [
        _row(there[label].values, there[label].path, status[label]) if label in there else values | {"status": NO_FILE}
        for label, values in ((entry["label"], entry["values"]) for entry in work.study["members"])
    ]


def _row(values: Spec, path: object, status: str) -> Spec:
    with Trajectory(str(path)) as trajectory:
        if not len(trajectory):  # not finite from the start
            return values | {"status": status}
        first, last = trajectory[0], trajectory[-1]
        row = values | {
            "N": particle_count(trajectory),
            "steps": last.step,
            "s": last.s,
            "energy_first": first.energy,
            "energy_last": last.energy,
        }
        for name in (name for name, value in last.observables.items() if np.ndim(value) == 0):
            row |= {f"{name}_first": first.observables[name], f"{name}_last": last.observables[name]}
        row |= {"dissipation_last": last.dissipation, "switches": last.switches}
        gaps = trajectory.parameters["energy"]["depth"]["name"] == "gaps"
        if gaps and trajectory.holds_data and records_every_step(trajectory):
            jump = order_switching(trajectory).jump
            row |= {"jumps": len(jump), "jumps_up": int((jump > 0).sum())}
            row |= {"jump_sum": float(np.abs(jump).sum()), "jump_sum_up": float(jump[jump > 0].sum())}
        return row | gradient_flow_check.balance_columns(trajectory) | {"status": status}


def table(title: str, question: str, rows: list[Spec]) -> Table:
    """The rows as a table for a terminal of 80 columns: first and last numbers share a column."""
    from rich.table import Table

    if len(rows) > _LONG:
        return _plain_table(averages(rows))
    out = Table(title=f"{title}: {question}" if question else title, box=None, pad_edge=False, title_justify="left")
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
        means: Spec = {key: said[key][_code(same[0].get(key))] for key in keys} | {"members": len(same)}
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
    distinct = {_code(value): value for value in values}
    if not all(isinstance(value, dict) for value in distinct.values()):
        return distinct
    return dict(zip(distinct, words(list(distinct.values())), strict=True))


def _code(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def tables(title: str, question: str, found: Mapping[str, Sequence[Spec]]) -> list[Table]:
    """Tables for the terminal: those of the figures in short, and the members'."""
    out = [table(title, question, list(found["members"]))]
    out += [
        _plain_table(rows) for rows in readable({k: v for k, v in found.items() if k != "members"}).values() if rows
    ]
    return out


def readable(found: Mapping[str, Sequence[Spec]]) -> dict[str, list[Spec]]:
    """Tables under their headings, as a person wants them: rates in words at the last flow time, means over seeds."""
    out: dict[str, list[Spec]] = {}
    for name, rows in found.items():
        if name in _IN_WORDS:
            title, words_of = _IN_WORDS[name]
            out[title] = words_of(rows)
        elif name == "members" and len(rows) > _LONG:
            out["Members, means over seeds"] = averages(rows)
        elif name not in _FILES_ALONE:
            out[name.capitalize()] = list(rows)
    return out


def _rates(rows: Sequence[Spec]) -> list[Spec]:
    last = {row["group"]: row["s"] for row in rows}
    return [_rate_in_words(row) for row in rows if row["s"] == last[row["group"]]]


def _models(rows: Sequence[Spec]) -> list[Spec]:
    return [{k.replace("_", " "): v for k, v in row.items()} for row in rows]


def _exponents(rows: Sequence[Spec]) -> list[Spec]:
    told = [row for row in rows if row["s"] == rows[-1]["s"]]
    return [
        {
            "start": row["coupling"],
            "s": row["s"],
            "of": row["quantity"],
            "exponent": row["no_rate"] or f"{row['exponent']:.2f}",
            "95% interval": "" if row["no_rate"] or row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}",
        }
        for row in told
    ]


def _sizes(rows: Sequence[Spec]) -> list[Spec]:
    return [
        {
            "L": row["layers"],
            "M_l": row["per_layer"],
            "particles": row["particles"],
            "mean E": row["mean_energy"],
            "miss it": f"{row['failed']} of {row['seeds']}",
            "95% interval": f"{row['low']:.2f} to {row['high']:.2f}",
            "verdict": row["verdict"] + _more_seeds(row),
            "predicted": f"{row['predicted']:.2f}",
        }
        for row in rows
    ]


def _trainings(rows: Sequence[Spec]) -> list[Spec]:
    return [
        {
            "network": row["network"] + (f", {row['variant']}" if row["variant"] else ""),
            "images": row["images"] + ("" if row["verified"] == "yes" else " (re-encoded)"),
            "seeds": row["seeds"],
            "epochs": row["epochs"],
            "vanilla": _with_sd(row, "vanilla"),
            "mean-field": _with_sd(row, "mean_field"),
            "difference, 95%": f"{row['difference']:+.2f}"
            + (f", {row['low']:+.2f} to {row['high']:+.2f}" if row["seeds"] > 1 else ""),
            "p of signs": f"{row['p_signs']:.2g}" if row["seeds"] > 1 else "",
            "paper": f"{row['paper_vanilla']:.2f}, {row['paper_mean_field']:.2f}" if row["paper_vanilla"] else "",
        }
        for row in rows
    ]


def _with_sd(row: Spec, key: str) -> str:
    return f"{row[key]:.2f}" + (f" ± {row[f'{key}_sd']:.2f}" if row["seeds"] > 1 else "")


def _more_seeds(row: Spec) -> str:
    if row["verdict"] != "undecided":
        return ""
    return f" ({row['needed']} seeds)" if row["needed"] else " (at eta)"


def _rate_in_words(row: Spec) -> Spec:
    told = not row["no_rate"]
    return {
        "group": row["group"],
        "quantity": QUANTITIES.get(row["quantity"], row["quantity"]),
        "s": row["s"],
        "rate": f"N^-{row['exponent']:.2f}" if told else "none",
        "95% interval": f"{row['low']:.2f} to {row['high']:.2f}" if told else "",
        "N": f"{row['N_least']} to {row['N_most']}" if told else row["no_rate"],
    }


_IN_WORDS = {
    "rates": ("Rates in N at the last flow time", _rates),
    "models": ("Beside other models", _models),
    "depth_width": ("Exponents at the last flow time", _exponents),
    "sizing": ("Sizes", _sizes),
    "cifar": ("Test error in %, vanilla beside mean-field", _trainings),
}
_FILES_ALONE = ("depth_width_energy", "depth_width_clouds", "cifar_depths")  # long tables that the figures show
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
            cells[name] = f"{_cell(value)} -> {_cell(row[name + '_last'])}"
        elif key not in _HIDDEN and not key.endswith("_last"):
            cells[short[key]] = _cell(value)
    return cells


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.3g}"
    return printable(word(value))
