import subprocess
import sys
from pathlib import Path

import numba
import pytest

from wgflow.kernels import cache

SCRIPT = """
import wgflow
problem = wgflow.Problem([[0.0], [1.0]], [0.0, 1.0])
print(wgflow.Energy(problem)(wgflow.Particles([[1.0, 1.0, 0.0]], [1.0])))
"""


def start(environment):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    import os

    return dict(os.environ)


def test_processes_that_compile_at_once_agree(environment, tmp_path):
    runs = [start(environment) for _ in range(3)]
    outputs = [run.communicate() for run in runs]
    assert len({out for out, _ in outputs}) == 1, outputs
    assert [run.returncode for run in runs] == [0, 0, 0], outputs
    assert list(tmp_path.glob("wgflow/*/*/*.nbi"))  # and the next process finds it compiled


def test_cache_can_be_turned_off(environment, tmp_path):
    out, error = start(environment | {"WGFLOW_CACHE": "off"}).communicate()
    assert float(out) > 0, error
    assert not list(tmp_path.iterdir())


def test_users_own_numba_cache_is_left_alone():
    before = numba.config.CACHE_DIR
    with cache.exclusive():
        assert numba.config.CACHE_DIR != before
    assert numba.config.CACHE_DIR == before


def test_fingerprint_is_of_the_sources():
    assert len(cache.fingerprint()) == 12
    assert int(cache.fingerprint(), 16) >= 0


@pytest.mark.parametrize("lacking", ["home", "folder"])
def test_without_a_home_kernels_are_compiled_in_a_folder_of_their_own(monkeypatch, tmp_path, caplog, lacking):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    if lacking == "home":  # a user without an entry in passwd
        monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    else:
        (tmp_path / "file").touch()
        monkeypatch.setenv("HOME", str(tmp_path / "file"))
    cache.folder.cache_clear()
    try:
        assert cache.folder() is None
        assert len(caplog.messages) == 1
        assert "no folder to keep compiled kernels in" in caplog.text
        with cache.exclusive():
            place = Path(numba.config.CACHE_DIR)
            assert place.stat().st_mode & 0o777 == 0o700
        assert not place.exists()
        assert len(caplog.messages) == 1
    finally:
        cache.folder.cache_clear()


def test_a_relative_cache_folder_is_not_one(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    cache.folder.cache_clear()
    try:
        assert cache.folder().is_relative_to(tmp_path / "home" / ".cache")
    finally:
        cache.folder.cache_clear()
    assert not (tmp_path / "relative").exists()


@pytest.mark.slow
def test_six_processes_at_once_a_hundred_times(environment, tmp_path):
    """Each time with nothing compiled: one compiles, five wait and load, all get the same number. 15 minutes."""
    answers = set()
    for turn in range(100):
        runs = [start(environment | {"XDG_CACHE_HOME": str(tmp_path / str(turn))}) for _ in range(6)]
        outputs = [run.communicate() for run in runs]
        assert [run.returncode for run in runs] == [0] * 6, outputs
        answers |= {out for out, _ in outputs}
    assert len(answers) == 1, answers
