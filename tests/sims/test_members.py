import pytest

from wgflow.errors import BackendError
from wgflow.sims import members, study
from wgflow.sims.run import studies_folder


@pytest.fixture
def single():
    return study.load(studies_folder() / "quickstart.toml", {"dtype": "float32", "seed": 0})[0]


def test_a_study_chooses_the_precision(single):
    setup = members.build(members.expand(single)[0].member)
    assert setup.energy.dtype == "float32"
    assert setup.heldout is None or setup.heldout.dtype == "float32"


def test_the_definition_has_one_precision(single):
    with pytest.raises(BackendError, match="float64 alone"):
        members.build(members.expand(single)[0].member, backend="reference")
