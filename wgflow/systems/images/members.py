"""Members that are trainings of networks of images: their tables checked, their objects built with torch."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

from wgflow.base.errors import InputError
from wgflow.base.types import Spec
from wgflow.model.image_files import LAYOUTS
from wgflow.study.schema import Member
from wgflow.study.training_tables import ImagesTable, TrainingTable
from wgflow.systems.images import data
from wgflow.systems.images.recipe import Recipe
from wgflow.systems.images.record import Course, Start, Trained, machine
from wgflow.systems.neural_feature_flow.members import refuse_unused

_OWN: dict[str, Sequence[str]] = {"particles": (), "flow": ("until", "every", "step")}  # the rest has no use here
_BASE = 300 * 2**20  # bytes of torch itself


def check(member: Member) -> tuple[TrainingTable, ImagesTable]:
    """Tables of a training, after refusing what it has no use for.

    Raises
    ------
    InputError
        If a table is missing or another is there that has no use.
    """
    if member.training is None:
        raise InputError(f"training: expected a table of it beside images {member.problem.name!r}, got none; add one")
    if not isinstance(member.problem, ImagesTable):
        names = ", ".join((*LAYOUTS, "digit_images"))
        raise InputError(f"problem.name: expected one of {names} for a training, got {member.problem.name!r}")
    refuse_unused(member, _OWN, "a training of a network of images")
    if member.network is not None:
        raise InputError("network: expected either it or training, got both; leave one out")
    if member.flow.step != 1:
        raise InputError(f"flow.step: expected 1, an epoch, for a training, got {member.flow.step:g}; set it to 1")
    if member.record != "particles":
        raise InputError(
            "record: expected 'particles' for a training, which its frames say how far it is; leave it out"
        )
    return member.training, member.problem


def build(member: Member, backend: str) -> tuple[Trained, None, Course, Start]:
    """Build the objects of a member that has a training.

    Raises
    ------
    InputError
        If the tables do not fit together, torch is missing, or the images cannot be had.
    BackendError
        If the backend cannot be had.
    """
    table, problem = check(member)
    machine(backend)  # that torch is missing is said first
    options = table.model_dump() | {"milestones": tuple(table.milestones)}
    recipe = Recipe(**options)
    try:
        found = data.images(problem.name, problem.path, problem.verify, member.data).first(problem.train, problem.test)
    except InputError as error:
        hint = "; --set problem.path=/where/it/is" if problem.path is None and problem.name in LAYOUTS else ""
        raise InputError(f"problem.{error}{hint}" if str(error).startswith("path") else f"problem: {error}") from error
    side = min(found.train.shape[2:])
    if recipe.padding >= side:
        raise InputError(f"training.padding: expected less than the images' {side} pixels, got {recipe.padding}")
    if recipe.batch > len(found.train):
        raise InputError(f"training.batch: expected at most the {len(found.train)} images, got {recipe.batch}")
    system = Trained(recipe, found, backend)
    if recipe.axes > min(system.summary.blocks):  # said before the vanilla half of a study is trained for nothing
        blocks = min(system.summary.blocks)
        raise InputError(f"training.axes: expected at most the {blocks} blocks of a stage, got {recipe.axes}")
    course, start = Course(system, member.seed), Start(system)
    course.run(
        start, member.flow.until, member.flow.every
    )  # checks the times; nothing is trained until a frame is asked
    return system, None, course, start


def work(system: Trained) -> float:
    """Multiplications of one epoch, about: forward once, backward twice."""
    return 3.0 * system.summary.multiplications * len(system.images.train)


def memory(system: Trained) -> int:
    """Bytes of a step at its largest: torch, images, weights with gradients and momentum, states of a batch."""
    kept, images = system.summary, system.images
    return (
        _BASE
        + images.train.nbytes
        + images.test.nbytes
        + 12 * (kept.parameters + system.recipe.batch * kept.activations)
    )


def versions() -> Spec:
    """Version of torch, beside those of the other packages."""
    return {"torch": metadata.version("torch")}
