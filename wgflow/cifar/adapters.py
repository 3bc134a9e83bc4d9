"""What somebody else's residual block computes, found out by trying it, and its branch f(x; theta) made of its layers.

Two forms are known, of blocks whose layers are called ``conv1``, ``bn1``, ``conv2``, ``bn2``, ..., as torchvision and
many others have it:

    post-activation   x -> act(x + bn_k(conv_k( ... act(bn_1(conv_1(x))))))        (He et al., arXiv:1512.03385)
    pre-activation    x -> x + conv_k(act(bn_k( ... conv_1(act(bn_1(x))))))        (He et al., arXiv:1603.05027)

Names do not tell them apart, or from a block with something more in it. So a copy of the block is given random
weights and is compared, in float64 and in both modes, with the form: it is taken only if it computes the same, and
takes no random numbers: a block that is dropped now and then computes the same most of the time.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.dropout import _DropoutNd

from wgflow.cifar.shapes import owns

Split: TypeAlias = tuple[nn.Module, nn.Module | None]  # branch, after: block(x) = after(x + branch(x))
Rule: TypeAlias = Callable[[nn.Module], Split | None]
_ACTIVATIONS = ("relu", "act", "activation")  # names under which blocks keep theirs; functional.relu otherwise


class Rest(nn.Module):
    """Branch of a block, its skip and what comes after the addition left out, computed by the block's own layers.

    The last layer, a convolution or a normalisation, is linear in its weight and bias together: the branch offers
    them as ``last``, one list of numbers, as :class:`~wgflow.cifar.stage.MeanFieldStage` wants it.

    Parameters
    ----------
    block : torch.nn.Module
        With ``conv1``, ``bn1`` and so on.
    post : bool
        Whether it is of the post-activation form.
    """

    def __init__(self, block: nn.Module, post: bool) -> None:
        super().__init__()
        self.block, self.post, self.training = block, post, block.training

    @property
    def last(self) -> Tensor:
        """Weight and bias of the last layer, one after the other."""
        weight, bias = self._final.weight, self._final.bias
        return weight.flatten() if bias is None else torch.cat([weight.flatten(), bias])

    def forward(self, x: Tensor, last: Tensor | None = None) -> Tensor:
        """Branch at x, with another ``last`` if one is given."""
        layers, activation, final = _layers(self.block), _activation(self.block), self._final
        for k, (convolution, norm) in enumerate(layers):
            for layer in (convolution, norm) if self.post else (norm, convolution):
                x = self._finally(final, x, last) if layer is final else layer(x)
                if layer is norm and not (self.post and k == len(layers) - 1):
                    x = activation(x)
        return x

    @torch.no_grad()
    def fold(self, step: float) -> nn.Module:
        """Multiply the branch by a step, in place, and return its block, which then computes after(x + step f(x)).

        For a last layer that owns its numbers (:attr:`foldable`).
        """
        self._final.weight.mul_(step)
        if self._final.bias is not None:
            self._final.bias.mul_(step)
        return self.block

    @property
    def foldable(self) -> bool:
        """Whether the last layer's weight and bias are parameters, so that a step can be written to them."""
        return owns(self._final)

    @property
    def _final(self) -> nn.Conv2d | nn.BatchNorm2d:
        return _layers(self.block)[-1][1 if self.post else 0]

    @staticmethod
    def _finally(final: nn.Module, x: Tensor, last: Tensor | None) -> Tensor:
        if last is None:
            return cast(Tensor, final(x))
        weight, bias = cast(Tensor, final.weight), cast(Tensor | None, final.bias)
        given = {"weight": last[: weight.numel()].view_as(weight)}
        if bias is not None:
            given["bias"] = last[weight.numel() :]
        return cast(Tensor, functional_call(final, given, (x,)))


