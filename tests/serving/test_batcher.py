"""Micro-batching: what goes together, what is dropped, and who fails."""

import asyncio

import numpy as np
import pytest

from sentenc import ItemTooHeavyError, QueueFullError, StoppedError
from sentenc.serving.batcher import Job, MicroBatcher
from tests.support.doubles import Gated


class Doubler:
    """Doubles numbers, in rounds that can be held up."""

    def __init__(self, **options):
        self.gate = asyncio.Event()
        self.rounds = []
        self.told = []
        self._loop = asyncio.get_running_loop()
        options = {
            "budget": 20,
            "max_queue": 100,
            "weigh": lambda items: [abs(item) for item in items],
        } | options
        self.batcher = MicroBatcher(
            "doubler", self._run, observe=lambda *sizes: self.told.append(sizes), **options
        )

    def _run(self, key, items):
        asyncio.run_coroutine_threadsafe(self.gate.wait(), self._loop).result(60)
        self.rounds.append(list(items))
        if -1 in items:
            raise ValueError("minus one")
        if -3 in items:
            raise StopIteration
        if -2 in items:
            return items[:-1]
        return [item * 2 for item in items]

    def submit(self, *items, key=None):
        return asyncio.create_task(self._process(items, key))

    async def _process(self, items, key):
        job = await self.batcher.process(Job(items, key))
        return [result for part in job.parts for result in part]

    async def release(self):
        """Lets rounds go on, after everything that was submitted before has arrived."""
        await asyncio.sleep(0)
        self.gate.set()

    async def hold(self):
        """A first job that occupies the thread until the gate opens."""
        task = self.submit(1)
        await asyncio.sleep(0)
        while self.batcher.waiting:
            await asyncio.sleep(0.001)
        return task


def in_loop(test):
    async def bounded():
        doubler = None

        def make(**options):
            nonlocal doubler
            doubler = Doubler(**options)
            return doubler

        try:
            await asyncio.wait_for(test(make), 60)
        finally:
            if doubler is not None:
                doubler.gate.set()
                await asyncio.to_thread(doubler.batcher.stop)

    bounded.__name__ = test.__name__
    return bounded


@in_loop
async def _waiting_jobs_go_together(make):
    d = make()
    first = await d.hold()
    tasks = [d.submit(i, i + 1) for i in range(1, 4)]
    await d.release()
    assert await first == [2]
    assert await asyncio.gather(*tasks) == [[2, 4], [4, 6], [6, 8]]
    # With one for each item, the weights are 5, 7 and 9: the third is one too many for 20.
    assert d.rounds == [[1], [1, 2, 2, 3], [3, 4]]
    assert d.told == [(1, 1, 1), (2, 4, 8), (1, 2, 7)]


@in_loop
async def _large_and_small_jobs_do_not_hold_up_each_other(make):
    d = make()
    first = await d.hold()
    large = [d.submit(*[4] * 6), d.submit(*[2] * 5)]
    small = [d.submit(i) for i in (7, 8, 9)]
    await d.release()
    assert await first == [2]
    assert await asyncio.gather(*small) == [[14], [16], [18]]
    assert await asyncio.gather(*large) == [[8] * 6, [4] * 5]
    # Half the room is for small ones, the rest for the large one whose turn it is.
    assert d.rounds == [[1], [7, 4, 4], [8, 4, 4], [9, 4, 4], [2] * 5]


@in_loop
async def _item_above_the_budget_goes_all_the_same(make):
    d = make()
    first = await d.hold()
    tasks = [d.submit(3), d.submit(50, 2), d.submit(4)]
    await d.release()
    await first
    assert await asyncio.gather(*tasks) == [[6], [100, 4], [8]]
    assert d.rounds == [[1], [3, 4, 50], [2]]


@in_loop
async def _keys_are_kept_apart(make):
    d = make()
    first = await d.hold()
    tasks = [d.submit(1, key="a"), d.submit(2, key="b"), d.submit(3, key="a")]
    await d.release()
    await first
    assert await asyncio.gather(*tasks) == [[2], [4], [6]]
    assert d.rounds == [[1], [1, 3], [2]]


