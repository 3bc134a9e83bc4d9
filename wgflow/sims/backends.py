"""Backend of a study, and what results record of it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

from wgflow.base.types import Spec
from wgflow.kernels.auto import Choice
from wgflow.study.grid import RunPlan
from wgflow.systems.members import system_of, systems_of
from wgflow.systems.protocol import Setup


def choose(plans: Sequence[RunPlan], backend: str) -> Choice:
    """Backend of all members of a study, so that they can be compared: ``auto`` is decided once.

    Returns
    -------
    Choice
        With an empty reason for a backend that was asked for by name.
    """
    if backend != "auto":
        return Choice(backend, "")
    return systems_of(plan.member for plan in plans)[0].auto(plans)


def own_threads(plans: Sequence[RunPlan]) -> int | None:
    """Threads that the study itself sets, at most; None if the command line decides."""
    return max(filter(None, (system_of(plan.member).threads(plan.member) for plan in plans)), default=None)


def recorded(setup: Setup) -> Spec:
    """Backend of a member and the name of its GPU, if it uses one, as results record them."""
    device = setup.system.device(setup)
    return {"backend": setup.energy.backend} | ({"device": device} if device else {})


def packages(plans: Sequence[RunPlan]) -> Spec:
    """Versions of packages that these members need beside those of every run."""
    systems = systems_of(plan.member for plan in plans)
    return {name: metadata.version(name) for system in systems for name in system.packages}
