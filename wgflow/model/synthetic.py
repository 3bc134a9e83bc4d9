"""Synthetic regression problems, drawn from a seed."""

from __future__ import annotations

import numpy as np

from wgflow.base import rng
from wgflow.base.types import Array
from wgflow.base.validate import real, whole


def sine(samples: int = 200, frequency: float = 1.0, noise: float = 0.0, seed: int = 0) -> tuple[Array, Array]:
    """One-dimensional curve y = sin(frequency x) + noise on [-pi, pi].

    With frequency 1 and no noise, the target of the toy problem in Fang, Lee, Yang and Zhang (COLT 2021), appendix F.

    Parameters
    ----------
    samples : int
        M >= 1, inputs equally spaced.
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
        If samples < 1, noise < 0, or a number is not finite.
    """
    samples = whole("samples", samples)
    frequency, noise = real("frequency", frequency), real("noise", noise, least=0.0)
    x = np.pi * (2 * (np.arange(samples) + 0.5) / samples - 1)[:, None]
    return x, np.sin(frequency * x) + noise * rng.normal(seed, "sine noise", (samples, 1))


def gaussian(samples: int = 10, width: int = 10, outputs: int | None = None, seed: int = 0) -> tuple[Array, Array]:
    """Standard Gaussian inputs and targets, independent of each other, so that only these samples can be learnt.

    The data of Chizat's experiments on depth and width (arXiv:2509.10167), with M = D = 10.

    Parameters
    ----------
    samples, width : int
        M >= 1 and D_in >= 1.
    outputs : int, optional
        K >= 1; by default ``width``.
    seed : int
        Seed of both.

    Returns
    -------
    x, y : ndarray (M, D_in), (M, K)

    Raises
    ------
    InputError
        If a count is below 1.
    """
    outputs = width if outputs is None else outputs
    for name, value in (("samples", samples), ("width", width), ("outputs", outputs)):
        whole(name, value)
    x = rng.normal(seed, "gaussian inputs", (samples, width))
    return x, rng.normal(seed, "gaussian targets", (samples, outputs))


def teacher(samples: int = 200, width: int = 3, layers: int = 4, units: int = 2, seed: int = 0) -> tuple[Array, Array]:
    """Outputs of a residual network with random ridge + tanh blocks: realisable, so E = 0 can be reached.

    The network is the padded one of :meth:`Problem.padded` with D = width + 1: X <- X + (1/L) mean_j a_j tanh(w_j . x +
    b_j) over the units of each of the L layers, the last state column being y.

    Parameters
    ----------
    samples : int
        M >= 1, standard Gaussian inputs.
    width : int
        D_in >= 1.
    layers, units : int
        L >= 1, and ridge blocks of one layer >= 1.
    seed : int
        Seed of inputs and blocks.

    Returns
    -------
    x, y : ndarray (M, D_in), (M, 1)

    Raises
    ------
    InputError
        If a count is below 1.
    """
    for name, value in (("samples", samples), ("width", width), ("layers", layers), ("units", units)):
        whole(name, value)
    x = rng.normal(seed, "teacher inputs", (samples, width))
    state = np.column_stack([x, np.zeros(samples)])
    size = width + 1
    blocks = rng.normal(seed, "teacher blocks", (layers * units, 2 * size + 1)).reshape(layers, units, -1)
    for layer in blocks:
        a, w, b = 2.0 * layer[:, :size], layer[:, size : 2 * size] / np.sqrt(size), layer[:, -1]
        state = state + np.tanh(state @ w.T + b) @ a / (layers * units)
    return x, state[:, -1:]