@in_loop
async def _only_the_one_at_fault_fails(make):
    d = make()
    first = await d.hold()
    tasks = [d.submit(1), d.submit(-1), d.submit(2), d.submit(-2), d.submit(-3)]
    await d.release()
    await first
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[0] == [2]
    assert results[2] == [4]
    assert str(results[1]) == "minus one"
    assert "0 results for 1 items" in str(results[3])
    assert isinstance(results[4], RuntimeError)


@in_loop
async def _cancelled_jobs_are_dropped(make):
    d = make()
    first = await d.hold()
    gone, kept = d.submit(7), d.submit(2)
    await asyncio.sleep(0)
    gone.cancel()
    await d.release()
    await first
    assert await kept == [4]
    assert d.rounds == [[1], [2]]
    assert d.batcher.waiting == 0


@in_loop
async def _full_queue_refuses(make):
    d = make(max_queue=2)
    first = await d.hold()
    tasks = [d.submit(i) for i in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFullError) as caught:
        await d.submit(3)
    assert 1 <= caught.value.seconds <= 60
    await d.release()
    await first
    assert await asyncio.gather(*tasks) == [[2], [4]]
    assert await d.submit(3) == [6]
    assert d.batcher.waiting == 0


@in_loop
async def _large_jobs_count_until_they_are_done(make):
    d = make(max_queue=2)
    first = await d.hold()
    tasks = [d.submit(*[9] * 8) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFullError):
        await d.submit(1)
    await d.release()
    await first
    assert await asyncio.gather(*tasks) == [[18] * 8] * 2
    assert d.batcher.waiting == 0


@in_loop
async def _heavy_items_and_failing_weights(make):
    def weigh(items):
        if 13 in items:
            raise ValueError("thirteen")
        return list(items)

    d = make(weigh=weigh, heaviest=8)
    d.gate.set()
    tasks = [d.submit(1, 2), d.submit(1, 9), d.submit(13), d.submit(8)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[0] == [2, 4]
    assert isinstance(results[1], ItemTooHeavyError)
    assert (results[1].index, results[1].weight) == (1, 9)
    assert str(results[2]) == "thirteen"
    assert results[3] == [16]


@in_loop
async def _stopping_fails_what_waits(make):
    d = make()
    first = await d.hold()
    waiting = d.submit(2)
    await asyncio.sleep(0)
    d.batcher.stop(0)
    with pytest.raises(StoppedError):
        await d.submit(3)
    await d.release()
    assert await first == [2]
    with pytest.raises(StoppedError):
        await waiting


@pytest.mark.parametrize(
    "test",
    [
        _waiting_jobs_go_together,
        _large_and_small_jobs_do_not_hold_up_each_other,
        _item_above_the_budget_goes_all_the_same,
        _keys_are_kept_apart,
        _only_the_one_at_fault_fails,
        _cancelled_jobs_are_dropped,
        _full_queue_refuses,
        _large_jobs_count_until_they_are_done,
        _heavy_items_and_failing_weights,
        _stopping_fails_what_waits,
    ],
    ids=lambda test: test.__name__.strip("_"),
)
def test_batcher(test):
    asyncio.run(test())


def test_requests_of_an_application_go_together(tiny):
    """Requests that wait are encoded in one call, normalized or not as each asked."""
    from sentenc.serving.metrics import Metrics
    from sentenc.serving.services import ServedModel
    from sentenc.serving.settings import ServerConfig

    encoder = Gated(tiny)
    texts = ["a man", "dog and cat", "the stock market fell"]

    async def main():
        served = ServedModel("tiny", encoder, ServerConfig(), Metrics())
        encoder.open.clear()
        first = asyncio.create_task(served.encode(["hello world"], "input"))
        await asyncio.to_thread(encoder.entered.wait, 60)
        tasks = [asyncio.create_task(served.encode([text], "input", normalize=True)) for text in texts]
        await asyncio.sleep(0)
        encoder.open.set()
        await first
        rows = [vectors[0] for vectors, _ in await asyncio.gather(*tasks)]
        await asyncio.to_thread(served.stop)
        return np.array(rows)

    assert np.array_equal(asyncio.run(main()), tiny.encode(texts, normalize_embeddings=True))
    assert encoder.batches == [["hello world"], texts]
