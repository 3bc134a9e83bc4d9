"""Training runs as frames of a trajectory: flow time s counts epochs, and particles are the blocks of all stages.

A block has many parameters, so a frame holds q random projections of them (:mod:`wgflow.systems.images.bridge`);
the state needed to resume training, with the weights themselves, is in a checkpoint beside the trajectory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from wgflow.base.errors import DivergenceError, InputError
from wgflow.base.types import Array, Frame, Spec
from wgflow.base.validate import real
from wgflow.flow.clock import StepClock
from wgflow.flow.schedule import Schedule, schedule
from wgflow.systems.images import checkpoint
from wgflow.systems.images.architectures import summarise
from wgflow.systems.images.bridge import to_particles
from wgflow.systems.images.data import Images
from wgflow.systems.images.recipe import MEASURED, Recipe
from wgflow.systems.images.stage import PlainStage
from wgflow.systems.images.training import Trainer

_WATCHED = 10_000  # training images, not augmented, on which the energy is evaluated


class Described(NamedTuple):
    """Images as a trajectory refers to them: by their digest, not stored.

    Attributes
    ----------
    shape : tuple of int
        M, pixels, classes, q.
    """

    shape: tuple[int, int, int, int]

    def arrays(self) -> dict[str, Array]:
        """Return nothing."""
        return {}


class Trained:
    """Image network, its data, and its description in a file.

    Parameters
    ----------
    recipe : Recipe
        The network and how it is trained.
    images : Images
        Training and test images.
    backend : {"cpu", "gpu"}, optional
        Device.

    Attributes
    ----------
    problem : Described
        Sizes.
    summary : ModelSummary
        Size of the network.

    Raises
    ------
    InputError
        If the network is unknown.
    """

    def __init__(self, recipe: Recipe, images: Images, backend: str = "cpu") -> None:
        self.recipe, self.images, self.backend = recipe, images, backend
        channels, height, width = images.train.shape[1:]
        self.problem = Described((len(images.train), channels * height * width, images.classes, recipe.columns))
        self.summary = summarise(recipe.network, images.classes, (channels, height, width))

    def __len__(self) -> int:
        return sum(self.summary.blocks)

    @property
    def device(self) -> str | None:
        """Name of the GPU it trains on; None on a CPU."""
        return torch.cuda.get_device_name() if self.backend == "gpu" else None

    def spec(self) -> Spec:
        """Plain JSON of everything that defines the training but the seed."""
        images = self.images
        about = {"name": images.name, "train": len(images.train), "test": len(images.test), "verified": images.verified}
        return {
            "training": self.recipe.model_dump()
            | {"blocks": list(self.summary.blocks), "parameters": self.summary.parameters},
            "images": about | {"sha256": images.digest()},
            "depth": {"name": "stages"},  # in place of a depth scheme's
        }


class Course:
    """Training of a network, with the interface of a flow.

    Parameters
    ----------
    system : Trained
        The network.
    seed : int
        Seed of all random numbers.

    Attributes
    ----------
    checkpoint : Path or None
        Checkpoint that training resumes from; None to write none.
    """

    def __init__(self, system: Trained, seed: int) -> None:
        self.system, self.seed = system, seed
        self.checkpoint: Path | None = None

    def spec(self) -> Spec:
        """Plain JSON of the options."""
        return {"method": "sgd", "step": 1.0, "unit": "epoch"}

    def run(
        self,
        begin: Trained | Frame,
        until: float,
        every: float | Spec | Schedule | None = None,
        on_step: Callable[[int, float], None] | None = None,
    ) -> Iterator[Frame]:
        """Train from the start, or resume from a frame, yielding frames; arguments, errors as :meth:`wgflow.Flow.run`.

        s counts epochs, of which ``until`` and ``every`` are whole numbers. ``on_step`` is called after every
        minibatch. A frame's ``theta`` are projections, so training resumes from the checkpoint of that frame, or of
        the next one, which is then yielded first. Without either, training is repeated from the seed, and frames up to
        ``begin`` are not yielded.
        """
        epochs = round(real("until", until, above=0.0))
        clock = StepClock(0, 0.0, until, None if every is None else schedule(every), 1.0)
        due = sorted({0, epochs, *clock.frames})
        return self._loop(begin.step if isinstance(begin, Frame) else -1, due, on_step)

    def trainer(self, epochs: int) -> Trainer:
        """Trainer at the start."""
        device = {"cpu": "cpu", "gpu": "cuda"}[self.system.backend]
        return Trainer(self.system.recipe, self.system.images, self.seed, epochs, device)

    def probe(self, budget: float) -> tuple[float, float]:
        """Seconds of an epoch and of a frame, from a few minibatches within about ``budget`` seconds."""
        trainer = self.trainer(1)
        per_step = trainer.seconds(budget)
        images = min(_WATCHED, len(self.system.images.train)) + len(self.system.images.test)
        return per_step * trainer.steps_per_epoch, per_step * images / (3 * self.system.recipe.batch)

    def _loop(self, known: int, due: list[int], on_step: Callable[[int, float], None] | None) -> Iterator[Frame]:
        trainer, good = self.trainer(due[-1]), None
        self._resume(trainer, known, due)
        while True:
            if trainer.epoch > known and trainer.epoch in due:
                if trainer.epoch and self.checkpoint is not None:
                    checkpoint.save(self.checkpoint, trainer.state())
                yield (good := self._frame(trainer, good))
            if trainer.epoch >= due[-1]:
                return
            trainer.train(
                on_step and (lambda steps: on_step(trainer.epoch, trainer.epoch + steps / trainer.steps_per_epoch))
            )
            if not np.isfinite(trainer.last.loss):
                raise _diverged(trainer, good)

    def _resume(self, trainer: Trainer, known: int, due: list[int]) -> None:
        """Load the checkpoint if it belongs to the last known frame or to the next one."""
        if self.checkpoint is None or not self.checkpoint.is_file() or known < 0:
            return
        state = checkpoint.load(self.checkpoint, trainer.device)
        try:
            trainer.check(state)
        except InputError as error:
            raise InputError(f"{self.checkpoint}: {error}, and its member is trained again from the start") from error
        if state["epoch"] in (known, *[epoch for epoch in due if epoch > known][:1]):
            trainer.load(state)

    def _frame(self, trainer: Trainer, good: Frame | None) -> Frame:
        train = trainer.score("train", _WATCHED)
        finite = all(bool(torch.isfinite(parameter).all()) for parameter in trainer.model.parameters())
        if not (finite and np.isfinite(train.loss)):
            raise _diverged(trainer, good)
        theta, tau = particles(trainer.model, self.system.recipe.columns)
        test, last, count = trainer.score("test"), trainer.last, len(tau)
        numbers = dict(
            zip(MEASURED, (test.loss, test.error, train.error, last.loss, last.switches, last.rate), strict=True)
        )
        return Frame(
            trainer.epoch, float(trainer.epoch), theta, tau, np.full(count, 1.0 / count), train.loss, np.nan,
            trainer.switches, 1.0, numbers,
        )  # fmt: skip


def _diverged(trainer: Trainer, good: Frame | None) -> DivergenceError:
    return DivergenceError(
        f"the network diverged in epoch {trainer.epoch}: its loss is not finite; try a smaller lr than "
        f"{trainer.recipe.lr:g}",
        good,
    )


def particles(model: torch.nn.Module, columns: int) -> tuple[Array, Array]:
    """Blocks of all stages in their lists' order: q projections of their parameters (N, q), and depths (N,).

    In a vanilla network tau_i = (i + 1)/n.

    Raises
    ------
    InputError
        If a parameter is not finite.
    """
    ensembles = [to_particles(stage, columns) for stage in model.modules() if isinstance(stage, PlainStage)]
    return np.concatenate([rho.theta for rho in ensembles]), np.concatenate([rho.tau for rho in ensembles])
