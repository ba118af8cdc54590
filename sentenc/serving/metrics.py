"""Counters, gauges and histograms in Prometheus' text format, for use in the event loop's thread only."""

from bisect import bisect_left
from collections.abc import Callable, Iterable

Labels = tuple[str, ...]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


class Counter:
    """A sum for each combination of labels."""

    kind = "counter"

    def __init__(self, name: str, text: str, labels: Labels) -> None:
        self.name, self.text, self.labels = name, text, labels
        self._values: dict[Labels, float] = {}

    def add(self, labels: Labels, amount: float = 1) -> None:
        """Adds to the sum of these labels' values."""
        self._values[labels] = self._values.get(labels, 0) + amount

    def lines(self) -> Iterable[str]:
        """Yields a line for each combination of label values."""
        for values, amount in sorted(self._values.items()):
            yield f"{self.name}{_braces(self.labels, values)} {amount!r}"


class Gauge:
    """A value for each combination of labels, read from a function when the metrics are requested."""

    kind = "gauge"

    def __init__(self, name: str, text: str, labels: Labels) -> None:
        self.name, self.text, self.labels = name, text, labels
        self._sources: dict[Labels, Callable[[], float]] = {}

    def watch(self, labels: Labels, source: Callable[[], float]) -> None:
        """Sets the function whose result is the value for these labels."""
        self._sources[labels] = source

    def lines(self) -> Iterable[str]:
        """Yields a line for each source."""
        for values, source in self._sources.items():
            yield f"{self.name}{_braces(self.labels, values)} {source()!r}"


class Histogram:
    """The number of values up to and including each bound, for each combination of labels."""

    kind = "histogram"

    def __init__(self, name: str, text: str, labels: Labels, bounds: tuple[float, ...]) -> None:
        self.name, self.text, self.labels, self._bounds = name, text, labels, bounds
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, labels: Labels, value: float) -> None:
        """Counts one value."""
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * (len(self._bounds) + 1)
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[labels] = self._sums.get(labels, 0.0) + value

    def lines(self) -> Iterable[str]:
        """Yields the cumulative buckets, sum and count of each combination of label values."""
        names = (*self.labels, "le")
        for values, counts in sorted(self._counts.items()):
            total = 0
            for bound, count in zip((*self._bounds, "+Inf"), counts, strict=True):
                total += count
                yield f"{self.name}_bucket{_braces(names, (*values, str(bound)))} {total}"
            yield f"{self.name}_sum{_braces(self.labels, values)} {self._sums[values]!r}"
            yield f"{self.name}_count{_braces(self.labels, values)} {total}"


class Metrics:
    """All metrics of the server."""

    def __init__(self) -> None:
        self.requests = Counter("sentenc_requests_total", "Requests answered.", ("route", "status"))
        self.seconds = Histogram(
            "sentenc_request_seconds", "Time from a request's arrival to its answer.", ("route",), _SECONDS
        )
        self.in_flight = Gauge(
            "sentenc_requests_in_flight", "Requests being answered, without probes and scrapes.", ()
        )
        self.queue = Gauge("sentenc_queue_requests", "Requests that wait in a queue.", ("queue", "name"))
        self.batch_requests = Histogram(
            "sentenc_batch_requests", "Requests of a batch.", ("queue", "name"), _SIZES
        )
        self.batch_items = Histogram(
            "sentenc_batch_items", "Texts or queries of a batch.", ("queue", "name"), _SIZES
        )
        self.tokens = Counter("sentenc_tokens_total", "Tokens of the encoded texts.", ("model",))
        self.texts = Counter("sentenc_texts_total", "Texts encoded.", ("model",))
        self.index_items = Gauge("sentenc_index_items", "Items of an index.", ("index",))

    def exposition(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        lines: list[str] = []
        for metric in vars(self).values():
            lines += [f"# HELP {metric.name} {metric.text}", f"# TYPE {metric.name} {metric.kind}"]
            lines += metric.lines()
        return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def _braces(names: Labels, values: Labels) -> str:
    if not names:
        return ""
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
