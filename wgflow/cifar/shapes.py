"""Shapes that the blocks of one stage have to have: of their parameters, and of the state they return."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from wgflow.errors import InputError


def shapes(branch: nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the parameters and buffers of a branch, which blocks of one stage have in common."""
    for name, tensor in branch.state_dict().items():
        yield name, tuple(tensor.shape)


def same_shapes(branches: nn.ModuleList) -> None:
    """Refuse, with InputError, branches that are no particles of one Theta, or no branch at all."""
    if not len(branches):
        raise InputError("branches: expected at least one residual branch, got none")
    first = dict(shapes(branches[0]))
    for i, branch in enumerate(branches):
        other = dict(shapes(branch))
        for name in {**first, **other}:
            if first.get(name) != other.get(name):
                raise InputError(
                    f"branches: expected blocks of equal shapes, got {name} of shape {first.get(name)} in block 0 and "
                    f"{other.get(name)} in block {i}; leave blocks that change the shape outside of the stage"
                )


def fitting(x: Tensor, change: Tensor) -> Tensor:
    """Return the change f(x), refused with InputError if it has another shape than the state x."""
    if change.shape != x.shape:  # which torch would stretch to fit, silently
        raise InputError(
            f"branches: expected f(x) of the shape of x, {tuple(x.shape)}, got {tuple(change.shape)}; "
            "leave blocks that change the shape outside of the stage"
        )
    return change
