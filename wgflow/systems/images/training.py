"""Training of a network on images, epoch by epoch: reproducible from a seed, resumable from a checkpoint.

Vanilla and mean-field networks with one seed start from the same weights, see the same images in the same order,
cropped and flipped alike, for equally many steps at the same rates; only their stages differ.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from wgflow.base import rng
from wgflow.base.errors import InputError
from wgflow.base.validate import refuse_masked, whole
from wgflow.model.datasets import warn_constant
from wgflow.systems.images.architectures import build
from wgflow.systems.images.augment import crop_and_flip, draws
from wgflow.systems.images.data import Bytes, Images, Labels
from wgflow.systems.images.recipe import Recipe
from wgflow.systems.images.stage import MeanFieldStage, parameter_groups, settle, stages

_EVALUATED = 512  # images at a time without gradients


class Epoch(NamedTuple):
    """Loss, switches and rate of an epoch.

    Attributes
    ----------
    loss : float
        Mean training loss of its steps, on augmented images, each at the weights before the step.
    switches : int
        Pairs of blocks that changed places in depth, step by step.
    rate : float
        Learning rate of its last step.
    """

    loss: float
    switches: int
    rate: float


class Score(NamedTuple):
    """Loss and error of a network on images without augmentation.

    Attributes
    ----------
    loss : float
        Mean cross-entropy.
    error : float
        Fraction misclassified, 0 to 1.
    """

    loss: float
    error: float


class Trainer:
    """Training run of a network.

    Parameters
    ----------
    recipe : Recipe
        The network and how it is trained.
    images : Images
        Training and test images.
    seed : int
        Determines initial weights, order of the images, crops and flips.
    epochs : int
        Length of training, on which the ``one_cycle`` schedule depends.
    device : str, optional
        ``"cpu"`` or ``"cuda"``.

    Attributes
    ----------
    model : torch.nn.Module
        The network.
    epoch : int
        Epochs done.
    last : Epoch
        The last epoch; NaN before the first.
    switches : int
        Pairs that changed places so far.

    Raises
    ------
    InputError
        If the network is unknown or the images do not fill a batch.
    """

    def __init__(self, recipe: Recipe, images: Images, seed: int, epochs: int, device: str = "cpu") -> None:
        self.recipe, self.seed, self.epochs, self.device = recipe, seed, whole("epochs", epochs), device
        self._images = images
        for name in ("train", "train_labels", "test", "test_labels"):
            refuse_masked(f"images: {name}", getattr(images, name))
        self.steps_per_epoch = len(images.train) // recipe.batch
        if not self.steps_per_epoch:
            raise InputError(f"batch: expected at most the {len(images.train)} images, got {recipe.batch}")
        if device == "cuda" and recipe.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may sum in another order
        self._mixed = recipe.precision == "mixed" or (recipe.precision == "auto" and device == "cuda")
        self._format = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.model = network(recipe, images, seed).to(device)
        self.model.to(memory_format=self._format)  # type: ignore[call-overload] # which its stubs lack
        self._forward: Callable[[Tensor], Tensor] = torch.compile(self.model) if recipe.compiled else self.model
        groups = parameter_groups(
            self.model, recipe.lr, recipe.weight_decay, recipe.tau_rate * recipe.lr, recipe.tau_weight_decay
        )
        self._ratios = [group["lr"] / recipe.lr for group in groups]
        self.optimiser = torch.optim.SGD(groups, recipe.lr, recipe.momentum, nesterov=recipe.nesterov)
        self._train = _on(device, images.train, images.train_labels)
        self._test = _on(device, images.test, images.test_labels)
        self._orders = [stage.order() for stage in stages(self.model)]
        with self.settings():
            self._mean, self._sd = (moment.to(device) for moment in colours(images))
        self.epoch, self.switches, self.last = 0, 0, Epoch(float("nan"), 0, float("nan"))

    def train(self, on_step: Callable[[int], None] | None = None) -> Epoch:
        """Train for one epoch.

        Parameters
        ----------
        on_step : callable, optional
            Called after each step with the number of steps done; may raise to stop, which makes the trainer unusable.

        Returns
        -------
        Epoch
            Also kept as :attr:`last`.
        """
        total, switches = torch.zeros((), dtype=torch.float64, device=self.device), 0
        with self.settings():
            for step, (loss, changed) in enumerate(self.steps(), 1):
                total, switches = total + loss, switches + changed
                if on_step is not None:
                    on_step(step)
        rate = self.optimiser.param_groups[0]["lr"]
        self.epoch, self.switches = self.epoch + 1, self.switches + switches
        self.last = Epoch(float(total) / self.steps_per_epoch, switches, rate)
        return self.last

    def seconds(self, budget: float) -> float:
        """Seconds of a step, from a few within about ``budget`` seconds; the trainer cannot be used afterwards."""
        times = [time.perf_counter()]
        with self.settings():
            for _ in self.steps():
                times.append(time.perf_counter())
                if len(times) > 2 and times[-1] - times[0] > budget:
                    break
        taken = [after - before for before, after in itertools.pairwise(times)]
        return min(taken[1:], default=taken[0])  # the first one includes torch's preparations

    @torch.no_grad()
    def score(self, which: str = "test", most: int | None = None) -> Score:
        """Loss and error on the test images, or on the first of the training images as they are.

        Parameters
        ----------
        which : {"test", "train"}, optional
            Which images.
        most : int, optional
            Largest number of images.
        """
        pixels, labels = self._test if which == "test" else self._train
        pixels, labels = pixels[:most], labels[:most]
        loss, wrong = torch.zeros(2, dtype=torch.float64, device=self.device)
        with self.settings():
            self.model.eval()
            for at in range(0, len(pixels), _EVALUATED):
                with self._precision():
                    outputs = self._forward(self._normalised(pixels[at : at + _EVALUATED])).float()
                target = labels[at : at + _EVALUATED]
                loss = loss + functional.cross_entropy(outputs, target, reduction="sum")
                wrong = wrong + (outputs.argmax(dim=1) != target).sum()
        return Score(float(loss) / len(pixels), float(wrong) / len(pixels))

    def state(self) -> dict[str, Any]:
        """Return the state that training resumes from; random numbers are functions of the seed and the epoch."""
        return {
            "epoch": self.epoch,
            "switches": self.switches,
            "last": list(self.last),
            **self._identity,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    @functools.cached_property
    def _identity(self) -> dict[str, Any]:
        """What distinguishes this run from others: seed, recipe, images, and its length if its rates depend on it."""
        length = self.epochs if self.recipe.schedule == "one_cycle" else None
        recipe, images = self.recipe.model_dump(), self._images.digest()
        return {"seed": self.seed, "recipe": recipe, "images": images, "epochs": length}

    def check(self, state: dict[str, Any]) -> None:
        """Refuse the state of another training run; older states record seed and recipe only.

        Raises
        ------
        InputError
            If it is another's, or not the state of a training run.
        """
        needed = {"epoch", "switches", "last", "seed", "recipe", "model", "optimiser"}
        other = [name for name, own in self._identity.items() if name in state and state[name] != own]
        if other or not needed <= state.keys():
            what = f"one of another training, with other {' and '.join(other)}" if other else "something else"
            raise InputError(f"checkpoint: expected one of this training, got {what}; delete it")

    def load(self, state: dict[str, Any]) -> None:
        """Resume from a state; errors as :meth:`check`."""
        self.check(state)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self._orders = [stage.order() for stage in stages(self.model)]
        self.epoch, self.switches, self.last = state["epoch"], state["switches"], Epoch(*state["last"])

    def steps(self) -> Iterator[tuple[Tensor, int]]:
        """Take the steps of an epoch; after each its loss and how many pairs changed places."""
        number, (pixels, labels), size = self.epoch, self._train, self.recipe.batch
        padding = self.recipe.padding
        order = torch.from_numpy(rng.permutation(self.seed, f"order of epoch {number}", len(pixels))).to(self.device)
        drawn = torch.from_numpy(draws(self.seed, number, len(pixels), padding, self.recipe.flip)).to(self.device)
        self.model.train()
        for step in range(self.steps_per_epoch):
            chosen = order[step * size : (step + 1) * size]
            batch = crop_and_flip(self._normalised(pixels[chosen]), drawn[chosen], padding, self.recipe.outside)
            rate = self.recipe.rate(number * self.steps_per_epoch + step, self.epochs, self.steps_per_epoch)
            yield self._step(batch, labels[chosen], rate)

    def _step(self, batch: Tensor, labels: Tensor, rate: float) -> tuple[Tensor, int]:
        """One step of the optimiser; the loss before it, and how many pairs changed places."""
        for group, ratio in zip(self.optimiser.param_groups, self._ratios, strict=True):
            group["lr"] = rate * ratio
        with self._precision():
            loss = functional.cross_entropy(self._forward(batch).float(), labels, label_smoothing=self.recipe.smoothing)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call] # torch's
        self.optimiser.step()
        settle(self.model)
        before, self._orders = self._orders, [stage.order() for stage in stages(self.model)]
        pairs = zip(before, self._orders, strict=True)
        return loss.detach(), sum(MeanFieldStage.switches(*each) for each in pairs if not torch.equal(*each))

    def _normalised(self, pixels: Tensor) -> Tensor:
        """Pixels with mean 0 and deviation 1 in each channel, (B, C, H, W)."""
        return ((pixels.float() - self._mean) / self._sd).contiguous(memory_format=self._format)

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device, torch.bfloat16, enabled=self._mixed)

    @contextlib.contextmanager
    def settings(self) -> Iterator[None]:
        """Set torch's threads and determinism, which are those of the process, while it trains."""
        threads, cudnn = torch.get_num_threads(), torch.backends.cudnn
        before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
        torch.set_num_threads(self.recipe.threads)
        torch.use_deterministic_algorithms(self.recipe.deterministic, warn_only=True)
        cudnn.deterministic, cudnn.benchmark = self.recipe.deterministic, not self.recipe.deterministic
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(before[0])
            cudnn.deterministic, cudnn.benchmark = before[1:]


