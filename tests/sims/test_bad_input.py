"""Studies and command lines that cannot be used: exit code 2, one line a problem, nothing written."""

import copy
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wgflow.sims import dry_run, run

GOOD = {
    "name": "good",
    "figure": "none",
    "problem": {"name": "sine", "samples": 20},
    "particles": {"count": 3},
    "depth": {"name": "gaps"},
    "flow": {"until": 1.0, "step": 0.1},
    "grid": {"seed": [0, 1]},
}
COMMANDS = [
    ["nothing"], ["no.toml"], ["folder.toml"], ["good.toml", "more"], ["good.toml", "--threads", "0"],
    ["good.toml", "--threads", "two"], ["good.toml", "--jobs", "-1"], ["good.toml", "--jobs", "1.5"],
    ["good.toml", "--walltime", "soon"], ["good.toml", "--walltime", "-5s"], ["good.toml", "--walltime", ""],
    ["good.toml", "--walltime", "nan"], ["good.toml", "--backend", "tpu"],
    ["good.toml", "--set"], ["good.toml", "--set", "=1"], ["good.toml", "--set", "flow.step"],
    ["good.toml", "--set", "flow=1"], ["good.toml", "--set", "flow.step.x=1"], ["good.toml", "--fresh", "--keep"],
    ["good.toml", "--unknown"], ["good.toml", "--out", "good.toml"], ["good.toml", "--out", "good.toml/x"],
    ["good.toml", "--debg"], ["--quiet=3", "good.toml"],
]  # fmt: skip
CHANGES = [
    ("flow.step", 0), ("flow.step", -0.1), ("flow.step", "0.1"), ("flow.step", True), ("flow.step", float("inf")),
    ("flow.step", 0.3), ("flow.until", 0), ("flow.until", float("nan")), ("flow.until", 1e300), ("flow.every", 0),
    ("flow.every", 0.25), ("flow.every", "often"), ("flow.every", {"name": "log"}),
    ("flow.every", {"name": "log", "per_decade": 2.5}), ("flow.every", {"name": "log", "per_decade": 2, "frist": 1}),
    ("flow.every", {"name": "at", "s": [0.2, 0.2]}), ("flow.every", {"name": "at", "s": [0.25]}),
    ("flow.every", {"name": "log", "per_decade": 10**20}),
    ("flow.every", {"name": "log", "per_decade": 8, "first": 1e-310}),
    ("flow", {"until": 1.0, "rule": "descent", "every": 1e-17}), ("flow", {"until": 1e9, "step": 1.0}),
    ("flow.every", {"name": "steps", "n": 0}), ("flow.every", [1.0]), ("flow.every", {"n": 3}),
    ("flow.rule", "adaptive"), ("flow.rtol", 1e-3), ("flow.rtol", 2.0), ("flow.atol", -1.0), ("flow.smallest", 0),
    ("flow.integrator", "rk5"), ("flow.rule", "newton"), ("flow.boundary", "periodic"), ("flow.batch", 0),
    ("flow.batch", 21), ("flow.mobility", {"tau": -1.0}), ("flow.mobility", {"v": 1.0}),
    ("flow.ingredients", [{"name": "langevin"}]), ("flow.ingredients", [{"name": "cold", "temperature": 1.0}]),
    ("flow.untill", 2.0), ("flow", 3), ("particles.count", 0), ("particles.count", 2.0), ("particles.count", -4),
    ("particles.tau", "normal"), ("particles.scale", {"x": 1.0}), ("particles.part", -1), ("depth", "gaps"),
    ("depth.name", "gasp"), ("depth.layers", 3), ("depth", {"name": "layers", "layers": 2}), ("problem.name", "sin"),
    ("problem.samples", 0), ("problem.samples", "many"), ("problem.noise", -1), ("problem.block", "rigde"),
    ("problem.activation", "tahn"), ("problem.loss", "absolute"), ("problem.heldout", 1.0),
    ("problem.loss", "cross_entropy"), ("problem", {"name": "file", "path": "none.npz"}), ("seed", -1), ("seed", 1.5),
    ("name", "a/b"), ("name", ""), ("dtype", "float16"), ("observables", ["heldout"]), ("observables", ["wide"]),
    ("observables", "heldout"), ("figure", "pie"), ("figure", ["loss_and_particles", "convergence_rates"]),
    ("grid", {"seed": []}), ("grid", {"seed": 3}), ("grid", {"seeds": [1]}), ("grid", {"flow.stpe": [1]}),
    ("grid", {"seed": [1, 1]}), ("grid", {"particles.count.x": [1]}), ("reference", {"seed": 0}),
    ("reference", {"name": {"name": []}}), ("regulariser", 1),
    ("regulariser", {"name": "quadratic", "strength": -1}),
]  # fmt: skip
TEXTS = ["name = ", "[flow", "name = 'x'\nname = 'y'", "\0", "{}", "[[flow]]\nuntil = 1", "flow.until = 1\n[flow]", ""]


