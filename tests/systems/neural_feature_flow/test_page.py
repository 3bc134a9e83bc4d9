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
