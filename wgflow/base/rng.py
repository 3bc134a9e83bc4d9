"""Counter-based random numbers: a draw is a function of (seed, stream, step, particle), nothing else.

There is no generator state to save: a resumed run draws the same numbers as an uninterrupted one, and the first n
particles of a large ensemble are the ensemble of n particles with the same seed. Philox-4x64-10 of
Salmon, Moraes, Dror and Shaw (2011), as implemented by NumPy.
"""

from __future__ import annotations

import hashlib

import numpy as np
from scipy.special import ndtri

from wgflow.base.errors import InputError, describe
from wgflow.base.types import Array, Index
from wgflow.base.validate import scalar

_WORDS = 4  # 64-bit words that Philox makes from one counter value


def key(seed: int, stream: str) -> tuple[int, int]:
    """Philox's key of a seed and a stream: two numbers, each 0 <= word < 2**64; raises InputError for a wrong seed."""
    seed = scalar(seed)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise InputError(f"seed: expected an integer with 0 <= seed < 2**64, got {describe(seed)}")
    return seed, int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "little")


def uniform(seed: int, stream: str, shape: tuple[int, int], step: int = 0) -> Array:
    """Uniform numbers in (0, 1), row i belonging to particle i.

    Parameters
    ----------
    seed : int
        0 <= seed < 2**64.
    stream : str
        Purpose of the numbers; different streams are independent.
    shape : (int, int)
        Particles, numbers per particle. A row does not depend on how many rows are drawn.
    step : int, optional
        Flow step to which the numbers belong, >= 0.

    Returns
    -------
    ndarray, float64, of that shape
        Each number is (k + 1/2) / 2**52 for an integer k, so neither 0 nor 1 occurs.

    Raises
    ------
    InputError
        If the seed is outside its range.
    """
    rows, columns = shape
    stride = -(-columns // _WORDS) * _WORDS  # whole counter values, so that every row starts a new one
    bits = np.random.Philox(key=np.array(key(seed, stream), np.uint64), counter=np.array([0, 0, step, 0], np.uint64))
    raw = bits.random_raw(rows * stride).reshape(rows, stride)[:, :columns]
    out: Array = ((raw >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return out


def normal(seed: int, stream: str, shape: tuple[int, int], step: int = 0) -> Array:
    """Standard normal numbers by inversion, from one uniform number each; arguments as for :func:`uniform`."""
    out: Array = ndtri(uniform(seed, stream, shape, step))
    return out


def permutation(seed: int, stream: str, count: int) -> Index:
    """Return a random permutation of 0..count-1, uniform up to ties of 52-bit numbers."""
    return np.argsort(uniform(seed, stream, (count, 1))[:, 0], kind="stable")
