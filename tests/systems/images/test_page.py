"""docs/cifar.md: its lines run, its choices are keys, its rows are the table's."""

import re
from pathlib import Path

import pytest

from wgflow.studies.cifar.reduce import PUBLISHED
from wgflow.study.training_tables import TrainingTable
from wgflow.systems.images.recipe import MEASURED

PAGE = (Path(__file__).parents[3] / "docs" / "cifar.md").read_text()


def test_its_lines_run(capsys):
    pytest.importorskip("torch")
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(block, {})
    same, depths = capsys.readouterr().out.split("\n", 1)
    assert same == "the same network: True"
    tau = [float(each) for each in re.findall(r"\d\.\d+", depths)]
    assert len(tau) == 5
    assert tau != [0.2, 0.4, 0.6, 0.8, 1.0]
    assert all(0 <= each <= 1 for each in tau)


def test_keys_and_observables_of_the_page():
    keys = set(re.findall(r"`training\.(\w+)", PAGE))
    assert len(keys) > 4
    assert keys <= set(TrainingTable.model_fields)
    assert set(MEASURED) <= set(re.findall(r"`(\w+)`", PAGE))


@pytest.mark.parametrize(("images", "network"), sorted(PUBLISHED))
def test_every_row_of_the_paper_is_there_with_its_numbers(images, network):
    vanilla, moved = PUBLISHED[images, network]
    (row,) = re.findall(rf"^\| `{network}`, {images.upper().replace('R', 'R-')} \| .*$", PAGE, re.MULTILINE)
    assert row.endswith(f"| {vanilla:.2f}, {moved:.2f} |")
