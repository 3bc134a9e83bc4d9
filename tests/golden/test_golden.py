"""Small versions of all studies give what the manifest says."""

import copy

import pytest

pytest.importorskip("matplotlib", reason="needs wgflow[study]")
pytest.importorskip("sklearn", reason="needs wgflow[study]")

from tests.golden import manifest
from tests.golden.studies import STUDIES, WITHOUT
from wgflow.sims import run


def test_every_bundled_study_is_there_or_left_out_for_a_reason():
    bundled = {path.stem for path in run.studies_folder().glob("*.toml")}
    assert bundled == STUDIES.keys() | WITHOUT.keys()
    assert not STUDIES.keys() & WITHOUT.keys()
    assert manifest.load()["studies"].keys() == STUDIES.keys()


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_gives_what_it_gave(study, tmp_path, subtests):
    """Structure and numbers everywhere; each bit where the manifest has this platform, else that part is skipped."""
    if missing := manifest.lacks(study):
        pytest.skip(f"needs {', '.join(missing)}")
    here = manifest.platform()
    found = manifest.differences(study, manifest.load(), manifest.alone(study, tmp_path), here)
    for part, lines in found.items():
        with subtests.test(part):
            if lines is None:
                pytest.skip(f"no {part} in the manifest for {here}")
            assert not lines, "\n".join([f"{study}: {part} differ from the manifest", *lines])


def test_the_comparison_can_fail():
    """A number, a name, a digest changed in a copy are seen, each in its part; rounding is not; nor a new platform."""
    kept, study = manifest.load(), "quickstart"
    (here, digests), *_ = kept["digests"].items()
    found = {**copy.deepcopy(kept["studies"][study]), "digests": copy.deepcopy(digests[study])}
    same = {"structure": [], "numbers": [], "digests": []}
    assert manifest.differences(study, kept, found, here) == same
    assert manifest.differences(study, kept, found, "another") == same | {"digests": None}

    item = "h5 observables/energy/value"
    for factor, seen in ((1 + 1e-9, False), (1 + 1e-4, True)):
        for place in (1, 2):
            changed = copy.deepcopy(found)
            changed["numbers"][item][place] *= factor
            lines = manifest.differences(study, kept, changed, here)["numbers"]
            assert [line.split(":")[0] for line in lines] == [item] * seen
    for other in (lambda row: [row[0] + 1, *row[1:]], lambda row: [*row, 1]):  # one value more, one not finite
        changed = copy.deepcopy(found)
        changed["numbers"][item] = other(changed["numbers"][item])
        assert len(manifest.differences(study, kept, changed, here)["numbers"]) == 1
    changed = copy.deepcopy(found)
    del changed["numbers"][item]
    assert len(manifest.differences(study, kept, changed, here)["numbers"]) == 1

    changed = copy.deepcopy(found)
    changed["digests"][item] = "0" * 12
    assert manifest.differences(study, kept, changed, here) == same | {
        "digests": [f"{item}: {digests[study][item]} -> {'0' * 12}"]
    }
    changed = copy.deepcopy(found)
    changed["structure"]["files"].remove("summary.csv")
    changed["structure"]["summary.csv"]["columns"][0] = "count"
    assert len(manifest.differences(study, kept, changed, here)["structure"]) == 2


def test_what_a_figure_shows_is_seen_without_its_text():
    from matplotlib.figure import Figure

    def drawn(last, title):
        figure = Figure()
        axes = figure.subplots()
        axes.plot([0.0, 1.0], [0.0, last])
        axes.fill_between([0.0, 1.0], [0.0, 0.0], [1.0, last])
        axes.set_title(title)
        return manifest.signature(manifest.geometry(figure))

    assert drawn(1.0, "one") == drawn(1.0, "another")
    assert drawn(1.0, "one") != drawn(1.0 + 1e-15, "one")
