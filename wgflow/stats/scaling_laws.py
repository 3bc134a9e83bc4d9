"""Scaling laws of the rms output error in depth L and width M_l, compared with a finite reference.

With the depth term A = |L**-a - L_ref**-a| and the width term B = (M_l**-2b L**-2g -+ M_ref**-2b L_ref**-2g)**(1/2),
minus for sub-samples of the reference and plus for an independent one, the laws are

    path          rms**2 = (c1 A)**2 + (c2 B)**2    a, b, g = 1, 1/2, 0     Ding et al., arXiv:2110.02926, Theorem 5.1
    independent   rms**2 = (c1 A)**2 + (c2 B)**2    a, b, g = 1, 1/2, 1/2   the same with independent layers, derived
    additive      rms = c1 A + c2 sqrt(D) B         a, b, g = 1, 1/2, 1/2   Chizat, arXiv:2509.10167
    product       rms**2 = (c1 A)**2 + (c2 B)**2    a and b = g fitted: an exponent of L M_l
    free          rms**2 = (c1 A)**2 + (c2 B)**2    a, b, g fitted

The papers state bounds relative to the infinite limit; the terms of a finite reference are derived here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Array
from wgflow.base.validate import real, use_python_numbers

_FLAT = 1e-12  # smallest share to which the reference cancels a term
MAX_PARAMETER = 100.0  # bound of parameters, since undetermined exponents may diverge
_STEEP = 300.0  # cap of logarithms, far beyond any exponent that a fit can end at


@dataclass(frozen=True)
class Law:
    """One of the laws above.

    Attributes
    ----------
    name : str
        Key of :data:`LAWS`.
    exponents : tuple of float or None
        a, b, g; None if they are fitted.
    additive : bool
        Whether the terms add, rather than their squares.
    tied : bool
        Whether the fitted exponents satisfy b = g.
    """

    name: str
    exponents: tuple[float, float, float] | None
    additive: bool = False
    tied: bool = False

    @property
    def parameters(self) -> int:
        """Number of fitted parameters: c1, c2 and exponents."""
        return 2 if self.exponents else 4 if self.tied else 5


LAWS = {
    "path": Law("path", (1.0, 0.5, 0.0)),
    "independent": Law("independent", (1.0, 0.5, 0.5)),
    "additive": Law("additive", (1.0, 0.5, 0.5), additive=True),
    "product": Law("product", None, tied=True),
    "free": Law("free", None),
}


@dataclass(frozen=True)
class Sizes:
    """Grid of networks and the reference that they are compared with.

    Attributes
    ----------
    depths, widths : tuple of int
        L and M_l, increasing.
    reference : tuple of float or None
        L_ref and M_ref; None if the reference's own error is negligible.
    nested : bool
        Whether networks are sub-samples of the reference, so that none is larger. The error of an independent reference
        adds in square; if all seeds share it, no interval covers it.
    dimension : int
        D of the additive law; the constants of the others include it.

    Raises
    ------
    InputError
        If there are fewer than two depths or widths, they do not increase, or nested sizes exceed the reference.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    reference: tuple[float, float] | None = None
    nested: bool = True
    dimension: int = 1

    def __post_init__(self) -> None:
        use_python_numbers(self)
        for name, sizes in (("depths", self.depths), ("widths", self.widths)):
            if len(sizes) < 2 or sizes[0] < 1 or (np.diff(sizes) <= 0).any():
                raise InputError(f"{name}: expected at least two increasing sizes >= 1, got {sizes}; add some")
        real("dimension", self.dimension, above=0.0)
        if self.reference is not None:
            for largest, limit in zip((self.depths[-1], self.widths[-1]), self.reference, strict=True):
                real("reference", limit, least=1.0)
                if self.nested and largest > limit:
                    raise InputError(f"sizes: expected sizes up to the reference's {limit:g}, got {largest}")

    @property
    def grid(self) -> tuple[Array, Array]:
        """L and M_l of every size, (nL, nM) each."""
        depth, width = np.meshgrid(np.array(self.depths, float), np.array(self.widths, float), indexing="ij")
        return depth, width


