"""Pre-activation residual blocks: the branch f(x; theta) that is a particle, and the block that changes the shape.

He, Zhang, Ren and Sun, Identity Mappings in Deep Residual Networks (arXiv:1603.05027): every convolution is preceded by
batch normalisation and relu, and nothing follows the addition, so that a block is a step X <- X + f(X; theta).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from wgflow.base.registry import check_name

SHORTCUTS = ("identity", "projection")


class Branch(nn.Module):
    """Residual branch f(x; theta) = conv_k o relu o norm_k o ... o conv_1 o relu o norm_1 (x), without the skip.

    The last convolution is linear in its weight and has no bias, so step * f(x) is the same branch with that weight
    times the step: :class:`wgflow.systems.images.stage.MeanFieldStage` scales a few thousand weights instead of
    millions of entries of the state. The running statistics of the normalisations belong to the branch.

    Parameters
    ----------
    convolutions : sequence of torch.nn.Conv2d
        At least one, without bias, each taking what the one before returns.
    """

    def __init__(self, convolutions: Sequence[nn.Conv2d]) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(conv.in_channels) for conv in convolutions)
        self.convolutions = nn.ModuleList(convolutions)

    @property
    def last(self) -> nn.Parameter:
        """Weight of the last convolution, in which the branch is linear."""
        return cast(nn.Parameter, self.final.weight)

    def forward(self, x: Tensor, last: Tensor | None = None) -> Tensor:
        """Branch at x, (M, C, height, width), with another weight of the last convolution if one is given."""
        return self.after_first(self.activated(x), last)

    @property
    def final(self) -> nn.Conv2d:
        """Last convolution."""
        return cast(nn.Conv2d, self.convolutions[-1])

    def activated(self, x: Tensor) -> Tensor:
        """Compute relu(norm_1(x)), from which a block that changes the shape takes its shortcut."""
        return functional.relu(self.norms[0](x), inplace=True)  # a normalisation keeps its input, not its output

    def after_first(self, x: Tensor, last: Tensor | None = None) -> Tensor:
        """Everything after the first activation."""
        for convolution, norm in zip(self.convolutions, self.norms[1:], strict=False):
            x = functional.relu(norm(convolution(x)), inplace=True)
        final = self.final
        weight = final.weight if last is None else last
        return functional.conv2d(x, weight, None, final.stride, final.padding, final.dilation, final.groups)


class Transition(nn.Module):
    """Block that changes the shape of the state: y = shortcut(z) + f(x) with z = relu(norm_1(x)); never permuted.

    Parameters
    ----------
    branch : Branch
        f.
    channels, width : int
        Channels before and after, width >= channels.
    stride : int
        Of the branch.
    shortcut : {"identity", "projection"}
        ``identity``: every stride-th pixel, new channels 0 (option A of He et al., arXiv:1512.03385; no parameters).
        ``projection``: a 1 x 1 convolution (option B).

    Raises
    ------
    InputError
        If the shortcut is unknown.
    """

    def __init__(self, branch: Branch, channels: int, width: int, stride: int, shortcut: str) -> None:
        super().__init__()
        check_name("shortcut", shortcut, SHORTCUTS)
        self.branch, self.stride, self.more = branch, stride, width - channels
        self.projection = nn.Conv2d(channels, width, 1, stride, bias=False) if shortcut == "projection" else None

    def forward(self, x: Tensor) -> Tensor:
        """State after the block, (M, C', height / stride, width / stride)."""
        z = self.branch.activated(x)
        if self.projection is not None:
            return cast(Tensor, self.projection(z) + self.branch.after_first(z))
        thinned = z[:, :, :: self.stride, :: self.stride]
        return functional.pad(thinned, (0, 0, 0, 0, 0, self.more)) + self.branch.after_first(z)


def basic(channels: int, width: int, stride: int = 1) -> Branch:
    """Branch of two 3 x 3 convolutions from ``channels`` to ``width`` channels."""
    return Branch([_convolution(channels, width, 3, stride), _convolution(width, width, 3)])


def bottleneck(channels: int, inner: int, width: int, stride: int = 1, cardinality: int = 1) -> Branch:
    """Branch of 1 x 1, 3 x 3 and 1 x 1 convolutions, the middle one in ``cardinality`` groups on ``inner`` channels.

    With more than one group it is ResNeXt's (Xie, Girshick, Dollar, Tu and He, arXiv:1611.05431, figure 3c) in
    pre-activation order.
    """
    return Branch(
        [
            _convolution(channels, inner, 1),
            _convolution(inner, inner, 3, stride, cardinality),
            _convolution(inner, width, 1),
        ]
    )


def _convolution(channels: int, width: int, size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, width, size, stride, size // 2, groups=groups, bias=False)
