"""Two functions run together: both results are returned, or the error of either is raised."""

import threading

import pytest

from sentenc import threads
from sentenc.threads import run_together


@pytest.fixture(params=[1, 2], autouse=True)
def cores(request, monkeypatch):
    monkeypatch.setattr(threads, "usable_cores", lambda: request.param)
    return request.param


def fail(error):
    raise error


def test_both_results_are_returned(cores):
    first, second = run_together(threading.get_ident, lambda: [threading.get_ident()])
    assert second == [threading.get_ident()]
    assert (first == second[0]) == (cores == 1)


def test_errors_of_either_are_raised():
    before = threading.active_count()
    with pytest.raises(KeyError, match="one"):
        run_together(lambda: fail(KeyError("one")), lambda: 2)
    with pytest.raises(IndexError, match="two"):
        run_together(lambda: 1, lambda: fail(IndexError("two")))
    # No thread is left, also after an error of the other function.
    assert threading.active_count() == before


def test_they_run_at_the_same_time(monkeypatch):
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    barrier = threading.Barrier(2, timeout=30)
    run_together(barrier.wait, barrier.wait)