def tabulate(values: Mapping[tuple[Any, int, int], float]) -> tuple[tuple[int, ...], tuple[int, ...], Array]:
    """All L and all M_l, and numbers by draw, L and M_l as an array (S, nL, nM); NaN where there is none."""
    draws, depths, widths = (sorted(set(axis)) for axis in zip(*values, strict=True))
    out = np.full((len(draws), len(depths), len(widths)), np.nan)
    for (draw, depth, width), value in values.items():
        out[draws.index(draw), depths.index(depth), widths.index(width)] = value
    return tuple(depths), tuple(widths), out


def check_shape(name: str, values: Array, sizes: Sizes) -> Array:
    """Numbers of each seed and size as a new array (S, nL, nM); raises InputError for any other shape."""
    array = np.array(values, dtype=float)
    shape = sizes.grid[0].shape
    if array.ndim != 3 or array.shape[1:] != shape or len(array) == 0:
        raise InputError(f"{name}: expected shape (seeds, {shape[0]}, {shape[1]}), got {array.shape}")
    return array


def predict(parameters: Sequence[float] | Array, sizes: Sizes, law: Law) -> Array:
    """Rms error of a law, (nL, nM), at log c1, log c2 and its fitted exponents."""
    return np.asarray(np.exp(log_rms(np.asarray(parameters, float), *sizes.grid, sizes, law)[0]))


def terms(sizes: Sizes, law: Law) -> tuple[Array, Array]:
    """Terms A and B of a law with fixed exponents, (nL, nM) each; B includes sqrt(D) if the law is additive."""
    depth, width = sizes.grid
    a, b, g = law.exponents or (np.nan, np.nan, np.nan)
    root = np.sqrt(sizes.dimension) if law.additive else 1.0
    return np.exp(_depth_term(a, depth, sizes)[0]), root * np.exp(_width_term(b, g, depth, width, sizes)[0])


def log_rms(p: Array, depth: Array, width: Array, sizes: Sizes, law: Law) -> tuple[Array, Array]:
    """Log rms at sizes of any shape, and its derivatives with respect to the parameters on a last axis."""
    p = np.clip(p, -MAX_PARAMETER, MAX_PARAMETER)
    a, b, g = law.exponents or (p[2], p[3], p[-1])
    first, d_first = _depth_term(a, depth, sizes)
    second, by_b, by_g = _width_term(b, g, depth, width, sizes)
    if law.additive:
        second = second + 0.5 * np.log(sizes.dimension)
    power = 1.0 if law.additive else 2.0
    one, two = power * (p[0] + first), power * (p[1] + second)
    value = np.logaddexp(one, two)
    share = np.exp(one - value)
    columns = [share, 1.0 - share]
    if not law.exponents:
        slopes = [by_b + by_g] if law.tied else [by_b, by_g]
        columns += [share * d_first, *((1.0 - share) * slope for slope in slopes)]
    return value / power, np.stack(np.broadcast_arrays(*columns), axis=-1)


def _depth_term(a: float, depth: Array, sizes: Sizes) -> tuple[Array, Array]:
    """Log of |L**-a - L_ref**-a| and its derivative in a."""
    value, slope = -a * np.log(depth), -np.log(depth)
    if sizes.reference is None:
        return value, slope
    ratio = np.log(depth / sizes.reference[0])
    share = np.exp(np.minimum(a * ratio, _STEEP))
    rest = 1.0 - share
    alive = np.abs(rest) > _FLAT
    rest = np.where(alive, rest, _FLAT)
    return value + np.log(np.abs(rest)), slope - np.where(alive, share * ratio / rest, 0.0)


def _width_term(b: float, g: float, depth: Array, width: Array, sizes: Sizes) -> tuple[Array, Array, Array]:
    """Log of (M**-2b L**-2g -+ M_ref**-2b L_ref**-2g)**(1/2) and its derivatives in b and g."""
    value = -b * np.log(width) - g * np.log(depth)
    if sizes.reference is None:
        return value, -np.log(width), -np.log(depth)
    by_depth, by_width = np.log(depth / sizes.reference[0]), np.log(width / sizes.reference[1])
    share = np.exp(np.minimum(2 * b * by_width + 2 * g * by_depth, _STEEP)) * (-1.0 if sizes.nested else 1.0)
    rest = np.maximum(1.0 + share, _FLAT)
    slope = np.where(rest > _FLAT, share / rest, 0.0)
    return value + 0.5 * np.log(rest), slope * by_width - np.log(width), slope * by_depth - np.log(depth)
