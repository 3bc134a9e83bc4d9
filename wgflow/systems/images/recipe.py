"""How an image network is trained: everything but the images, the seed and the machine."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import ValidationError

from wgflow.base.errors import InputError, describe
from wgflow.base.validate import scalar
from wgflow.study.messages import explain
from wgflow.study.training_tables import TrainingTable

MEASURED = ("heldout", "test_error", "train_error", "epoch_loss", "epoch_switches", "rate")  # with every frame
METHODS: tuple[str, ...] = get_args(TrainingTable.model_fields["method"].annotation)


class Recipe(TrainingTable):
    """A network and how it is trained.

    The defaults are those of He et al. for CIFAR-10 (arXiv:1512.03385, section 4.2): SGD with momentum 0.9, weight
    decay 1e-4, batches of 128, lr 0.1 divided by 10 after epochs 80 and 120 of 160, crops of images padded by 4, flips.
    Lu et al. do not state their settings; their vanilla column is that of networks trained with these.

    An epoch has M // B steps on M images in random order; the images left over wait for the next epoch. A step of SGD
    is v <- momentum v + gradient + weight_decay w, w <- w - lr v, where ``nesterov`` adds the gradient once more.
    ``tau_rate`` = 0 pins the depths, and ``tau`` = ``"grid"`` starts from the vanilla network.

    Parameters
    ----------
    network : str
        A name in :data:`wgflow.systems.images.ARCHITECTURES`.
    method : {"vanilla", "mean_field"}, optional
        Residual blocks in their order with unit steps, or Algorithm 1: particles sorted by tau.
    **options : optional
        The other keys of :class:`~wgflow.study.training_tables.TrainingTable`.

    Raises
    ------
    InputError
        If a value is out of range. The name of the network is checked where it is built.
    """

    def __init__(self, network: str, method: str = "vanilla", **options: Any) -> None:
        values: dict[str, Any] = {"network": network, "method": method}
        values |= {name: scalar(value) for name, value in options.items()}
        if "milestones" in values:
            values["milestones"] = [scalar(epoch) for epoch in values["milestones"]]
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError("; ".join(explain(TrainingTable, error))) from error
        if self.nesterov and not self.momentum:
            raise InputError("nesterov: expected a momentum > 0 with it, got 0")
        if self.milestones != sorted(set(self.milestones)):
            raise InputError(f"milestones: expected increasing epochs >= 1, got {describe(self.milestones)}")

    def rate(self, step: int, epochs: int, steps_per_epoch: int) -> float:
        """Learning rate of a step, counted from 0, in a training run of that many epochs.

        ``steps``: lr factor**k after k of the milestones, lr/10 during a warm-up, without which ResNet-110 does not
        begin to learn. ``one_cycle``: linearly from 0 to lr over the first ``rise`` of all steps, then linearly to 0:
        the triangle of Smith and Topin (arXiv:1708.07120) without its last, smaller part.
        """
        if self.schedule == "steps":
            epoch = step // steps_per_epoch
            passed = sum(epoch >= milestone for milestone in self.milestones)
            return self.lr * (0.1 if epoch < self.warm_up else self.factor**passed)
        share = (step + 1) / (epochs * steps_per_epoch + 1)  # never 0, which would waste a step
        return self.lr * (share / self.rise if share < self.rise else (1 - share) / (1 - self.rise))
