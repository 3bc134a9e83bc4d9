"""What a study leaves behind once its members have run: summary, tables, figures, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from wgflow.errors import InputError
from wgflow.sims.terminal import console
from wgflow.types import Spec
from wgflow.workspace import Workspace

if TYPE_CHECKING:
    from wgflow.analysis.drawing import Drawing
    from wgflow.sims.runner import Outcome
    from wgflow.sims.study import Study

Draw = Callable[[Workspace], "Drawing"]


def write(
    study: Study,
    work: Workspace,
    outcomes: Mapping[str, Outcome],
    draw: Mapping[str, Draw],
    made_by: Spec,
    progress: Callable[[str], None],
) -> tuple[list[str], list[str], dict[str, list[Spec]]]:
    """Write the summary, the figures and their tables, and the report into a run's folder.

    Parameters
    ----------
    study, work : Study, Workspace
        The study and its run.
    outcomes : mapping of str to Outcome
        How each member ended, by label.
    draw : mapping of str to callable
        Its figures.
    made_by : dict
        Provenance.
    progress : callable
        Told what is being made.

    Returns
    -------
    written, findings, tables : list of str, list of str, dict
        Names of the files, what the figures show, and their tables and the members' rows.
    """
    from wgflow.analysis import summary

    progress("summary")
    rows = summary.rows(work, {label: outcome.status for label, outcome in outcomes.items()})
    tables: dict[str, list[Spec]] = {}
    findings, figures, written = [], [], []
    work.write_json("summary.json", {"study": study.name, "members": rows, "provenance": made_by})
    work.write_csv("summary.csv", rows)
    for name, of in draw.items():
        from wgflow.analysis import style

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
    content = {"study": study.name, "question": study.question, "findings": findings, **tables, "members": rows}
    work.write_json("summary.json", content | {"provenance": made_by})
    for name, table in tables.items():
        work.write_csv(f"{name}.csv", table)
    tables["members"] = rows
    if draw:
        from wgflow.analysis import moving, report

        progress("report")
        ended = [f"{label or study.name}: {each.message}." for label, each in outcomes.items() if each.message]
        text = report.page(work.study, findings, figures, summary.readable(tables), made_by, ended, moving.of_run(work))
        work.write_text("report.html", text)
        written.insert(0, "report.html")
    return (
        ["summary.json", *(f"{name}.csv" for name in ("summary", *tables) if name != "members"), *written],
        findings,
        tables,
    )


def show(study: Study, work: Workspace, written: list[str], findings: list[str], tables: dict[str, list[Spec]]) -> None:
    """Print findings, tables and where everything is."""
    from wgflow.analysis import summary

    out = console()
    for table in summary.tables(study.name, study.question, tables):
        out.print(table)
    for finding in findings:
        out.print(finding, highlight=False)
    out.print(f"{work.folder}: {', '.join(written)}", soft_wrap=True, highlight=False)
