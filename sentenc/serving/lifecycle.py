"""The states of a server: starting, ready, draining, stopped."""

import asyncio
import logging
from collections.abc import Callable

from sentenc.serving.api_errors import ApiError
from sentenc.serving.catalog import Catalog
from sentenc.serving.metrics import Metrics
from sentenc.serving.services import SearchSettings

_logger = logging.getLogger("sentenc.serving")

# Gauges of other processes are at most this old.
_GAUGES_SECONDS = 0.25


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
        self._warm = False
        self._warming: asyncio.Task[None] | None = None
        self._publishing: asyncio.Task[None] | None = None
        metrics.watch_in_flight(lambda: self.in_flight)

    def start(self) -> None:
        """Starts all threads, and uses what is served once, because the first use is slow."""
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
        self.draining = True
        for task in (self._warming, self._publishing):
            if task is not None:
                task.cancel()
        self.catalog.stop()

    async def ready(self, fields: dict[str, str]) -> bytes:
        """Answers ``/ready``.

        Raises:
            ApiError: The server is starting or stopping (503).
        """
        if self.draining:
            raise ApiError(503, "the server is stopping", code="stopping")
        if not self._warm:
            raise ApiError(503, "the server is starting", code="starting")
        return b'{"status":"ready"}'

    async def health(self, fields: dict[str, str]) -> bytes:
        """Answers ``/health``."""
        return b'{"status":"alive"}'

    async def exposition(self, fields: dict[str, str]) -> bytes:
        """Answers ``/metrics``."""
        return self.metrics.exposition()

    async def _warm_up(self) -> None:
        try:
            for model in self.catalog.models.values():
                # Of a pair, only the encoder of queries is loaded now.
                await model.encode(["ready"], "text", role="query")
            for index in self.catalog.indexes.values():
                vectors, _ = await index.model.encode(
                    ["ready"], "text", dimensions=index.index.dim, role="query"
                )
                await index.search(["ready"], vectors, SearchSettings(1, index.modes[0]))
            for classifier in self.catalog.classifiers.values():
                await classifier.results(["ready" if classifier.takes == "texts" else ("ready", "ready")], 1)
        except Exception:
            # The requests that use it will report the error to their clients.
            _logger.exception("the first use of a model, index or classifier failed")
        self._warm = True
        if self.on_ready is not None:
            self.on_ready()

    async def _publish_gauges(self) -> None:
        # The other processes of the server read the gauges from files.
        while True:
            self.metrics.refresh()
            await asyncio.sleep(_GAUGES_SECONDS)
