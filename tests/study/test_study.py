import pytest

from wgflow.base.errors import InputError, StudyError
from wgflow.flow.operators import OPERATORS
from wgflow.flow.stepsize import STEP_RULES
from wgflow.model.datasets import DATASETS
from wgflow.model.depth import DEPTHS
from wgflow.model.image_files import LAYOUTS
from wgflow.model.particles import BOUNDARIES, TAU_LAWS
from wgflow.model.regularisers import REGULARISERS
from wgflow.sims.bundled import studies_folder
from wgflow.study import grid, messages, schema
from wgflow.systems import members, residual

STUDY = """
name = "small"
[problem]
name = "sine"
samples = 20
[particles]
count = 3
[flow]
until = 1.0
every = 0.5
[grid]
"particles.count" = [2, 4]
seed = [0, 1]
"""


@pytest.fixture
def load(tmp_path):
    def read(text=STUDY, **overrides):
        path = tmp_path / "small.toml"
        path.write_text(text, encoding="utf-8")
        return schema.load(path, {key.replace("__", "."): value for key, value in overrides.items()})

    return read


@pytest.mark.parametrize("change", ["utf-8-sig", "\r\n", "\r"])
def test_a_file_from_any_editor(tmp_path, load, change):
    text = STUDY + "# τ\n"
    plain = load(text)[1]
    content = text.encode(change) if change == "utf-8-sig" else text.replace("\n", change).encode()
    (tmp_path / "other.toml").write_bytes(content)
    assert schema.load(tmp_path / "other.toml", {})[1] == plain


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("utf-16", "expected TOML in UTF-8, got UTF-16; save it as UTF-8"),
        ("utf-16-be", "expected TOML in UTF-8, got zero bytes"),
        ("utf-32", "expected TOML in UTF-8, got UTF-16"),
        ("iso8859-1", "expected TOML in UTF-8, got the byte 0xe9 in line 15; save it as UTF-8"),
    ],
)
def test_a_file_in_another_encoding_is_refused_in_a_line(tmp_path, encoding, words):
    (tmp_path / "other.toml").write_bytes((STUDY + "\n# é\n").encode(encoding))
    with pytest.raises(InputError, match=words) as caught:
        schema.load(tmp_path / "other.toml", {})
    assert "\n" not in str(caught.value)


def test_grid_becomes_members(load):
    planned = grid.expand(load()[0])
    assert [each.label for each in planned] == [
        "count=2, seed=0",
        "count=2, seed=1",
        "count=4, seed=0",
        "count=4, seed=1",
    ]
    assert [(each.member.particles.count, each.member.seed) for each in planned] == [(2, 0), (2, 1), (4, 0), (4, 1)]
    assert {(each.steps, each.frames) for each in planned} == {(10, 3)}


def test_no_grid_is_one_member(load):
    planned = grid.expand(load(STUDY.split("[grid]")[0])[0])
    assert [(each.label, each.member.particles.count) for each in planned] == [("", 3)]


def test_overrides(load):
    planned = grid.expand(load(particles__count=8, flow__step=0.05, grid__seed=[7])[0])
    assert [each.label for each in planned] == ["seed=7"]
    assert planned[0].member.particles.count == 8
    assert planned[0].steps == 20


def test_tables_can_be_grid_values(load):
    text = STUDY.replace("seed = [0, 1]", 'depth = [{name = "gaps"}, {name = "shallow"}]')
    assert [each.label for each in grid.expand(load(text)[0])][:2] == [
        "count=2, depth=gaps",
        "count=2, depth=shallow",
    ]


def test_what_decides_results_is_hashed_and_the_rest_is_not(load):
    content = load()[1]
    assert load(question="Why?", cost="little", figure="none")[1] == content
    assert load(flow__step=0.05)[1] != content


def test_own_data_are_known_by_content_not_by_place(load, tmp_path):
    import numpy as np

    text = STUDY.replace('name = "sine"\nsamples = 20', 'name = "file"\npath = "own.npz"')
    contents = []
    for y in (0.0, 0.0, 1.0):
        np.savez(tmp_path / "own.npz", x=np.eye(2), y=[0.0, y])
        checked, content = load(text)
        assert members.build(grid.expand(checked)[0].member).energy.problem.y[1] in (1.0, 0.0)
        contents.append(content)
    assert contents[0] == contents[1] != contents[2]
    assert contents[0]["problem"]["path"].startswith("sha256:")


BAD = [
    ({"flow__stpe": 0.1}, "flow.stpe: unknown key; did you mean 'step'? known: until, every"),
    ({"problem__smaples": 3}, "problem.smaples: unknown key; did you mean 'samples'?"),
    ({"problem__name": "sinus"}, "problem.name: unknown name 'sinus': did you mean 'sine'?"),
    ({"depth__name": "gasp"}, "depth.name: unknown name 'gasp': did you mean 'gaps'?"),
    ({"flow__step": -1.0}, "flow.step: expected a number greater than 0, got -1.0 (float)"),
    ({"flow__step": "small"}, "flow.step: expected a valid number, got 'small' (str)"),
    ({"flow__until": float("inf")}, "flow.until: expected a finite number, got inf (float)"),
    ({"particles__tau": "gird"}, "particles.tau: expected 'grid' or 'uniform', got 'gird' (str); did you mean 'grid'?"),
    ({"problem__block": "rigde"}, "problem.block: unknown block 'rigde': did you mean 'ridge'?"),
    ({"problem__activation": "tahn"}, "problem.activation: unknown activation 'tahn': did you mean 'tanh'?"),
    (
        {"problem__loss": "l2"},
        "problem.loss: unknown loss 'l2': expected one of cross_entropy, huber, logistic, squared",
    ),
    ({"flow__integrator": "euelr"}, "flow.integrator: unknown integrator 'euelr': did you mean 'euler'?"),
    ({"problem": 3}, "problem: expected a table, got 3 (int)"),
    ({"name": "a/b"}, "name: expected"),
    ({"seed": -1, "grid": {}}, "seed: expected a number greater than or equal to 0, got -1 (int)"),
]


