"""Sequences of modules in a network: which can be inspected, which modules are alike, which are used twice."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from wgflow.base.errors import InputError, describe
from wgflow.systems.images.stage import MeanFieldStage, PlainStage, shapes


def copied(model: nn.Module) -> nn.Module:
    """Deep copy of a model; raises InputError if it has none with trainable weights.

    Weights of a copied ScriptModule are computed from the original's, unless gradients are off.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model: expected a torch.nn.Module, got {describe(model)}")
    lazy = next((name for name, parameter in model.named_parameters() if is_lazy(parameter)), None)
    if lazy is not None:
        raise InputError(
            f"model: expected weights that have shapes, got {lazy} without one; call the model once before"
        )
    try:
        with torch.no_grad():
            duplicate = copy.deepcopy(model)
    except Exception as error:  # e.g. weights that a hook computes are no leaves
        raise InputError(
            f"model: expected one that copy.deepcopy takes, got {type(model).__name__}: {error}"
        ) from error
    before, after = list(model.parameters()), list(duplicate.parameters())
    if len(before) != len(after):
        raise InputError(
            f"model: expected blocks with parameters of their own, got {len(before)} parameters of which copy.deepcopy "
            f"makes {len(after)}, as scripted modules share them; copy the blocks (copy.deepcopy) before torch.jit does"
        )
    for old, new in zip(before, after, strict=True):
        new.requires_grad_(old.requires_grad)
    return duplicate


def in_a_row(module: nn.Module) -> bool:
    """Whether a module only calls its children in order."""
    if "forward" in vars(module) or isinstance(module, torch.jit.ScriptModule):  # set on the object; not to be read
        return False
    forward = inspect.getattr_static(type(module), "forward", None)
    return forward in (nn.Sequential.forward, PlainStage.forward, MeanFieldStage.forward)


def class_name(module: nn.Module) -> str:
    """Name of a module's class, without the wrappers of torch.compile and torch.jit."""
    module = getattr(module, "_orig_mod", module)
    if isinstance(module, torch.jit.ScriptModule):
        return f"{type(module).__name__} of {module.original_name}"
    return type(module).__name__


def class_and_shapes(module: nn.Module) -> object:
    """Key shared by modules of one class with equal shapes; torch.fx makes a class for each, of the same name."""
    inner = getattr(module, "_orig_mod", module)
    return type(inner).__module__, type(inner).__qualname__, class_name(module), inner is module, shapes(module)


def children_of(container: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and children, repeated if held twice; none for a ScriptModule, whose children cannot be replaced."""
    if isinstance(container, torch.jit.ScriptModule):
        return []
    return [(name, child) for name, child in container._modules.items() if child is not None]


def used_once(model: nn.Module) -> nn.Module:
    """Check that no module outside a stage shares parameters with its blocks (else InputError); return the model."""
    owners: dict[int, str] = {}
    for name, stage in model.named_modules():
        for i, branch in enumerate(stage.branches if isinstance(stage, MeanFieldStage) else ()):
            for key, parameter in branch.named_parameters(prefix=f"{name}.branches.{i}".lstrip(".")):
                if owners.setdefault(id(parameter), key) != key:
                    raise _twice(key, owners[id(parameter)])
    for name, parameter in _outside("", model):
        if id(parameter) in owners:
            raise _twice(name, owners[id(parameter)])
    return model


def _outside(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters that are reached without entering a stage."""
    if not isinstance(module, MeanFieldStage):
        yield from module.named_parameters(prefix=name, recurse=isinstance(module, torch.jit.ScriptModule))
        for key, child in children_of(module):
            yield from _outside(f"{name}.{key}".lstrip("."), child)


def _twice(name: str, other: str) -> InputError:
    return InputError(
        f"model: expected blocks of a stage that stand in one place, with parameters of their own, got {name} which is "
        f"{other} too; copy the block (copy.deepcopy), or name in stages the containers without it"
    )
