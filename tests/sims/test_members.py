import pytest

from wgflow.base.errors import BackendError, InputError
from wgflow.flow.stepsize import Adaptive
from wgflow.sims.bundled import studies_folder
from wgflow.study import grid, schema
from wgflow.study.schema import Member
from wgflow.systems import members


@pytest.fixture
def single():
    return schema.load(studies_folder() / "quickstart.toml", {"dtype": "float32", "seed": 0})[0]


def test_a_study_chooses_the_precision(single):
    setup = members.build(grid.expand(single)[0].member)
    assert setup.energy.dtype == "float32"
    assert setup.heldout is None or setup.heldout.dtype == "float32"


def test_the_definition_has_one_precision(single):
    with pytest.raises(BackendError, match="float64 alone"):
        members.build(grid.expand(single)[0].member, backend="reference")


def test_a_study_chooses_the_tolerances():
    keys = {"flow.rule": "adaptive", "flow.integrator": "heun", "flow.rtol": 1e-6, "flow.smallest": 0.01, "seed": 0}
    chosen = schema.load(studies_folder() / "quickstart.toml", keys)[0]
    rule = members.build(grid.expand(chosen)[0].member).flow.rule
    assert rule == Adaptive(chosen.flow.step, rtol=1e-6, smallest=0.01)


def test_tolerances_without_a_rule_that_has_them_are_refused():
    chosen = schema.load(studies_folder() / "quickstart.toml", {"flow.rtol": 1e-6, "seed": 0})[0]
    with pytest.raises(InputError, match=r"rtol: expected a rule that has it, got .* 'constant'; set the rule"):
        members.build(grid.expand(chosen)[0].member)


def test_members_of_documents_in_files(single):
    """Documents of older versions lack keys and have others; those of flows without a study are empty."""
    document = grid.expand(single)[0].member.model_dump(mode="json")
    assert Member.of(document).model_dump(mode="json") == document
    document["particles"] = {"per_layer": 3, "forgotten": 1}
    document["depth"] = {"name": "layers", "layers": 4, "forgotten": 1}
    del document["observables"]
    member = Member.of(document)
    assert (member.layers, member.per_layer, member.count, member.particles.part) == (4, 3, 12, 0)
    assert member.observables == []
    assert [member.reached(share * member.flow.until) for share in (1 - 1e-9, 1 - 1e-14, 1)] == [False, True, True]
    assert not hasattr(Member.of({}), "flow")
