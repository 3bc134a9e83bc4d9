"""Runs of a study: the grid multiplied out into checked members."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from wgflow.base.errors import InputError, StudyError
from wgflow.base.types import Spec
from wgflow.flow.clock import StepClock
from wgflow.flow.schedule import Every, Steps, schedule
from wgflow.model.data_files import Digests
from wgflow.study.labels import short_names, word, words
from wgflow.study.provenance import digest
from wgflow.study.schema import Member, Study, check_member, listed
from wgflow.study.tables import Table

MOST_MEMBERS = 100_000  # of a study; each takes some kilobytes while it is planned


class RunPlan(NamedTuple):
    """A member of a study before it has run.

    Attributes
    ----------
    label : str
        Its grid values in words.
    values : dict
        Its grid values by key.
    member : Member
        Its checked tables.
    reference : bool
        Whether it is there for the others to be compared with.
    """

    label: str
    values: Spec
    member: Member
    reference: bool = False

    @property
    def steps(self) -> int:
        """Flow steps it takes; with a rule that varies them, as many as if it did not."""
        return max(1, round(self.member.flow.until / self.member.flow.step))

    @property
    def frames(self) -> int:
        """Frames it records: the start, every multiple of ``every``, the end."""
        flow = self.member.flow
        every = None if flow.every is None else schedule(flow.every)
        if flow.rule == "constant":
            try:
                due = StepClock(0, 0.0, flow.until, every, flow.step).frames
            except InputError as error:
                raise InputError(f"flow.{error}, or change flow.step") from error
            return len(due) + (0 not in due) + (self.steps not in due)
        every = every or Every(flow.until / 100)
        return 2 + every.within(flow.until) + (self.steps // every.n if isinstance(every, Steps) else 0)


def expand(study: Study) -> list[RunPlan]:
    """Members of a study: all combinations of grid values, the last key running fastest; those beside them; references.

    Raises
    ------
    StudyError
        If a grid key is unknown or has no values, a combination does not fit the schema, all problems at once; or if
        there are more than :data:`MOST_MEMBERS`, before any is made.
    """
    tables = [("grid", study.grid, study.grid)]
    beside = [(f"also.{number}", table) for number, table in enumerate(study.also)]
    if study.reference:
        beside.append(("reference", study.reference))
    for name, table in beside:
        own = {key: listed(value) for key, value in table.items()}
        tables.append((name, study.grid | own, own))
    _refuse_too_many([math.prod(map(len, keys.values())) for _, keys, _ in tables])
    return _distinct_labels([plan for table, keys, own in tables for plan in _multiplied(study, table, keys, own)])


def _distinct_labels(members: list[RunPlan]) -> list[RunPlan]:
    """Members with distinct labels: to labels that would coincide a digest of the member is appended."""
    shared = set(_repeated([plan.label for plan in members]))
    marks = {k: digest(plan.member.model_dump(mode="json")) for k, plan in enumerate(members) if plan.label in shared}
    twice = _repeated([(members[k].label, mark) for k, mark in marks.items()])
    if twice:
        raise StudyError([f"reference, also: expected members that the grid has not, got {twice[0][0]} again"])
    return [plan._replace(label=f"{plan.label} #{marks[k]}") if k in marks else plan for k, plan in enumerate(members)]


def _refuse_too_many(counts: Sequence[int]) -> None:
    count = sum(counts)
    if count > MOST_MEMBERS:
        total = f"{count:,}" if count < 10**15 else "more than 10**15"
        problem = (
            f"grid: expected at most {MOST_MEMBERS:,} members, got {total}, the product of the numbers of values of "
            "all keys; give fewer values, or split it into several studies"
        )
        raise StudyError([problem])


def _multiplied(study: Study, table: str, keys: dict[str, list[Any]], own: Spec) -> list[RunPlan]:
    """Members for all combinations of values; ``own``: the table's own keys."""
    problems = [f"{table}.{key}: expected at least one value, got an empty list" for key, v in own.items() if not v]
    problems += [
        f"{table}.{key}: expected different values, got {word(twice[0])} twice"
        for key, v in own.items()
        if (twice := _repeated(v))
    ]
    if problems:
        raise StudyError(problems)
    base = {name: getattr(study, name) for name in Member.model_fields}  # checked: what a key does not touch stays so
    short, in_words = short_names(list(keys)), {key: words(values) for key, values in keys.items()}
    members: list[RunPlan] = []
    refused: dict[str, list[str]] = {}  # what is wrong -> labels
    for places in itertools.product(*(range(len(values)) for values in keys.values())):
        chosen = dict(zip(keys, places, strict=True))
        values = {key: keys[key][place] for key, place in chosen.items()}
        label = ", ".join(f"{short[key]}={in_words[key][place]}" for key, place in chosen.items())
        raw = dict(base)
        for key, value in values.items():
            _place(raw, table, key, value)
        try:
            members.append(RunPlan(label, values, check_member(raw, table, study), table == "reference"))
        except StudyError as error:
            for line in error.problems:
                refused.setdefault(line, []).append(label)
    if refused:
        count = math.prod(map(len, keys.values()))
        raise StudyError([f"{line}{_whose(labels, count)}" for line, labels in refused.items()])
    return members


def _whose(labels: list[str], count: int) -> str:
    """Which members a problem is one of, unless it is one of all."""
    if len(labels) == count:
        return ""
    return f" ({labels[0]})" if len(labels) == 1 else f" ({labels[0]} and {len(labels) - 1} more)"


def data_files(planned: Sequence[RunPlan]) -> Digests:
    """Data files that members read, each once, with their digests when the study was read."""
    return tuple(dict.fromkeys(file for plan in planned for file in plan.member.data or ()))


def _place(raw: Spec, table: str, key: str, value: Any) -> None:
    """Put a value into tables, of which those on its way are copied."""
    *parents, last = key.split(".")
    place: Any = raw
    for parent in parents:
        within = place.get(parent)
        within = within.model_dump() if isinstance(within, Table) else within
        if not isinstance(within, dict):
            raise InputError(
                f"{table}.{key}: no table {'.'.join(parents)!r} in the study; use a key like 'particles.count'"
            )
        place[parent] = place = dict(within)
    place[last] = value


def _repeated(values: Sequence[Any]) -> list[Any]:
    """Values that occur before."""
    first: dict[Any, int] = {}
    return [value for place, value in enumerate(values) if first.setdefault(_hashable(value), place) != place]


def _hashable(value: Any) -> Any:
    """Stand-in for a value of a grid that is equal if and only if the value is."""
    if isinstance(value, dict):
        return dict, frozenset((key, _hashable(part)) for key, part in value.items())
    return (list, *map(_hashable, value)) if isinstance(value, list) else value
