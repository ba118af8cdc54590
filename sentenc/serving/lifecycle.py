"""The states of a server: starting, ready, draining, stopped."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from sentenc.serving.api_errors import ApiError
from sentenc.serving.catalog import Catalog
from sentenc.serving.metrics import Metrics
from sentenc.serving.services import SearchSettings, ServedClassifier, ServedIndex

_logger = logging.getLogger("sentenc.serving")

# Gauges of other processes are at most this old.
_GAUGES_SECONDS = 0.25
# A model, index or classifier that failed is used again at most this often.
_RETRY_SECONDS = 5.0
_Use = Callable[[], Awaitable[object]]


class Lifecycle:
    """Starts, drains and stops a server, and answers its probes.

    Attributes:
        in_flight: Requests that are being answered, not counting probes and reads of ``/metrics``.
        draining: No more requests are taken; those in flight are finished.
        is_replacement: Other processes answer meanwhile, so the server takes no connections before it is ready.
        on_ready: Called when the server is ready.
    """

    def __init__(self, catalog: Catalog, metrics: Metrics) -> None:
        self.catalog, self.metrics = catalog, metrics
        self.in_flight = 0
        self.draining = False
        self.started = False
        self.is_replacement = False
        self.on_ready: Callable[[], object] | None = None
        self._stopped = self._warm = False
        # The first uses that failed, and the time of the last attempt.
        self._failed: dict[str, _Use] = {}
        self._tried = 0.0
        self._warming: asyncio.Task[None] | None = None
        self._publishing: asyncio.Task[None] | None = None
        metrics.watch_in_flight(lambda: self.in_flight)

    def start(self) -> None:
        """Starts all threads, and uses what is served once, because the first use is slow.

        It can be called again after :meth:`stop`, as for an application that is run twice.
        """
        if self._stopped:
            self._stopped = self._warm = self.draining = False
        self.started = True
        self.catalog.start()
        self._warming = asyncio.get_running_loop().create_task(self._warm_up())
        if self.metrics.is_shared:
            self._publishing = asyncio.get_running_loop().create_task(self._publish_gauges())

    async def warmed(self) -> None:
        """Waits until the server is ready."""
        if self._warming is not None:
            await asyncio.shield(self._warming)

    def stop(self) -> None:
        """Ends all threads; jobs that still wait fail."""
        self.draining = self._stopped = True
        for task in (self._warming, self._publishing):
            if task is not None:
                task.cancel()
        self.catalog.stop()

    async def ready(self, fields: dict[str, str]) -> bytes:
        """Answers ``/ready``.

        A model, index or classifier that failed at its first use is used again, at most every five seconds.

        Raises:
            ApiError: The server is starting or stopping, or a model, index or classifier failed (503).
        """
        if self.draining:
            raise ApiError(503, "the server is stopping", code="stopping")
        if not self._warm:
            raise ApiError(503, "the server is starting", code="starting")
        if self._failed:
            self._retry()
            raise ApiError(
                503,
                f"these failed at their first use: {', '.join(self._failed)}; the server's log has the reasons",
                code="not_usable",
            )
        return b'{"status":"ready"}'

    async def health(self, fields: dict[str, str]) -> bytes:
        """Answers ``/health``."""
        return b'{"status":"alive"}'

    async def exposition(self, fields: dict[str, str]) -> bytes:
        """Answers ``/metrics``."""
        return self.metrics.exposition()

    async def _warm_up(self) -> None:
        self._failed = dict(self._first_uses())
        await self._use_failed()
        self._warm = True
        if self.on_ready is not None:
            self.on_ready()

    def _retry(self) -> None:
        is_running = self._warming is not None and not self._warming.done()
        if not is_running and time.monotonic() - self._tried >= _RETRY_SECONDS:
            self._warming = asyncio.get_running_loop().create_task(self._use_failed())

    async def _use_failed(self) -> None:
        # Models come first, because indexes and classifiers use them.
        for name, use in list(self._failed.items()):
            try:
                await use()
            except Exception:
                # The requests that use it report the error to their clients, too.
                _logger.exception("the first use of %s failed", name)
            else:
                del self._failed[name]
        self._tried = time.monotonic()

    def _first_uses(self) -> Iterator[tuple[str, _Use]]:
        for name, model in self.catalog.models.items():
            # Of a pair, only the encoder of queries is loaded now.
            yield f"model {name}", partial(model.encode, ["ready"], "text", role="query")
        for name, index in self.catalog.indexes.items():
            yield f"index {name}", partial(_use_index, index)
        for name, classifier in self.catalog.classifiers.items():
            yield f"classifier {name}", partial(_use_classifier, classifier)

    async def _publish_gauges(self) -> None:
        # The other processes of the server read the gauges from files.
        while True:
            self.metrics.refresh()
            await asyncio.sleep(_GAUGES_SECONDS)


async def _use_index(index: ServedIndex) -> None:
    vectors, _ = await index.model.encode(["ready"], "text", dimensions=index.index.dim, role="query")
    await index.search(["ready"], vectors, SearchSettings(1, index.modes[0]))


async def _use_classifier(classifier: ServedClassifier) -> None:
    await classifier.results(["ready" if classifier.takes == "texts" else ("ready", "ready")], 1)
