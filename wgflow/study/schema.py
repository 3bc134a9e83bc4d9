"""The study file: its schema, and how a file is read and checked against it."""

from __future__ import annotations

import codecs
import functools
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, WithJsonSchema

from wgflow.base.errors import InputError, describe
from wgflow.base.types import Spec
from wgflow.model import data_files
from wgflow.model.data_files import Digests
from wgflow.model.image_files import LAYOUTS, digests_of_files
from wgflow.study.messages import locate, unchecked, validate
from wgflow.study.tables import (
    DepthChoice,
    FlowTable,
    GapsTable,
    NetworkTable,
    ParticlesTable,
    ProblemTable,
    QuadraticTable,
    Table,
)
from wgflow.study.training_tables import ImagesTable, ProblemChoice, TrainingTable
from wgflow.trajectory.identity import DATA, placed


class Member(Table):
    """One run: a study without its grid."""

    seed: int = Field(0, ge=0, lt=2**63, description="seed of everything random")
    problem: ProblemChoice
    particles: ParticlesTable = Field(default_factory=lambda: ParticlesTable())
    depth: DepthChoice = Field(default_factory=lambda: GapsTable(name="gaps"))
    flow: FlowTable
    network: NetworkTable | None = Field(None, description="in place of depth: particles.count units a layer")
    training: TrainingTable | None = Field(None, description="in place of depth: an image network, s in epochs")
    regulariser: QuadraticTable | None = Field(None, description="term added to the loss")
    observables: list[str] = Field(default_factory=list, description="measured at every frame")
    record: Literal["particles", "numbers"] = Field(
        "particles",
        description="what frames hold: all particles, or energy and observables alone (a member that is stopped on its "
        "way then starts again)",
    )
    dtype: Literal["float64", "float32"] = Field("float64", description="precision of the compiled kernels")
    _data: Digests | None = PrivateAttr(None)

    @property
    def data(self) -> Digests | None:
        """Data files it reads, with their digests when its study was read; None if it reads none, or has no study."""
        return self._data

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Member of a trajectory's document ``study``, or study of a run's; unchecked: unknown keys are dropped.

        Missing keys have their defaults. One without a default, as in documents of flows that no study made, is a
        missing attribute.
        """
        return unchecked(cls, document)

    @property
    def layers(self) -> int:
        """L; 1 where the depth scheme has no layers of its own."""
        return int(getattr(self.depth, "layers", 1))

    @property
    def count(self) -> int:
        """N."""
        table = self.particles
        return table.count if table.per_layer is None else table.per_layer * self.layers

    @property
    def per_layer(self) -> int:
        """M_l = N/L."""
        return self.count // self.layers

    @property
    def shape(self) -> tuple[int, int]:
        """L and M_l."""
        return self.layers, self.per_layer

    def reached(self, s: float) -> bool:
        """Whether the run has come to its end at flow time s, up to rounding."""
        return has_reached(self.flow.until, s)

    @property
    def samples(self) -> ProblemTable:
        """Problem of a member that is no training.

        Raises
        ------
        InputError
            If it has images.
        """
        if isinstance(self.problem, ImagesTable):
            raise InputError(f"problem.name: expected vectors, got images {self.problem.name!r}")
        return self.problem


def has_reached(until: float, s: float) -> bool:
    """Whether a run up to flow time ``until`` has come to its end at s, up to rounding."""
    return bool(s >= until * (1 - 1e-12))


class TargetTable(Table):
    """What a network is to reach, and how surely."""

    eps: float = Field(gt=0, description="loss E at the end that is not to be exceeded")
    eta: float = Field(gt=0, lt=1, description="probability over seeds with which it may be")


Names: TypeAlias = Annotated[
    list[str],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class Study(Member):
    """A study: a member, and a grid of values for its keys that multiplies it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    question: str = Field("", description="what the study asks")
    cost: str = Field("", description="what running it takes")
    figure: Names = Field(["loss_and_particles"], description="figures drawn at the end, or none")
    target: TargetTable | None = Field(None, description="what the smallest network is wanted for; changes no result")
    grid: dict[str, list[Any]] = Field(default_factory=dict, description="dotted key -> values")
    reference: dict[str, Any] = Field(
        default_factory=dict,
        description="dotted key -> value or values, in place of the grid's, of members to compare with",
    )
    also: list[dict[str, Any]] = Field(
        default_factory=list,
        description="tables of further members beside the grid's: dotted key -> value or values in place of the grid's",
    )
    _digests: dict[str, Digests] = PrivateAttr(default_factory=dict)  # path of a problem -> its files


_ABOUT = ("name", "question", "cost", "figure", "target")  # what does not change a result, and so is not hashed
_TABLES_OF_KEYS = ("grid", "reference")  # dotted key -> values


def load(path: Path, overrides: dict[str, Any]) -> tuple[Study, Spec]:
    """Read a study file, apply overrides, check everything.

    Parameters
    ----------
    path : Path
        A TOML file.
    overrides : dict
        Dotted key to value; a key of the grid is taken out of it and fixed, ``grid.KEY`` and ``reference.KEY``
        replace its values there.

    Returns
    -------
    study : Study
        The checked study.
    content : dict
        The same as plain JSON, as far as it decides the results.

    Raises
    ------
    InputError
        If the file cannot be read.
    StudyError
        If it does not fit the schema; all problems at once.
    """
    try:
        raw = tomllib.loads(_text(path))
    except OSError as error:
        raise InputError(f"{path}: expected a readable study file ({error.strerror})") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error
    for key, value in overrides.items():
        _override(raw, key, value)
    for table in _TABLES_OF_KEYS:
        if isinstance(raw.get(table), dict):
            raw[table] = _flatten(raw[table])
    if isinstance(raw.get("also"), list):
        raw["also"] = [_flatten(keys) if isinstance(keys, dict) else keys for keys in raw["also"]]
    _each_data_path(raw, lambda data, name: _resolved(path.parent, data))
    study = validate(Study, _with_first_values(raw), path.name)
    content = study.model_dump(mode="json", exclude=set(_ABOUT))

    def by_content(path: str, name: Any) -> str:
        """Which data a file holds decides the results, not where it lies."""
        if path not in study._digests:
            images = name in LAYOUTS
            study._digests[path] = digests_of_files(path) if images else ((path, data_files.digest(Path(path))),)
        return _by_content(study._digests[path], path, name)

    _each_data_path(content, by_content)
    return study, content


