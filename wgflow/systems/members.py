"""Systems by member: which one a member belongs to, and its objects built."""

from __future__ import annotations

from collections.abc import Iterable

from wgflow.base.environment import one_thread
from wgflow.base.errors import InputError
from wgflow.base.registry import check_name
from wgflow.study.schema import Member
from wgflow.systems.images.members import ImageTraining
from wgflow.systems.neural_feature_flow.members import FeatureNetwork
from wgflow.systems.protocol import Setup, System
from wgflow.systems.residual import ResidualMeasure

SYSTEMS: tuple[System, ...] = (ImageTraining(), FeatureNetwork(), ResidualMeasure())  # the first that owns a member


def system_of(member: Member) -> System:
    """System of a member."""
    return next(system for system in SYSTEMS if system.owns(member))


def systems_of(members: Iterable[Member]) -> list[System]:
    """Systems of several members, in the order of :data:`SYSTEMS`."""
    owners = [system_of(member) for member in members]
    return [system for system in SYSTEMS if system in owners]


def build(member: Member, backend: str = "cpu", threads: int | None = None) -> Setup:
    """Build the objects of a member.

    Raises
    ------
    InputError
        If the tables do not fit together or the data cannot be read.
    BackendError
        If the backend is not available.
    """
    system = system_of(member)
    for name in member.observables:
        check_name("observable", name, system.observables)
    if len(set(member.observables)) < len(member.observables):
        raise InputError(f"observables: expected each name once, got {', '.join(member.observables)}")
    with one_thread():  # samples and the start are the same in every process
        return system.build(member, backend, threads)
