"""Conversion of a user's ResNet to a mean-field network, and back.

Consecutive blocks of one class and equal shapes become a stage, with depths (i + 1)/n: the network is the same. What a
block computes is determined by testing it (:mod:`wgflow.systems.images.adapters`), not from its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import torch
from torch import nn

from wgflow.base.errors import InputError, describe
from wgflow.base.registry import check_name
from wgflow.base.validate import whole
from wgflow.systems.images.adapters import Difference, Rest, Rule, Scaled, Split, owns
from wgflow.systems.images.blocks import Branch
from wgflow.systems.images.containers import children_of, copied, in_a_row, used_once
from wgflow.systems.images.conversion_report import logged, why_none
from wgflow.systems.images.stage import MeanFieldStage, PlainStage
from wgflow.systems.images.stage import stages as stages_of
from wgflow.systems.images.stage_selection import one_stage, rules_of, runs

# Replacement of a named module; None: look inside it.
Change: TypeAlias = Callable[[str, nn.Module], list[nn.Module] | None]


def from_resnet(
    model: nn.Module,
    minimum: int = 2,
    *,
    stages: str | Iterable[str] | None = None,
    rule: Rule | str = "auto",
    ends: str = "clip",
    axes: int = 1,
) -> nn.Module:
    """Copy of a network with its runs of equal residual blocks as mean-field stages; it computes the same.

    Every ``torch.nn.Sequential`` and every ``PlainStage`` is searched, except subclasses with a ``forward`` of their
    own, whose use of the blocks is unknown. A stage replaces its blocks in their container, so later children change
    their index, and a model that selects blocks by number (``self.layer1[2]``) needs the new one. The rule taken and
    its cost are logged and reported by :func:`wgflow.systems.images.conversion_report.report`.

    Parameters
    ----------
    model : torch.nn.Module
        Not modified. An optimiser made for it does not update the copy.
    minimum : int, optional
        Smallest number of blocks in a run, >= 1.
    stages : str or iterable of str, optional
        Names of containers, as ``model.named_modules()`` has them, each of which must become a stage: all blocks in it
        but for leading ones of another kind, e.g. one that changes the shape. By default whatever runs are found, of
        one class, equal shapes and, where they are split, equal activations at their end.
    rule : {"auto", "split", "difference"} or callable, optional
        ``split``: the step scales the branch (:func:`~wgflow.systems.images.adapters.split`); hooks on the block itself
        are no longer called. ``difference``: the step interpolates between the states before and after the block
        (:func:`~wgflow.systems.images.adapters.difference`). ``auto``: runs are split where possible; of the other
        blocks, those that a test shows to be residual are converted by their difference. A callable returns (branch,
        after) with block(x) = after(x + branch(x)), or None for a block of another kind.
    ends, axes : str, int, optional
        Of every stage; see :class:`~wgflow.systems.images.stage.MeanFieldStage`.

    Raises
    ------
    InputError
        If no run is found, a named container does not exist or a block in it does not fit (it says which), a block
        would stand in a stage twice, or in a stage and elsewhere, the model cannot be copied, or an option is out of
        range or of another type.
    """
    minimum = whole("minimum", minimum)
    rules = rules_of(rule)
    model = copied(model)
    names = {name for name, module in model.named_modules() if in_a_row(module)}
    wanted = names if stages is None else _wanted(stages, model, names)

    def make(blocks: list[Split]) -> MeanFieldStage:
        return MeanFieldStage([branch for branch, _ in blocks], ends=ends, axes=axes, after=blocks[0][1])

    def by(*rules: Rule) -> Change:
        def change(name: str, module: nn.Module) -> list[nn.Module] | None:
            if not in_a_row(module) or isinstance(module, MeanFieldStage) or not (stages is None or name in wanted):
                return None
            if isinstance(module, PlainStage):
                branches = [(branch, module.after) for branch in module.branches]
                return [_as(module, make(branches))] if len(module) >= minimum else None
            parts = runs(module, minimum, rules[0], make) if stages is None else one_stage(name, module, rules, make)
            return None if parts is None else [_filled(module, parts)]

        return change

    if stages is not None:
        return logged(used_once(_changed(model, by(*rules))), minimum)
    converted, note = None, ""
    for one_rule in rules:
        try:
            after = used_once(_changed(model if converted is None else copied(converted), by(one_rule)))
        except InputError as error:
            if converted is None:
                raise
            note = f"; no more of it, as {error}"  # the result of the previous rule stands
            break
        converted = after if stages_of(after) else converted
    if converted is None:
        raise InputError(
            f"model: expected {minimum} or more residual blocks of one class and equal shapes in a row, in a "
            f"torch.nn.Sequential that has no forward of its own, got none in {type(model).__name__}"
            f"{why_none(model, minimum)}"
        )
    return logged(converted, minimum, note)


def to_resnet(model: nn.Module) -> nn.Module:
    """Copy of a network with ordinary blocks for every mean-field stage, in order of depth.

    A gap that is not 1/n is a step that is not 1. It is folded, exactly up to rounding, into the last layer of the
    branch: the weight of a convolution, or weight and bias of a normalisation. A branch of another kind becomes a
    :class:`~wgflow.systems.images.adapters.Scaled`, which keeps the step as a fixed number. Blocks with a gap of 0
    stay, with zero last weights.

    Parameters
    ----------
    model : torch.nn.Module
        Not modified.

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

    rebuilt = _rebuilt("", copied(model), change, {})
    return rebuilt[0] if len(rebuilt) == 1 else nn.Sequential(*rebuilt)


