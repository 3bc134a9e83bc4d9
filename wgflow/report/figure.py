"""Figures of studies: one record each, which everything that knows figures by name is derived from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from wgflow.base.types import Spec
from wgflow.base.verdict import Verdict
from wgflow.report.wording import typeset
from wgflow.study.workspace import Workspace

if TYPE_CHECKING:
    from matplotlib import figure as mpl

    from wgflow.study.grid import RunPlan
    from wgflow.study.schema import TargetTable

_Reduced = TypeVar("_Reduced")


class Result(NamedTuple):
    """What a figure shows of a run.

    Attributes
    ----------
    finding : str
        What was found, a sentence with numbers.
    caption : str
        What is drawn and how it was computed.
    draw : callable
        Draws it, in the project's style if called by :func:`wgflow.report.style.draw_styled`.
    tables : mapping of str to list of dict
        Numbers behind it, by file name; rows of plain JSON.
    verdicts : sequence of Verdict
        Claims behind the finding and the titles, with the inequalities that decided them.
    conditions : sequence of Verdict
        Claims that the finding rests on. The sentences of those that fail, or are undecided, come before it.
    """

    finding: str
    caption: str
    draw: Callable[[], mpl.Figure]
    tables: Mapping[str, list[Spec]] = MappingProxyType({})
    verdicts: Sequence[Verdict] = ()
    conditions: Sequence[Verdict] = ()


class TableText(NamedTuple):
    """How a table reads on a page and in a terminal: its heading, and rows in words."""

    heading: str
    rows: Callable[[Sequence[Spec]], list[Spec]] = list


FILE_ALONE = TableText("")  # of a table that is written to a file and shown nowhere else


class Plan(NamedTuple):
    """A study before it runs, as the requirements of the figure of a name see it: its members and its target."""

    figure: str
    members: Sequence[RunPlan]
    target: TargetTable | None = None

    @property
    def fitted(self) -> list[RunPlan]:
        """Members that are no reference."""
        return [member for member in self.members if not member.reference]

    @property
    def references(self) -> list[RunPlan]:
        """Members that the others are compared with."""
        return [member for member in self.members if member.reference]


Requirement = Callable[[Plan], None]  # raises InputError where the figure could not be drawn


@dataclass(frozen=True)
class Figure:
    """A figure that can be drawn of a run.

    Attributes
    ----------
    name : str
        Its name in study files and of the files it is saved to.
    reduce : callable
        From a run's trajectories to the numbers it shows.
    present : callable
        From these numbers to its result.
    system : str or None
        System whose members it is drawn of, None for any.
    needs : tuple of callable
        What it requires of a study, checked before anything runs, in this order.
    particles : bool
        Whether it reads particles, so that ``record = "numbers"`` is refused.
    tables : mapping of str to TableText
        How its tables read; those not listed are shown as they are.
    seconds : float
        Time it takes with its share of the report, for forecasts.
    """

    name: str
    reduce: Callable[[Workspace], Any]
    present: Callable[[Any], Result]
    system: str | None = "residual"
    needs: tuple[Requirement, ...] = ()
    particles: bool = True
    tables: Mapping[str, TableText] = field(default_factory=dict)
    seconds: float = 2.5

    def __call__(self, work: Workspace) -> Result:
        """Result for a run.

        Raises
        ------
        InputError
            If the run has not the members that it needs.
        """
        return self.present(self.reduce(work))


def figure(
    name: str, reduce: Callable[[Workspace], _Reduced], **options: Any
) -> Callable[[Callable[[_Reduced], Result]], Figure]:
    """Make a :class:`Figure` of the decorated function, which presents the reduced numbers; options are its fields.

    Its sentences are typeset, and the finding begins with what it rests on and does not hold.
    """

    def made(present: Callable[[_Reduced], Result]) -> Figure:
        @functools.wraps(present)
        def finished(reduced: _Reduced) -> Result:
            return _finished(present(reduced))

        return Figure(name, reduce, finished, **options)

    return made


def _finished(result: Result) -> Result:
    """Result with its doubts up front, typeset."""
    doubts = [as_sentence(each) for each in result.conditions if not each.holds]
    return result._replace(
        finding=typeset(" ".join([*doubts, result.finding])),
        caption=typeset(result.caption),
        verdicts=[*result.conditions, *result.verdicts],
    )


def as_sentence(verdict: Verdict) -> str:
    """What a verdict says as a sentence of its own."""
    return f"{verdict.sentence[:1].upper()}{verdict.sentence[1:]}."


def cached(reduce: Callable[[Workspace], _Reduced]) -> Callable[[Workspace], _Reduced]:
    """Keep the reduction of a run for its other figures, as long as none of its files changes."""

    @functools.lru_cache(maxsize=2)
    def at(work: Workspace, state: tuple[tuple[str, int, int, int], ...]) -> _Reduced:
        del state
        return reduce(work)

    @functools.wraps(reduce)
    def of_files(work: Workspace) -> _Reduced:
        files = [work.folder / "study.json", *sorted(work.folder.glob("members/*"))]
        stats = [(path.name, path.stat()) for path in files if path.is_file()]
        return at(work, tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats))

    return of_files
