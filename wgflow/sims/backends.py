"""What the members of a study compute with: the backend that a name comes to, and what results record of it."""

from __future__ import annotations

from collections.abc import Sequence

from wgflow.base.types import Spec
from wgflow.kernels.auto import Choice, choose_backend
from wgflow.model.problem import Problem
from wgflow.sims.members import Setup, has_images
from wgflow.study.grid import RunPlan
from wgflow.study.messages import naming
from wgflow.systems.images import members as trainings
from wgflow.systems.images.record import Trained, machine
from wgflow.systems.problem import problems


def choose(planned: Sequence[RunPlan], backend: str) -> Choice:
    """Backend of all members of a study, so that they can be compared: ``auto`` is decided once, by the largest.

    Returns
    -------
    Choice
        With an empty reason for a backend that was asked for by name.
    """
    if backend != "auto":
        return Choice(backend, "")
    if any(has_images(each.member) for each in planned):
        found = machine(backend)
        return Choice(found, f"torch finds {'a' if found == 'gpu' else 'no'} GPU that it can use")
    if any(each.member.network for each in planned):
        return Choice("cpu", "networks of features have no kernels for a GPU")
    tables = {(each.member.problem.model_dump_json(), each.member.dtype): each for each in reversed(planned)}
    return choose_backend((_problem(one), dtype) for (_, dtype), one in reversed(tables.items()))


def _problem(planned: RunPlan) -> Problem:
    with naming(planned.label):
        return problems(planned.member)[0]


def made_with(setup: Setup) -> Spec:
    """Backend that a member's energy has, and the device's name if it computes on one, as results record them."""
    energy = setup.energy
    if isinstance(energy, Trained):
        name = energy.device
    else:
        name = getattr(getattr(getattr(energy, "kernel", None), "device", None), "name", None)
    return {"backend": energy.backend} | ({"device": name} if name else {})


def packages(planned: Sequence[RunPlan]) -> Spec:
    """Versions of packages that these members need beside those of every run."""
    return trainings.versions() if any(each.member.training for each in planned) else {}
