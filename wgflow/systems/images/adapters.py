"""Branch f(x; theta) of a residual block from another library, identified by testing what the block computes.

Two forms are known, of blocks whose layers are called ``conv1``, ``bn1``, ``conv2``, ``bn2``, ..., as torchvision and
many others have it:

    post-activation   x -> act(x + bn_k(conv_k( ... act(bn_1(conv_1(x))))))        (He et al., arXiv:1512.03385)
    pre-activation    x -> x + conv_k(act(bn_k( ... conv_1(act(bn_1(x))))))        (He et al., arXiv:1603.05027)

Names distinguish neither the two forms nor a block with further layers. So a copy of the block with random weights is
compared with the form, in float64 and in both modes: it is accepted only if it computes the same and draws no random
numbers, since a block that is dropped at random computes the same most of the time.

Any other residual block is converted by its difference, block(x) - x, which costs one more pass over the state.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.dropout import _DropoutNd

from wgflow.base.errors import InputError
from wgflow.systems.images.residual_check import generator_states, generators_kept, trial_of, unhook

Split: TypeAlias = tuple[nn.Module, nn.Module | None]  # branch, after: block(x) = after(x + branch(x))
Rule: TypeAlias = Callable[[nn.Module], Split | None]
_ACTIVATIONS = ("relu", "act", "activation")  # names under which blocks keep theirs; functional.relu otherwise


class Rest(nn.Module):
    """Branch of a block without its skip and what follows the addition, computed by the block's own layers.

    Its output is linear in the weight and bias of the last layer, a convolution or a normalisation: the branch provides
    them as ``last``, one vector, which :class:`~wgflow.systems.images.stage.MeanFieldStage` scales.

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
        weight, bias = self.final.weight, self.final.bias
        return weight.flatten() if bias is None else torch.cat([weight.flatten(), bias])

    def forward(self, x: Tensor, last: Tensor | None = None) -> Tensor:
        """Branch at x, with another ``last`` if one is given."""
        layers, activation, final = _layers(self.block), _activation(self.block), self.final
        for k, (convolution, norm) in enumerate(layers):
            for layer in (convolution, norm) if self.post else (norm, convolution):
                x = self._finally(final, x, last) if layer is final else layer(x)
                if layer is norm and not (self.post and k == len(layers) - 1):
                    x = activation(x)
        return x

    @property
    def final(self) -> nn.Conv2d | nn.BatchNorm2d:
        """Last layer."""
        return _layers(self.block)[-1][self.post]

    @staticmethod
    def _finally(final: nn.Module, x: Tensor, last: Tensor | None) -> Tensor:
        if last is None:
            return cast(Tensor, final(x))
        weight, bias = cast(Tensor, final.weight), cast(Tensor | None, final.bias)
        given = {"weight": last[: weight.numel()].view_as(weight)}
        if bias is not None:
            given["bias"] = last[weight.numel() :]
        return cast(Tensor, functional_call(final, given, (x,)))


def fitting(x: Tensor, change: Tensor) -> Tensor:
    """Return the change f(x); raises InputError if its shape is not that of the state x."""
    if change.shape != x.shape:  # torch would broadcast it silently
        raise InputError(
            f"branches: expected f(x) of the shape of x, {tuple(x.shape)}, got {tuple(change.shape)}; "
            "leave blocks that change the shape outside of the stage"
        )
    return change


def owns(layer: nn.Module) -> bool:
    """Whether weight and bias of a layer are parameters of its own.

    They are not where a parametrisation, the hook of a weight norm or a pruning mask computes them from other tensors:
    values written to them are then lost.
    """
    own = dict(layer.named_parameters(recurse=False))
    return all(name in own or getattr(layer, name, None) is None for name in ("weight", "bias"))


class Difference(nn.Module):
    """Branch f(x) = block(x) - x of any block that keeps the shape of the state.

    Parameters
    ----------
    block : torch.nn.Module
        Called unchanged, so that its hooks and its compiled form are used.
    writes : bool, optional
        Whether the block modifies its input in place; it is then given a copy.
    """

    def __init__(self, block: nn.Module, writes: bool = False) -> None:
        super().__init__()
        self.block, self.writes, self.training = block, writes, block.training

    def forward(self, x: Tensor) -> Tensor:
        """Branch at x."""
        return self.moved(x) - x

    def moved(self, x: Tensor) -> Tensor:
        """State after the block."""
        return fitting(x, cast(Tensor, self.block(x.clone() if self.writes else x)))


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
    """Convert any block as x -> x + (block(x) - x): with a step (1 - step) x + step block(x), at step 1 the block.

    As the ``rule`` of :func:`wgflow.systems.images.convert.from_resnet` it needs the names of the stages, since it
    accepts any block; :func:`residual` accepts only blocks that a test shows to be residual.
    """
    return Difference(block, trial_of(block).writes), None


