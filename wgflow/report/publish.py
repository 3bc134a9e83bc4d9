"""Write the results of a run: summary, tables, figures, page. Every file is replaced atomically."""

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
    from wgflow.report.figure import Figure


def publish(
    work: Workspace,
    draw: Mapping[str, Figure],
    statuses: Mapping[str, str],
    provenance: Spec,
    notes: Sequence[str],
    progress: Callable[[str], None],
) -> tuple[list[str], list[str], dict[str, list[Spec]]]:
    """Write the summary, the figures and their tables, and the page into a run's folder.

    Parameters
    ----------
    work : Workspace
        The run.
    draw : mapping of str to Figure
        Its figures by name.
    statuses : mapping of str to str
        Status of each member by label.
    provenance : dict
        Versions, machine and command.
    notes : sequence of str
        Further remarks for the page.
    progress : callable
        Called with the name of the current step; may raise, to stop.

    Returns
    -------
    written, findings, tables : list of str, list of str, dict
        Names of the files; findings of the figures and warnings; tables of the figures and of the members.
    """
    study = work.study
    progress("summary")
    rows = summary.rows(work, statuses)
    tables: dict[str, list[Spec]] = {}
    findings, figures, written = [], [], []
    work.write_json("summary.json", {"study": study["name"], "members": rows, "provenance": provenance})
    work.write_csv("summary.csv", rows)
    for name, of in draw.items():
        from wgflow.report import style

        progress(name)
        try:
            with np.errstate(all="ignore"):  # members that diverged
                result = of(work)
        except InputError as error:  # the other results do not depend on this figure
            findings.append(f"{name} could not be drawn: {error}.")
            continue
        findings.append(result.finding)
        tables |= result.tables
        with style.draw_styled(result) as figure:
            written += style.save(figure, work.folder / name)
            figures.append((style.svg(figure), result.caption))
    findings += filter(None, [describe_unfinished(work)])
    warnings = gradient_flow_check.warnings(work, statuses)
    content = {"study": study["name"], "question": study["question"], "findings": findings, "warnings": warnings}
    content |= {**tables, "members": rows}
    work.write_json("summary.json", content | {"provenance": provenance})
    for name, table in tables.items():
        work.write_csv(f"{name}.csv", table)
    tables["members"] = rows
    if draw:
        from wgflow.report.animation import run_animation
        from wgflow.report.page import build_page

        progress("report")
        notes = [*notes, *warnings]
        text = build_page(
            study, findings, figures, summary.readable(tables, draw.values()), provenance, notes, run_animation(work)
        )
        work.write_text("report.html", text)
        written.insert(0, "report.html")
    return (
        ["summary.json", *(f"{name}.csv" for name in ("summary", *tables) if name != "members"), *written],
        [*findings, *warnings],
        tables,
    )
