"""Summary of an image network: blocks, parameters and operations, counted on torch's meta device."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import nn


class ModelSummary(NamedTuple):
    """Size of a network.

    Attributes
    ----------
    blocks : tuple of int
        Particles of each stage.
    parameters : int
        Trained numbers, those of depths aside.
    multiplications, activations : int
        Of all products for one image, and entries that normalisations return.
    """

    blocks: tuple[int, ...]
    parameters: int
    multiplications: int
    activations: int


@functools.lru_cache(maxsize=16)
def summarise(network: str, classes: int, shape: tuple[int, int, int]) -> ModelSummary:
    """Summarise a network for images of shape (C, H, W) without allocating its weights.

    Raises
    ------
    InputError
        If the network is unknown.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from wgflow.systems.images.architectures import build
    from wgflow.systems.images.stage import PlainStage

    entries = [0]

    def count(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        entries[0] += output.numel()

    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        model = build(network, classes, channels=shape[0]).eval()
        for each in model.modules():
            if isinstance(each, torch.nn.BatchNorm2d):
                each.register_forward_hook(count)
        model(torch.empty(1, *shape))
    blocks = tuple(len(each) for each in model.modules() if isinstance(each, PlainStage))
    return ModelSummary(
        blocks, sum(each.numel() for each in model.parameters()), counter.get_total_flops() // 2, entries[0]
    )
