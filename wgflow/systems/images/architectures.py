"""Networks of the table of Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508), pre-activation, vanilla or mean-field.

Parameters with 10 classes and 3 channels, compared with those published for the architecture in post-activation order,
which differs in some normalisations:

================= ============ =====================================================================
name              parameters   published
================= ============ =====================================================================
resnet20          269,722      0.27 M, He, Zhang, Ren and Sun (arXiv:1512.03385), table 6
resnet32          464,154      0.46 M
resnet44          658,586      0.66 M
resnet56          853,018      0.85 M
resnet110         1,727,962    1.7 M
resnet164         1,703,258    1.7 M, He, Zhang, Ren and Sun (arXiv:1603.05027), pre-activation
resnext29_8x64d   34,423,114   34.4 M, Xie, Girshick, Dollar, Tu and He (arXiv:1611.05431), table 7
resnext29_16x64d  68,151,626   68.1 M
================= ============ =====================================================================
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from wgflow.base import rng
from wgflow.base.registry import check_name, lookup
from wgflow.base.validate import whole
from wgflow.model.particles import TAU_LAWS
from wgflow.systems.images.blocks import Branch, Transition, basic, bottleneck
from wgflow.systems.images.stage import MeanFieldStage, PlainStage


class Architecture(NamedTuple):
    """One network: a convolution, stages of residual blocks, normalisation, relu, mean over pixels, a linear readout.

    Attributes
    ----------
    stem : int
        Channels after the first convolution.
    widths : tuple of int
        Channels of the state in each stage; pixels are halved at the beginning of every stage but the first.
    blocks : int
        Residual blocks of a stage, including its :class:`~wgflow.systems.images.blocks.Transition`. A stage has one
        where the preceding state has another shape: all but the first in ``resnet20`` to ``resnet110``, all in the
        others.
    shortcut : str
        Of transitions: ``"identity"`` or ``"projection"``.
    inner : int
        Channels inside of a bottleneck in the first stage, doubled from stage to stage; 0 for basic blocks.
    cardinality : int
        Groups of the bottleneck's middle convolution.
    """

    stem: int
    widths: tuple[int, ...]
    blocks: int
    shortcut: str = "identity"
    inner: int = 0
    cardinality: int = 1


_THREE, _WIDE = (16, 32, 64), (256, 512, 1024)
ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "resnet20": Architecture(16, _THREE, 3),
        "resnet32": Architecture(16, _THREE, 5),
        "resnet44": Architecture(16, _THREE, 7),
        "resnet56": Architecture(16, _THREE, 9),
        "resnet110": Architecture(16, _THREE, 18),
        "resnet164": Architecture(16, (64, 128, 256), 18, "projection", inner=16),
        "resnext29_8x64d": Architecture(64, _WIDE, 3, "projection", inner=512, cardinality=8),
        "resnext29_16x64d": Architecture(64, _WIDE, 3, "projection", inner=1024, cardinality=16),
        "resnet_digits": Architecture(16, (16, 32), 5),  # for small images; not from a paper
    }
)


class ResNet(nn.Module):
    """Pre-activation residual network of an :class:`Architecture`, made by :func:`build`.

    Attributes
    ----------
    body : torch.nn.Sequential
        Transitions and stages in order.
    """

    def __init__(self, stem: nn.Module, body: Sequence[nn.Module], width: int, classes: int) -> None:
        super().__init__()
        self.stem = stem
        self.body = nn.Sequential(*body)
        self.norm = nn.BatchNorm2d(width)
        self.readout = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (M, classes) of images (M, channels, height, width)."""
        x = nn.functional.relu(self.norm(self.body(self.stem(x))), inplace=True)
        logits: Tensor = self.readout(x.mean((2, 3)))
        return logits


