"""What a run leaves for its readers: summary, tables, figures, the page. Files are never half written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Spec
from wgflow.report import gradient_flow_check, summary
from wgflow.report.member_selection import describe_unfinished
from wgflow.study.workspace import Workspace

if TYPE_CHECKING:
    from wgflow.report.figure import Drawing


def publish(
    work: Workspace,
    draw: Mapping[str, Callable[[Workspace], Drawing]],
    statuses: Mapping[str, str],
    made_by: Spec,
    notes: Sequence[str],
    progress: Callable[[str], None],
) -> tuple[list[str], list[str], dict[str, list[Spec]]]:
    """Write the summary, the figures and their tables, and the page into a run's folder.

    Parameters
    ----------
    work : Workspace
        The run.
    draw : mapping of str to callable
        Its figures.
    statuses : mapping of str to str
        How each member ended, by label.
    made_by : dict
        Provenance.
    notes : sequence of str
        What a reader must know besides.
    progress : callable
        Told what is being made; may raise, to stop.

    Returns
    -------
    written, findings, tables : list of str, list of str, dict
        Names of the files, what the figures show and which members left the gradient flow, and their tables and the
        members' rows.
    """
    study = work.study
    progress("summary")
    rows = summary.rows(work, statuses)
    tables: dict[str, list[Spec]] = {}
    findings, figures, written = [], [], []
    work.write_json("summary.json", {"study": study["name"], "members": rows, "provenance": made_by})
    work.write_csv("summary.csv", rows)
    for name, of in draw.items():
        from wgflow.report import style

        progress(name)
        try:
            with np.errstate(all="ignore"):  # members that diverged
                drawing = of(work)
        except InputError as error:  # the members' results do not depend on it
            findings.append(f"{name} could not be drawn: {error}.")
            continue
        findings.append(drawing.finding)
        tables |= drawing.tables
        with style.drawn(drawing) as figure:
            written += style.save(figure, work.folder / name)
            figures.append((style.svg(figure), drawing.caption))
    findings += [said] if (said := describe_unfinished(work)) else []
    warnings = gradient_flow_check.warnings(work, statuses)
    content = {"study": study["name"], "question": study["question"], "findings": findings, "warnings": warnings}
    content |= {**tables, "members": rows}
    work.write_json("summary.json", content | {"provenance": made_by})
    for name, table in tables.items():
        work.write_csv(f"{name}.csv", table)
    tables["members"] = rows
    if draw:
        from wgflow.report.animation import run_animation
        from wgflow.report.page import build_page

        progress("report")
        notes = [*notes, *warnings]
        text = build_page(study, findings, figures, summary.readable(tables), made_by, notes, run_animation(work))
        work.write_text("report.html", text)
        written.insert(0, "report.html")
    return (
        ["summary.json", *(f"{name}.csv" for name in ("summary", *tables) if name != "members"), *written],
        [*findings, *warnings],
        tables,
    )
