"""Imports run one way. Read from the source, so that lazy imports count too."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "wgflow"
# A module may import from its own floor and from the floors above it in this list.
LAYERS = [
    ["wgflow", "base"],
    ["model"],
    ["kernels"],
    ["energy"],
    ["flow", "trajectory"],
    ["theory"],
    ["study"],
    ["systems"],
    ["stats"],
    ["report", "studies"],
    ["sims"],
    ["cli", "analysis", "cifar", "doctor"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
APART = {("flow", "trajectory"), ("trajectory", "flow")}  # a writer cannot see a flow
PATHS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def room(dotted):
    """Room of a dotted module name: wgflow.kernels.cpu.backend -> kernels."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else "wgflow"


def imported(tree):
    """Modules that a tree imports, by their dotted names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            # `from wgflow import depth` names a module, `from wgflow import __version__` does not
            yield from (name if name in PATHS else node.module for name in names)


def graph(paths):
    """Imports at the top of modules, those of ``if TYPE_CHECKING`` and of functions aside."""
    out = {}
    for name, path in paths.items():
        body = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        out[name] = {other for other in imported(ast.Module(body, [])) if other in paths and other != name}
    return out


def cycle(arrows):
    """Names along a cycle, or None: leaves are taken away until none is left."""
    arrows = {name: set(others) for name, others in arrows.items()}
    while True:
        leaves = {name for name, others in arrows.items() if not others & set(arrows)}
        if not leaves:
            return sorted(arrows) or None
        for name in leaves:
            del arrows[name]


@pytest.mark.parametrize("path", PATHS.values(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    inner = path.relative_to(PACKAGE).with_suffix("").parts
    if inner == ("__init__",) or path.name == "__main__.py":  # which calls a command of the top floor
        pytest.skip("names rooms above it, lazily")
    here = inner[0]
    assert here in RANK, f"{here} has no place in LAYERS"
    for dotted in imported(ast.parse(path.read_text())):
        if not dotted.startswith("wgflow"):
            continue
        there = room(dotted)
        assert RANK[there] <= RANK[here], f"{here} imports {dotted}"
        assert (here, there) not in APART, f"{here} imports {dotted}"


def test_no_cycle_between_modules():
    assert cycle(graph({name: path for name, path in PATHS.items() if name != "wgflow"})) is None


def test_no_cycle_between_rooms():
    rooms = {}  # report and studies stand on one floor and count as one
    for name, path in PATHS.items():
        if name != "wgflow" and path.name != "__main__.py":
            found = {room(other) for other in imported(ast.parse(path.read_text())) if other in PATHS}
            found = {"report" if other == "studies" else other for other in found - {"wgflow"}}
            here = "report" if room(name) == "studies" else room(name)
            rooms.setdefault(here, set()).update(found - {here})
    assert cycle(rooms) is None


def test_twelve_floors_at_most():
    assert len(LAYERS) <= 12


@pytest.mark.parametrize("path", sorted((ROOT / "analysis").glob("*.py")), ids=lambda path: path.name)
def test_figure_scripts_cannot_start_a_run(path):
    rooms = {room(dotted) for dotted in imported(ast.parse(path.read_text())) if dotted.startswith("wgflow")}
    assert all(RANK[each] < RANK["sims"] for each in rooms)


def test_the_rules_can_fail():
    tree = ast.parse("def f():\n    from wgflow.sims import run")
    assert [RANK[room(dotted)] > RANK["kernels"] for dotted in imported(tree)] == [True]
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]
