"""The HTML page of a run: question, answer, figures, tables and how to reproduce it, self-contained."""

from __future__ import annotations

import functools
import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from string import Template

from wgflow.base.types import Spec
from wgflow.report import style
from wgflow.report.wording import cell
from wgflow.study.labels import word

_LONG = 60  # characters beyond which text in a table is wrapped
_OPEN_ROWS = 40  # rows beyond which a table is collapsed


def build_page(
    study: Spec,
    findings: Sequence[str],
    figures: Sequence[tuple[str, str, str]],
    tables: Mapping[str, Sequence[Spec]],
    provenance: Spec,
    notes: Sequence[str] = (),
    animation: str = "",
) -> str:
    """Build the page.

    Parameters
    ----------
    study : dict
        The resolved study.
    findings : sequence of str
        Answers to its question, one sentence each.
    figures : sequence of (str, str, str)
        SVG elements from :func:`wgflow.report.style.for_page`, and their captions.
    tables : mapping of str to sequence of dict
        Rows of plain JSON by heading.
    provenance : dict
        Versions, machine and command.
    notes : sequence of str, optional
        Further remarks, such as members that diverged.
    animation : str, optional
        Element from :func:`wgflow.report.animation.particle_animation`.

    Returns
    -------
    str
        Self-contained HTML.
    """
    light, dark = style.style_sheet()
    prose = functools.partial(_prose, quoted=_quoted(study))
    about = {key: value for key, value in study.items() if key != "members"}
    answer = [*findings, *notes] or ["The study has no figure; its results are in the tables below."]
    return Template(resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=_text(f"wgflow: {study['name']}"),
        light=light,
        dark=dark,
        name=_text(study["name"]),
        question=_text(study["question"] or study["name"]),
        answer="".join(f"<p>{prose(sentence)}</p>" for sentence in answer),
        figures="\n".join(
            f"<figure>\n{_drawing(wide, narrow)}\n<figcaption>{prose(caption)}</figcaption></figure>"
            for wide, narrow, caption in figures
        ),
        animation=animation,
        tables="\n".join(_section(heading, rows, prose) for heading, rows in tables.items() if rows),
        command=_text(provenance["command"]),
        versions=_versions(provenance),
        study=_text(json.dumps(about, indent=2, ensure_ascii=False)),
        footer=_text(f"Written by wgflow {provenance['wgflow']} on {provenance['started']}."),
    )


def _text(text: object) -> str:
    return html.escape(str(text))


def _drawing(wide: str, narrow: str) -> str:
    """A figure's elements, of which the style sheet shows the one that fits."""
    if not narrow:
        return wide
    order = "<p>Panels of one row are below each other here, the left one first.</p>"
    return f'<div class="on-wide">{wide}</div>\n<div class="on-narrow">{narrow}{order}</div>'


def _quoted(study: Spec) -> list[str]:
    """Labels and grid values that contain "^", such as paths, and must not be set as powers; the longest first."""
    members = study.get("members", [])
    labels = {member["label"] for member in members}
    values = {word(value) for member in members for value in member["values"].values()}
    return sorted((text for text in labels | values if "^" in text), key=len, reverse=True)


def _prose(text: str, quoted: Sequence[str]) -> str:
    """Text with powers such as N^−0.49 as superscripts, except in quotations from the study."""
    parts = re.split("(" + "|".join(map(re.escape, quoted)) + ")", text) if quoted else [text]
    return "".join(_text(part) if part in quoted else _powers(_text(part)) for part in parts)


def _powers(text: str) -> str:
    return re.sub(r"\^([-−]?)(r|\d+(?:\.\d+)?)", lambda match: f"<sup>{'−' * bool(match[1])}{match[2]}</sup>", text)


def _section(heading: str, rows: Sequence[Spec], prose: Callable[[str], str]) -> str:
    table = f'<div class="wide">{_table(rows, prose)}</div>'
    if len(rows) > _OPEN_ROWS:
        table = f"<details><summary>{len(rows)} rows</summary>{table}</details>"
    return f"<h2>{_text(heading)}</h2>\n{table}"


def _table(rows: Sequence[Spec], prose: Callable[[str], str]) -> str:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    keys = [key for key in keys if any(cell(row.get(key), 4) for row in rows)]  # no empty columns
    textual = {key for key in keys if all(isinstance(row.get(key, ""), str | dict) for row in rows)}
    long = {key for key in textual if any(len(cell(row.get(key), 4)) > _LONG for row in rows)}
    kind = {key: f' class="text{" long" * (key in long)}"' if key in textual else "" for key in keys}
    head = "".join(f"<th{kind[key]}>{_text(key.replace('_', ' '))}</th>" for key in keys)
    lines = ("".join(f"<td{kind[key]}>{prose(cell(row.get(key), 4))}</td>" for key in keys) for row in rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"


def _versions(provenance: Spec) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in provenance["packages"].items())
    device = f", {provenance['device']}" if "device" in provenance else ""
    entries = {
        "wgflow": f"{provenance['wgflow']}, kernels {provenance['kernels']}",
        "backend": f"{provenance['backend']}{device}, {provenance['threads']} threads",
        "Python": f"{provenance['python']}; {packages}",
        "machine": provenance["machine"],
    }
    return "".join(f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>" for key, value in entries.items())