def _text(path: Path) -> str:
    """Text of a study file in UTF-8, with whatever line ends, after the mark that some editors put first.

    Raises
    ------
    InputError
        If it is in another encoding.
    """
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{path}: expected TOML in UTF-8, got UTF-16; save it as UTF-8")
    try:
        if b"\0" in content:
            raise InputError(f"{path}: expected TOML in UTF-8, got zero bytes, as UTF-16 has them; save it as UTF-8")
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: expected TOML in UTF-8, got the byte {content[error.start]:#04x} in line {line}; save it as UTF-8"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _each_data_path(raw: Spec, change: Callable[[str, Any], str]) -> None:
    """Replace every path of data, known with its problem's name: in the problem, the grid, and what is beside them."""
    places = [raw[table] for table in _TABLES_OF_KEYS if isinstance(raw.get(table), dict)]
    places += [keys for keys in listed(raw.get("also")) if isinstance(keys, dict)]
    for problem in (raw.get("problem"), *(value for keys in places for value in listed(keys.get("problem")))):
        if isinstance(problem, dict) and isinstance(problem.get("path"), str):
            problem["path"] = change(problem["path"], problem.get("name"))
    name = raw["problem"].get("name") if isinstance(raw.get("problem"), dict) else None
    for keys in places:
        if "problem.path" in keys:
            paths = [change(path, name) if isinstance(path, str) else path for path in listed(keys["problem.path"])]
            keys["problem.path"] = paths


def _resolved(folder: Path, data: str) -> str:
    """Absolute path of data named in a study file of that folder.

    Raises
    ------
    InputError
        If it is no text, which the JSON of a run could not hold, or no path: it begins with the home of nobody, say.
    """
    try:
        path = str((folder / Path(data).expanduser()).resolve())
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"problem.path: expected where data lie, got {describe(data)} ({error})") from error
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: expected a path of data in UTF-8, got other bytes; rename it") from error
    return path


def listed(value: Any) -> list[Any]:
    """Values of a key: a list as it is, anything else as the one value."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _flatten(keys: Spec, prefix: str = "") -> Spec:
    """Keys written without quotes, ``particles.count = [...]``, as the dotted keys they mean."""
    flat: Spec = {}
    for key, value in keys.items():
        nested = isinstance(value, dict) and "name" not in value  # a table with a name is a value, as a problem is
        flat |= _flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def _with_first_values(raw: Spec) -> Spec:
    """Study with the first value of a grid key in its place where the schema wants one and the file has none."""
    try:
        Study.model_validate(raw)
        return raw
    except ValidationError as error:
        lacking = [problem["loc"] for problem in error.errors() if problem["type"] == "missing"]
        missing = {locate(Study, [str(part) for part in location])[0] for location in lacking}
    grid = raw["grid"] if isinstance(raw.get("grid"), dict) else {}
    given = {key: values for key, values in grid.items() if key in missing and isinstance(values, list) and values}
    return placed(raw, {key: values[0] for key, values in given.items()})


def schema() -> Spec:
    """JSON schema of study files, for editors; a key that the grid may supply is not required."""
    out = Study.model_json_schema()
    out["required"] = ["name"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **out, "title": "wgflow study"}


def check_member(raw: Spec, label: str, study: Study | None = None) -> Member:
    """Member from plain JSON, with the label in front of whatever is wrong with it; a study's knows its data."""
    member = validate(Member, raw, label)
    if study is not None:
        member._data = study._digests.get(getattr(member.problem, "path", None) or "")
    return member


def documents(members: Sequence[Member]) -> list[Spec]:
    """Members as plain JSON, their data known by the digests of their study: what their files are to hold."""
    out = [member.model_dump(mode="json") for member in members]
    for member, document in zip(members, out, strict=True):
        if member.data is not None:
            _each_data_path(document, functools.partial(_by_content, member.data))
    return out


def _by_content(files: Digests, path: str, name: Any) -> str:
    """What stands for the path of data: which data its files hold decides the results, not where they lie."""
    return f"{DATA}{data_files.combined(files) if name in LAYOUTS else files[0][1]}"


def override_value(text: str) -> Any:
    """Read the value of ``--set key=value`` as TOML: a number, true, [1, 2]; anything else is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _override(raw: Spec, key: str, value: Any) -> None:
    table, _, rest = key.partition(".")
    if table in _TABLES_OF_KEYS and rest:
        if not isinstance(raw.setdefault(table, {}), dict):
            raise InputError(f"--set {key}: expected {table!r} to be a table, got {describe(raw[table])}")
        raw[table] = _flatten(raw[table]) | {rest: value}
        return
    grid = raw.get("grid")
    if isinstance(grid, dict) and key in grid:
        del grid[key]
    place = raw
    *parents, last = key.split(".")
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise InputError(f"--set {key}: expected {parent!r} to be a table, got {describe(place)}")
    place[last] = value
