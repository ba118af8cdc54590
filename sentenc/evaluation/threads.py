"""Threads for the probes, arranged so that their number cannot change a result."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from sentenc.errors import MissingExtraError


@contextmanager
def worker_threads(n_threads: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads, with BLAS held to one thread each until the end of the block.

    BLAS's own threads split a sum differently for every number of them. Ours share out blocks whose
    borders depend on the problem alone, and add them up in order.

    Raises:
        MissingExtraError: scikit-learn, which brings threadpoolctl, is not installed.
    """
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise MissingExtraError("eval", "scikit-learn", "training a probe") from error
    with threadpool_limits(1), ThreadPoolExecutor(n_threads or usable_cores()) as pool:
        yield pool


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
