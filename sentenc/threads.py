"""Threads for probes and heads, arranged so that their number cannot change a result."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from sentenc.errors import MissingExtraError


@contextmanager
def worker_threads(
    n_threads: int | None = None, *, extra: str = "eval", feature: str = "training a probe"
) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads, with BLAS held to one thread each until the end of the block.

    BLAS's own threads split a sum differently for every number of them, and wait for each other in busy loops:
    beside any other work, two of them take several times as long as one. Ours share out blocks whose borders
    depend on the problem alone, and add them up in order.

    Args:
        n_threads: All usable cores by default.
        extra: Named in the error, as is ``feature``.
        feature: What needs it.

    Raises:
        MissingExtraError: scikit-learn, which brings threadpoolctl, is not installed.
    """
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise MissingExtraError(extra, "scikit-learn", feature) from error
    with threadpool_limits(1), ThreadPoolExecutor(n_threads or usable_cores()) as pool:
        yield pool


def usable_cores() -> int:
    """Cores that this process may run on."""
    # A container may give a process fewer cores than the machine has; only Linux tells.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