@pytest.mark.parametrize(("overrides", "words"), BAD)
def test_bad_keys_and_values(load, overrides, words):
    with pytest.raises(StudyError) as caught:
        load(**overrides)
    (line,) = caught.value.problems
    assert line.startswith("small.toml: " + words)


def test_all_problems_at_once(load):
    with pytest.raises(StudyError) as caught:
        load(flow__stpe=1, problem__name="sinus", particles__tau="gird")
    assert len(caught.value.problems) == 3


def test_missing_tables_are_said(load):
    with pytest.raises(StudyError, match=r"\[flow\]: expected a table with at least until = \.\.\., got none; add it"):
        load('name = "x"\n[problem]\nname = "sine"\n')
    with pytest.raises(StudyError, match=r"problem.name: expected a name that says which kind"):
        load('name = "x"\n[problem]\nsamples = 3\n[flow]\nuntil = 1.0\n')


BAD_GRIDS = [
    ({"grid__seed": []}, "grid.seed: expected at least one value, got an empty list"),
    ({"grid__seed": [1, 1]}, "grid.seed: expected different values, got 1 twice"),
    ({"grid__particles.conut": [1]}, "grid: particles.conut: unknown key; did you mean 'count'?"),
    ({"grid__seed": ["a"]}, "grid: seed: expected a valid integer, got 'a' (str)"),
    ({"grid__no.such.place": [1]}, "grid.no.such.place: no table 'no.such'"),
]


@pytest.mark.parametrize(("overrides", "words"), BAD_GRIDS)
def test_bad_grids(load, overrides, words):
    with pytest.raises(InputError) as caught:
        grid.expand(load(**overrides)[0])
    assert words in str(caught.value)


BAD_MEMBERS = [
    ({"flow__mobility": {"tua": 1.0}}, "unknown mobility group 'tua': did you mean 'tau'?"),
    ({"flow__step": 0.3}, "until: expected a whole number of steps of 0.3"),
    ({"depth__name": "shallow", "flow__boundary": "free"}, "boundary: expected one of clip under shallow"),
    ({"particles__scale": {"u": 1.0}}, "unknown parameter group in scale 'u'"),
    ({"observables": ["heldout"]}, "'heldout' needs samples held out"),
    ({"observables": ["held_out"]}, "did you mean 'heldout'"),
]


@pytest.mark.parametrize(("overrides", "words"), BAD_MEMBERS)
def test_tables_that_do_not_fit_together(load, overrides, words):
    with pytest.raises(InputError) as caught:
        members.build(grid.expand(load(**overrides)[0])[0].member)
    assert words in str(caught.value)


@pytest.mark.parametrize(("text", "words"), [("a = ", "not valid TOML: "), (b"\xff\xfe", "expected TOML")])
def test_not_toml(tmp_path, text, words):
    path = tmp_path / "bad.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=words):
        schema.load(path, {})


def test_values_on_the_command_line():
    assert schema.override_value("0.5") == 0.5
    assert schema.override_value("[1, 2]") == [1, 2]
    assert schema.override_value("true") is True
    assert schema.override_value("gaps") == "gaps"
    assert schema.override_value('"0.5"') == "0.5"


def test_schema_names_are_the_registries():
    def literals(table):
        return {messages.tag(each) for each in messages.tables(table)}

    assert literals(schema.ProblemChoice) == {*DATASETS, *LAYOUTS, "digit_images"}
    assert literals(schema.DepthChoice) == set(DEPTHS)
    assert set(schema.ParticlesTable.model_fields["tau"].annotation.__args__) == set(TAU_LAWS)
    assert set(schema.FlowTable.model_fields["boundary"].annotation.__args__) == set(BOUNDARIES)
    assert set(schema.FlowTable.model_fields["rule"].annotation.__args__) == set(STEP_RULES)
    operators = {*OPERATORS, *residual._TRANSPORT}
    assert literals(schema.FlowTable.model_fields["ingredients"].annotation) == operators
    assert literals(schema.Study.model_fields["regulariser"].annotation) == set(REGULARISERS)


@pytest.mark.parametrize("path", sorted(studies_folder().glob("*.toml")), ids=lambda path: path.stem)
def test_bundled_studies_are_whole(path):
    checked, _ = schema.load(path, {})
    assert checked.name == path.stem
    assert checked.question
    assert checked.cost
    planned = grid.expand(checked)
    for each in (planned[0], planned[-1]):
        if each.member.training is None:  # those are tried out in test_cifar_studies.py, without their data
            members.build(each.member, "reference")
    assert path.stem in (path.parent / "README.md").read_text()


def test_a_file_in_utf_16_without_its_mark_is_one_line(tmp_path):
    (tmp_path / "other.toml").write_bytes(STUDY.encode("utf-16-le"))
    with pytest.raises(InputError, match="expected TOML in UTF-8, got zero bytes"):
        schema.load(tmp_path / "other.toml", {})


def test_a_list_and_a_table_are_shown_by_example(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('name = "a"\nobservables = "heldout"\n[flow]\nuntil = 1.0\n')
    with pytest.raises(StudyError) as caught:
        schema.load(path, {})
    assert "observables: expected a list such as ['heldout'], got 'heldout'" in str(caught.value)
    assert "[problem]: expected a table with at least name = ..., got none; add it" in str(caught.value)
