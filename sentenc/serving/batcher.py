"""Micro-batching: one thread processes the items of many requests together, within a budget."""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from sentenc.errors import QueueFullError, StoppedError

_logger = logging.getLogger("sentenc.serving")

# The results may be anything with a length and slices, such as a list or an array.
Run = Callable[[Any, list[Any]], Any]
Observe = Callable[[int, int], None]
_Sizes = tuple[int, int]  # jobs and items of a round
# A job of a round, and the end of its items in that round.
_Share = tuple["Job", int]


class Job:
    """The items of one request.

    Args:
        items: At least one item to process.
        key: Passed to ``run``. Only jobs with equal keys are run in one call.
        weights: The weight of each item; 1 each by default.

    Attributes:
        parts: The results of the items, in order, in one or more pieces.
    """

    __slots__ = ("_loop", "done", "error", "future", "items", "key", "parts", "weight", "weights")

    def __init__(self, items: Sequence[Any], key: Hashable, weights: Sequence[int] | None = None) -> None:
        self.items = items
        self.key = key
        self.weights = [1] * len(items) if weights is None else weights
        # Items without weight are work too.
        self.weight = sum(self.weights) + len(items)
        self.parts: list[Any] = []
        self.done = 0
        self.error: Exception | None = None
        self.future: asyncio.Future[None]
        self._loop: asyncio.AbstractEventLoop


