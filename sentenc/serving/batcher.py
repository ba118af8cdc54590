"""Micro-batching: one thread works for many requests, on as many of their items at a time as fit."""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from sentenc.errors import ItemTooHeavyError, QueueFullError, StoppedError

_logger = logging.getLogger("sentenc.serving")

# An array is no Sequence to the type checker, but has all that is needed of one.
Run = Callable[[Any, list[Any]], Any]
Weigh = Callable[[list[Any]], Sequence[int]]
Observe = Callable[[int, int, int], None]
_Sizes = tuple[int, int, int]  # jobs, items and weight of a round


class Job:
    """The items of one request.

    Args:
        items: What to work on, at least one.
        key: Jobs of equal keys may go through together; handed to ``run``.

    Attributes:
        weights: What each item weighs; known when the job is done.
        parts: The results of the items, in order, in one or more pieces.
    """

    __slots__ = ("_loop", "done", "error", "future", "items", "key", "parts", "weight", "weights")

    def __init__(self, items: Sequence[Any], key: Hashable) -> None:
        self.items = items
        self.key = key
        self.weights: list[int] = []
        self.weight = 0
        self.parts: list[Any] = []
        self.done = 0
        self.error: Exception | None = None
        self.future: asyncio.Future[None]
        self._loop: asyncio.AbstractEventLoop


