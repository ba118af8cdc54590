"""Corpora for training: examples of one, two or three texts, streamed from files in bounded memory."""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice

import numpy as np

from sentenc.errors import CorpusError
from sentenc.io.text import Malformed
from sentenc.training.data.deduplication import DedupSet
from sentenc.training.data.examples import Example
from sentenc.training.data.rows import Reader, Row
from sentenc.training.data.sources import COLUMNS, Source, open_source, settings_of

__all__ = ["Corpus", "CorpusTexts", "Source", "SourceReport"]

# The number of lines from which on the fraction of malformed ones is checked.
_LINES_BEFORE_CHECK = 1000
_MALFORMED_LINES_SHOWN = 5
# Drawing random numbers one by one would take longer than reading the file.
_RANDOM_NUMBERS_PER_CALL = 1024


@dataclass
class SourceReport:
    """Counts of what a source contained in an epoch; if the source is repeated, in its first pass.

    Attributes:
        name: The source's files, as the configuration names them.
        read: Number of examples before the filters (of ordered texts: pairs of adjacent texts).
        kept: Number of examples that passed the filters.
        duplicates: Number of examples that had been read before, in this source or another one.
        too_short: Number of examples with a text of fewer than ``min_words`` words.
        too_long: Number of examples with a text of more than ``max_words`` words.
        lines: Number of lines (or rows) that are not blank.
        malformed: Number of lines that are not an example.
        first_malformed: The first malformed lines, each as "file:line: reason".
        passes: Number of passes over the source.
    """

    name: str
    read: int = 0
    kept: int = 0
    duplicates: int = 0
    too_short: int = 0
    too_long: int = 0
    lines: int = 0
    malformed: int = 0
    first_malformed: list[str] = field(default_factory=list)
    passes: int = 1


