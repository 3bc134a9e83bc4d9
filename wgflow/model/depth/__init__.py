"""Depth schemes: how particles become layers, and how the layers' gradients become velocities of particles.

A scheme turns a measure into a :class:`Network`, a list of layers of weighted particles,

    X_(k+1) = X_k + sum_(e in layer k) weight_e f(X_k, theta_particle(e)),

for which a kernel returns, at every entry e, the first variation g_e = mean_m f(X_k, theta) . p_(k+1) = dE/dweight_e
and its gradient in theta. The scheme then applies the transpose of its map. Different schemes are different models,
and theorems about one do not apply to another.
"""

from __future__ import annotations

from typing import Any

from wgflow.base.registry import build
from wgflow.base.types import Spec
from wgflow.model.depth.base import Depth, Network, Stencil, Transpose
from wgflow.model.depth.check import try_out
from wgflow.model.depth.deposit import Deposit, Layers, Shallow
from wgflow.model.depth.gaps import Gaps, switches
from wgflow.model.depth.intervals import Intervals

__all__ = [
    "DEPTHS", "Deposit", "Depth", "Gaps", "Intervals", "Layers", "Network", "Shallow", "Stencil", "Transpose", "depth",
    "switches", "try_out",
]  # fmt: skip

DEPTHS: dict[str, type[Any]] = {scheme.name: scheme for scheme in (Gaps, Layers, Deposit, Intervals, Shallow)}


def depth(choice: str | Spec | Depth) -> Depth:
    """Look up a depth scheme by name or spec; a scheme object is passed through, see :func:`try_out`.

    Raises
    ------
    InputError
        If the name is unknown, an option does not belong to the scheme, or a required one is missing.
    """
    if isinstance(choice, Depth):
        return choice
    scheme: Depth = build(
        "depth scheme", choice, DEPTHS, "a scheme such as wgflow.Deposit(8), a wgflow.model.depth.Depth"
    )
    return scheme
