"""Members that are training runs of image networks: their tables checked, their objects built with torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wgflow.base.errors import BackendError, InputError
from wgflow.base.extras import install
from wgflow.base.types import Spec
from wgflow.kernels.auto import Choice
from wgflow.model.image_files import LAYOUTS
from wgflow.study.grid import RunPlan
from wgflow.study.schema import Member
from wgflow.study.training_tables import ImagesTable, TrainingTable
from wgflow.systems.images import data
from wgflow.systems.images.recipe import MEASURED, Recipe
from wgflow.systems.protocol import Observable, Setup, System, refuse_unused

_OWN: dict[str, Sequence[str]] = {"particles": (), "flow": ("until", "every", "step")}  # other keys have no effect
_BASE = 300 * 2**20  # bytes of torch itself


def checkpoint_beside(path: Path) -> Path:
    """Checkpoint of a training, beside its trajectory."""
    return path.with_suffix(".checkpoint")


def check(member: Member) -> tuple[TrainingTable, ImagesTable]:
    """Tables of a training run, after refusing keys that have no effect.

    Raises
    ------
    InputError
        If a table is missing, or one without effect is given.
    """
    if member.training is None:
        raise InputError(f"training: expected a table of it beside images {member.problem.name!r}, got none; add one")
    if not isinstance(member.problem, ImagesTable):
        names = ", ".join((*LAYOUTS, "digit_images"))
        raise InputError(f"problem.name: expected one of {names} for a training, got {member.problem.name!r}")
    refuse_unused(member, _OWN, "a training run of an image network")
    if member.network is not None:
        raise InputError("network: expected either it or training, got both; leave one out")
    if member.flow.step != 1:
        raise InputError(f"flow.step: expected 1, an epoch, for a training, got {member.flow.step:g}; set it to 1")
    if member.record != "particles":
        raise InputError(
            "record: expected 'particles' for a training run, which is resumed from its frames; leave it out"
        )
    return member.training, member.problem


def machine(backend: str) -> str:
    """Device that the name of a backend stands for: "cpu" or "gpu".

    Raises
    ------
    InputError
        If torch is missing.
    BackendError
        If there is no such backend, or no GPU.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise InputError(
            f"training: expected torch, got no such package; the study needs torch: {install('cifar')}"
        ) from error
    if backend not in ("auto", "cpu", "gpu"):
        raise BackendError(f"backend: expected auto, cpu or gpu for a training with torch, got {backend!r}")
    if backend == "gpu" and not torch.cuda.is_available():
        raise BackendError("backend: expected a GPU that torch can use, got none; use --backend cpu")
    return "gpu" if backend != "cpu" and torch.cuda.is_available() else "cpu"


def _observable(name: str) -> Observable:
    """Quantity that a training reports with its frames."""
    return Observable(lambda frame, _: float(frame.observables[name]))


class ImageTraining(System):
    """Training run of a convolutional image network, with torch."""

    observables = {name: _observable(name) for name in MEASURED}  # noqa: RUF012
    packages = ("torch",)

    def owns(self, member: Member) -> bool:
        """Whether a member is of this kind, or meant to be."""
        return member.training is not None or isinstance(member.problem, ImagesTable)

    def build(self, member: Member, backend: str, threads: int | None) -> Setup:
        """Build the objects of a member."""
        table, problem = check(member)
        backend = machine(backend)  # first, so that a missing torch is what is reported
        from wgflow.systems.images.record import Course, Trained

        recipe = Recipe(**table.model_dump())
        try:
            images = data.images(problem.name, problem.path, problem.verify, member.data)
            images = images.first(problem.train, problem.test)
        except InputError as error:
            hint = "; --set problem.path=/where/it/is" if problem.path is None and problem.name in LAYOUTS else ""
            at_path = str(error).startswith("path")
            raise InputError(f"problem.{error}{hint}" if at_path else f"problem: {error}") from error
        side = min(images.train.shape[2:])
        if recipe.padding >= side:
            raise InputError(f"training.padding: expected less than the images' {side} pixels, got {recipe.padding}")
        if recipe.batch > len(images.train):
            raise InputError(f"training.batch: expected at most the {len(images.train)} images, got {recipe.batch}")
        system = Trained(recipe, images, backend)
        blocks = min(system.summary.blocks)
        if recipe.axes > blocks:  # before the vanilla half of a study is trained in vain
            raise InputError(f"training.axes: expected at most the {blocks} blocks of a stage, got {recipe.axes}")
        course = Course(system, member.seed)
        course.run(system, member.flow.until, member.flow.every)  # checks the times; nothing is trained yet
        return Setup(self, system, None, course, system)

    def auto(self, plans: Sequence[RunPlan]) -> Choice:
        """Backend that ``auto`` stands for: a GPU if torch can use one."""
        backend = machine("auto")
        return Choice(backend, f"torch finds {'a' if backend == 'gpu' else 'no'} GPU that it can use")

    def device(self, setup: Setup) -> str | None:
        """Name of the GPU that a member trains on; None on a CPU."""
        name: str | None = setup.energy.device
        return name

    def threads(self, member: Member) -> int | None:
        """Threads of torch, which are part of the study."""
        return member.training.threads if member.training else None

    def work(self, setup: Setup, member: Member) -> float:
        """Approximate multiplications of one epoch: one for the forward pass, two for the backward pass."""
        return float(3.0 * setup.energy.summary.multiplications * len(setup.energy.images.train))

    def memory(self, setup: Setup, threads: int) -> int:
        """Bytes of a step at its largest: torch, images, weights with gradients and momentum, states of a batch."""
        kept, images = setup.energy.summary, setup.energy.images
        numbers = kept.parameters + setup.energy.recipe.batch * kept.activations
        return int(_BASE + images.train.nbytes + images.test.nbytes + 12 * numbers)

    def probe(self, setup: Setup, budget: float) -> tuple[float, float]:
        """Seconds of an epoch and of a frame, from a few minibatches."""
        seconds: tuple[float, float] = setup.flow.probe(budget)
        return seconds

    def bytes_beside(self, setup: Setup) -> int:
        """Bytes of the checkpoint: weights and momentum."""
        return int(8 * setup.energy.summary.parameters)

    def keep_beside(self, setup: Setup, path: Path) -> None:
        """Have the training keep its checkpoint beside the trajectory."""
        setup.flow.checkpoint = checkpoint_beside(path)

    def not_resumable(self, path: Path, s: float) -> str:
        """Why a trajectory with epochs up to s cannot be resumed; empty if its checkpoint is there."""
        if checkpoint_beside(path).is_file():
            return ""
        return f"{path}: has epochs up to {s:g} and no checkpoint to go on from; it is trained again from the start"

    def data(self, spec: Spec) -> object:
        """SHA-256 of the images in the spec of a training."""
        return spec.get("images", {}).get("sha256")
