"""Worker processes: every answer, every way to end, nobody waits for one that is gone. Their work is Python's own."""

import ctypes
import multiprocessing
import os
import signal
import traceback

import pytest

from wgflow.base.errors import StudyError
from wgflow.sims import workers

WAIT = "import time\nwhile True: time.sleep(0.01)"  # looks at nothing


def shared():
    return multiprocessing.get_context("spawn").RawValue(ctypes.c_bool, False)


def share_out(work, tasks, jobs=2, **options):
    return workers.share_out(work, tasks, jobs, 1, shared(), lambda: None, **options)


@pytest.fixture(autouse=True)
def nobody_is_left():
    yield
    assert not multiprocessing.active_children()


def test_every_task_is_answered_by_one_process_after_the_other():
    assert sorted(share_out(abs, [-3, 2, -1])) == [(-3, 3), (-1, 1), (2, 2)]
    assert len({answer for _, answer in share_out(eval, ["__import__('os').getpid()"] * 4, jobs=1)}) == 1


@pytest.mark.parametrize(
    ("work", "task", "code"), [(signal.raise_signal, 9, -9), (signal.raise_signal, 35, -35), (os._exit, 3, 3)]
)
def test_a_lost_process_is_named_with_its_task(work, task, code):
    with pytest.raises(workers.WorkerDied) as died:
        list(share_out(work, [task], jobs=1))
    assert (died.value.task, died.value.code) == (task, code)


def test_others_are_stopped_and_one_that_does_not_stop_is_killed():
    answers = share_out(exec, [WAIT, "raise OSError(28, 'full', 'x.h5')"], grace=0.0)
    with pytest.raises(OSError, match="full") as error:
        list(answers)
    assert (error.value.errno, error.value.filename) == (28, "x.h5")


def test_the_flag_ends_it_within_its_time():
    stop = shared()
    begun = workers.share_out(exec, [WAIT, WAIT, WAIT], 2, 1, stop, lambda: setattr(stop, "value", True), 0.0)
    assert list(begun) == []


class Gone:
    """What ends the process that unpickles it."""

    def __reduce__(self):
        return os._exit, (7,)


def test_a_process_that_ends_while_it_starts_had_no_task():
    with pytest.raises(workers.WorkerDied) as died:
        list(share_out(Gone(), [1, 2, 3]))
    assert (died.value.task, died.value.code) == (None, 7)


@pytest.mark.parametrize(
    ("task", "kind", "words"),
    [
        ("import wgflow.base.errors as e; raise e.StudyError(['a', 'b'])", StudyError, "a\nb"),
        ("raise MemoryError('of all')", MemoryError, "of all"),
        ("class Own(Exception): pass\nraise Own('x')", RuntimeError, "Own: x"),
        ("class Own(Exception):\n  __str__ = lambda self: 1/0\nraise Own('x')", RuntimeError, "str() failed"),
        ("class Own(Exception):\n  def __init__(self, a, b): pass\nraise Own(1, 2)", RuntimeError, "Own"),
    ],
)
def test_errors_come_with_the_place_they_come_from(task, kind, words):
    """Those that cannot be pickled too, in words."""
    with pytest.raises(kind) as error:
        list(share_out(exec, [task], jobs=1))
    assert type(error.value) is kind
    assert words in str(error.value)
    assert 'File "<string>", line ' in "".join(traceback.format_exception(error.value))


def test_an_answer_that_cannot_be_pickled_is_an_error():
    with pytest.raises(Exception, match="pickle"):
        list(share_out(eval, ["lambda: 0"], jobs=1))


def test_who_asks_for_no_more_answers_ends_the_workers():
    answers = share_out(exec, ["", WAIT], grace=0.0)
    assert next(answers) == ("", None)
    answers.close()


def test_processes_that_the_system_does_not_grant(monkeypatch):
    def refuse(*_):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("multiprocessing.util.spawnv_passfds", refuse)
    with pytest.raises(OSError, match=r"expected 3 processes, got 0 \(Resource temporarily unavailable\); try fewer"):
        list(share_out(abs, [1, 2, 3], jobs=4))
