"""Planning a study: its members are counted before they are made, built once, and a refusal names the member."""

import math

import pytest

from wgflow.base.errors import StudyError
from wgflow.sims import forecast, preparation, run, trial
from wgflow.sims.bundled import study_path
from wgflow.studies import registry
from wgflow.study import grid, schema
from wgflow.systems import members, problem

STUDY = """
name = "small"
figure = "none"
[problem]
name = "sine"
samples = 20
[particles]
count = 4
[flow]
until = 1.0
every = 0.5
step = 0.1
[grid]
"particles.count" = [3, 5, 7]
seed = [0, 1, 2, 3]
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(STUDY)
    return tmp_path


def planned(name="small.toml", **overrides):
    return grid.expand(schema.load(study_path(name), {k.replace("__", "."): v for k, v in overrides.items()})[0])


@pytest.fixture
def built(monkeypatch):
    """Members as they are built."""
    seen, real = [], members.build
    monkeypatch.setattr(members, "build", lambda one, *rest: seen.append(one) or real(one, *rest))
    return seen


@pytest.fixture
def none_made(monkeypatch):
    def refuse(*args):
        raise AssertionError("a member was made")

    monkeypatch.setattr(grid, "check_member", refuse)


MANY = [
    ({"grid__seed": list(range(10_000)), "grid__particles.count": list(range(1, 1001))}, "10,000,000"),
    (
        {"grid__seed": list(range(50_000)), "reference__seed": list(range(50_001)), "grid__particles.count": [3]},
        "100,001",
    ),
    ({f"grid__particles.scale.{k}": list(range(1000)) for k in range(8)}, "more than 10**15"),
]


@pytest.mark.parametrize(("overrides", "count"), MANY, ids=[count for _, count in MANY])
@pytest.mark.usefixtures("none_made")
def test_too_many_members_are_refused_before_any_is_made(overrides, count):
    with pytest.raises(StudyError) as caught:
        planned(**overrides)
    (line,) = caught.value.problems
    assert line.startswith(f"grid: expected at most 100,000 members, got {count}, the product")


def test_tables_beside_the_grid_count_too(place, monkeypatch):
    monkeypatch.setattr(grid, "MOST_MEMBERS", 24)
    text = "also = [{seed = [4, 5, 6]}, {seed = 7}]\n" + STUDY
    (place / "small.toml").write_text(text)
    assert len(planned()) == 24
    with pytest.raises(StudyError, match="at most 24 members, got 27,"):
        planned(reference__seed=9)


def test_members_that_differ_in_the_seed_alone_are_built_once(built, capsys):
    sizes = trial.each(planned(), "cpu", 1, lambda one, setup: forecast.size(one, setup, 1))
    assert [size.particles for size in sizes] == [3] * 4 + [5] * 4 + [7] * 4
    assert len(built) == 3
    built.clear()
    assert run.main(["small.toml", "--dry-run"]) == 0
    assert "12 members" in capsys.readouterr().out
    assert len(built) == 3  # the smallest and the largest are timed as they were built
    built.clear()
    assert run.main(["small.toml", "--quiet", "--jobs", "1"]) == 0
    assert len(built) == 12  # each is built once


def test_figures_build_no_member(built):
    keys = {"depth": {"name": "layers", "layers": 2}, "problem__activation": "relu", "grid__particles.count": [4]}
    listed = planned(grid__particles__support=["full", "origin"], **keys)
    registry.required(["zero_loss"], listed)
    assert built == []


def test_a_bundled_study_of_600_members_is_built_60_times(monkeypatch):
    class Stub:
        class system:
            same_for_all_seeds = staticmethod(lambda setup: True)

    seen = []
    monkeypatch.setattr(members, "build", lambda one, *rest: seen.append(one.problem.width) or Stub)
    listed = planned("hidden_width_scales")
    monkeypatch.setattr(trial, "_is_small", lambda setup: False)
    looks = trial.each(listed, "cpu", 1, lambda one, setup: one.member.problem.width)
    assert looks == [one.member.problem.width for one in listed]
    assert len(listed) == 600
    assert len(seen) == 60
    assert seen == sorted(seen)  # one problem after the other, so that each is made once


def test_problems_are_made_once_whatever_the_order_of_the_grid(monkeypatch):
    made, real = [], problem._problems.__wrapped__
    counted = problem.functools.lru_cache(maxsize=4)(lambda *key: made.append(key) or real(*key))
    monkeypatch.setattr(problem, "_problems", counted)
    trial.each(planned(**{"grid__problem.seed": list(range(6))}), "cpu", 1, lambda one, setup: None)
    assert len(made) == 6


@pytest.mark.parametrize(("options", "times"), [(["--jobs", "1"], 6), (["--dry-run"], 3)])
def test_members_of_quickstart_are_built_once(built, tmp_path, options, times):
    assert run.main(["quickstart", "--quiet", "--set", "figure=none", *options]) == 0
    assert len(built) == times
    assert len({one.model_dump_json() for one in built}) == times


def test_starts_that_may_overflow_are_built_for_every_seed(built):
    """Another seed's numbers may be too large where those of the first are not."""
    trial.each(planned(particles__scale={"a": 1e200}), "cpu", 1, lambda one, setup: None)
    assert len(built) == 12


