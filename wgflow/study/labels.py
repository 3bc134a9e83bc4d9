"""Labels of members: the values of a grid in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def word(value: Any) -> str:
    """Grid value as part of a label: a table by its name and options."""
    if isinstance(value, dict):
        options = ";".join(f"{key}={word(part)}" for key, part in value.items() if key != "name")
        return f"{value.get('name', '')}({options})" if options else str(value.get("name", ""))
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        return "+".join(map(word, value)) or "none"
    return str(value)


def code(value: Any) -> str:
    """Text that equal values of a grid share: JSON, keys sorted."""
    return json.dumps(value, sort_keys=True)


def words(values: Sequence[Any]) -> list[str]:
    """Values of one key as parts of labels: tables by their names alone where these tell them apart."""
    names = [_named(value) for value in values]
    alone = None not in names and len(set(names)) == len(names)
    return [str(name) if alone else word(value) for name, value in zip(names, values, strict=True)]


def _named(value: Any) -> str | None:
    """Name of a table, names of a list of tables; None for anything else."""
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        return "+".join(str(part.get("name")) for part in value) or "none"
    name = value.get("name") if isinstance(value, dict) else None
    return name if isinstance(name, str) else None


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Last part of each dotted key, or the whole key where that is ambiguous."""
    lasts = [key.rsplit(".", 1)[-1] for key in keys]
    return {key: last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)}
