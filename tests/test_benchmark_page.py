"""The page's part about GPUs: nothing is estimated, what was measured is shown, what failed is not passed over."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu_page

    return gpu_page


def row(page, program, seconds, case=0, **options):
    return {
        "program": program,
        "case": list(page.BARS)[case]._asdict(),
        "events": [seconds, 0.9 * seconds, 1.1 * seconds],
        "clock": [1.5 * seconds, 1.4 * seconds, 1.6 * seconds],
        "calls": 10,
        "first": 1.0,
        "memory": 2**20,
        "difference": 1e-7,
    } | options


@pytest.fixture
def results(page):
    about = {"device": "Testing GPU", "driver": "1", "cuda": "13.0", "cores": 2, "python": "3", "versions": {}}
    rows = [
        row(page, "wgflow32", 1e-3),
        row(page, "torch", 0.5),
        row(page, "torch_graph", 0.03),
        row(page, "jax", 0.02, events=None, clock=[0.02, 0.02, 0.02]),
        row(page, "sgemm", page.FLOPS / 50e12, difference=None),
    ]
    return {"machine": about | {"date": "today"}, "table": rows}


def test_without_results_every_number_is_not_measured(page):
    lines = [line for line in page.section(None).splitlines() if line.startswith(("| Gaps", "| Layers"))]
    assert len(lines) == len(page.BARS)
    assert all(line.count("not measured") == 4 for line in lines)


def test_page_in_the_repository_is_what_was_measured(page):
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    assert page.section(page.load(ROOT / "docs"), page.load(ROOT / "docs", "benchmarks_gpu_code")) in text


def test_ratio_is_to_the_best_of_the_others_like_with_like(page, results):
    line = next(line for line in page.section(results).splitlines() if line.startswith("| Gaps"))
    # JAX by the clock: 20 / 1.5 ms; PyTorch by events: 30 / 1 ms
    assert "| 1 ms | JAX, jit of scan: 20 ms | 13.3× (20×) |" in line
    case = next(iter(page.BARS))
    assert f"{case.flops / 1e-3 / 50e12:.0%}" in line


def test_what_failed_is_said_and_not_compared(page, results):
    assert page.failures(results) == []
    results["table"][3] = {"program": "jax", "case": results["table"][3]["case"], "error": "out of memory"}
    text = page.section(results)
    assert "PyTorch, CUDA graph: 30 ms | 30.0×" in text
    assert "out of memory" in text
    assert page.failures(results) == []  # of a rival
    results["table"][0] = {"program": "wgflow32", "case": results["table"][0]["case"], "error": "differs by 1e-2"}
    assert page.failures(results) == [f"wgflow32 on {next(iter(page.BARS)).label}: differs by 1e-2"]
    assert "not measured" in page.section(results)


@pytest.mark.parametrize(
    "part",
    [
        {"tests": {"exit": 1, "summary": "1 failed"}},
        {"tests": {"exit": None, "summary": ""}},
        {"sanitizer": {"memcheck": {"exit": 9, "summary": "ERROR SUMMARY: 1 error"}}},
        {"doctor": {"exit": 2, "asked": {"fault": "broken"}}},
    ],
    ids=str,
)
def test_failed_checks_are_failures(page, results, part):
    assert len(page.failures(results | part)) == 1


def test_part_is_replaced_and_the_rest_left_alone(page, results, tmp_path):
    path = tmp_path / "page.md"
    path.write_text("# Page\n\n## Before\n\ntext\n\n## On a GPU\n\nold\n\n### Old case\n\n## After\n\nmore\n")
    page.replace(path, results, None)
    first = path.read_text()
    assert first.startswith("# Page\n\n## Before\n\ntext\n\n## On a GPU\n\nTesting GPU")
    assert first.endswith("\n## After\n\nmore\n")
    assert "old" not in first.lower().split("### growth")[0].replace("threshold", "")
    page.replace(path, results, None)
    assert path.read_text() == first
    page.replace(tmp_path / "none.md", results, None)
    assert not (tmp_path / "none.md").exists()


def test_command_without_a_device_touches_nothing(page, monkeypatch, tmp_path, capsys):
    import gpu

    monkeypatch.setattr(gpu, "usable", lambda: "backend 'gpu': no device")
    kept = tmp_path / "benchmarks_gpu.json"
    kept.write_text(json.dumps({}))
    assert gpu.main(["--all", "--out", str(tmp_path)]) == 2
    assert "no device" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]
    assert kept.read_text() == "{}"


def test_numbers_of_two_devices_do_not_meet(page, monkeypatch, tmp_path):
    import gpu

    monkeypatch.setattr(gpu, "usable", lambda: "")
    monkeypatch.setattr(gpu, "doctor", lambda clock: {"exit": 0})
    kept = tmp_path / "benchmarks_gpu.json"
    kept.write_text(json.dumps({"machine": {"device": "A"}, "table": []}))
    for name, stays in (("A", True), ("B", False)):
        monkeypatch.setattr(gpu, "machine", lambda device, name=name: {"device": name})
        monkeypatch.setattr(page, "section", lambda results: "")
        gpu.main(["--parts", "doctor", "--out", str(tmp_path)])
        assert ("table" in json.loads(kept.read_text())) == stays


def test_a_process_that_hangs_is_ended(page, tmp_path):
    import sys

    import gpu

    assert gpu.run_within([sys.executable, "-c", "import signal; signal.pause()"], 0.5) is None
    assert gpu.run_within([sys.executable, "-c", "raise SystemExit(3)"], 600) == 3


LISTING = """
.text.other:
        /*0000*/                   FFMA R0, R1, R2, R0 ;
.text.network_pass:
.L_x_1:
\t//## File "tile.cu", line 47
{multiply}
        /*0210*/                   LDS.128 R4, [R5] ;
        /*0220*/                   LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0230*/              @!P0 BRA `(.L_x_1) ;
        /*0240*/               @P1 BRA `(.L_x_2) ;
.L_x_2:
        /*0250*/                   EXIT ;
"""


def test_inner_loops_are_counted_from_a_listing(monkeypatch, page):
    import gpu_code

    monkeypatch.setattr(
        gpu_code, "source", lambda: '#line 1 "tile.cu"\n' + "\n" * 40 + "DEVICE void add(int k)\n" + "\n" * 9
    )
    multiply = "\n".join(f"        /*{16 * k:04x}*/                   FFMA.FTZ R0, R1, R2, R0 ;" for k in range(32))
    found = gpu_code.loops(*gpu_code.instructions(LISTING.format(multiply=multiply), "network_pass"), "FFMA")
    assert found == [
        {
            **{"function": "add", "file": "tile.cu", "instructions": 35, "multiplications": 32},
            **{"shared": 1, "global": 1, "loops": 1},
        }
    ]
    assert "| `add` | tile.cu | 1 | 35 | 32 | 91% | 1 | 1 |" in page.code(
        {"architecture": "sm_90", "precision": "float32", "loops": found}
    )