def test_few_of_many_kinds_are_timed(monkeypatch):
    timed = []
    monkeypatch.setattr(forecast, "_time", lambda one, *rest: timed.append(one) or (one.member.samples.samples, 1.0))
    listed = planned(**{"grid__problem.samples": list(range(1000, 1100)), "grid__seed": [0], "particles__count": 5})
    sizes = trial.each(listed, "cpu", 1, lambda one, setup: forecast.size(one, setup, 1))
    seconds = forecast.member_seconds(listed, sizes, 1, "cpu")
    assert len(timed) <= 16
    for one, taken in zip(listed, seconds, strict=True):  # what was not timed takes as long as its work says
        assert taken == pytest.approx(10 * one.member.samples.samples, rel=0.01)
    timed.clear()
    rates = planned(
        **{"grid__flow.mobility.tau": [0.5 + k / 100 for k in range(40)], "grid__problem.noise": [0.0, 0.1]}
    )
    forecast.member_seconds(rates, [forecast.Size(1.0, 1, 1, 1, 1)] * len(rates), 1, "cpu")
    assert len(timed) == 2  # rates and noise make no other kind


REFUSED = [
    ({"grid__flow.step": [0.1, 0.3]}, "count=3, seed=0, step=0.3: flow.until: expected a whole number of steps of 0.3"),
    ({"grid__flow.every": [0.5, 0.25]}, "count=3, seed=0, every=0.25: flow.every: expected a whole number of steps"),
    ({"grid__flow.batch": [20, 21]}, "count=3, seed=0, batch=21: batch: expected 1 to 20 samples, got 21"),
    ({"grid__depth": [{"name": "gaps"}, {"name": "layers", "layers": 5}]},
     "count=3, seed=0, depth=layers: particles.count: expected a multiple of the 5 layers, got 3"),
    ({"grid__observables": [[], ["heldout"]]}, "observables=['heldout']: observables: 'heldout' needs"),
    ({"grid__flow.boundary": ["clip", "free"], "depth": {"name": "shallow"}}, "seed=0, boundary=free: boundary: "),
    ({"grid__particles.scale.a": ["D", "1 / (D - 2)"]}, "a=1 / (D - 2): particles.scale.a: expected a formula with"),
    ({"grid__problem.loss": ["squared", "cross_entropy"]}, "seed=0, loss=cross_entropy: y: expected class prob"),
    ({"grid__flow.rtol": [1e-3]}, "count=3, seed=0, rtol=0.001: flow.rtol: expected a rule that has it"),
    ({"grid__flow.every": [0.1, 1e-17], "flow__rule": "descent"}, "every=1e-17: flow.every: expected at most"),
    ({"grid__particles.count": [3, 10**14]}, "count=100000000000000, seed=0: expected a member that fits in memory"),
    ({"grid__problem": [{"name": "sine"}, {"name": "file", "path": "text.npz"}]}, "problem=file: "),
    ({"grid__depth": [{"name": "gaps"}, {"name": "layers", "layers": 1}], "figure": "switching", "flow__every": 0.1},
     "count=3, seed=0, depth=layers: figure: expected depth gaps"),
    ({"grid__depth": [{"name": "layers", "layers": 1}, {"name": "gaps"}], "grid__depth.layers": [1, 3]},
     "grid: depth.layers: unknown key; known: name (count=3, seed=0, depth=gaps, layers=1 and 23 more)"),
    ({"grid__seed": [0, -1]}, "greater than or equal to 0, got -1 (int) (count=3, seed=-1 and 2 more)"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "words"), REFUSED, ids=[words[:40] for _, words in REFUSED])
def test_a_refusal_names_the_member(place, capsys, monkeypatch, overrides, words):
    (place / "text.npz").write_text("no archive")
    load = schema.load
    monkeypatch.setattr(
        preparation, "load", lambda path, _: load(path, {k.replace("__", "."): v for k, v in overrides.items()})
    )
    before = sorted(place.rglob("*"))
    assert run.main(["small.toml"]) == run.BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert sorted(place.rglob("*")) == before


def test_a_backend_that_some_members_cannot_have_names_them(capsys):
    assert run.main(["small.toml", "--backend", "reference", "--set", 'grid.dtype=["float64", "float32"]']) == 2
    assert "wgflow: count=3, seed=0, dtype=float32: " in capsys.readouterr().err


def test_values_of_a_grid_stay_as_they_were_written():
    tables = [{"name": "layers", "layers": 1}, {"name": "deposit", "layers": 1}]
    checked = schema.load(
        study_path("small.toml"), {"grid.depth": tables, "grid.depth.layers": [2, 4], "particles.count": 4}
    )[0]
    listed = grid.expand(checked)
    assert {one.member.depth.layers for one in listed} == {2, 4}
    assert [each["layers"] for each in checked.grid["depth"]] == [1, 1]
    assert math.prod(map(len, checked.grid.values())) == len(listed)
    assert all(one.values["depth"]["layers"] == 1 for one in listed)


@pytest.mark.parametrize(
    ("values", "again"),
    [([1, 2, 1.0], [1.0]), ([True, 1], [1]), ([{"a": [1, 2]}, {"a": [1.0, 2]}], [{"a": [1.0, 2]}]), (["1", 1], []),
     ([[1, 2], [2, 1]], []), ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], [{"b": 2, "a": 1}]), ([["a"], {"a": 1}, "a"], []),
     ([], [])],
)  # fmt: skip
def test_values_that_occur_before(values, again):
    assert grid._repeated(values) == again == [value for k, value in enumerate(values) if value in values[:k]]
