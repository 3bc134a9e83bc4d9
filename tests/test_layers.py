"""The house's one rule: imports run one way. Read from the source, so that lazy imports count too."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "wgflow"
# A module may import those of its own line and of the lines above, a name on the right of a bar none on its left.
LAYERS = [
    ["wgflow", "base"],
    ["model"],
    ["kernels"],
    ["energy"],
    ["flow", "trajectory"],
    ["theory"],
    ["systems"],
    ["study", "stats"],
    ["report", "studies"],
    ["sims"],
    ["cli", "analysis", "doctor"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
APART = {("flow", "trajectory"), ("trajectory", "flow")}  # a writer cannot see a flow
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(dotted):
    """Room of a dotted module name: wgflow.kernels.cpu.backend -> kernels."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else "wgflow"


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from wgflow import depth` names a module, `from wgflow import __version__` does not
            whole = [f"{node.module}.{alias.name}" for alias in node.names if f"{alias.name}" in RANK]
            yield from whole if node.module == "wgflow" and whole else [node.module]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    inner = path.relative_to(PACKAGE).with_suffix("").parts
    if inner == ("__init__",):
        pytest.skip("the lazy front door names every room")
    here = inner[0]
    assert here in RANK, f"{here} has no place in LAYERS"
    for dotted in imported(ast.parse(path.read_text())):
        if not dotted.startswith("wgflow"):
            continue
        there = room(dotted)
        assert RANK[there] <= RANK[here], f"{here} imports {dotted}"
        assert (here, there) not in APART, f"{here} imports {dotted}"


@pytest.mark.parametrize("path", sorted((ROOT / "analysis").glob("*.py")), ids=lambda path: path.name)
def test_figure_scripts_cannot_start_a_run(path):
    rooms = {room(dotted) for dotted in imported(ast.parse(path.read_text())) if dotted.startswith("wgflow")}
    assert rooms <= {"analysis", "workspace", "trajectory"}


def test_the_rule_can_fail():
    tree = ast.parse("def f():\n    from wgflow.sims import run")
    assert [RANK[room(dotted)] > RANK["kernels"] for dotted in imported(tree)] == [True]
