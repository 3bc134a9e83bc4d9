"""Residual blocks f(x, theta), forward and backward side by side, and the layout of their parameters.

These NumPy methods are the definition, against which compiled kernels are tested. Ridge, Matrix, ScaledMatrix and
TwoLayer are sums of ridge units a sigma(w . x + b), so compiled kernels written for those serve all four (``units``,
``unfold``, ``fold``); the other blocks run in NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wgflow.base.registry import build
from wgflow.base.types import Spec
from wgflow.base.user_objects import require_methods
from wgflow.model.blocks.base import Block, Unfolding
from wgflow.model.blocks.builtin import Matrix, Ridge, ScaledMatrix, TwoLayer
from wgflow.model.blocks.check import check_block, try_out
from wgflow.model.blocks.homogeneous import GaussianMatrix, SaturatedMatrix

__all__ = [
    "BLOCKS", "Block", "GaussianMatrix", "Matrix", "Ridge", "SaturatedMatrix", "ScaledMatrix", "TwoLayer", "Unfolding",
    "block", "check_block", "try_out", "width",
]  # fmt: skip

_REQUIRED = ("name", "groups", "forward", "backward", "degree", "spec")

BLOCKS: dict[str, type[Any]] = {
    "ridge": Ridge, "matrix": Matrix, "scaled_matrix": ScaledMatrix, "two_layer": TwoLayer,
    "saturated_matrix": SaturatedMatrix, "gaussian_matrix": GaussianMatrix,
}  # fmt: skip


def block(choice: str | Spec | Block) -> Block:
    """Look up a block by name or spec; a block object is passed through, see :func:`try_out`.

    Raises
    ------
    InputError
        If the name is unknown, an option does not belong to the block, or an object lacks a method of a block.
    """
    if isinstance(choice, str | Mapping):
        built: Block = build("block", choice, BLOCKS)
        return built
    require_methods("block", choice, "wgflow.model.blocks.Block", _REQUIRED)
    return choice


def width(block: Block, state: int) -> int:
    """Parameters of one particle, P, for a state of width D."""
    return max(int(columns.stop) for columns in block.groups(state).values())
