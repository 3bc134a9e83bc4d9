"""Learning rates along training: functions of the step alone, so that a run taken up again goes on as it would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wgflow.base.errors import InputError, describe
from wgflow.base.registry import check_name
from wgflow.base.validate import real, use_python_numbers, whole

SCHEDULES = ("steps", "one_cycle")


@dataclass(frozen=True)
class Rates:
    """Learning rate of every step.

    ``steps``: lr factor**k after k of the milestones, lr/10 during a warm-up. ``one_cycle``: linearly from 0 to lr over
    the first ``rise`` of all steps, then linearly to 0: the triangle of Smith and Topin (arXiv:1708.07120) without its
    last, smaller part.

    Parameters
    ----------
    lr : float
        Highest rate, > 0. He et al. (2016) use 0.1.
    schedule : {"steps", "one_cycle"}, optional
        Which.
    epochs, steps_per_epoch : int
        Length of training, for ``one_cycle``, and of an epoch.
    milestones : sequence of int, optional
        Epochs after which ``steps`` multiplies by ``factor``, increasing: 80 and 120 of 160 for ResNets, 150 and 225 of
        300 for ResNeXt.
    factor : float, optional
        0 < factor <= 1.
    warm_up : int, optional
        Epochs at lr/10 at the start of ``steps``; He et al. start ResNet-110 so, which does not begin to learn
        otherwise.
    rise : float, optional
        0 < rise < 1.

    Raises
    ------
    InputError
        If a value is out of range.
    """

    lr: float
    schedule: str = "steps"
    epochs: int = 160
    steps_per_epoch: int = 390
    milestones: Sequence[int] = (80, 120)
    factor: float = 0.1
    warm_up: int = 0
    rise: float = 0.25

    def __post_init__(self) -> None:
        use_python_numbers(self)
        real("lr", self.lr, above=0.0)
        check_name("schedule", self.schedule, SCHEDULES)
        for name, value, least in (("epochs", self.epochs, 1), ("steps_per_epoch", self.steps_per_epoch, 1),
                                   ("warm_up", self.warm_up, 0)):  # fmt: skip
            whole(name, value, least)
        if not 0 < real("factor", self.factor) <= 1:
            raise InputError(f"factor: expected 0 < factor <= 1, got {describe(self.factor)}")
        if not 0 < real("rise", self.rise) < 1:
            raise InputError(f"rise: expected 0 < rise < 1, got {describe(self.rise)}")
        before = 0
        for each in self.milestones:
            if whole("milestones", each) <= before:
                raise InputError(f"milestones: expected increasing epochs >= 1, got {describe(list(self.milestones))}")
            before = each

    def at(self, step: int) -> float:
        """Rate of the step with this number, counted from 0."""
        if self.schedule == "steps":
            epoch = step // self.steps_per_epoch
            passed = sum(epoch >= each for each in self.milestones)
            return self.lr * (0.1 if epoch < self.warm_up else self.factor**passed)
        share = (step + 1) / (self.epochs * self.steps_per_epoch + 1)  # never 0, which would waste a step
        return self.lr * (share / self.rise if share < self.rise else (1 - share) / (1 - self.rise))