class MicroBatcher:
    """Runs the items of all waiting jobs together, without waiting for more jobs to arrive.

    A round takes jobs in the order of their arrival, up to a budget of weight. Jobs of more than half the
    budget have a queue of their own. In each round, the first of them gets what the small jobs leave, which
    is at least half the budget. So large and small jobs do not hold up each other. Jobs whose future was
    cancelled are dropped. If a round fails, each of its jobs is run again alone, so that only the job at
    fault fails.

    Args:
        name: Name of the thread.
        run: ``run(key, items)`` returns a result for each item, in order. It is called in the thread.
        budget: Weight of a round; only a single item that is heavier exceeds it.
        max_queue: Maximum number of waiting jobs, not counting those of the running round.
        observe: Called with the numbers of jobs and items of every round, in the event loop.
    """

    def __init__(
        self, name: str, run: Run, *, budget: int, max_queue: int, observe: Observe | None = None
    ) -> None:
        self._run, self._observe = run, observe
        self._budget, self._max_queue = budget, max_queue
        self._arrivals: SimpleQueue[Job | None] = SimpleQueue()
        self._small: deque[Job] = deque()
        self._large: deque[Job] = deque()
        # The event loop's thread writes the first counter, the batcher's thread the others.
        self._submitted = 0
        self._ended = 0
        self._running = 0
        self._seconds_per_job = 0.0
        self._stopped = False
        self._name = name
        self._thread = self._new_thread()

    @property
    def waiting(self) -> int:
        """The number of waiting jobs, not counting those of the running round."""
        return max(self._submitted - self._ended - self._running, 0)

    def start(self) -> None:
        """Starts the thread, unless it runs already. After :meth:`stop`, another thread starts.

        A stopped thread that still runs its last round is waited for.
        """
        if self._stopped:
            if self._thread.is_alive():
                self._thread.join()
            self._arrivals = SimpleQueue()
            self._thread = self._new_thread()
            self._stopped = False
        if self._thread.ident is None:
            self._thread.start()

    def stop(self, seconds: float = 1.0) -> None:
        """Fails the jobs that still wait, and waits up to ``seconds`` for the thread to end."""
        self._stopped = True
        self._arrivals.put(None)
        if self._thread.is_alive():
            self._thread.join(seconds)

    async def process(self, job: Job) -> Job:
        """Waits until a job is done. Cancelling the call drops the job.

        Raises:
            QueueFullError: ``max_queue`` jobs are waiting.
            StoppedError: The batcher has been stopped.
            Exception: Any exception that ``run`` raised for this job.
        """
        if self._stopped:
            raise StoppedError("the batcher has been stopped")
        if self.waiting >= self._max_queue:
            raise QueueFullError(min(max(math.ceil(self._max_queue * self._seconds_per_job), 1), 60))
        self.start()
        job._loop = asyncio.get_running_loop()
        job.future = job._loop.create_future()
        self._submitted += 1
        self._arrivals.put(job)
        await job.future
        return job

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._work, name=self._name, daemon=True)

    # In the thread ----------------------------------------------------------------------------------

    def _work(self) -> None:
        while self._collect():
            try:
                self._round()
            except Exception as error:  # a defect of the batcher must not leave requests waiting forever
                _logger.exception("a round of %s failed", self._thread.name)
                self._fail_all(error)
        self._fail_all(StoppedError("the server is stopping"))

    def _collect(self) -> bool:
        """Queues the jobs that have arrived, and waits for one if there is no other work; False to stop."""
        while True:
            try:
                job = self._arrivals.get(block=not (self._small or self._large))
            except Empty:
                return True
            if job is None:
                return False
            if job.future.cancelled():
                self._ended += 1
            else:
                (self._small if job.weight <= self._budget // 2 else self._large).append(job)

    def _round(self) -> None:
        shares = self._select()
        if not shares:
            return
        jobs = [job for job, _ in shares]
        sizes = len(jobs), sum(end - job.done for job, end in shares)
        self._running = len(jobs)
        started = time.perf_counter()
        try:
            groups: dict[Hashable, list[_Share]] = {}
            for job, end in shares:
                groups.setdefault(job.key, []).append((job, end))
            for group in groups.values():
                self._run_group(group)
        except Exception:
            self._small.extend(jobs)
            self._running = 0
            raise
        seconds = (time.perf_counter() - started) / len(jobs)
        self._seconds_per_job += 0.1 * (seconds - self._seconds_per_job)
        ended = [job for job in jobs if job.error is not None or job.done == len(job.items)]
        # Only the last job can have items left: it is the large one whose turn it is.
        if len(ended) < len(jobs):
            self._large.appendleft(jobs[-1])
        self._finish(ended, (jobs[0]._loop, sizes))
        self._running = 0

    def _select(self) -> list[_Share]:
        """Selects the jobs of the next round, each with the end of the items to run."""
        shares: list[_Share] = []
        room = self._budget
        reserved = self._budget // 2 if self._large else 0
        while self._small and self._small[0].weight <= room - reserved:
            job = self._small.popleft()
            if job.future.cancelled():
                self._ended += 1
                continue
            room -= job.weight
            shares.append((job, len(job.items)))
        while self._large and room > 0:
            job = self._large.popleft()
            if job.future.cancelled():
                self._ended += 1
                continue
            end = job.done
            while end < len(job.items) and (room > job.weights[end] or end == job.done):
                room -= job.weights[end] + 1
                end += 1
            shares.append((job, end))
            if end < len(job.items):
                break
        return shares

    def _run_group(self, group: list[_Share]) -> None:
        items = [item for job, end in group for item in job.items[job.done : end]]
        try:
            results = self._run(group[0][0].key, items)
            if len(results) != len(items):
                raise RuntimeError(f"got {len(results)} results for {len(items)} items")
        except Exception as error:
            if len(group) == 1:
                _failed(group[0][0], error)
                return
            for share in group:
                self._run_group([share])
            return
        start = 0
        for job, end in group:
            stop = start + end - job.done
            job.parts.append(results[start:stop])
            start, job.done = stop, end

    def _fail_all(self, error: Exception) -> None:
        jobs = [*self._small, *self._large]
        self._small.clear()
        self._large.clear()
        while not self._arrivals.empty():
            job = self._arrivals.get()
            if job is not None:
                jobs.append(job)
        self._finish([_failed(job, error) for job in jobs])

    def _finish(
        self, jobs: list[Job], observed: tuple[asyncio.AbstractEventLoop, _Sizes] | None = None
    ) -> None:
        """Returns jobs to their event loops, with one wake-up per loop; one loop also gets a round's sizes."""
        self._ended += len(jobs)
        by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        if observed is not None:
            by_loop[observed[0]] = []
        for job in jobs:
            by_loop.setdefault(job._loop, []).append(job)
        for loop, jobs_of_loop in by_loop.items():
            sizes = observed[1] if observed is not None and observed[0] is loop else None
            try:
                loop.call_soon_threadsafe(self._resolve, jobs_of_loop, sizes)
            except RuntimeError:  # the loop is closed: no caller waits
                continue

    def _resolve(self, jobs: list[Job], sizes: _Sizes | None) -> None:
        if sizes is not None and self._observe is not None:
            self._observe(*sizes)
        for job in jobs:
            if job.future.done():
                continue
            if job.error is None:
                job.future.set_result(None)
            else:
                job.future.set_exception(job.error)


def _failed(job: Job, error: Exception) -> Job:
    # A future takes any exception but StopIteration.
    job.error = RuntimeError(str(error)) if isinstance(error, StopIteration) else error
    return job
