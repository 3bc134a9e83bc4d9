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
    assert sorted(name for names in wgflow._HOME.values() for name in names) == wgflow.__all__
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


def test_contributing_names_what_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = [
        path for path in re.findall(r"`((?:wgflow|tests|benchmarks|sims|docs)/[\w/.]*)`", text) if "NAME" not in path
    ]
    named = [path for path in named if "ROOM" not in path and path != "docs/benchmarks_gpu.json"]  # written by a run
    assert len(named) > 12
    for path in named:
        assert (ROOT / path).exists(), path
    rooms = re.findall(r"`(\w+)(?:\.py)?`", "".join(re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)))
    inside = {path.stem for path in (ROOT / "wgflow").iterdir() if not path.stem.startswith(("__", "py"))}
    assert inside - {"analysis", "cifar", "doctor"} <= set(rooms)
    for name in re.findall(r"`([A-Z]{5,})`", text):
        assert any(re.search(rf"^{name}\b", path.read_text(), re.MULTILINE) for path in (ROOT / "wgflow").rglob("*.py"))