def changed(key, value):
    raw = copy.deepcopy(GOOD)
    *parents, last = key.split(".")
    place = raw
    for parent in parents:
        place = place[parent]
    place[last] = value
    return raw


def toml(value):
    """TOML of plain values, tables inline."""
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f'"{key}" = {toml(each)}' for key, each in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(toml, value)) + "]"
        case str():
            return '"' + "".join(f"\\U{ord(char):08x}" for char in value) + '"'
        case _:
            return repr(value)


def study(raw):
    text = "".join(f'"{key}" = {toml(value)}\n' for key, value in raw.items())
    assert repr(tomllib.loads(text)) == repr(raw)
    return text


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.toml").write_text(study(GOOD))
    (tmp_path / "folder.toml").mkdir()
    return tmp_path


def refuses(place, capsys, arguments, lines=1):
    before = sorted(place.rglob("*"))
    capsys.readouterr()
    assert run.main(arguments) == run.BAD_INPUT
    out, err = capsys.readouterr()
    assert out == ""
    assert 1 <= len(err.splitlines()) <= lines
    for line in err.splitlines():
        assert line.startswith("wgflow: ")
        assert 20 < len(line) < 600
    assert sorted(place.rglob("*")) == before


def test_the_good_one_is_good(place, monkeypatch):
    monkeypatch.setattr(dry_run, "dry_run", lambda run: None)
    assert run.main(["good.toml", "--dry-run"]) == 0


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_command_lines(place, capsys, arguments):
    refuses(place, capsys, arguments)


@pytest.mark.parametrize(("key", "value"), CHANGES, ids=str)
def test_studies(place, capsys, key, value):
    (place / "bad.toml").write_text(study(changed(key, value)))
    refuses(place, capsys, ["bad.toml"], lines=3)


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_files_that_are_no_study(place, capsys, text):
    (place / "bad.toml").write_text(text)
    refuses(place, capsys, ["bad.toml"], lines=6)


def test_bytes_that_are_no_text(place, capsys):
    (place / "bad.toml").write_bytes(b"name = '\xff\xfe'")
    refuses(place, capsys, ["bad.toml"])


KEYS = ["name", "figure", "seed", "dtype", "observables", "grid", "reference", "regulariser", "unknown"]
KEYS += [f"problem.{key}" for key in ("name", "samples", "noise", "block", "activation", "loss", "heldout", "x")]
KEYS += [f"particles.{key}" for key in ("count", "scale", "tau", "coupling", "part")]
KEYS += ["depth", "depth.name", "depth.layers", "depth.shape"]
KEYS += [
    f"flow.{key}"
    for key in ("until", "every", "step", "rule", "batch", "ingredients", "integrator", "boundary", "mobility")
]
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**62), 2**62), st.integers(-3, 40), st.floats(),
    st.sampled_from(["gaps", "layers", "sine", "ridge", "tanh", "a", "tau", "squared", "name", "langevin", ""]),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8),
)  # fmt: skip
NAMES = st.sampled_from(["name", "layers", "s", "n", "per_decade", "seed", "particles.count", "flow.step", "a", "x"])
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))


@settings(max_examples=300)
@given(changes=st.lists(st.tuples(st.sampled_from(KEYS), VALUES), min_size=1, max_size=3))
def test_anything_at_any_key_is_good_or_bad_but_no_internal_error(tmp_path_factory, changes):
    place = tmp_path_factory.mktemp("any")
    raw = copy.deepcopy(GOOD)
    for key, value in changes:
        *parents, last = key.split(".")
        table = raw
        for parent in parents:
            table = table.get(parent) if isinstance(table, dict) else None
        if isinstance(table, dict) and value is not None:
            table[last] = _without_none(value)
    if not _small(raw):
        return  # would be good, and large
    (place / "any.toml").write_text(study(raw), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dry_run, "dry_run", lambda run: None)
        patch.chdir(place)
        assert run.main(["any.toml", "--dry-run"]) in (0, run.BAD_INPUT)
    assert [each.name for each in place.iterdir()] == ["any.toml"]


def _without_none(value):
    if isinstance(value, dict):
        return {key: _without_none(each) for key, each in value.items() if each is not None}
    return [_without_none(each) for each in value if each is not None] if isinstance(value, list) else value


def _small(value):
    """Whether there is no number in it that could ask for gigabytes or ages."""
    if isinstance(value, dict | list):
        return all(map(_small, value.values() if isinstance(value, dict) else value))
    return isinstance(value, bool | str) or not 1e4 < abs(value) < float("inf")
