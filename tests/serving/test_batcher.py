"""Micro-batching: which jobs run together, which are dropped, and which fail."""

import asyncio

import numpy as np
import pytest

from sentenc import QueueFullError, StoppedError
from sentenc.encoders.lazy import LazyEncoder, Loaded
from sentenc.serving.batcher import Job, MicroBatcher
from sentenc.tokenization.tokenizer import Tokenizer
from tests.support.doubles import Gated
from tests.support.models import make_bert, make_cse


class Doubler:
    """Doubles numbers, in rounds that wait for a gate. A number's weight is its absolute value."""

    def __init__(self, **options):
        self.gate = asyncio.Event()
        self.rounds = []
        self.observed = []
        self._loop = asyncio.get_running_loop()
        options = {"budget": 20, "max_queue": 100} | options
        self.batcher = MicroBatcher(
            "doubler", self._run, observe=lambda *sizes: self.observed.append(sizes), **options
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
        job = await self.batcher.process(Job(items, key, [abs(item) for item in items]))
        return [result for part in job.parts for result in part]

    async def release(self):
        """Opens the gate, after all jobs that were submitted before have arrived."""
        await asyncio.sleep(0)
        self.gate.set()

    async def hold(self):
        """Submits a first job that occupies the thread until the gate opens."""
        task = self.submit(1)
        await asyncio.sleep(0)
        while self.batcher.waiting:
            await asyncio.sleep(0.001)
        return task


@pytest.fixture
async def make_doubler():
    doublers = []

    def make(**options):
        doublers.append(Doubler(**options))
        return doublers[-1]

    yield make
    for doubler in doublers:
        doubler.gate.set()
        await asyncio.to_thread(doubler.batcher.stop)


@pytest.mark.anyio
async def test_waiting_jobs_run_together(make_doubler):
    d = make_doubler()
    first = await d.hold()
    tasks = [d.submit(i, i + 1) for i in range(1, 4)]
    await d.release()
    assert await first == [2]
    assert await asyncio.gather(*tasks) == [[2, 4], [4, 6], [6, 8]]
    # With one more for each item, the jobs weigh 5, 7 and 9: the third exceeds the budget of 20.
    assert d.rounds == [[1], [1, 2, 2, 3], [3, 4]]
    assert d.observed == [(1, 1), (2, 4), (1, 2)]


@pytest.mark.anyio
async def test_large_and_small_jobs_do_not_hold_up_each_other(make_doubler):
    d = make_doubler()
    first = await d.hold()
    large = [d.submit(*[4] * 6), d.submit(*[2] * 5)]
    small = [d.submit(i) for i in (7, 8, 9)]
    await d.release()
    assert await first == [2]
    assert await asyncio.gather(*small) == [[14], [16], [18]]
    assert await asyncio.gather(*large) == [[8] * 6, [4] * 5]
    # Half of the budget is for small jobs, and the rest for the large job whose turn it is.
    assert d.rounds == [[1], [7, 4, 4], [8, 4, 4], [9, 4, 4], [2] * 5]


@pytest.mark.anyio
async def test_item_above_the_budget_runs_alone(make_doubler):
    d = make_doubler()
    first = await d.hold()
    tasks = [d.submit(3), d.submit(50, 2), d.submit(4)]
    await d.release()
    await first
    assert await asyncio.gather(*tasks) == [[6], [100, 4], [8]]
    assert d.rounds == [[1], [3, 4, 50], [2]]


@pytest.mark.anyio
async def test_different_keys_are_not_mixed(make_doubler):
    d = make_doubler()
    first = await d.hold()
    tasks = [d.submit(1, key="a"), d.submit(2, key="b"), d.submit(3, key="a")]
    await d.release()
    await first
    assert await asyncio.gather(*tasks) == [[2], [4], [6]]
    assert d.rounds == [[1], [1, 3], [2]]


@pytest.mark.anyio
async def test_only_the_job_at_fault_fails(make_doubler):
    d = make_doubler()
    first = await d.hold()
    tasks = [d.submit(1), d.submit(-1), d.submit(2), d.submit(-2), d.submit(-3)]
    await d.release()
    await first
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[0] == [2]
    assert results[2] == [4]
    assert str(results[1]) == "minus one"
    assert isinstance(results[3], RuntimeError)
    assert "0 results for 1 items" in str(results[3])
    assert isinstance(results[4], RuntimeError)


@pytest.mark.anyio
async def test_cancelled_jobs_are_dropped(make_doubler):
    d = make_doubler()
    first = await d.hold()
    cancelled, other = d.submit(7), d.submit(2)
    await asyncio.sleep(0)
    cancelled.cancel()
    await d.release()
    await first
    assert await other == [4]
    assert d.rounds == [[1], [2]]
    assert d.batcher.waiting == 0


@pytest.mark.anyio
async def test_full_queue_refuses(make_doubler):
    d = make_doubler(max_queue=2)
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


@pytest.mark.anyio
async def test_large_jobs_count_until_they_are_done(make_doubler):
    d = make_doubler(max_queue=2)
    first = await d.hold()
    tasks = [d.submit(*[9] * 8) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFullError):
        await d.submit(1)
    await d.release()
    await first
    assert await asyncio.gather(*tasks) == [[18] * 8] * 2
    assert d.batcher.waiting == 0


@pytest.mark.anyio
async def test_stopping_fails_what_waits(make_doubler):
    d = make_doubler()
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


@pytest.mark.anyio
async def test_waiting_requests_are_encoded_in_one_call(tiny):
    """Requests are encoded together, whether they want unit vectors or not."""
    from sentenc.serving.config import ServerConfig
    from sentenc.serving.metrics import Metrics
    from sentenc.serving.services import ServedModel

    encoder = Gated(tiny)
    texts = ["a man", "dog and cat", "the stock market fell"]
    served = ServedModel("tiny", LazyEncoder(Loaded(encoder)), ServerConfig(), Metrics())
    encoder.open.clear()
    first = asyncio.create_task(served.encode(["hello world"], "input"))
    await asyncio.to_thread(encoder.entered.wait, 60)
    tasks = [asyncio.create_task(served.encode([text], "input", normalize=True)) for text in texts]
    await asyncio.sleep(0)
    encoder.open.set()
    await first
    vectors = np.concatenate([vectors for vectors, _ in await asyncio.gather(*tasks)])
    await asyncio.to_thread(served.stop)
    assert np.array_equal(vectors, tiny.encode(texts, normalize_embeddings=True))
    assert encoder.batches == [["hello world"], texts]


@pytest.mark.anyio
@pytest.mark.parametrize("make_encoder", [make_cse, make_bert])
async def test_each_text_is_tokenized_once(make_encoder, monkeypatch):
    """The texts of a request are tokenized by the encoder alone, and counted there."""
    from sentenc.serving.config import ServerConfig
    from sentenc.serving.metrics import Metrics
    from sentenc.serving.services import ServedModel

    encoder = make_encoder()
    texts = ["a man", "dog and cat", "東京 the stock market fell", "word " * 200]
    counts = np.minimum(encoder.count_tokens(texts), encoder.max_tokens)
    tokenized = []
    convert = Tokenizer.bytes_and_offsets
    monkeypatch.setattr(
        Tokenizer,
        "bytes_and_offsets",
        lambda self, texts: tokenized.extend(texts) or convert(self, texts),
    )
    served = ServedModel("tiny", LazyEncoder(Loaded(encoder)), ServerConfig(truncate=True), Metrics())
    vectors, tokens = await served.encode(texts, "input")
    await asyncio.to_thread(served.stop)
    assert tokenized == texts
    assert tokens == counts.sum()
    assert np.array_equal(vectors, encoder.encode(texts, on_overflow="ignore"))


@pytest.mark.anyio
async def test_too_long_text_is_refused_wherever_it_is_in_a_large_request(tiny):
    from sentenc.serving.api_errors import ApiError
    from sentenc.serving.config import ServerConfig
    from sentenc.serving.metrics import Metrics
    from sentenc.serving.services import ServedModel

    metrics = Metrics()
    served = ServedModel("tiny", LazyEncoder(Loaded(tiny)), ServerConfig(max_batch_tokens=50), metrics)
    texts = ["dog and cat"] * 100
    texts[70] = "man " * 99
    with pytest.raises(ApiError, match=r"input\[70\] has 99 tokens.*at most 64") as caught:
        await served.encode(texts, "input")
    assert caught.value.status == 400
    assert b"sentenc_tokens_total{" not in metrics.exposition()
    _, tokens = await served.encode(texts[:70], "input")
    await asyncio.to_thread(served.stop)
    assert f'sentenc_tokens_total{{model="tiny"}} {tokens}'.encode() in metrics.exposition()


@pytest.mark.anyio
async def test_a_stopped_batcher_can_be_started_again(make_doubler):
    d = make_doubler()
    d.gate.set()
    for number in (1, 2, 3):
        d.batcher.start()
        assert await d.submit(number) == [2 * number]
        await asyncio.to_thread(d.batcher.stop)
        with pytest.raises(StoppedError):
            await d.submit(number)
    assert d.batcher.waiting == 0


@pytest.mark.anyio
async def test_a_new_start_waits_for_the_last_round(make_doubler):
    d = make_doubler()
    last = await d.hold()
    waiting = d.submit(5)
    await asyncio.sleep(0)
    await asyncio.to_thread(d.batcher.stop, 0)
    starting = asyncio.create_task(asyncio.to_thread(d.batcher.start))
    d.gate.set()
    await starting
    assert await last == [2]
    with pytest.raises(StoppedError):
        await waiting
    assert await d.submit(7) == [14]
    assert d.rounds == [[1], [7]]