def network(recipe: Recipe, images: Images, seed: int) -> nn.Module:
    """Network of a recipe with the weights of a seed, with as many channels and classes as the images have."""
    options: Any = {"ends": recipe.ends, "axes": recipe.axes, "tau": recipe.tau}
    mean_field, channels = recipe.method == "mean_field", images.train.shape[1]
    return build(recipe.network, images.classes, mean_field, channels, seed=seed, **(options if mean_field else {}))


def _on(device: str, pixels: Bytes, labels: Labels) -> tuple[Tensor, Tensor]:
    return torch.tensor(pixels, device=device), torch.tensor(labels, device=device)


def colours(images: Images) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over the training images, both (1, C, 1, 1), in float32.

    A constant channel has an infinite deviation, which makes it 0 in all images; a warning is logged that names it.
    """
    channels = images.train.shape[1]
    counts = torch.stack(
        [torch.bincount(torch.from_numpy(images.train[:, c].reshape(-1)), minlength=256) for c in range(channels)]
    ).double()
    values = torch.arange(256, dtype=torch.float64)
    mean = (counts @ values) / counts.sum(dim=1)
    variance = (counts * (values - mean[:, None]) ** 2).sum(dim=1) / counts.sum(dim=1)
    constant = variance == 0
    warn_constant("images", torch.nonzero(constant).flatten().numpy(), channels, "channel")
    deviation = torch.where(constant, torch.inf, variance.sqrt())
    return mean.float().view(1, -1, 1, 1), deviation.float().view(1, -1, 1, 1)
