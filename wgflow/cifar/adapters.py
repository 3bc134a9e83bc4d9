"""What somebody else's residual block computes, found out by trying it, and its branch f(x; theta) made of its layers.

Two forms are known, of blocks whose layers are called ``conv1``, ``bn1``, ``conv2``, ``bn2``, ..., as torchvision and
many others have it:

    post-activation   x -> act(x + bn_k(conv_k( ... act(bn_1(conv_1(x))))))        (He et al., arXiv:1512.03385)
    pre-activation    x -> x + conv_k(act(bn_k( ... conv_1(act(bn_1(x))))))        (He et al., arXiv:1603.05027)

Names do not tell them apart, or from a block with something more in it. So a copy of the block is given random
weights and is compared, in float64 and in both modes, with the form: it is taken only if it computes the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

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
        self.block, self.post = block, post

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
        """Multiply the branch by a step, in place, and return its block, which then computes after(x + step f(x))."""
        self._final.weight.mul_(step)
        if self._final.bias is not None:
            self._final.bias.mul_(step)
        return self.block

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
        self.block = block

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
    """Branch, and what comes after the addition, of a block of one of the two forms; None for another."""
    layers = _layers(block)
    if not layers or any(norm.weight is None for _, norm in layers):
        return None
    for post in (True, False):
        after = copy.deepcopy(_activation(block)) if post else None
        if _agrees(block, post, after):
            return Rest(block, post), after
    return None


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


@torch.no_grad()
def _agrees(block: nn.Module, post: bool, after: nn.Module | None) -> bool:
    """Whether a block computes after(x + branch(x)), tried with random weights in both modes."""
    trial, chance = copy.deepcopy(block).cpu().double(), torch.Generator().manual_seed(0)
    for tensor in (*trial.parameters(), *trial.buffers()):
        if tensor.is_floating_point():
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=chance, dtype=tensor.dtype))  # > 0, as variances are
            if tensor.dim() > 1:
                tensor.sub_(1.0)
    x = torch.randn(2, _layers(block)[0][0].in_channels, 8, 8, generator=chance, dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):  # a dropout inside shall not take anybody's random numbers
        for training in (True, False):
            one, other = copy.deepcopy(trial).train(training), copy.deepcopy(trial).train(training)
            try:
                expected, change = one(x.clone()), Rest(other, post)(x.clone())
            except RuntimeError:  # shapes that do not fit together
                return False
            if not isinstance(expected, Tensor) or expected.shape != x.shape or change.shape != x.shape:
                return False
            got = x + change if after is None else after(x + change)
            if (got - expected).abs().max() > 1e-9 * expected.abs().max():
                return False
    return True
