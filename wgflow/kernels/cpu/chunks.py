"""Chunks and blocks of samples, and sums over chunks in a fixed order: the same bits for any number of threads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wgflow.base.types import Array

_BLOCK = 128  # samples of one block at most
_CHUNKS = 16  # partial sums of one evaluation of at most
_FEW = 2**17  # so many samples; of more there is about one for every
_GRAIN = 2**12  # so many, of which a chunk then is a multiple
_PARTIAL = 2**25  # numbers in all partial sums together at most, 256 MiB
_WORK = 150_000  # samples times numbers of one chunk at least, about 0.1 ms
_TAPE = 2**23  # numbers on one thread's tape at most, 64 MiB


class Chunks(NamedTuple):
    """Division of the samples into chunks and blocks.

    Attributes
    ----------
    chunks : int
        Number of chunks, each with its own partial sums.
    size : int
        Samples of a chunk; the last one may have fewer.
    block : int
        Samples that pass through the network together.
    """

    chunks: int
    size: int
    block: int


def divide(samples: int, size: int, partial: int, tape: int, lanes: int = 8) -> Chunks:
    """Divide the samples into chunks and blocks.

    The rule depends on the sizes alone, so that the order of every sum is fixed. There is about one chunk per 128
    samples, at most 16, or of more than 2**17 samples one per 4096, which the ranks of an MPI program can share; fewer
    where a chunk would not be worth waking a thread or the partial sums would not fit in 256 MiB. A block has at most
    128 samples, and fewer where one thread's tape would not fit in 64 MiB. Sizes of chunks and blocks are multiples of
    a vector's lanes.

    Parameters
    ----------
    samples : int
        M.
    size : int
        Parameters applied to each sample, about E D.
    partial : int
        Numbers in the partial sums of one chunk.
    tape : int
        Numbers on the tape of one sample.
    lanes : int, optional
        Numbers in the widest vector register.
    """
    count = 1
    least, limit, unit = (_BLOCK, _CHUNKS, lanes) if samples <= _FEW else (_GRAIN, samples, _GRAIN)
    most = min(limit, _PARTIAL // partial, samples * size // _WORK)
    while count * least < samples and 2 * count <= most:
        count *= 2
    share = -(-samples // count)
    share = -(-share // unit) * unit
    blocks = -(-share // min(_BLOCK, max(lanes, _TAPE // tape // lanes * lanes)))
    block = -(-share // blocks)
    return Chunks(-(-samples // share), share, -(-block // lanes) * lanes)


def tree_sum(parts: Array) -> Array:
    """Sum over the first axis along a fixed binary tree, destroying ``parts``."""
    stride = 1
    while stride < len(parts):
        right = parts[stride :: 2 * stride]
        parts[:: 2 * stride][: len(right)] += right
        stride *= 2
    total: Array = parts[0]
    return total


def summands(losses: Array, samples: int) -> Array:
    """Numbers whose sum is that of losses, (..., M): the losses, or of many samples the sums of 4096 at a time.

    For consecutive losses that begin at a chunk these are the numbers of the whole, ``samples`` losses, that they make
    up.
    """
    if samples <= _FEW:
        return losses
    whole = losses.shape[-1] // _GRAIN * _GRAIN
    parts = np.add.reduce(losses[..., :whole].reshape(*losses.shape[:-1], -1, _GRAIN), axis=-1)
    rest = losses[..., whole:]
    return np.concatenate([parts, np.add.reduce(rest, axis=-1)[..., None]], axis=-1) if rest.size else parts


def summand_count(samples: int) -> int:
    """Number of the :func:`summands` of so many losses."""
    return samples if samples <= _FEW else -(-samples // _GRAIN)


def mean(losses: Array) -> Array:
    """Mean over the last axis of losses, (..., M), in a fixed order."""
    samples = losses.shape[-1]
    total: Array = np.add.reduce(summands(losses, samples), axis=-1) / samples
    return total
