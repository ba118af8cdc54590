"""Threads whose number does not change a result."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from sentenc.errors import MissingExtraError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_First = TypeVar("_First")
_Second = TypeVar("_Second")


@contextmanager
def worker_threads(
    n_threads: int | None = None, *, extra: str = "eval", feature: str = "training a probe"
) -> "Iterator[ThreadPoolExecutor]":
    """Opens a pool of threads, and limits BLAS to one thread each until the end of the block.

    BLAS splits a sum differently for every number of its own threads. They also wait for each other in busy
    loops, so that two of them take several times as long as one if there is other work. The threads of this
    pool take blocks whose borders depend on the problem alone, and whose sums are added in order.

    Args:
        n_threads: The number of threads. By default all cores that the process may use.
        extra: The extra that the error message names.
        feature: The feature that the error message names.

    Raises:
        MissingExtraError: scikit-learn, which brings threadpoolctl, is not installed.
    """
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise MissingExtraError(extra, "scikit-learn", feature) from error
    from concurrent.futures import ThreadPoolExecutor

    with threadpool_limits(1), ThreadPoolExecutor(n_threads or usable_cores()) as pool:
        yield pool


def run_together(first: Callable[[], _First], second: Callable[[], _Second]) -> tuple[_First, _Second]:
    """Runs two functions at the same time, the first in a thread of its own, and returns their results.

    The first one should be native code that does not hold the GIL. On one core they run one after the other.
    If both raise an exception, that of the second function is raised; on one core, that of the first.
    """
    if usable_cores() == 1:
        result = first()
        return result, second()
    # ThreadPoolExecutor would do the same, but its import takes longer than many functions.
    from threading import Thread

    results: list[_First] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(first())
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=run, name="sentenc")
    thread.start()
    try:
        other = second()
    finally:
        thread.join()
    if errors:
        raise errors[0]
    return results[0], other


def usable_cores() -> int:
    """Returns the number of cores that this process may use."""
    # A container may restrict a process to fewer cores than the machine has. Only Linux reports it.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
