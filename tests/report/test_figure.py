"""What figures of one run share is found once, and again as soon as the run has changed."""

from wgflow.report.figure import cached
from wgflow.study.workspace import Workspace


def test_what_is_kept_of_a_run_lasts_until_a_file_of_it_changes(tmp_path):
    looks = []
    find = cached(lambda work: looks.append(1) or (work.folder / "members" / "a.h5").read_text())
    (tmp_path / "members").mkdir()
    (tmp_path / "study.json").write_text("{}")
    (tmp_path / "members" / "a.h5").write_text("old")
    work = Workspace(tmp_path)
    assert find(work) == find(work) == "old"
    assert len(looks) == 1
    (tmp_path / "members" / "a.h5").write_text("newer")
    assert find(work) == "newer"
