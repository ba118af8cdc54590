"""Worker processes: results, failures, and processes that are killed."""

import errno
import os
import signal
import sys
import threading
import time
from functools import partial

import pytest

from sentenc.errors import TextFileError
from sentenc.shards.workers import Done, Failed, run_here, run_in_processes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
SECONDS = 60


def nothing(_task, _rows):
    pass


def events_of(work, tasks, processes=2, on_progress=nothing):
    return sorted(run_in_processes(work, tasks, processes, on_progress), key=lambda event: event.task)


def square(task, on_rows):
    for rows in range(3):
        on_rows(rows)
    return task**2


def failing(task, on_rows):
    if task == 1:
        raise TextFileError("file 1, line 3: no field")
    if task == 2:
        raise KeyError("b")
    if task == 3:
        raise OSError(errno.ENOSPC, "No space left on device", "file 3")
    return task


def killed(task, on_rows, folder):
    """Ends its process in the first try of an odd task, and in every try of task 5."""
    is_first = not os.path.exists(folder / str(task))
    (folder / str(task)).touch()
    on_rows(1)
    if task == 5 or (task % 2 and is_first):
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def exiting(task, on_rows):
    os._exit(3)


def sleeping(task, on_rows, folder):
    path = folder / f"{task}.tmp"
    path.touch()
    try:
        on_rows(os.getpid())
        time.sleep(0.05 if task == 0 else SECONDS)
    finally:
        path.unlink()


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_every_task_has_its_result(processes):
    assert events_of(square, [3, 4, 5], processes) == [Done(0, 9), Done(1, 16), Done(2, 25)]


def test_no_tasks():
    assert events_of(square, []) == []


def test_progress_is_reported_by_task():
    reported = []
    events_of(square, [3, 4], on_progress=lambda task, rows: reported.append((task, rows)))
    assert sorted(reported) == [(task, rows) for task in (0, 1) for rows in range(3)]


@pytest.mark.parametrize("run", [run_here, partial(run_in_processes, processes=2)])
def test_an_exception_fails_its_task_alone(run):
    events = sorted(run(failing, [0, 1, 2, 3, 4], on_progress=nothing))
    assert [type(event) for event in events] == [Done, Failed, Failed, Failed, Done]
    assert events[1].reason == "file 1, line 3: no field"
    assert "KeyError" in events[2].reason
    assert [event.is_fatal for event in events[1:4]] == [False, False, True]


def test_a_task_whose_process_is_killed_is_tried_once_more(tmp_path):
    events = events_of(partial(killed, folder=tmp_path), range(8), processes=3)
    assert [event.task for event in events] == list(range(8))
    assert [event.result for event in events if event.task != 5] == [0, 1, 2, 3, 4, 6, 7]
    assert isinstance(events[5], Failed)
    assert "SIGKILL" in events[5].reason


def test_a_process_that_exits_fails_its_task():
    events = events_of(exiting, [0])
    assert "3" in events[0].reason
    assert isinstance(events[0], Failed)


def test_closing_ends_all_processes_and_their_temporary_files(tmp_path):
    pids = []
    events = run_in_processes(
        partial(sleeping, folder=tmp_path), [0, 1, 2], 2, lambda _task, pid: pids.append(pid)
    )
    assert next(events).task == 0
    events.close()
    assert len(set(pids)) >= 1
    assert list(tmp_path.iterdir()) == []
    for pid in set(pids):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_with_other_threads_processes_are_not_forked():
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert events_of(square, [3], processes=1) == [Done(0, 9)]
    finally:
        done.set()
        thread.join()
