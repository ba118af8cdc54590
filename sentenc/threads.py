"""Threads whose number does not change a result, and the number of them that a process should use."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from sentenc.errors import MissingExtraError
from sentenc.validation import check_integer

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

# A number of threads, or "auto" for that of :func:`usable_cores`.
Threads = int | Literal["auto"]

_VARIABLE = "SENTENC_THREADS"
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
        from threadpoolctl import threadpool_limits
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


class CoreLimit(NamedTuple):
    """The number of threads that a process should use, and the reason for it.

    Attributes:
        number: The number, 1 or more.
        reason: The setting that determines the number, for a reader.
    """

    number: int
    reason: str


def usable_cores() -> int:
    """Returns the number of cores that this process may use; see :func:`core_limit`."""
    return core_limit().number


def core_limit(root: str | os.PathLike[str] = "/") -> CoreLimit:
    """Returns the number of cores that this process may use, and its reason.

    It is the number in the environment variable ``SENTENC_THREADS``, if that is set. Otherwise it is the smallest of
    the number of cores of the machine, of the process's CPU affinity, and of the CPU quota of its cgroup and of every
    parent of it, rounded up. A container of Docker or Kubernetes has its CPU limit as a quota.

    Args:
        root: The folder with the folders ``proc`` and ``sys`` of Linux.

    Raises:
        ValueError: ``SENTENC_THREADS`` is no integer of 1 or more.
    """
    stated = os.environ.get(_VARIABLE, "").strip()
    if stated:
        if not (stated.isascii() and stated.isdigit() and int(stated)):
            raise ValueError(f"{_VARIABLE} is {stated!r}, expected an integer >= 1")
        return CoreLimit(int(stated), f"the environment variable {_VARIABLE}")
    of_machine = os.cpu_count() or 1
    # Only Linux reports the cores to which a process is restricted.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else of_machine
    quota, file = min(_quotas(Path(root)), default=(math.inf, ""))
    if quota <= cores - 1:
        return CoreLimit(max(math.ceil(quota), 1), f"a CPU quota of {quota:g} cores in {file}")
    if cores < of_machine:
        return CoreLimit(cores, f"a CPU affinity of {cores} of {of_machine} cores")
    return CoreLimit(cores, "all cores of the machine")


def thread_count(threads: Threads | None) -> int:
    """Returns a checked number of threads; that of :func:`usable_cores` for ``"auto"`` and None.

    Raises:
        TypeError: ``threads`` is neither an integer nor a str.
        ValueError: ``threads`` is below 1, or another str.
    """
    if threads is None or threads == "auto":
        return usable_cores()
    if isinstance(threads, str):
        raise ValueError(f"threads is {threads!r}, expected an integer >= 1 or 'auto'")
    return check_integer("threads", threads)


def stated_threads(threads: Threads | None) -> int | None:
    """Returns a checked number of threads, or None for ``"auto"``, which is the same as None.

    Raises:
        TypeError: ``threads`` is neither an integer nor a str.
        ValueError: ``threads`` is below 1, or another str.
    """
    return None if threads is None or threads == "auto" else thread_count(threads)


def limit_blas(threads: int) -> None:
    """Limits BLAS, by which NumPy multiplies matrices, to some threads in this process and those that it forks.

    By default BLAS has a thread for every core of the machine, whatever the quota of a container is, and these threads
    wait for each other in busy loops. Nothing happens if the package threadpoolctl is not installed.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return
    threadpool_limits(threads, user_api="blas")


def _quotas(root: Path) -> Iterator[tuple[float, str]]:
    # Yields each CPU quota of the process, in cores, and its file.
    try:
        content = (root / "proc/self/cgroup").read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in content.splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers:
            # The second is the place where version 2 has no controllers, unless its user moved them there.
            for mount in (mounts, mounts / "unified"):
                for folder in _with_parents(mount, path):
                    yield from _read_quota(folder / "cpu.max")
        elif "cpu" in controllers.split(","):
            for mount in (mounts / "cpu", mounts / "cpu,cpuacct"):
                for folder in _with_parents(mount, path):
                    yield from _read_quota(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")


def _with_parents(mount: Path, path: str) -> Iterator[Path]:
    # In a container, the path may be that of the host, of which only the root exists here. A path outside of the
    # container's own root begins with "..".
    parts = [part for part in path.split("/") if part]
    for n in range(0 if ".." in parts else len(parts), -1, -1):
        yield mount.joinpath(*parts[:n])


def _read_quota(*files: Path) -> Iterator[tuple[float, str]]:
    # Microseconds of CPU time, and the period in which they may be used. There is no limit if the quota is "max" or -1.
    try:
        quota, period = map(int, " ".join(file.read_text("ascii") for file in files).split())
    except (OSError, ValueError):
        return
    if quota > 0 and period > 0:
        yield quota / period, str(files[0])
