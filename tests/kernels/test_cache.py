import re
import shutil
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


KERNELS = Path(cache.__file__).parent


def test_fingerprint_covers_every_compiled_source():
    assert re.fullmatch("[0-9a-f]{12}", cache.fingerprint())
    names = {
        path.relative_to(KERNELS).as_posix(): path for path in KERNELS.rglob("*.*") if path.suffix in (".py", ".cu")
    }
    assert names.keys() >= cache.NO_RESULTS
    compiled = {name for name, path in names.items() if path.suffix == ".cu" or "njit" in path.read_text()}
    assert {"cpu/functions.py", "cpu/forward_backward.py", "gpu/cuda/network.cu"} < compiled
    assert not compiled & cache.NO_RESULTS


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(KERNELS, tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "kernels"


EDITS = [  # file, old, new, whether results may change
    ("cpu/elementary.py", "tanh(x) = e / (e + 2)", "Hyperbolic tangent", False),
    ("cpu/elementary.py", "# The same in float32", "# In float32", False),
    ("cpu/vectors.py", "a tile reaches beyond its array", "no such element", False),
    ("cpu/backend.py", "expected {net.first[-1]} entries", "expected entries", False),
    ("cpu/chunks.py", "    count = 1\n", "\n    count = (1)\n", False),
    ("gpu/cuda/network.cu", "// ", "// Note: ", False),
    ("gpu/diagnose.py", "NEWEST = 12, 13", "NEWEST = 12, 14", False),
    ("cpu/functions.py", "0.7071067811865476", "0.7071067811865475", True),
    ("cpu/forward_backward.py", "out_row[m] += factor", "out_row[m] -= factor", True),
    ("cpu/flags.py", '{"contract"}', '{"contract", "nsz"}', True),
    ("cpu/chunks.py", "_CHUNKS = 16", "_CHUNKS = 8", True),
    ("cpu/grouped.py", "8 if width <= 8", "8 if width <= 16", True),
    ("gpu/cuda/network.cu", "+=", "-=", True),
    ("gpu/persistent.py", "(64, 32, 16, 8)", "(32, 16, 8)", True),
    ("reference.py", "tape = [start]", "tape = [1 * start]", True),
]


@pytest.mark.parametrize(("name", "old", "new", "counts"), EDITS)
def test_fingerprint_follows_code_but_not_comments_messages_or_layout(copy, name, old, new, counts):
    assert cache._fingerprint(copy) == cache.fingerprint()
    text = (copy / name).read_text()
    assert old in text
    (copy / name).write_text(text.replace(old, new))
    assert (cache._fingerprint(copy) != cache.fingerprint()) == counts


def test_fingerprint_covers_a_new_module(copy):
    (copy / "cpu" / "later.py").write_text("ONE = 1\n")
    assert cache._fingerprint(copy) != cache.fingerprint()


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
