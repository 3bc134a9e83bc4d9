"""Problem of a study's table: its samples to train on and, if any, those held out."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from wgflow.base.environment import one_thread
from wgflow.base.errors import InputError
from wgflow.model import data_files
from wgflow.model.data_files import Digests
from wgflow.model.datasets import DATASETS, split
from wgflow.model.problem import Problem
from wgflow.study.schema import Member
from wgflow.study.tables import FileTable, ProblemTable

_SHARED = set(ProblemTable.model_fields) | {"name"}  # keys that are no arguments of the data set


def problems(member: Member) -> tuple[Problem, Problem | None]:
    """Problem of a member on the samples to train on and on those held out, if any.

    Raises
    ------
    InputError
        If the data cannot be read, are not those that the study was read with, or do not fit, or the member observes
        ``heldout`` and no sample is held out.
    """
    table, known = member.samples, member.data
    if known is None and isinstance(table, FileTable):  # of no study: whatever the file holds now
        known = ((table.path, data_files.digest(Path(table.path))),)
    problem, heldout = _problems(type(table), table.model_dump_json(), known)
    if "heldout" in member.observables and heldout is None:
        raise InputError("observables: 'heldout' needs samples held out, got problem.heldout = 0; set it to 0.25, say")
    return problem, heldout


@functools.lru_cache(maxsize=4)  # members of a study ask for the same ones again and again
def _problems(kind: type[ProblemTable], text: str, known: Digests | None) -> tuple[Problem, Problem | None]:
    """Problem of a table, given as JSON, and of data files known by their digests."""
    table: Any = kind.model_validate_json(text)
    files = {"known": known} if known else {}
    with one_thread():
        x, y = DATASETS[table.name](**table.model_dump(exclude=_SHARED), **files)
    targets = table.standardise and table.loss == "squared"  # class probabilities stay what they are
    parts = split(x, y, table.heldout, table.split_seed, table.standardise, targets)
    options: dict[str, Any] = {"block": table.block, "activation": table.activation, "loss": table.loss}
    options["measuring"] = table.measuring
    if table.state == "whole":
        if x.shape[1] != y.shape[1]:
            raise InputError(
                f"problem.state: expected as many targets as inputs for 'whole', got {y.shape[1]} and {x.shape[1]}; "
                "use 'padded'"
            )
        options["readout"] = np.eye(x.shape[1])
    make = Problem.padded if table.state == "padded" else Problem
    problem = make(parts.x, parts.y, **options)
    return problem, problem.replace(parts.x_heldout, parts.y_heldout) if len(parts.x_heldout) else None
