"""Members of a study built on trial before anything is written, each distinct one once; a failure names its member."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from wgflow.base.errors import InputError
from wgflow.study.grid import RunPlan
from wgflow.study.messages import naming
from wgflow.study.schema import Member
from wgflow.systems import members
from wgflow.systems.protocol import Setup
from wgflow.trajectory.schema import MOST_FRAMES

_Seen = TypeVar("_Seen")
_MOST_KEPT = 8  # members whose objects are kept for the run that follows
_SMALL = 2**22  # bytes of samples and start of one of them at most
_kept: dict[tuple[object, ...], Setup] = {}


def each(
    planned: Sequence[RunPlan], backend: str, threads: int, look: Callable[[RunPlan, Setup], _Seen]
) -> list[_Seen]:
    """Build members and tell what was seen of each; those that differ in nothing but the seed are built once.

    Parameters
    ----------
    planned : sequence of RunPlan
        The members.
    backend, threads : str, int
        As for :func:`wgflow.systems.members.build`.
    look : callable
        Told a member and its objects, which are not kept; what it returns must not depend on the seed.

    Raises
    ------
    InputError
        If a member cannot be built, with its label in front.
    BackendError
        If the backend cannot be had, with the label of a member if others can have it.
    """
    _kept.clear()
    by_content: dict[str, _Seen] = {}  # of members apart from their seeds
    by_place: dict[int, _Seen] = {}
    for place in _by_problem(planned):
        plan = planned[place]
        content = plan.member.model_dump_json(exclude={"seed": True})
        if content not in by_content:
            with naming(plan.label, backends=bool(by_place)):
                _check_frames(plan)
                setup = members.build(plan.member, backend, threads)
                by_place[place] = look(plan, setup)
            if len(_kept) < _MOST_KEPT and _is_small(setup):
                _kept[_key(plan.member, backend, threads)] = setup
            if setup.system.same_for_all_seeds(setup):
                by_content[content] = by_place[place]
        else:
            by_place[place] = by_content[content]
    return [by_place[place] for place in range(len(planned))]


def take(member: Member, backend: str, threads: int | None) -> Setup:
    """Objects of a member as :func:`each` built them, once, if they were kept; otherwise built."""
    return _kept.pop(_key(member, backend, threads), None) or members.build(member, backend, threads)


def look(member: Member, backend: str, threads: int | None) -> Setup:
    """Objects of a member as :func:`take` gives them, which the next :func:`take` gives again."""
    setup = take(member, backend, threads)
    _kept[_key(member, backend, threads)] = setup
    return setup


def _key(member: Member, backend: str, threads: int | None) -> tuple[object, ...]:
    return member.model_dump_json(), member.data, backend, threads


def _is_small(setup: Setup) -> bool:
    """Whether a member's objects may be kept: on the CPU, and of little memory."""
    problem = setup.energy.problem
    samples = sum(array.nbytes for array in problem.arrays().values())
    start = 8 * len(setup.start) * int(problem.shape[3])
    return bool(setup.energy.backend != "gpu" and samples + start <= _SMALL)


def _by_problem(planned: Sequence[RunPlan]) -> list[int]:
    """Places of members, those of one problem in a row, so that its data are read once."""
    problems: dict[str, int] = {}
    order = [problems.setdefault(plan.member.problem.model_dump_json(), len(problems)) for plan in planned]
    return sorted(range(len(planned)), key=order.__getitem__)


def _check_frames(planned: RunPlan) -> None:
    if planned.frames > MOST_FRAMES:
        raise InputError(
            f"flow.every: expected at most {MOST_FRAMES} frames, got {planned.frames:.3g}; record fewer of the "
            f"{planned.steps:.3g} steps"
        )
