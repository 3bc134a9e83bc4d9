"""Synthetic regression problems, drawn from a seed."""

from __future__ import annotations

import numpy as np

from wgflow import rng
from wgflow.errors import InputError, describe
from wgflow.types import Array


def sine(samples: int = 200, frequency: float = 1.0, noise: float = 0.0, seed: int = 0) -> tuple[Array, Array]:
    """One-dimensional curve y = sin(frequency x) + noise on [-pi, pi].

    With frequency 1 and no noise the target of the toy in Fang, Lee, Yang and Zhang (COLT 2021), appendix F.

    Parameters
    ----------
    samples : int
        M >= 1, inputs spread evenly.
    frequency : float
        Finite.
    noise : float
        Standard deviation of the Gaussian noise on y, >= 0.
    seed : int
        Seed of the noise.

    Returns
    -------
    x, y : ndarray (M, 1), (M, 1)

    Raises
    ------
    InputError
        If samples < 1 or noise < 0.
    """
    if samples < 1:
        raise InputError(f"samples: expected at least 1, got {describe(samples)}")
    if not noise >= 0:
        raise InputError(f"noise: expected a number >= 0, got {describe(noise)}")
    x = np.pi * (2 * (np.arange(samples) + 0.5) / samples - 1)[:, None]
    return x, np.sin(frequency * x) + noise * rng.normal(seed, "sine noise", (samples, 1))
