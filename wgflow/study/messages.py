"""Error messages for a study file that does not fit the schema: key, what was expected, what came, what to do."""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from wgflow.base.errors import BackendError, InputError, StudyError, describe
from wgflow.base.registry import suggest, unknown
from wgflow.base.types import Spec

_Model = typing.TypeVar("_Model", bound=BaseModel)


def validate(model: type[_Model], raw: Spec, where: str) -> _Model:
    """Check plain JSON against a model.

    Raises
    ------
    StudyError
        With a line for each thing wrong, ``where`` in front of it.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise StudyError([f"{where}: {line}" for line in explain(model, error)]) from error


def explain(model: type[BaseModel], error: ValidationError) -> list[str]:
    """A line for each value that does not fit a model."""
    return [_explain(model, dict(problem)) for problem in error.errors(include_url=False)]


@contextlib.contextmanager
def naming(label: str, backends: bool = False) -> Iterator[None]:
    """Put the label of a member, if it has one, in front of what is wrong with it.

    Parameters
    ----------
    label : str
        Its grid values in words.
    backends : bool, optional
        Whether a backend that cannot be had is a fault of this member too.
    """
    try:
        yield
    except (InputError, BackendError) as error:
        kind = BackendError if isinstance(error, BackendError) else InputError
        if not label or (kind is BackendError and not backends):
            raise
        raise kind(f"{label}: {error}") from error
    except MemoryError as error:
        if not label:
            raise
        raise InputError(
            f"{label}: expected a member that fits in memory, got one that does not"
            f"{f' ({error})' if str(error) else ''}; use fewer particles or samples"
        ) from error


def _explain(model: type[BaseModel], problem: Spec) -> str:
    """One problem in the form: key, what was expected, what came, what to do."""
    kind, value = problem["type"], problem["input"]
    location = [str(part) for part in problem["loc"]]
    key, table = locate(model, location)
    match kind:
        case "extra_forbidden":
            known = list(table.model_fields) if table else []
            return f"{key}: unknown key; {suggest(location[-1], known)}known: {', '.join(known)}"
        case "missing":
            return _missing(key, table.model_fields.get(location[-1]) if table else None)
        case "union_tag_invalid":
            names = [tag.strip(" '") for tag in problem["ctx"]["expected_tags"].split(",")]
            return f"{key}.name: {unknown('name', problem['ctx']['tag'], names)}"
        case "union_tag_not_found":
            return f"{key}.name: expected a name that says which kind, got none; add it"
        case "literal_error":
            choices = problem["ctx"]["expected"]
            hint = (
                suggest(value, [choice.strip(" '") for choice in choices.replace(" or ", ",").split(",")])
                if isinstance(value, str)
                else ""
            )
            return f"{key}: expected {choices}, got {describe(value)}{'; ' + hint.strip() if hint else ''}"
        case "list_type" if isinstance(value, str | int | float):
            return f"{key}: expected a list such as [{value!r}], got {value!r}"
        case "string_pattern_mismatch":
            return f"{key}: expected letters, digits, - and _ only, got {describe(value)}"
        case "value_error":
            return f"{key}: {problem['ctx']['error']}"
        case _:
            return f"{key}: expected {_expected(problem['msg'])}, got {describe(value)}"


def _missing(key: str, field: FieldInfo | None) -> str:
    """What is missing: a value, or a table with the keys that all its kinds require."""
    kinds = [kind.model_fields for kind in tables(field.annotation)] if field else []
    required = [{name for name, own in kind.items() if own.is_required()} for kind in kinds]
    least = [name for name in kinds[0] if all(name in names for names in required)] if kinds else []
    if not least:
        return f"{key}: expected a value, got none; add it"
    return f"[{key}]: expected a table with at least {', '.join(f'{name} = ...' for name in least)}, got none; add it"


def _expected(message: str) -> str:
    """Turn pydantic's sentence on what a value should be into the end of ours."""
    text = message.removeprefix("Input should be ").removeprefix("Input should have ")
    if text.startswith(("greater", "less")):
        return f"a number {text}"
    return "a table" if "dictionary" in text else text


def locate(model: type[BaseModel], location: list[str]) -> tuple[str, type[BaseModel] | None]:
    """Dotted key of a location, without the tags of unions, and the table its last key should be in."""
    key: list[str] = []
    table: type[BaseModel] | None = model
    choices: dict[str, type[BaseModel]] = {}
    for depth, part in enumerate(location):
        if part in choices:  # the tag of a union, which is not a key
            table, choices = choices[part], {}
            continue
        key.append(part)
        if part.isdigit():  # a place in a list: the same table goes on
            continue
        if depth == len(location) - 1:
            break
        field = table.model_fields.get(part) if table else None
        within = tables(field.annotation) if field else []
        choices = {tag(kind): kind for kind in within} if len(within) > 1 else {}
        table = within[0] if len(within) == 1 else None
    return ".".join(key), table


def tables(annotation: Any) -> list[type[BaseModel]]:
    """Table classes (pydantic models) that a field's annotation admits."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for part in typing.get_args(annotation) for table in tables(part)]


def tag(table: type[BaseModel]) -> str:
    """Tag that distinguishes the alternatives of a union."""
    return str(typing.get_args(table.model_fields["name"].annotation)[0])


def unchecked(model: type[_Model], raw: Mapping[str, Any]) -> _Model:
    """Model from plain JSON without checks: unknown keys are dropped, missing ones have their defaults."""
    values = {name: _part(field.annotation, raw[name]) for name, field in model.model_fields.items() if name in raw}
    return model.model_construct(**values)


def _part(annotation: Any, value: Any) -> Any:
    """Value of a field, tables in it as models."""
    if isinstance(value, list):
        return [_part(annotation, part) for part in value]
    within = tables(annotation) if isinstance(value, Mapping) else []
    kinds = {tag(kind): kind for kind in within} if len(within) > 1 else {}
    table = kinds.get(value["name"]) if kinds else within[0] if within else None
    return unchecked(table, value) if table else value
