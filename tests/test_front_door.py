"""What a stranger meets first: the import, the README's lines, the docstrings' examples."""

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import wgflow

ROOT = Path(__file__).parents[1]


def test_public_names_are_there_and_documented():
    assert sorted(wgflow._HOME) == wgflow.__all__
    for name in wgflow.__all__:
        assert getattr(wgflow, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'Problm'"):
        _ = wgflow.Problm
    assert set(wgflow.__all__) <= set(dir(wgflow))


def test_import_is_light():
    script = "import sys, wgflow; print([m for m in ('numpy', 'numba', 'h5py', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "[]"


def test_lines_of_the_readme_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(block.strip().splitlines()) <= 12
    space = {}
    exec(block, space)
    assert space["frame"].energy < 0.3  # what the README says


@pytest.mark.parametrize("module", ["wgflow", "wgflow.flow.flow"])
def test_examples_in_docstrings(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted
    assert not result.failed


def test_version_is_one():
    import tomllib

    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == wgflow.__version__
    assert f"version: {wgflow.__version__}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {wgflow.__version__}" in (ROOT / "CHANGELOG.md").read_text()