def _changed(model: nn.Module, change: Change) -> nn.Module:
    (changed,) = _rebuilt("", model, change, {})
    return changed


def _wanted(stages: str | Iterable[str], model: nn.Module, names: set[str]) -> set[str]:
    """Names of the requested containers, each one that can be inspected."""
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
        check_name("stage", name, names)
    return set(asked)


def _as(container: nn.Module, replacement: nn.Module) -> nn.Module:
    """Give the replacement of a container its mode, training or not; the blocks in it keep theirs."""
    for module in (replacement, getattr(replacement, "branches", replacement)):
        module.training = container.training
    return replacement


def _filled(container: nn.Module, parts: list[nn.Module]) -> nn.Module:
    """Replace the contents of a Sequential by parts; its class, mode and hooks stay."""
    for name in list(container._modules):
        delattr(container, name)
    for i, part in enumerate(parts):
        container.add_module(str(i), _as(container, part) if isinstance(part, MeanFieldStage) else part)
    return container


def _ordinary(stage: MeanFieldStage) -> list[nn.Module]:
    """Blocks that compute what a stage does, one after the other."""
    branches, steps = [stage.branches[i] for i in stage.order().tolist()], stage.steps().tolist()
    ours = [branch for branch in branches if isinstance(branch, Branch) and owns(branch.final)]
    if len(ours) == len(branches):
        for branch, step in zip(ours, steps, strict=True):
            _fold(branch, step)
        return [_as(stage, PlainStage(ours, stage.after))]
    return [_block(stage, branch, step) for branch, step in zip(branches, steps, strict=True)]


def _block(stage: MeanFieldStage, branch: nn.Module, step: float) -> nn.Module:
    """Ordinary block of a branch and its step."""
    if isinstance(branch, Rest) and owns(branch.final):
        _fold(branch, step)
        return branch.block
    if isinstance(branch, Difference) and step == 1.0:
        return branch.block
    return _as(stage, Scaled(branch, step, stage.after))


@torch.no_grad()
def _fold(branch: Branch | Rest, step: float) -> None:
    """Multiply a branch whose last layer owns its parameters by a step, in place."""
    for parameter in (branch.final.weight, branch.final.bias):
        if parameter is not None:
            parameter.mul_(step)


def _rebuilt(name: str, module: nn.Module, change: Change, done: dict[int, list[nn.Module]]) -> list[nn.Module]:
    """Apply a change to a module or else to what is in it; a Sequential takes several modules in the place of one.

    ``done`` maps the id of each module to its replacement, for modules that occur in several places.
    """
    if id(module) in done:
        return done[id(module)]
    rebuilt = change(name, module)
    if rebuilt is None:
        inner = {key: _rebuilt(f"{name}.{key}".lstrip("."), child, change, done) for key, child in children_of(module)}
        if in_a_row(module) and not isinstance(module, PlainStage) and any(len(parts) > 1 for parts in inner.values()):
            _filled(module, [part for parts in inner.values() for part in parts])
        else:
            for key, parts in inner.items():
                if len(parts) > 1 or parts[0] is not module._modules[key]:
                    setattr(module, key, parts[0] if len(parts) == 1 else _as(module, nn.Sequential(*parts)))
        rebuilt = [module]
    done[id(module)] = rebuilt
    return rebuilt
