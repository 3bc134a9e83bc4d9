"""Selection of the modules of a sequential container that become a stage, and of the rule that converts them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import TypeAlias

from torch import nn

from wgflow.base.errors import InputError, describe
from wgflow.base.registry import lookup
from wgflow.systems.images.adapters import Rule, Split, called_whole, closing, difference, residual, split, whole_split
from wgflow.systems.images.containers import children_of, class_and_shapes, class_name, in_a_row
from wgflow.systems.images.residual_check import trial_of
from wgflow.systems.images.stage import MeanFieldStage
from wgflow.systems.images.stage import stages as stages_of

Make: TypeAlias = Callable[[list[Split]], MeanFieldStage]
RULES: dict[str, tuple[Rule, ...]] = {
    "auto": (whole_split, residual),
    "split": (split,),
    "difference": (difference,),
}


def rules_of(rule: Rule | str) -> tuple[Rule, ...]:
    """Rules to try, in order."""
    if isinstance(rule, str):
        return lookup("rule", rule, RULES)
    if not callable(rule):
        raise InputError(
            f"rule: expected {', '.join(RULES)} or a callable, block -> (branch, after), got {describe(rule)}"
        )
    return (rule,)


def runs(container: nn.Module, minimum: int, rule: Rule, make: Make) -> list[nn.Module] | None:
    """Modules of a container with its runs replaced by stages, or None if there is no run."""
    children = [child for _, child in children_of(container)]
    splits = zip(children, _splits(rule, children), strict=True)
    candidates = [(child, pair, _kind(child, pair)) for child, pair in splits]
    parts: list[nn.Module] = []
    for kind, group in groupby(candidates, key=lambda candidate: candidate[2]):
        run = list(group)
        blocks = [pair for _, pair, _ in run if pair is not None]
        parts += [make(blocks)] if kind is not None and len(run) >= minimum else [child for child, _, _ in run]
    return parts if any(isinstance(part, MeanFieldStage) for part in parts) else None


def _splits(rule: Rule, children: list[nn.Module]) -> list[Split | None]:
    """Branch and closing activation of each block of a container under a rule, None for what the rule does not take.

    The default skips rows of blocks and modules that already hold a stage. It splits no block of a row of equal blocks
    if one of them must be called whole, so that all of them are converted by their difference.
    """
    if rule is residual:
        return [None if in_a_row(child) or stages_of(child) else rule(child) for child in children]
    splits = [rule(child) for child in children]
    if rule is whole_split:
        for _, group in groupby(range(len(children)), key=lambda k: class_and_shapes(children[k])):
            row = list(group)
            if any(called_whole(children[k]) for k in row):
                splits = [None if k in row else pair for k, pair in enumerate(splits)]
    return splits


def _kind(child: nn.Module, pair: Split | None) -> object:
    """Key shared by the blocks of one run; None for a module that is not a block."""
    return None if pair is None else (class_and_shapes(child), closing(pair[1]))


def one_stage(name: str, container: nn.Module, rules: tuple[Rule, ...], make: Make) -> list[nn.Module]:
    """Leading children of another kind, then all others as one stage, by the first rule that takes them."""
    for rule in rules[:-1]:
        try:
            return _parts(name, container, rule, make)
        except InputError:  # the last rule's error is the one reported
            pass
    return _parts(name, container, rules[-1], make)


def _parts(name: str, container: nn.Module, rule: Rule, make: Make) -> list[nn.Module]:
    children = [child for _, child in children_of(container)]
    splits = _splits(rule, children)
    first = next((k for k, pair in enumerate(splits) if pair is not None), len(splits))
    blocks = [pair for pair in splits if pair is not None]
    if not blocks or None in splits[first:]:
        k = first + splits[first:].index(None) if blocks else 0
        raise InputError(
            f"stage {name!r}: expected blocks x -> after(x + f(x)), got "
            f"{_stranger(children[k], k, rule) if children else 'none'}; pass rule='difference', which takes any block "
            "that keeps the shape of its state, or a rule of your own"
        )
    for k, (_, after) in enumerate(blocks):
        if closing(after) != closing(blocks[0][1]):
            raise InputError(
                f"stage {name!r}: expected blocks that end with one activation, got {blocks[0][1]} at {first} and "
                f"{after} at {first + k}"
            )
    try:
        return [*children[:first], make(blocks)]
    except InputError as error:
        raise InputError(f"stage {name!r}, counted from child {first}: {error}") from error


def _stranger(child: nn.Module, k: int, rule: Rule) -> str:
    """Name of a child that a rule rejects, and why."""
    why = "is none that the rule knows"
    if rule is residual:
        why = trial_of(child).refused or "is a row of blocks itself"
    return f"{class_name(child)} at {k}, which {why}"
