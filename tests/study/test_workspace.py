import json
import re
import subprocess
import sys
import unicodedata

import pytest

from wgflow.base.errors import InputError, WorkspaceError
from wgflow.base.files import file_name
from wgflow.study.provenance import digest, provenance
from wgflow.study.workspace import Workspace


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


def test_plain_labels_keep_their_names():
    names = {
        "": "only",
        "count=32, seed=1": "count-32_seed-1",
        "method=mean_field, seed=0, tau_rate=5.0": "method-mean_field_seed-0_tau_rate-5.0",
        "step=1e-05, problem.heldout=0.25, nesterov=True": "step-1e-05_problem.heldout-0.25_nesterov-True",
        "ingredients=birth_death+birth, support=point": "ingredients-birth_death+birth_support-point",
    }
    assert {label: file_name(label) for label in names} == names


def test_names_of_files_are_injective_where_case_and_unicode_are_folded(rng):
    values = [
        "2*D",
        "2/D",
        "2-d",
        "2-D",
        "2 d",
        "2_d",
        "é",
        "è",
        "e\u0301",
        "É",
        "",
        " ",
        "ß",
        "ss",
        "ﬁ",
        "fi",
        "\udcff",
        ".",
    ]
    values += [
        "x, c=y",
        "x_c=y",
        "x,c=y",
        "x/c=y",
        "True",
        "true",
        "TRUE",
        "[a]",
        "(a)",
        "a~b",
        "a\nb",
        "[1, 2]",
        "[1,2]",
    ]
    values += ["..", "../a", "a.", "a", "a ", "%2F", "\u200b", "/x, y.npz", "/x_y.npz", "x" * 300]
    labels = [f"{key}={value}" for key in ("a", "A", "nul.x", "b.c") for value in values] + ["", "only", "con", "CON"]
    labels += ["x=" + "".join(rng.choice(list("aAbB-_=, ./é"), 6)) for _ in range(2000)]
    labels += [f"every={'1.25;' * 90}{k}" for k in range(3)] + [f"every={'1' * 200}{k}" for k in range(3)]
    labels = list(dict.fromkeys(labels))
    names = [file_name(label) for label in labels]
    assert all(re.fullmatch(r"[A-Za-z0-9.+_~-]+", name) and len(name) < 200 for name in names)
    assert len({unicodedata.normalize("NFKC", name).casefold() for name in names}) == len(labels)
    devices = {"con", "prn", "aux", "nul", *(f"{port}{k}" for port in ("com", "lpt") for k in range(10))}
    assert not devices & {name.lower().split(".")[0] for name in names}


def test_long_labels_have_file_names(tmp_path):
    names = {Workspace(tmp_path).member(f"every={'1.25;' * 90}{k}", {}).path.name for k in range(3)}
    assert len(names) == 3
    assert all(len(name) < 200 for name in names)


def test_members_that_would_share_a_file_are_refused(tmp_path):
    Workspace(tmp_path).check_distinct(["a=1", "a=2"])
    with pytest.raises(InputError, match="expected members whose files differ in name"):
        Workspace(tmp_path).check_distinct(["method=mean_field, seed=0", "method=mean, field_seed=0"])


def test_not_a_run_folder(tmp_path):
    with pytest.raises(WorkspaceError, match="expected the folder of a run"):
        Workspace(tmp_path).members()


def test_second_process_is_refused(tmp_path):
    work = Workspace(tmp_path)
    script = (
        "import sys\nfrom wgflow.study.workspace import Workspace\n"
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


def test_latest_is_the_run_begun_last(tmp_path, monkeypatch):
    study = {"members": []}
    first, second = (Workspace(tmp_path / "small" / name) for name in ("0" * 12, "1" * 12))
    latest = tmp_path / "small" / "latest"
    for work in (first, second, first):
        work.create(study)
        assert latest.is_symlink()
        assert latest.resolve() == work.folder.resolve()
        assert Workspace(latest).folder == work.folder
    assert Workspace(latest).study["hash"] == "0" * 12

    def no_links(*args, **options):
        raise OSError("no links on this disk")

    monkeypatch.setattr("pathlib.Path.symlink_to", no_links)
    second.create(study)
    assert latest.read_text() == "1" * 12 + "\n"
    assert Workspace(latest).folder == second.folder
    latest.unlink()
    latest.mkdir()  # somebody's own
    first.create(study)
    assert latest.is_dir()
    assert Workspace(latest).folder == latest
    assert sorted(path.name for path in latest.parent.iterdir()) == ["0" * 12, "1" * 12, "latest"]