class Difference(nn.Module):
    """Branch f(x) = block(x) - x of any block that keeps the shape of the state."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block, self.training = block, block.training

    def forward(self, x: Tensor) -> Tensor:
        """Branch at x."""
        return cast(Tensor, self.block(x) - x)


class Scaled(nn.Module):
    """Residual block x -> after(x + step f(x)) with a fixed step, for branches that a step cannot be folded into."""

    def __init__(self, branch: nn.Module, step: float, after: nn.Module | None) -> None:
        super().__init__()
        self.branch, self.step, self.after = branch, step, after

    def forward(self, x: Tensor) -> Tensor:
        """State after the block."""
        x = x + self.step * self.branch(x)
        return x if self.after is None else cast(Tensor, self.after(x))


def difference(block: nn.Module) -> Split:
    """Take any block as x -> x + (block(x) - x): the block to rounding, and with a step (1 - step) x + step block(x).

    To be given as the ``rule`` of :func:`wgflow.cifar.convert.from_resnet` together with the names of the stages, since
    it takes whatever it is shown.
    """
    return Difference(block), None


def split(block: nn.Module) -> Split | None:
    """Branch, and what comes after the addition, of a block of one of the two forms; None for another.

    Another is also a block that takes random numbers (dropout, stochastic depth), a dropout of rate 0 included, since a
    rate may be set later; one whose last layer is parametrised, as by a weight norm; and one that ends with an
    activation that has parameters, as PReLU does, since a stage has one for all of its blocks.
    """
    layers = _layers(block)
    if not layers or any(norm.weight is None for _, norm in layers):
        return None
    if any(isinstance(module, _DropoutNd) for module in block.modules()):
        return None
    for post in (True, False):
        branch, activation = Rest(block, post), _activation(block)
        if not branch.foldable or (post and activation.state_dict()) or not _agrees(block, post):
            continue
        after = copy.deepcopy(activation).train(block.training) if post else None
        return branch, after
    return None


def closing(after: nn.Module | None) -> object:
    """What two closing activations have in common if they compute the same: classes, options, numbers."""
    if after is None:
        return None
    options = [
        (type(m), {key: repr(each) for key, each in vars(m).items() if not key.startswith("_") and key != "training"})
        for m in after.modules()
    ]
    return repr(after), options, {name: tensor.tolist() for name, tensor in after.state_dict().items()}


def _layers(block: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Pairs conv1, bn1, conv2, bn2, ..., as far as they go."""
    found: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    while True:
        convolution, norm = (getattr(block, f"{name}{len(found) + 1}", None) for name in ("conv", "bn"))
        if not isinstance(convolution, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm):
            return found
        found.append((convolution, cast(nn.BatchNorm2d, norm)))


def _activation(block: nn.Module) -> nn.Module:
    kept = [getattr(block, name, None) for name in _ACTIVATIONS]
    return next((each for each in kept if isinstance(each, nn.Module)), nn.ReLU())


def _agrees(block: nn.Module, post: bool) -> bool:
    """Whether a block computes after(x + branch(x)), tried with random weights in both modes."""
    trial, chance = copy.deepcopy(block).cpu().double(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*trial.parameters(), *trial.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=chance, dtype=tensor.dtype))  # variances are > 0
                if tensor.dim() > 1:
                    tensor.sub_(1.0)
        x = torch.randn(2, _layers(block)[0][0].in_channels, 8, 8, generator=chance, dtype=torch.float64)
        return all(_same(copy.deepcopy(trial).train(mode), post, x) for mode in (True, False))


def _same(block: nn.Module, post: bool, x: Tensor) -> bool:
    """Whether a block returns at x what the form does, without taking random numbers."""
    branch = Rest(copy.deepcopy(block), post)
    with _chance_kept():
        before = _chance()
        try:
            expected = block(x.clone())
            drawn = _chance() != before
            change = branch(x.clone())
        except Exception:  # somebody else's code: other arguments, shapes that do not fit, a check of its own
            return False
    if drawn or not isinstance(expected, Tensor) or expected.shape != x.shape or change.shape != x.shape:
        return False
    got = _activation(branch.block)(x + change) if post else x + change
    return bool((got - expected).abs().max() <= 1e-9 * expected.abs().max())


def _chance() -> tuple[object, ...]:
    """States of the generators that a block may take numbers from: torch's, Python's, numpy's."""
    _, key, position, *_ = np.random.get_state(legacy=True)  # noqa: NPY002 # theirs, not ours
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), np.asarray(key).tobytes(), position


@contextmanager
def _chance_kept() -> Iterator[None]:
    """Leave those generators as they were: trying a block shall take nobody's random numbers."""
    python, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpys)  # noqa: NPY002