def build(
    name: str,
    classes: int = 10,
    mean_field: bool = False,
    channels: int = 3,
    *,
    seed: int = 0,
    shortcut: str | None = None,
    ends: str = "clip",
    axes: int = 1,
    tau: str = "grid",
) -> ResNet:
    """Build a network of :data:`ARCHITECTURES`; vanilla and mean-field ones differ in their stages alone.

    Parameters
    ----------
    name : str
        A key of :data:`ARCHITECTURES`.
    classes, channels : int, optional
        K >= 1 classes and channels >= 1 of the images.
    mean_field : bool, optional
        Whether stages are :class:`~wgflow.systems.images.stage.MeanFieldStage`.
    seed : int, optional
        0 <= seed < 2**64; weights are functions of it and of their name, the same with mean-field stages or without.
    shortcut : {"identity", "projection"}, optional
        Of transitions, in place of the architecture's.
    ends, axes : str, int
        Of every mean-field stage; see there.
    tau : {"grid", "uniform"}, optional
        Law of the initial depths. ``grid``: (i + 1)/n on every axis, the vanilla network. ``uniform``: independent and
        uniform on [0, 1], functions of the seed.

    Raises
    ------
    InputError
        If a name is unknown or a number out of range.

    Examples
    --------
    >>> sum(parameter.numel() for parameter in build("resnet20").parameters())
    269722
    """
    what = lookup("architecture", name, ARCHITECTURES)
    classes = whole("classes", classes)
    channels = whole("channels", channels)
    check_name("tau law", tau, TAU_LAWS)
    with torch.random.fork_rng(devices=[]):  # torch draws weights too, which are overwritten
        body: list[nn.Module] = []
        for k, (before, width) in enumerate(zip((what.stem, *what.widths), what.widths, strict=False)):
            changes = k > 0 or before != width
            if changes:
                stride, kind = 2 if k else 1, what.shortcut if shortcut is None else shortcut
                body.append(Transition(_branch(what, k, before, width, stride), before, width, stride, kind))
            branches = [_branch(what, k, width, width) for _ in range(what.blocks - changes)]
            depths = None if tau == "grid" else rng.uniform(seed, f"initial tau, stage {k}", (len(branches), 1))[:, 0]
            body.append(MeanFieldStage(branches, depths, ends, axes) if mean_field else PlainStage(branches))
        stem = nn.Conv2d(channels, what.stem, 3, padding=1, bias=False)
        model = ResNet(stem, body, what.widths[-1], classes)
    _initialise(model, seed)
    return model


@torch.no_grad()
def _initialise(model: nn.Module, seed: int) -> None:
    """Draw the weights of a network of convolutions, normalisations and linear maps, each from (seed, its name).

    Convolutions are Gaussian with variance 2 / (kernel's pixels * channels out / groups), after He, Zhang, Ren and Sun
    (arXiv:1502.01852, section 2.2, backward); linear maps with variance 1 / inputs and no bias; normalisations start
    as torch's do. Depths, and parameters without storage (device ``meta``), are not changed.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d | nn.Linear) and not module.weight.is_meta:
            weight = module.weight
            shape = (weight.shape[0], weight[0].numel())
            scale = shape[1] ** -0.5
            if isinstance(module, nn.Conv2d):
                scale = (2.0 * module.groups / (weight[0, 0].numel() * weight.shape[0])) ** 0.5
            drawn = scale * rng.normal(seed, f"initial {name}.weight", shape)
            weight.copy_(torch.from_numpy(drawn.astype(np.float32)).view_as(weight))
            if module.bias is not None:
                module.bias.zero_()


def _branch(what: Architecture, stage: int, channels: int, width: int, stride: int = 1) -> Branch:
    if not what.inner:
        return basic(channels, width, stride)
    return bottleneck(channels, what.inner * 2**stage, width, stride, what.cardinality)


class ModelSummary(NamedTuple):
    """Size of a network.

    Attributes
    ----------
    blocks : tuple of int
        Particles of each stage.
    parameters : int
        Trained parameters, without depths.
    multiplications, activations : int
        Of all products for one image, and entries that normalisations return.
    """

    blocks: tuple[int, ...]
    parameters: int
    multiplications: int
    activations: int


@functools.lru_cache(maxsize=16)
def summarise(network: str, classes: int, shape: tuple[int, int, int]) -> ModelSummary:
    """Summarise a network for images of shape (C, H, W) on torch's meta device, without allocating its weights.

    Raises
    ------
    InputError
        If the network is unknown.
    """
    entries: list[int] = []
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        model = build(network, classes, channels=shape[0]).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_hook(lambda module, inputs, output: entries.append(output.numel()))
        model(torch.empty(1, *shape))
    blocks = tuple(len(module) for module in model.modules() if isinstance(module, PlainStage))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return ModelSummary(blocks, parameters, counter.get_total_flops() // 2, sum(entries))
