"""Report of a conversion: the rule that converted the blocks of each stage, and its cost."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain, groupby
from typing import NamedTuple

import torch
from torch import nn

from wgflow.systems.images.adapters import Difference, Rest
from wgflow.systems.images.blocks import Branch
from wgflow.systems.images.containers import children_of, class_and_shapes, class_name, in_a_row
from wgflow.systems.images.residual_check import TOO_SMALL, trial_of
from wgflow.systems.images.stage import MeanFieldStage, PlainStage

logger = logging.getLogger("wgflow.systems.images")

_SPLIT = "no pass over the state: the step scales the last weights"
_PASS = "one more pass over the state for each block"


class Conversion(NamedTuple):
    """Conversion of the blocks of one stage.

    Attributes
    ----------
    stage : str
        Name of the stage, as ``model.named_modules()`` has it; empty for the model itself.
    blocks : int
        n.
    rule : {"split", "difference", "own"}
        ``split``: x -> after(x + step f(x)), f built from the block's layers. ``difference``: (1 - step) x +
        step block(x), the block called unchanged. ``own``: branches of another kind.
    cost : str
        Cost of a training step beyond the blocks themselves.
    """

    stage: str
    blocks: int
    rule: str
    cost: str

    def __str__(self) -> str:
        return f"{self.stage or 'model'}: {self.blocks} blocks by {self.rule} ({self.cost})"


def report(model: nn.Module) -> tuple[Conversion, ...]:
    """Rule and cost of each mean-field stage of a model, in the model's order."""
    return tuple(
        Conversion(name, len(stage), *_rule(list(stage.branches)))
        for name, stage in model.named_modules()
        if isinstance(stage, MeanFieldStage)
    )


def _rule(branches: list[nn.Module]) -> tuple[str, str]:
    """Name of the rule that produces such branches, and its cost."""
    if all(isinstance(branch, Rest | Branch) for branch in branches):
        return "split", _SPLIT
    differences = [branch for branch in branches if isinstance(branch, Difference)]
    if len(differences) < len(branches):
        return "own", _PASS
    copies = sum(difference.writes for difference in differences)
    kept = "an interpolation, whose two ends, the states before and after the block, are kept for the backward pass"
    more = f"; {copies} of them write to their state and are given a copy" if copies else ""
    return "difference", f"{_PASS}: {kept}{more}"


def logged(model: nn.Module, minimum: int, note: str = "") -> nn.Module:
    """Log the rule of every stage and the rows left unconverted, as a warning if there is a cost; return the model."""
    taken = report(model)
    left = [f"{name} ({why})" for name, why in _left(model, minimum)]
    level = logging.INFO if all(stage.rule == "split" for stage in taken) and not (left or note) else logging.WARNING
    more = f"; left as they are: {', '.join(left)}" if left else ""
    logger.log(level, "from_resnet: %s%s", "; ".join(map(str, taken)), more + note)
    return model


def why_none(model: nn.Module, minimum: int) -> str:
    """Ending of the error message for a network without stages: a module and why it is not a residual block."""
    tries = (_left(model, minimum), _left(model, 1), _closed(model, minimum), _left(model, minimum, rows=True))
    name, why = next(chain.from_iterable(tries), ("", ""))
    return f"; {name or 'it'} is a {why}" if why else ""


def _left(model: nn.Module, minimum: int, rows: bool = False) -> Iterator[tuple[str, str]]:
    """First module of each row of equal modules that are not blocks, and why; ``rows`` includes nested rows."""
    for name, row in model.named_modules():
        if not in_a_row(row) or isinstance(row, PlainStage):
            continue
        for _, group in groupby(children_of(row), key=lambda item: class_and_shapes(item[1])):
            run = list(group)
            child = run[0][1]
            converted = any(isinstance(inner, PlainStage) for inner in child.modules())
            if len(run) < minimum or in_a_row(child) > rows or converted:
                continue
            trials = ((key, module, trial_of(module).refused) for key, module in run)
            key, child, why = next((trial for trial in trials if trial[2]), ("", child, ""))
            if why and (why not in TOO_SMALL or isinstance(child, torch.jit.ScriptModule)):
                yield f"{name}.{key}".lstrip("."), f"{class_name(child)} that {why}"


def _closed(model: nn.Module, minimum: int) -> Iterator[tuple[str, str]]:
    """Names of modules that cannot be inspected, and why."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            yield name, f"{class_name(module)}, which cannot be looked into; convert the network before torch.jit does"
        elif isinstance(module, nn.ModuleList | nn.Sequential) and not in_a_row(module) and len(module) >= minimum:
            yield (
                name,
                f"{class_name(module)}, of which it is not known how its modules are called; make it a Sequential",
            )