class Corpus:
    """Sources of examples that are mixed, filtered and shuffled while they are read.

    Each draw selects a source at random, in proportion to its weight, and takes its next example. An epoch
    ends when every source has ended once. In each epoch the files of a source are read in another random
    order (with a ``limit``, in their given order). The examples pass through a buffer, from which one is
    taken at random. A sorted file with more lines than the buffer is therefore shuffled only locally. The
    memory is that of the buffer, plus 12 to 24 bytes an example for ``deduplicate``.

    Args:
        sources: The sources. The examples of all of them have the same number of texts.
        min_words: Smallest number of words of a text, as separated by white space.
        max_words: Largest number of words of a text.
        deduplicate: Leave out examples whose texts equal those of an earlier example of any source.
        shuffle_buffer: Number of examples from which one is taken at random. 1 keeps the order of the draws.
        max_malformed: Largest fraction of a source's lines that may be malformed. They are skipped.

    Attributes:
        sources: The sources.
        columns: Number of texts of an example: 1, 2 or 3.

    Raises:
        ValueError: An argument is out of its range, the sources differ in ``columns``, or only some have a
            weight.
        CorpusError: A file is missing, or its format cannot contain the form; see also :meth:`epoch`.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        min_words: int = 1,
        max_words: int = 256,
        deduplicate: bool = True,
        shuffle_buffer: int = 65_536,
        max_malformed: float = 0.01,
    ) -> None:
        self.sources = tuple(sources)
        if not self.sources:
            raise ValueError("sources is empty, expected at least one Source")
        if not 1 <= min_words <= max_words:
            raise ValueError(
                f"min_words is {min_words} and max_words {max_words}, expected 1 <= min_words <= max_words"
            )
        if shuffle_buffer < 1:
            raise ValueError(f"shuffle_buffer is {shuffle_buffer}, expected at least 1")
        if not 0 <= max_malformed <= 1:
            raise ValueError(f"max_malformed is {max_malformed}, expected a fraction from 0 to 1")
        forms = {source.form: COLUMNS[source.form] for source in self.sources}
        if len(set(forms.values())) > 1:
            numbers = ", ".join(f"{form} has {n}" for form, n in forms.items())
            raise ValueError(
                f"sources differ in the number of texts of an example ({numbers}), expected one number"
            )
        weighted = [source.weight is not None for source in self.sources]
        if any(weighted) and not all(weighted):
            first = weighted.index(False)
            raise ValueError(
                f"sources.{first} ({', '.join(self.sources[first].files)}) has no weight, and {sum(weighted)} of "
                f"{len(weighted)} sources have one: set it for all sources or for none"
            )
        self.columns: int = next(iter(forms.values()))
        self._min_words, self._max_words = min_words, max_words
        self._deduplicate = deduplicate
        self._shuffle_buffer = shuffle_buffer
        self._max_malformed = max_malformed
        self._readers = [open_source(source) for source in self.sources]
        self._estimates: list[float | None] | None = None
        self._reports = [SourceReport(reader.name) for reader in self._readers]

    def epoch(self, seed: int, epoch: int) -> Iterator[Example]:
        """Yields the examples of an epoch, in an order that seed and epoch determine.

        Args:
            seed: Seed of the order, at least 0.
            epoch: Number of the epoch, from 0.

        Raises:
            ValueError: Seed or epoch is negative.
            CorpusError: During the iteration: a file is damaged or lacks the fields, too many lines of a
                source are malformed, or no example is left at the end.
        """
        if seed < 0 or epoch < 0:
            raise ValueError(f"seed is {seed} and epoch is {epoch}, expected at least 0")
        return self._epoch(np.random.default_rng([seed, epoch]))

    def report(self) -> tuple[SourceReport, ...]:
        """Returns the counts of each source in the last epoch that was begun, as far as it has been read."""
        return tuple(self._reports)

    def estimate(self) -> int | None:
        """Estimates the number of examples in an epoch before the filters, for a progress bar.

        Returns:
            The number; None if a streamed data set does not state its size.
        """
        sizes = self._sizes()
        if None in sizes:
            return None
        return max(1, round(sum(size or 0.0 for size in sizes)))

    def fingerprint(self) -> str:
        """Returns a hash (hex) of what determines the examples: settings, and sizes and both ends of files.

        It contains the names of the files without their folders. It does not contain ``max_malformed``, which
        changes no example.
        """
        settings = {
            "min_words": self._min_words,
            "max_words": self._max_words,
            "deduplicate": self._deduplicate,
            "shuffle_buffer": self._shuffle_buffer,
            "sources": [
                [settings_of(source), reader.identity()]
                for source, reader in zip(self.sources, self._readers, strict=True)
            ],
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def _sizes(self) -> list[float | None]:
        if self._estimates is None:
            self._estimates = [
                source.limit if size is None else min(size, source.limit or size)
                for source, size in zip(
                    self.sources, (reader.estimate() for reader in self._readers), strict=True
                )
            ]
        return self._estimates

    def _weights(self) -> list[float]:
        weights = [source.weight for source in self.sources if source.weight is not None]
        if weights:
            return weights
        sizes = self._sizes()
        for reader, size in zip(self._readers, sizes, strict=True):
            if size is None:
                raise CorpusError(f"{reader.name} does not state its size: set a weight for every source")
        # An empty file needs a weight too: a draw must discover that it has ended.
        return [max(size or 0.0, 1.0) for size in sizes]

    def _epoch(self, rng: np.random.Generator) -> Iterator[Example]:
        order_rng, draw_rng, shuffle_rng = rng.spawn(3)
        seen = DedupSet() if self._deduplicate else None
        streams = [
            _ExampleStream(
                source, reader, self._min_words, self._max_words, self._max_malformed, seen, order_rng
            )
            for source, reader in zip(self.sources, self._readers, strict=True)
        ]
        self._reports = [stream.report for stream in streams]
        # A single source needs no weight, and so no estimate of its size.
        weights = self._weights() if len(streams) > 1 else [1.0]
        yield from _shuffled(_mixed(streams, weights, draw_rng), self._shuffle_buffer, shuffle_rng)
        if not any(stream.report.kept for stream in streams):
            raise CorpusError(f"the corpus is empty: {'; '.join(map(_describe_empty, self._reports))}")


class CorpusTexts:
    """The texts of a corpus's first epoch, with an estimate of their number for a progress bar."""

    def __init__(self, corpus: Corpus, seed: int) -> None:
        self._corpus, self._seed = corpus, seed

    def estimate(self) -> int | None:
        """Estimates the number of texts before the filters; None if :meth:`Corpus.estimate` is None."""
        examples = self._corpus.estimate()
        return None if examples is None else self._corpus.columns * examples

    def __length_hint__(self) -> int:
        """Returns the estimate, or 0."""
        return self.estimate() or 0

    def __iter__(self) -> Iterator[str]:
        """Yields the texts, those of an example one after another."""
        return (text for example in self._corpus.epoch(self._seed, 0) for text in example)


