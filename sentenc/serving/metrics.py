"""The metrics of a server, in Prometheus' text format.

Several processes of one server write their values to files in the folder of the environment variable
``PROMETHEUS_MULTIPROC_DIR``, as prometheus_client's documentation describes. Each of them answers with the sums.
"""

import os
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from sentenc.errors import MissingExtraError
from sentenc.texts import replace_lone_surrogates

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
# The file of a process that starts may be empty at the moment when it is read.
_READINGS = 10


class Metrics:
    """All metrics of the server. Names of models and indexes may be any strings.

    Raises:
        MissingExtraError: The extra ``serve`` is not installed.
    """

    def __init__(self) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
        except ImportError as error:
            raise MissingExtraError("serve", "prometheus_client", "the server") from error
        self._folder = os.environ.get(FOLDER_VARIABLE)
        self._registry = registry = CollectorRegistry()
        self._sources: list[tuple[Gauge, Callable[[], float]]] = []
        queue = ("queue", "name")
        self._requests = Counter(
            "sentenc_requests_total", "Requests answered.", ("route", "status"), registry=registry
        )
        self._seconds = Histogram(
            "sentenc_request_seconds",
            "Time from a request's arrival to its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "sentenc_requests_in_flight",
            "Requests being answered, without probes and scrapes.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._queue = Gauge(
            "sentenc_queue_requests",
            "Requests that wait in a queue.",
            queue,
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._batch_requests = Histogram(
            "sentenc_batch_requests", "Requests of a batch.", queue, buckets=_SIZES, registry=registry
        )
        self._batch_items = Histogram(
            "sentenc_batch_items", "Texts or queries of a batch.", queue, buckets=_SIZES, registry=registry
        )
        self._tokens = Counter(
            "sentenc_tokens_total", "Tokens of the encoded texts.", ("model",), registry=registry
        )
        self._texts = Counter("sentenc_texts_total", "Texts encoded.", ("model",), registry=registry)
        # Every process has the same items, so their sum would count them several times.
        self._index_items = Gauge(
            "sentenc_index_items",
            "Items of an index.",
            ("index",),
            multiprocess_mode="livemax",
            registry=registry,
        )

    @property
    def is_shared(self) -> bool:
        """Whether several processes add to the metrics. They then see gauges as of the last :meth:`refresh`."""
        return self._folder is not None

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Counts an answered request; ``route`` is one of few strings."""
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def count_texts(self, model: str, texts: int, tokens: int) -> None:
        """Counts encoded texts and their tokens."""
        name = _label(model)
        self._texts.labels(name).inc(texts)
        self._tokens.labels(name).inc(tokens)

    def batch_observer(self, queue: str, name: str) -> Callable[[int, int], None]:
        """Returns a function that counts a batch, given its numbers of requests and items."""
        requests = self._batch_requests.labels(queue, _label(name))
        items = self._batch_items.labels(queue, _label(name))

        def observe(n_requests: int, n_items: int) -> None:
            requests.observe(n_requests)
            items.observe(n_items)

        return observe

    def watch_in_flight(self, source: Callable[[], float]) -> None:
        """Sets the function that returns the number of requests in flight."""
        self._sources.append((self._in_flight, source))

    def watch_queue(self, queue: str, name: str, source: Callable[[], float]) -> None:
        """Sets the function that returns the number of requests that wait in a queue."""
        self._sources.append((self._queue.labels(queue, _label(name)), source))

    def watch_index(self, name: str, source: Callable[[], float]) -> None:
        """Sets the function that returns the number of items of an index."""
        self._sources.append((self._index_items.labels(_label(name)), source))

    def refresh(self) -> None:
        """Sets all gauges to the values of their functions."""
        for gauge, source in self._sources:
            gauge.set(source())

    def exposition(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        self.refresh()
        if self._folder is None:
            return generate_latest(cast("CollectorRegistry", _WithoutCreated(self._registry)))
        for reading in range(_READINGS):
            registry = CollectorRegistry()
            try:
                MultiProcessCollector(registry, path=self._folder)  # type: ignore[no-untyped-call]
                return generate_latest(registry)
            except struct.error:
                if reading == _READINGS - 1:
                    raise
        raise AssertionError("unreachable")


class _WithoutCreated:
    # Leaves out the time at which each counter and histogram was created: it would double the number of series, and
    # does not exist with several processes.

    def __init__(self, registry: "CollectorRegistry") -> None:
        self._registry = registry

    def collect(self) -> Iterator[Any]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


def _label(name: str) -> str:
    # Prometheus' own parser stops at a null character, and UTF-8 has no lone surrogates.
    return replace_lone_surrogates(name).replace("\0", "\N{REPLACEMENT CHARACTER}")


def share_metrics(folder: str, number: int) -> None:
    """Lets all :class:`Metrics` that this process makes write to a folder. It is for processes of the server alone.

    Args:
        folder: The folder, common to the processes of a server.
        number: Identifies the process. One that starts after another one's end may continue its number.
    """
    from prometheus_client import values

    os.environ[FOLDER_VARIABLE] = folder
    # prometheus_client reads the variable when it is imported, which may have happened before.
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]


def forget_process(folder: str, number: int) -> None:
    """Removes the gauges of a process that has ended. Its counts remain."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(number, folder)  # type: ignore[no-untyped-call]
