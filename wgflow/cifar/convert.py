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
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import TypeAlias

from torch import nn

from wgflow.cifar.adapters import Rest, Rule, Scaled, Split, closing, split
from wgflow.cifar.blocks import Branch
from wgflow.cifar.shapes import shapes
from wgflow.cifar.stage import MeanFieldStage, PlainStage
from wgflow.errors import InputError, among, describe
from wgflow.types import whole

Change: TypeAlias = Callable[
    [str, nn.Module], list[nn.Module] | None
]  # what stands in a module's place; None: look inside
Make: TypeAlias = Callable[[list[Split]], MeanFieldStage]


def from_resnet(
    model: nn.Module,
    minimum: int = 2,
    *,
    stages: str | Iterable[str] | None = None,
    rule: Rule = split,
    ends: str = "clip",
    axes: int = 1,
) -> nn.Module:
    """Copy of a network with its runs of equal residual blocks as mean-field stages; it computes the same.

    Looked through are every ``torch.nn.Sequential`` and every :class:`~wgflow.cifar.stage.PlainStage`, subclasses with
    a ``forward`` of their own left out: what they do with their blocks is not known. A stage stands in its container in
    the place of its blocks, so what follows has another index than before, and a model that picks blocks by number
    (``self.layer1[2]``) has to be told the new one. Hooks on a block itself are not called any more.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it is. An optimiser made for it knows nothing of the copy.
    minimum : int, optional
        Blocks that a run has at least, >= 1.
    stages : str or iterable of str, optional
        Names of containers, as ``model.named_modules()`` has them, each of which must become a stage: all blocks in it
        but for leading ones of another kind, e.g. one that changes the shape. By default whatever runs are found, of
        one class, equal shapes and equal activations at their end.
    rule : callable, optional
        Block -> (branch, after) with block(x) = after(x + branch(x)), or None for a block of another kind. By default
        :func:`wgflow.cifar.adapters.split`; :func:`wgflow.cifar.adapters.difference` takes any block.
    ends, axes : str, int, optional
        Of every stage; see :class:`~wgflow.cifar.stage.MeanFieldStage`.

    Raises
    ------
    InputError
        If no run is found, a named container does not exist or a block in it does not fit (it says which), a block
        would stand in a stage twice, or in a stage and elsewhere, the model cannot be copied, or an option is out of
        range or of another type.
    """
    minimum = whole("minimum", minimum)
    if not callable(rule):
        raise InputError(f"rule: expected a callable, block -> (branch, after) or None, got {describe(rule)}")
    model = _copied(model)
    names = {name for name, module in model.named_modules() if _in_a_row(module)}
    wanted = names if stages is None else _wanted(stages, model, names)

    def make(blocks: list[Split]) -> MeanFieldStage:
        return MeanFieldStage([branch for branch, _ in blocks], ends=ends, axes=axes, after=blocks[0][1])

    def change(name: str, module: nn.Module) -> list[nn.Module] | None:
        if name not in wanted or isinstance(module, MeanFieldStage):
            return None
        if isinstance(module, PlainStage):
            return [_as(module, make([(b, module.after) for b in module.branches]))] if len(module) >= minimum else None
        if stages is None:
            return _runs(module, minimum, rule, make)
        return _whole(name, module, rule, make)

    (changed,) = _rebuilt("", model, change, {})
    if not any(isinstance(module, MeanFieldStage) for module in changed.modules()):
        raise InputError(
            f"model: expected {minimum} or more residual blocks of one class and equal shapes in a row, in a "
            f"torch.nn.Sequential that has no forward of its own, got none in {type(model).__name__}; name their "
            "container in stages to hear what does not fit, or pass the rule wgflow.cifar.adapters.difference"
        )
    _used_once(changed)
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
        After :func:`from_resnet` its parameters have the names they had before, if no step is kept as a number and the
        blocks' names in their container were numbers from 0 on, as ``torch.nn.Sequential`` gives them: a container
        that held a stage numbers anew.

    Raises
    ------
    InputError
        If the model cannot be copied.
    """

    def change(name: str, module: nn.Module) -> list[nn.Module] | None:
        return _ordinary(module) if isinstance(module, MeanFieldStage) else None

    made = _rebuilt("", _copied(model), change, {})
    return made[0] if len(made) == 1 else nn.Sequential(*made)


def _copied(model: nn.Module) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise InputError(f"model: expected a torch.nn.Module, got {describe(model)}")
    try:
        return copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:  # e.g. weights that a hook computes are no leaves
        raise InputError(
            f"model: expected one that copy.deepcopy takes, got {type(model).__name__}: {error}"
        ) from error


def _in_a_row(module: nn.Module) -> bool:
    """Whether a module does nothing but call what it holds, one after the other."""
    if "forward" in vars(module):  # set on the object
        return False
    return type(module).forward in (nn.Sequential.forward, PlainStage.forward, MeanFieldStage.forward)


def _wanted(stages: str | Iterable[str], model: nn.Module, names: set[str]) -> set[str]:
    """Names asked for, each of a container that can be looked through."""
    asked = [stages] if isinstance(stages, str) else stages
    if not isinstance(asked, Iterable):
        raise InputError(f"stages: expected names of containers, got {describe(stages)}")
    asked, modules = list(asked), dict(model.named_modules())
    for name in asked:
        if isinstance(name, str) and name in modules and name not in names:
            raise InputError(
                f"stage {name!r}: expected a torch.nn.Sequential without a forward of its own, got "
                f"{type(modules[name]).__name__}; put the blocks into a plain one, if that is what it computes"
            )
        among("stage", name, names)
    return set(asked)


def _used_once(model: nn.Module) -> None:
    """Refuse blocks of stages whose parameters another block, or what is no stage, has as well."""
    owners: dict[int, str] = {}
    inside: list[tuple[str, nn.Module]] = []
    for name, stage in model.named_modules():
        if isinstance(stage, MeanFieldStage):
            inside += [(f"{name}.branches.{i}".lstrip("."), branch) for i, branch in enumerate(stage.branches)]
    for name, branch in inside:
        for key, parameter in branch.named_parameters():
            other = owners.setdefault(id(parameter), f"{name}.{key}")
            if other != f"{name}.{key}":
                raise _twice(f"{name}.{key}", other)
    for name, parameter in _outside("", model):
        if id(parameter) in owners:
            raise _twice(name, owners[id(parameter)])


def _outside(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters that are reached without entering a stage."""
    if not isinstance(module, MeanFieldStage):
        yield from ((f"{name}.{key}".lstrip("."), each) for key, each in module.named_parameters(recurse=False))
        for key, child in _held(module):
            yield from _outside(f"{name}.{key}".lstrip("."), child)