class MicroBatcher:
    """Collects the jobs that wait, without waiting for more, and runs their items together.

    A round takes jobs in the order of their arrival up to a budget of weight. Jobs of more than half the
    budget queue apart from the others: the first of them gets, round by round, what the small ones leave,
    which is half the budget at least. So neither holds up the other. Jobs whose future was cancelled are
    dropped. If a round fails, each of its jobs is tried alone, so that only the one at fault fails.

    Args:
        name: Of the thread.
        run: ``run(key, items)`` returns a result for each item, in order. Called in the thread.
        budget: Weight of a round; only an item that is heavier by itself goes beyond it.
        max_queue: Jobs that may wait, those in the running round aside.
        weigh: Weights of items; one each by default.
        heaviest: Jobs with a heavier item fail with ``ItemTooHeavyError``.
        observe: Told of the jobs, items and weight of every round, in the event loop.
    """

    def __init__(
        self,
        name: str,
        run: Run,
        *,
        budget: int,
        max_queue: int,
        weigh: Weigh | None = None,
        heaviest: int | None = None,
        observe: Observe | None = None,
    ) -> None:
        self._run, self._weigh, self._observe = run, weigh, observe
        self._budget, self._max_queue, self._heaviest = budget, max_queue, heaviest
        self._arrivals: SimpleQueue[Job | None] = SimpleQueue()
        self._small: deque[Job] = deque()
        self._large: deque[Job] = deque()
        # Each is written by one thread only: the first by the event loop's, the others by ours.
        self._submitted = 0
        self._ended = 0
        self._running = 0
        self._seconds_each = 0.0
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    @property
    def waiting(self) -> int:
        """Jobs that wait, those in the running round aside."""
        return max(self._submitted - self._ended - self._running, 0)

    def start(self) -> None:
        """Starts the thread, unless it runs."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self, seconds: float = 1.0) -> None:
        """Fails the jobs that still wait, and ends the thread, which is given so many seconds."""
        self._stopped = True
        self._arrivals.put(None)
        if self._thread.is_alive():
            self._thread.join(seconds)

    async def process(self, job: Job) -> Job:
        """Waits until a job is done. Called in an event loop; cancelling the call drops the job.

        Raises:
            QueueFullError: Too many wait.
            StoppedError: The batcher has been stopped.
            ItemTooHeavyError: An item is heavier than may be.
            Exception: Whatever ``run`` raised for this job.
        """
        if self._stopped:
            raise StoppedError("the batcher has been stopped")
        if self.waiting >= self._max_queue:
            raise QueueFullError(min(max(math.ceil(self._max_queue * self._seconds_each), 1), 60))
        self.start()
        job._loop = asyncio.get_running_loop()
        job.future = job._loop.create_future()
        self._submitted += 1
        self._arrivals.put(job)
        await job.future
        return job

    # In the thread ----------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            running = self._collect()
            if not running:
                break
            try:
                self._round()
            except Exception as error:  # a fault of ours must not leave requests waiting for ever
                _logger.exception("a round of %s failed", self._thread.name)
                self._fail_all(error)
        self._fail_all(StoppedError("the server is stopping"))

    def _collect(self) -> bool:
        """Takes in what has arrived, waiting if there is nothing else to do; False to stop."""
        fresh: list[Job] = []
        while True:
            try:
                job = self._arrivals.get(block=not (fresh or self._small or self._large))
            except Empty:
                break
            if job is None:
                self._small.extend(fresh)
                return False
            if job.future.cancelled():
                self._ended += 1
            else:
                fresh.append(job)
        if fresh:
            self._admit(fresh)
        return True

    def _admit(self, jobs: list[Job]) -> None:
        items = [item for job in jobs for item in job.items]
        try:
            weights = [1] * len(items) if self._weigh is None else list(self._weigh(items))
        except Exception as error:
            if len(jobs) == 1:
                self._finish([_failed(jobs[0], error)])
                return
            for job in jobs:
                self._admit([job])
            return
        start = 0
        for job in jobs:
            job.weights = weights[start : start + len(job.items)]
            start += len(job.items)
            heaviest = max(job.weights)
            # Items without weight are work too.
            job.weight = sum(job.weights) + len(job.items)
            if self._heaviest is not None and heaviest > self._heaviest:
                self._finish([_failed(job, ItemTooHeavyError(job.weights.index(heaviest), heaviest))])
            else:
                (self._small if job.weight <= self._budget // 2 else self._large).append(job)

    def _round(self) -> None:
        shares = self._shares()
        if not shares:
            return
        jobs = [job for job, _ in shares]
        sizes = (
            len(jobs),
            sum(end - job.done for job, end in shares),
            sum(sum(job.weights[job.done : end]) for job, end in shares),
        )
        self._running = len(jobs)
        started = time.perf_counter()
        try:
            groups: dict[Hashable, list[tuple[Job, int]]] = {}
            for job, end in shares:
                groups.setdefault(job.key, []).append((job, end))
            for group in groups.values():
                self._run_group(group)
        except Exception:
            self._small.extend(jobs)
            self._running = 0
            raise
        each = (time.perf_counter() - started) / len(jobs)
        self._seconds_each += 0.1 * (each - self._seconds_each)
        ended = [job for job in jobs if job.error is not None or job.done == len(job.items)]
        # Only the last can have more to do: it is the large one whose turn it is.
        if len(ended) < len(jobs):
            self._large.appendleft(jobs[-1])
        self._finish(ended, (jobs[0]._loop, sizes))
        self._running = 0

    def _shares(self) -> list[tuple[Job, int]]:
        """Who takes part in a round, each up to which item."""
        shares: list[tuple[Job, int]] = []
        room = self._budget
        kept = self._budget // 2 if self._large else 0
        while self._small and self._small[0].weight <= room - kept:
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

    def _run_group(self, group: list[tuple[Job, int]]) -> None:
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

    def _finish(self, jobs: list[Job], told: tuple[asyncio.AbstractEventLoop, _Sizes] | None = None) -> None:
        """Hands jobs back to their event loops, one wake-up for all of a loop; one is told of the round."""
        self._ended += len(jobs)
        by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        if told is not None:
            by_loop[told[0]] = []
        for job in jobs:
            by_loop.setdefault(job._loop, []).append(job)
        for loop, some in by_loop.items():
            sizes = told[1] if told is not None and told[0] is loop else None
            try:
                loop.call_soon_threadsafe(self._resolve, some, sizes)
            except RuntimeError:  # the loop is closed: nobody waits
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
    # A future takes any exception but this one.
    job.error = RuntimeError(str(error)) if isinstance(error, StopIteration) else error
    return job
