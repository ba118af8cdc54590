"""Worker processes that survive the death of one of them.

``concurrent.futures`` gives up all work when the system ends a process, for example because memory is short. Here
the task of such a process is tried once more in a new one, and the others continue.
"""

import multiprocessing
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from typing import Any, NamedTuple, TypeVar

from sentenc.errors import SentencError
from sentenc.io.disk_full import is_full_disk

T = TypeVar("T")

# A function of a task, and of a function that it calls with the number of rows that are done so far.
Work = Callable[[T, Callable[[int], None]], Any]
# Called with the number of a task and of its rows that are done.
OnProgress = Callable[[int, int], None]

# A task that ends its process twice would probably do so again.
_MOST_TRIES = 2
_SECONDS_TO_END = 10.0


class Done(NamedTuple):
    """The result of a task, by its number."""

    task: int
    result: Any


class Failed(NamedTuple):
    """The reason why a task failed, and whether all others would fail too."""

    task: int
    reason: str
    is_fatal: bool = False


class _Progress(NamedTuple):
    task: int
    rows: int


def run_here(
    work: "Work[T]", tasks: Sequence[T], on_progress: OnProgress
) -> Generator[Done | Failed, None, None]:
    """Runs tasks in this process, one after the other; see :func:`run_in_processes`."""
    for number, task in enumerate(tasks):
        try:
            # The lambda is called before the next task begins.
            yield Done(number, work(task, lambda rows: on_progress(number, rows)))  # noqa: B023
        except Exception as error:
            yield _failure(number, error)


def run_in_processes(
    work: "Work[T]", tasks: Sequence[T], processes: int, on_progress: OnProgress, *, may_fork: bool = True
) -> Generator[Done | Failed, None, None]:
    """Runs tasks in worker processes, and yields the result or failure of each, in the order in which they end.

    All processes are ended when the iterator ends or is closed.

    Args:
        work: A function of a task, and of a function to call with the number of rows done.
        tasks: The tasks.
        processes: The number of processes.
        on_progress: Called with the number of a task and its rows done. A task that is tried again begins anew.
        may_fork: Whether processes may be forked, which is done on Linux if this process has a single thread. Forked
            processes share its memory. Others import the package, and ``work`` and ``tasks`` are pickled for them.
    """
    waiting = deque(range(len(tasks)))
    tries = [0] * len(tasks)
    pool = _Pool(work, may_fork)
    try:
        for _ in range(min(processes, len(tasks))):
            pool.start()
        while True:
            for worker in pool.workers:
                if worker.task is None and waiting:
                    task = waiting.popleft()
                    tries[task] += 1
                    worker.give(task, tasks[task])
            ready = pool.wait()
            if not ready:
                return
            for worker in ready:
                given, event = worker.task, worker.receive()
                if isinstance(event, _Progress):
                    on_progress(*event)
                elif event is not None:
                    yield event
                else:
                    ending = pool.bury(worker)
                    if tries[given] < _MOST_TRIES:
                        waiting.appendleft(given)
                    else:
                        yield Failed(given, f"its process {ending}, in {_MOST_TRIES} tries of {_MOST_TRIES}")
                    if waiting:
                        pool.start()
    finally:
        pool.end()


class _Worker:
    """A process, the connection to it, and the number of the task that it has."""

    def __init__(self, process: Any, connection: Any) -> None:
        self.process, self.connection = process, connection
        self.task: Any = None

    def give(self, number: int, task: Any) -> None:
        self.task = number
        # If the process has ended, the next ``receive`` notices it.
        with suppress(OSError):
            self.connection.send((number, task))

    def receive(self) -> Any:
        """Returns the next event, or None if the process has ended."""
        try:
            event = self.connection.recv()
        except (EOFError, OSError):
            return None
        if not isinstance(event, _Progress):
            self.task = None
        return event


class _Pool:
    def __init__(self, work: Any, may_fork: bool) -> None:
        # The locks of other threads would never be released in a forked process.
        self._forks = may_fork and sys.platform == "linux" and threading.active_count() == 1
        self._context: Any = multiprocessing.get_context("fork" if self._forks else "spawn")
        self._work = work
        self.workers: list[_Worker] = []

    def start(self) -> None:
        ours, theirs = self._context.Pipe()
        # A forked process closes its copies of these. Otherwise no process would notice the end of this one.
        inherited = [*(worker.connection for worker in self.workers), ours] if self._forks else []
        process = self._context.Process(target=_serve, args=(theirs, inherited, self._work), daemon=True)
        with warnings.catch_warnings(), _without_interruption():
            # Python 3.12 and later also warn of the threads of libraries. Those of NumPy and Arrow allow forks.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
            self.workers.append(_Worker(process, ours))
        theirs.close()

    def wait(self) -> list[_Worker]:
        """Waits for a message or the end of a worker that has a task; returns none if no worker has one."""
        busy = {worker.connection: worker for worker in self.workers if worker.task is not None}
        return [busy[connection] for connection in wait(list(busy))] if busy else []

    def bury(self, worker: _Worker) -> str:
        """Removes a worker whose process has ended, and returns how it did."""
        self.workers.remove(worker)
        worker.connection.close()
        worker.process.join()
        code = worker.process.exitcode
        if code >= 0:
            return f"ended with code {code}"
        # Real-time signals have no names.
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"was ended by {name}" + (", perhaps for lack of memory" if name == "SIGKILL" else "")

    def end(self) -> None:
        """Ends all processes: idle ones by themselves, busy ones by SIGTERM, and by SIGKILL if that is too slow."""
        for worker in self.workers:
            worker.connection.close()
            if worker.task is not None:
                worker.process.terminate()
        for worker in self.workers:
            worker.process.join(_SECONDS_TO_END)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self.workers = []


@contextmanager
def _without_interruption() -> Iterator[None]:
    """Delays Ctrl-C to the end of the block, and forever in a process that is started in it."""
    # Windows has no masks of signals.
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _ParentEnded(BaseException):
    """The process that started this one has ended. It is no Exception, so that ``work`` does not handle it."""


def _serve(connection: Any, inherited: list[Any], work: Any) -> None:
    # The main function of a worker process. Ctrl-C reaches all processes, and the parent then ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit)
    for other in inherited:
        other.close()

    def send(event: Any) -> None:
        try:
            connection.send(event)
        except OSError as error:
            raise _ParentEnded from error

    with suppress(EOFError, OSError, _ParentEnded):
        while True:
            number, task = connection.recv()
            try:
                event: Done | Failed = Done(number, work(task, lambda rows: send(_Progress(number, rows))))  # noqa: B023
            except Exception as error:
                event = _failure(number, error)
            send(event)


def _exit(*_: Any) -> None:
    # An exception, so that temporary files are removed.
    raise SystemExit(1)


def _failure(task: int, error: Exception) -> Failed:
    reason = str(error)
    if not isinstance(error, SentencError | OSError | TypeError | ValueError):
        reason = f"{type(error).__name__}: {reason}"
    return Failed(task, reason, is_full_disk(error))