def residual(block: nn.Module) -> Split | None:
    """Branch x -> block(x) - x of a block that a trial shows to be residual, else None."""
    trial = trial_of(block)
    return None if trial.refused else (Difference(block, trial.writes), None)


def called_whole(block: nn.Module) -> bool:
    """Whether a split would leave something of a block out: its hooks, or its compiled form by torch.compile."""
    hooks = (block._forward_hooks, block._forward_pre_hooks, block._backward_hooks, block._backward_pre_hooks)
    return any(hooks) or hasattr(block, "_orig_mod")


def whole_split(block: nn.Module) -> Split | None:
    """Split a block that need not be called as it is."""
    return None if called_whole(block) else split(block)


def split(block: nn.Module) -> Split | None:
    """Branch, and what comes after the addition, of a block of one of the two forms; None for another.

    None also for a block that draws random numbers (dropout, stochastic depth), even at rate 0, since the rate may be
    set later; for one whose last layer is parametrised, as by a weight norm; and for one that ends with an activation
    with parameters, such as PReLU, since all blocks of a stage share that activation.
    """
    layers = _layers(block)
    if not layers or any(norm.weight is None for _, norm in layers):
        return None
    if any(isinstance(module, _DropoutNd) for module in block.modules()):
        return None
    for post in (True, False):
        branch, activation = Rest(block, post), _activation(block)
        if not owns(branch.final) or (post and activation.state_dict()) or not _agrees(block, post):
            continue
        after = copy.deepcopy(activation).train(block.training) if post else None
        return branch, after
    return None


def closing(after: nn.Module | None) -> object:
    """Key that is equal for closing activations that compute the same: classes, options, numbers."""
    if after is None:
        return None
    options = [
        (type(m), {key: repr(value) for key, value in vars(m).items() if not key.startswith("_") and key != "training"})
        for m in after.modules()
    ]
    state = {
        name: value.tolist() if hasattr(value, "tolist") else repr(value) for name, value in after.state_dict().items()
    }
    return repr(after), options, state


def _layers(block: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Pairs conv1, bn1, conv2, bn2, ..., as far as they go."""
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    while True:
        convolution, norm = (getattr(block, f"{name}{len(pairs) + 1}", None) for name in ("conv", "bn"))
        if not isinstance(convolution, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm):
            return pairs
        pairs.append((convolution, cast(nn.BatchNorm2d, norm)))


def _activation(block: nn.Module) -> nn.Module:
    kept = [getattr(block, name, None) for name in _ACTIVATIONS]
    return next((module for module in kept if isinstance(module, nn.Module)), nn.ReLU())


def _agrees(block: nn.Module, post: bool) -> bool:
    """Whether a block computes after(x + branch(x)), tried with random weights in both modes."""
    trial, chance = copy.deepcopy(block).cpu().double(), torch.Generator().manual_seed(0)
    # the form has the layers' hooks, but not the block's
    unhook(layer for layer in trial.modules() if layer is not trial)
    with torch.no_grad():
        for tensor in (*trial.parameters(), *trial.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=chance, dtype=tensor.dtype))  # variances are > 0
                if tensor.dim() > 1:
                    tensor.sub_(1.0)
        x = torch.randn(2, _layers(block)[0][0].in_channels, 8, 8, generator=chance, dtype=torch.float64)
        return all(_same(copy.deepcopy(trial).train(mode), post, x) for mode in (True, False))


def _same(block: nn.Module, post: bool, x: Tensor) -> bool:
    """Whether a block and its split form agree at x, without drawing random numbers."""
    branch = Rest(copy.deepcopy(block), post)
    with generators_kept():
        before = generator_states()
        try:
            expected = block(x.clone())
            drawn = generator_states() != before
            change = branch(x.clone())
        except Exception:  # user code: other arguments, shapes that do not fit, a check of its own
            return False
    if drawn or not isinstance(expected, Tensor) or expected.shape != x.shape or change.shape != x.shape:
        return False
    got = _activation(branch.block)(x + change) if post else x + change
    return bool((got - expected).abs().max() <= 1e-9 * expected.abs().max())