def _twice(name: str, other: str) -> InputError:
    return InputError(
        f"model: expected blocks of a stage that stand in one place, with parameters of their own, got {name} which is "
        f"{other} too; copy the block (copy.deepcopy), or name in stages the containers without it"
    )


def _as(container: nn.Module, made: nn.Module) -> nn.Module:
    """Give what was made for a container its mode, training or not; the blocks in it keep theirs."""
    for module in (made, getattr(made, "branches", made)):
        module.training = container.training
    return made


def _filled(container: nn.Module, parts: Iterable[nn.Module]) -> nn.Module:
    """Put parts in the place of what a Sequential holds; its class, mode and hooks stay."""
    parts = list(parts)
    for name in list(container._modules):
        delattr(container, name)
    for i, part in enumerate(parts):
        container.add_module(str(i), _as(container, part) if isinstance(part, MeanFieldStage) else part)
    return container


def _held(container: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and children, one that is held twice twice."""
    return [(name, child) for name, child in container._modules.items() if child is not None]


def _ordinary(stage: MeanFieldStage) -> list[nn.Module]:
    """Blocks that compute what a stage does, one after the other."""
    branches, steps = [stage.branches[i] for i in stage.order().tolist()], stage.steps().tolist()
    if all(isinstance(branch, Branch) and branch.foldable for branch in branches):
        folded = [b.fold(step) for b, step in zip(branches, steps, strict=True) if isinstance(b, Branch)]
        return [_as(stage, PlainStage(folded, stage.after))]
    return [
        branch.fold(step)
        if isinstance(branch, Rest) and branch.foldable
        else _as(stage, Scaled(branch, step, stage.after))
        for branch, step in zip(branches, steps, strict=True)
    ]


def _runs(container: nn.Module, minimum: int, rule: Rule, make: Make) -> list[nn.Module] | None:
    """Container with its runs as stages, or None if there is no run."""
    tried = [(child, found, _kind(child, found)) for _, child in _held(container) for found in (rule(child),)]
    parts: list[nn.Module] = []
    for kind, group in groupby(tried, key=lambda each: each[2]):
        run = list(group)
        blocks = [found for _, found, _ in run if found is not None]
        parts += [make(blocks)] if kind is not None and len(run) >= minimum else [child for child, _, _ in run]
    return [_filled(container, parts)] if any(isinstance(part, MeanFieldStage) for part in parts) else None


def _kind(child: nn.Module, found: Split | None) -> object:
    """What the blocks of one run have in common; None for what is no block."""
    return None if found is None else (type(child), dict(shapes(child)), closing(found[1]))


def _whole(name: str, container: nn.Module, rule: Rule, make: Make) -> list[nn.Module]:
    """Container whose blocks, but for leading ones of another kind, are one stage."""
    children = [child for _, child in _held(container)]
    found = [rule(child) for child in children]
    first = next((k for k, each in enumerate(found) if each is not None), len(found))
    blocks = [each for each in found if each is not None]
    if not blocks or None in found[first:]:
        k = first + found[first:].index(None) if blocks else 0
        got = f"{type(children[k]).__name__} at {k}, which is none that the rule knows" if children else "none"
        raise InputError(
            f"stage {name!r}: expected blocks x -> after(x + f(x)), got {got}; pass the rule "
            "wgflow.cifar.adapters.difference, or one of your own"
        )
    for k, (_, after) in enumerate(blocks):
        if closing(after) != closing(blocks[0][1]):
            raise InputError(
                f"stage {name!r}: expected blocks that end with one activation, got {blocks[0][1]} at {first} and "
                f"{after} at {first + k}"
            )
    try:
        stage = make(blocks)
    except InputError as error:
        raise InputError(f"stage {name!r}, counted from child {first}: {error}") from error
    return [_filled(container, [*children[:first], stage])]


def _rebuilt(name: str, module: nn.Module, change: Change, done: dict[int, list[nn.Module]]) -> list[nn.Module]:
    """Apply a change to a module or else to what is in it; a Sequential takes several modules in the place of one.

    ``done`` holds what was made of each module, for one that stands in several places.
    """
    if id(module) in done:
        return done[id(module)]
    made = change(name, module)
    if made is None:
        inner = {key: _rebuilt(f"{name}.{key}".lstrip("."), child, change, done) for key, child in _held(module)}
        if _in_a_row(module) and not isinstance(module, PlainStage) and any(len(parts) > 1 for parts in inner.values()):
            _filled(module, [each for parts in inner.values() for each in parts])
        else:
            for key, parts in inner.items():
                setattr(module, key, parts[0] if len(parts) == 1 else _as(module, nn.Sequential(*parts)))
        made = [module]
    done[id(module)] = made
    return made