class _ExampleStream:
    # The examples of one source in one epoch, and the counts of its report.
    def __init__(
        self, source: Source, reader: Reader, min_words: int, max_words: int, max_malformed: float,
        seen: DedupSet | None, rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self.report = SourceReport(reader.name)
        self.repeats = source.repeat
        self._source, self._reader = source, reader
        self._min_words, self._max_words, self._max_malformed = min_words, max_words, max_malformed
        self._seen = seen
        n_parts = len(reader.parts)
        # A limit takes the first examples that pass, which only a fixed order of the files defines.
        self._order = range(n_parts) if source.limit else rng.permutation(n_parts).tolist()
        # Whether the first pass kept each example. Later passes need this, because all examples are
        # duplicates then.
        self._was_kept = bytearray()

    def first_pass(self) -> Iterator[Example]:
        report = self.report
        for example in self._examples(count=True):
            report.read += 1
            is_kept = self._passes(example)
            if self.repeats:
                self._was_kept.append(is_kept)
            if is_kept:
                report.kept += 1
                yield example
                if report.kept == self._source.limit:
                    break
        self._check_malformed(at_end=True)

    def next_pass(self) -> Iterator[Example]:
        self.report.passes += 1
        for example, was_kept in zip(self._examples(count=False), self._was_kept, strict=False):
            if was_kept:
                yield example

    def _passes(self, example: Example) -> bool:
        for text in example:
            n_words = len(text.split())
            if n_words < self._min_words:
                self.report.too_short += 1
                return False
            if n_words > self._max_words:
                self.report.too_long += 1
                return False
        if self._seen is not None and not self._seen.add(example):
            self.report.duplicates += 1
            return False
        return True

    def _examples(self, count: bool) -> Iterator[Example]:
        for index in self._order:
            part = self._reader.parts[index]
            rows = self._well_formed(part, self._reader.rows(part), count)
            yield from _adjacent_pairs(rows) if self._source.form == "ordered" else filter(None, rows)

    def _well_formed(self, part: str, rows: Iterator[tuple[int, Row]], count: bool) -> Iterator[Example]:
        # A malformed line becomes a blank one: the ordered texts before and after it are not adjacent.
        for number, row in rows:
            if count and row:
                self.report.lines += 1
            if not isinstance(row, Malformed):
                yield row
                continue
            if count:
                self.report.malformed += 1
                if len(self.report.first_malformed) < _MALFORMED_LINES_SHOWN:
                    self.report.first_malformed.append(f"{part}:{number}: {row.why}")
                self._check_malformed(at_end=False)
            yield ()

    def _check_malformed(self, at_end: bool) -> None:
        report = self.report
        if (
            at_end or report.lines >= _LINES_BEFORE_CHECK
        ) and report.malformed > self._max_malformed * report.lines:
            raise CorpusError(
                f"{report.name}: {report.malformed} of {report.lines} lines are malformed "
                f"({report.malformed / report.lines:.1%}), expected at most {self._max_malformed:.1%} "
                f"(max_malformed); the first are {'; '.join(report.first_malformed)}"
            )


def _adjacent_pairs(rows: Iterator[Example]) -> Iterator[Example]:
    previous = ""
    for row in rows:
        text = row[0] if row else ""
        if text and previous:
            yield previous, text
        previous = text


def _mixed(
    streams: list[_ExampleStream], weights: list[float], rng: np.random.Generator
) -> Iterator[Example]:
    passes = [stream.first_pass() for stream in streams]
    live = list(range(len(streams)))
    unfinished = set(live)
    bounds = list(accumulate(weights))
    draws = _uniform(rng)
    while unfinished:
        place = bisect_right(bounds, next(draws) * bounds[-1], hi=len(bounds) - 1)
        chosen = live[place]
        example = next(passes[chosen], None)
        if example is not None:
            yield example
            continue
        unfinished.discard(chosen)
        if streams[chosen].repeats and streams[chosen].report.kept:
            if unfinished:
                passes[chosen] = streams[chosen].next_pass()
        else:
            del live[place]
            bounds = list(accumulate(weights[i] for i in live))


def _shuffled(examples: Iterator[Example], size: int, rng: np.random.Generator) -> Iterator[Example]:
    buffer = list(islice(examples, size))
    places = _integers(rng, size)
    for example in examples:
        place = next(places)
        yield buffer[place]
        buffer[place] = example
    for place in rng.permutation(len(buffer)).tolist() if size > 1 else range(len(buffer)):
        yield buffer[place]


def _uniform(rng: np.random.Generator) -> Iterator[float]:
    while True:
        yield from rng.random(_RANDOM_NUMBERS_PER_CALL).tolist()


def _integers(rng: np.random.Generator, end: int) -> Iterator[int]:
    while True:
        yield from rng.integers(end, size=_RANDOM_NUMBERS_PER_CALL).tolist()


def _describe_empty(report: SourceReport) -> str:
    return (
        f"{report.name} has {report.lines} lines ({report.malformed} malformed) with {report.read} examples, "
        f"{report.too_short} too short, {report.too_long} too long, {report.duplicates} duplicates"
    )
