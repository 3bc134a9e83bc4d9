"""What the blocks of one stage have to have: equal shapes, a change that fits the state, a last weight to be scaled."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from torch import Tensor, nn

from wgflow.base.errors import InputError, describe
from wgflow.base.validate import whole


def shapes(branch: nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the parameters and buffers of a branch, which blocks of one stage have in common."""
    for name, tensor in branch.state_dict().items():
        if isinstance(tensor, Tensor):  # a module may keep more than tensors there (get_extra_state)
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


def offers_last(branch: nn.Module) -> bool:
    """Whether a branch offers a weight to be scaled: a tensor ``last``, and ``forward(x, last)`` that takes another.

    Both are asked for, since ``last`` is a name that a layer may have as well.
    """
    names = list(inspect.signature(branch.forward).parameters)
    return names[1:2] == ["last"] and isinstance(getattr(branch, "last", None), Tensor)


def owns(layer: nn.Module) -> bool:
    """Whether weight and bias of a layer are numbers of its own.

    They are not where a parametrisation, a weight norm's hook or a pruning mask computes them from others: what is
    written to them is then lost.
    """
    own = dict(layer.named_parameters(recurse=False))
    return all(name in own or getattr(layer, name, None) is None for name in ("weight", "bias"))


def axis_sizes(axes: int | list[int] | tuple[int, ...], count: int) -> list[int]:
    """Blocks on each depth axis of a stage of ``count``, refused with InputError where they do not add up."""
    if isinstance(axes, list | tuple):
        sizes = [whole("axes", size) for size in axes]
    else:
        number = min(whole("axes", axes), count + 1)  # one too many leaves an axis of size 0, refused below
        sizes = [count // number + (k < count % number) for k in range(number)]
    if sum(sizes) != count or min(sizes, default=0) < 1:
        raise InputError(f"axes: expected at most {count} axes, or sizes >= 1 with sum {count}, got {describe(axes)}")
    return sizes
