import json
import subprocess
import sys

import pytest

from wgflow.errors import WorkspaceError
from wgflow.workspace import Workspace, digest, provenance


def test_folder_is_named_by_content(tmp_path):
    assert Workspace.of(tmp_path, "a", {"x": 1, "y": 2}).folder == Workspace.of(tmp_path, "a", {"y": 2, "x": 1}).folder
    assert digest({"x": 1}) != digest({"x": 2})
    assert not list(tmp_path.iterdir())


def test_members_in_the_order_of_the_study(tmp_path):
    work = Workspace(tmp_path / "run")
    listed = [{"label": f"count={n}, seed=0", "values": {"particles.count": n, "seed": 0}} for n in (8, 4, 16)]
    work.create({"members": listed})
    for n in (4, 8):
        work.member(f"count={n}, seed=0", {}).path.touch()
    assert [member.values["particles.count"] for member in work.members()] == [8, 4]
    assert work.members()[0].path.name == "count-8_seed-0.h5"


def test_long_labels_have_file_names(tmp_path):
    names = {Workspace(tmp_path).member(f"every={'1.25;' * 90}{k}", {}).path.name for k in range(3)}
    assert len(names) == 3
    assert all(len(name) < 200 for name in names)


def test_not_a_run_folder(tmp_path):
    with pytest.raises(WorkspaceError, match="expected the folder of a run"):
        Workspace(tmp_path).members()


def test_second_process_is_refused(tmp_path):
    work = Workspace(tmp_path)
    script = (
        "import sys\nfrom wgflow.workspace import Workspace\n"
        "try:\n  with Workspace(sys.argv[1]).locked(): print('in')\nexcept OSError as error: print(error)"
    )
    with work.locked():
        out = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert "another process is running this study" in out.stdout
    out = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "in"


def test_tables(tmp_path):
    work = Workspace(tmp_path)
    rows = [{"a": 1, "b": float("nan")}, {"a": 2, "c": "x"}]
    assert json.loads(work.write_json("t.json", rows).read_text()) == [{"a": 1, "b": None}, {"a": 2, "c": "x"}]
    assert work.write_csv("t.csv", rows).read_text().splitlines() == ["a,b,c", "1,nan,", "2,,x"]
    work.event("started", n=1)
    work.event("done")
    assert [json.loads(line)["event"] for line in (tmp_path / "events.jsonl").read_text().splitlines()] == [
        "started",
        "done",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.jsonl", "t.csv", "t.json"]


def test_provenance_names_what_made_a_result():
    made_by = provenance("cpu", 2)
    assert {"wgflow", "kernels", "backend", "threads", "packages"} <= set(made_by)
