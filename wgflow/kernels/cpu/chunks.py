"""Chunks and blocks of samples, and sums over chunks in a fixed order: the same bits for any number of threads."""

from __future__ import annotations

from typing import NamedTuple

from wgflow.base.types import Array

_BLOCK = 128  # samples of one block at most
_CHUNKS = 16  # partial sums of one evaluation at most
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
    samples, at most 16, and fewer where a chunk would not be worth waking a thread or the partial sums would not fit in
    256 MiB. A block has at most 128 samples, and fewer where one thread's tape would not fit in 64 MiB. Sizes of chunks
    and blocks are multiples of a vector's lanes.

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
    most = min(_CHUNKS, _PARTIAL // partial, samples * size // _WORK)
    while count * _BLOCK < samples and 2 * count <= most:
        count *= 2
    share = -(-samples // count)
    share = -(-share // lanes) * lanes
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
