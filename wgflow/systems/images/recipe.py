"""How an image network is trained: everything but the images, the seed and the machine."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import ValidationError

from wgflow.base.errors import InputError
from wgflow.base.types import Spec
from wgflow.base.validate import scalar
from wgflow.study.messages import explain
from wgflow.study.training_tables import TrainingTable
from wgflow.systems.images.rates import Rates

METHODS: tuple[str, ...] = get_args(TrainingTable.model_fields["method"].annotation)


class Recipe(TrainingTable):
    """A network and how it is trained.

    The defaults are those of He et al. for CIFAR-10 (arXiv:1512.03385, section 4.2): SGD with momentum 0.9, weight
    decay 1e-4, batches of 128, lr 0.1 divided by 10 after epochs 80 and 120 of 160, crops of images padded by 4, flips.
    Lu et al. do not print their settings; these are what their vanilla column comes from.

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
        self.rates(1, 1)

    def rates(self, epochs: int, steps_per_epoch: int) -> Rates:
        """Learning rates of a training of so many epochs."""
        return Rates(
            self.lr, self.schedule, epochs, steps_per_epoch, self.milestones, self.factor, self.warm_up, self.rise
        )

    def spec(self) -> Spec:
        """Plain JSON of all of it."""
        return self.model_dump()
