"""Somebody's own ResNet as a mean-field one, and back.

    model = cifar.from_resnet(model)                 # a copy whose stages learn the depths of their blocks
    optimiser = torch.optim.SGD(cifar.parameter_groups(model, lr=0.1, weight_decay=1e-4), lr=0.1, momentum=0.9)
    ...
    optimiser.step()
    cifar.settle(model)                              # after every step
    plain = cifar.to_resnet(model)                   # an ordinary network again, blocks in the order of their depths

Consecutive blocks of one class and equal shapes become a stage, with depths (i + 1)/n: the network is the same. What a
block computes is found out by trying (:mod:`wgflow.cifar.adapters`), not taken from its name.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import TypeAlias

from torch import nn

from wgflow.cifar.adapters import Rest, Rule, Scaled, Split, split
from wgflow.cifar.blocks import Branch
from wgflow.cifar.shapes import shapes
from wgflow.cifar.stage import MeanFieldStage, PlainStage
from wgflow.errors import InputError, unknown
from wgflow.types import whole

Change: TypeAlias = Callable[
    [str, nn.Module], list[nn.Module] | None
]  # what stands in a module's place; None: look inside
Make: TypeAlias = Callable[[list[Split]], MeanFieldStage]


def from_resnet(
    model: nn.Module,
    minimum: int = 2,
    *,
    stages: Iterable[str] | None = None,
    rule: Rule = split,
    ends: str = "clip",
    axes: int = 1,
) -> nn.Module:
    """Copy of a network with its runs of equal residual blocks as mean-field stages; it computes the same.

    Looked through are every ``torch.nn.Sequential`` and every :class:`~wgflow.cifar.stage.PlainStage`.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it is. An optimiser made for it knows nothing of the copy.
    minimum : int, optional
        Blocks that a run has at least, >= 1.
    stages : iterable of str, optional
        Names of containers, as ``model.named_modules()`` has them, each of which must become a stage: all blocks in it
        but for leading ones of another kind, e.g. one that changes the shape. By default whatever runs are found.
    rule : callable, optional
        Block -> (branch, after) with block(x) = after(x + branch(x)), or None for a block of another kind. By default
        :func:`wgflow.cifar.adapters.split`; :func:`wgflow.cifar.adapters.difference` takes any block.
    ends, axes : str, int, optional
        Of every stage; see :class:`~wgflow.cifar.stage.MeanFieldStage`.

    Raises
    ------
    InputError
        If no run is found, a named container does not exist or a block in it does not fit (it says which), or an option
        is out of range.
    """
    whole("minimum", minimum)
    model = copy.deepcopy(model)
    names = {name for name, module in model.named_modules() if isinstance(module, nn.Sequential | PlainStage)}
    wanted = names if stages is None else set(stages)
    for name in wanted - names:
        raise unknown("stage", name, names)

    def make(blocks: list[Split]) -> MeanFieldStage:
        return MeanFieldStage([branch for branch, _ in blocks], ends=ends, axes=axes, after=blocks[0][1])

    def change(name: str, module: nn.Module) -> list[nn.Module] | None:
        if name not in wanted or isinstance(module, MeanFieldStage):
            return None
        if isinstance(module, PlainStage):
            return [make([(branch, module.after) for branch in module.branches])] if len(module) >= minimum else None
        if stages is None:
            return _runs(list(module.children()), minimum, rule, make)
        return _whole(name, list(module.children()), rule, make)

    (changed,) = _rebuilt("", model, change)
    if not any(isinstance(module, MeanFieldStage) for module in changed.modules()):
        raise InputError(
            f"model: expected {minimum} or more residual blocks of one class and equal shapes in a row, in a "
            f"torch.nn.Sequential, got none in {type(model).__name__}; name their container in stages to hear what "
            "does not fit, or pass the rule wgflow.cifar.adapters.difference"
        )
    return changed


def to_resnet(model: nn.Module) -> nn.Module:
    """Copy of a network with ordinary blocks for every mean-field stage, in the order in which the state meets them.

    A gap that is not 1/n is a step that is not 1. It is folded, exactly but for rounding, into what the branch ends
    with: the weight of a last convolution, weight and bias of a last normalisation. A branch of another kind becomes a
    :class:`~wgflow.cifar.adapters.Scaled`, which keeps the step as a fixed number. Blocks without a gap stay, with
    zeros at their end.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it is.

    Returns
    -------
    torch.nn.Module
        After :func:`from_resnet` its parameters have the names they had before, unless a step is kept as a number.
    """

    def change(name: str, module: nn.Module) -> list[nn.Module] | None:
        return _ordinary(module) if isinstance(module, MeanFieldStage) else None

    made = _rebuilt("", copy.deepcopy(model), change)
    return made[0] if len(made) == 1 else nn.Sequential(*made)


def _ordinary(stage: MeanFieldStage) -> list[nn.Module]:
    """Blocks that compute what a stage does, one after the other."""
    branches, steps = [stage.branches[i] for i in stage.order().tolist()], stage.steps().tolist()
    if all(isinstance(branch, Branch) for branch in branches):
        folded = [b.fold(step) for b, step in zip(branches, steps, strict=True) if isinstance(b, Branch)]
        return [PlainStage(folded, stage.after)]
    return [
        branch.fold(step) if isinstance(branch, Rest) else Scaled(branch, step, stage.after)
        for branch, step in zip(branches, steps, strict=True)
    ]


def _runs(children: list[nn.Module], minimum: int, rule: Rule, make: Make) -> list[nn.Module] | None:
    """Container with its runs as stages, or None if there is no run."""
    tried = [(child, found, _kind(child, found)) for child in children for found in (rule(child),)]
    parts: list[nn.Module] = []
    for kind, group in groupby(tried, key=lambda each: each[2]):
        run = list(group)
        blocks = [found for _, found, _ in run if found is not None]
        parts += [make(blocks)] if kind is not None and len(run) >= minimum else [child for child, _, _ in run]
    return [nn.Sequential(*parts)] if any(isinstance(part, MeanFieldStage) for part in parts) else None


def _kind(child: nn.Module, found: Split | None) -> object:
    """What the blocks of one run have in common; None for what is no block."""
    return None if found is None else (type(child), dict(shapes(child)), type(found[1]))


def _whole(name: str, children: list[nn.Module], rule: Rule, make: Make) -> list[nn.Module]:
    """Container whose blocks, but for leading ones of another kind, are one stage."""
    found = [rule(child) for child in children]
    first = next((k for k, each in enumerate(found) if each is not None), len(found))
    blocks = [each for each in found if each is not None]
    if not blocks or None in found[first:]:
        k = first + found[first:].index(None) if blocks else 0
        raise InputError(
            f"stage {name!r}: expected blocks x -> after(x + f(x)), got {type(children[k]).__name__} at {k}, which is "
            "none that the rule knows; pass the rule wgflow.cifar.adapters.difference, or one of your own"
        )
    try:
        stage = make(blocks)
    except InputError as error:
        raise InputError(f"stage {name!r}, counted from child {first}: {error}") from error
    return [nn.Sequential(*children[:first], stage)]


def _rebuilt(name: str, module: nn.Module, change: Change) -> list[nn.Module]:
    """Apply a change to a module or else to what is in it; a Sequential takes several modules in the place of one."""
    made = change(name, module)
    if made is not None:
        return made
    inner = {key: _rebuilt(f"{name}.{key}".lstrip("."), child, change) for key, child in module.named_children()}
    if type(module) is nn.Sequential and any(len(parts) > 1 for parts in inner.values()):
        return [nn.Sequential(*(each for parts in inner.values() for each in parts))]
    for key, parts in inner.items():
        setattr(module, key, parts[0] if len(parts) == 1 else nn.Sequential(*parts))
    return [module]
