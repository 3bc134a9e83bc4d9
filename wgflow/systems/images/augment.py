"""Standard augmentation: a random crop of the padded image and a random flip, as batched operations on the device.

The crop and flip of an image depend on (seed, epoch, its index in the data set) alone: not on its batch, the network,
the device, or where a run was resumed. Two networks trained with one seed therefore see the same images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wgflow.base import rng
from wgflow.base.registry import check_name
from wgflow.base.validate import whole

if TYPE_CHECKING:
    import torch

MODES = ("zeros", "reflect")


def draws(seed: int, epoch: int, count: int, padding: int = 4, flip: bool = True) -> NDArray[np.int64]:
    """Random crop and reflection of each of M images in an epoch.

    Parameters
    ----------
    seed : int
        0 <= seed < 2**64.
    epoch : int
        >= 0.
    count : int
        M.
    padding : int, optional
        p >= 0: the crop moves by up to p pixels each way.
    flip : bool, optional
        Mirror left and right with probability 1/2.

    Returns
    -------
    ndarray of int64 (M, 3)
        Rows and columns to skip in the padded image, 0 to 2 p, and 1 for a flip. Row m does not depend on M.
    """
    padding = whole("padding", padding, least=0)
    uniform = rng.uniform(seed, "crops and flips", (count, 3), step=whole("epoch", epoch, least=0))
    out = np.empty((count, 3), np.int64)
    out[:, :2] = uniform[:, :2] * (2 * padding + 1)
    out[:, 2] = (uniform[:, 2] < 0.5) & flip
    return out


def crop_and_flip(images: torch.Tensor, drawn: torch.Tensor, padding: int = 4, mode: str = "zeros") -> torch.Tensor:
    """Pad by p on all sides, crop each image to its old size, and mirror it if so drawn.

    Parameters
    ----------
    images : Tensor (B, C, H, W)
        A batch.
    drawn : Tensor of int64 (B, 3)
        Its rows of :func:`draws`, on the same device.
    padding : int, optional
        p.
    mode : {"zeros", "reflect"}, optional
        What lies outside: 0, the mean colour once images are normalised, or the image mirrored at its edge.

    Returns
    -------
    Tensor (B, C, H, W)
        One gather for the whole batch; memory format as that of ``images``.

    Raises
    ------
    InputError
        If the mode is unknown.
    """
    import torch

    check_name("mode", mode, MODES)
    batch, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, [padding] * 4, mode="reflect" if mode == "reflect" else "constant")
    rows = drawn[:, :1] + torch.arange(height, device=images.device)  # (B, H)
    across = torch.arange(width, device=images.device).expand(batch, width)
    columns = drawn[:, 1:2] + torch.where(drawn[:, 2:] > 0, width - 1 - across, across)  # (B, W)
    image = torch.arange(batch, device=images.device)
    # advanced indices around a slice come first: (B, H, W, C), which as (B, C, H, W) lies channels last
    out = padded[image[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    return out.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
