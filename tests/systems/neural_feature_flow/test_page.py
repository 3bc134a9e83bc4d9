"""docs/features.md: every name it gives is there, and its lines run."""

import importlib
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "features.md").read_text()
ROWS = [row.split("|") for row in PAGE.splitlines() if row.startswith("| ") and "`" in row]
NAMES = sorted(
    {name for row in ROWS for name in re.findall(r"`(\w+\.\w+)[`(]", row[2]) if not name.startswith("network.")}
)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_there(name):
    module, attribute = name.split(".")
    home = "network" if module == "Network" else module
    found = importlib.import_module(f"wgflow.systems.neural_feature_flow.{home}")
    assert hasattr(found.Network if module == "Network" else found, attribute)


def test_there_are_names():
    assert len(NAMES) > 15


def test_its_lines_run(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(block, {})
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("rank of each regression: (")
    losses = [float(line.split("=")[-1]) for line in out[1:]]
    assert losses[-1] < 0.1 * losses[0]


def test_observables_and_keys_of_the_page():
    from wgflow.study.tables import NetworkTable
    from wgflow.systems.neural_feature_flow.members import FeatureNetwork

    for name in re.findall(r"observables? `(\w+)`", PAGE):
        assert name in FeatureNetwork.observables
    for name in re.findall(r"`network\.(\w+) =", PAGE):
        assert name in NetworkTable.model_fields


THEOREMS = (Path(__file__).parents[3] / "docs" / "theorems.md").read_text().split("## Fang")[1].split("\n## ")[0]
ENTRIES = [row.split(" | ") for row in THEOREMS.splitlines() if row.startswith("| ") and "`" in row]


def test_the_table_of_theorems_names_what_is_there():
    """Every function of Fang's table can be imported, and every test of it is one."""
    root = Path(__file__).parents[2]
    tests = {name for path in root.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())}
    assert len(ENTRIES) > 12
    for *_, functions, named in ENTRIES:
        for name in re.findall(r"`([a-z]\w*\.\w+)`", functions):
            module, attribute = name.split(".")
            study = attribute in ("reduce", "figure")
            home = f"wgflow.studies.{name}" if study else f"wgflow.systems.neural_feature_flow.{module}"
            found = importlib.import_module(home)
            assert study or hasattr(found, attribute), name
        wanted = re.findall(r"`(test_\w+)`", named)
        assert wanted
        assert set(wanted) <= tests, set(wanted) - tests
