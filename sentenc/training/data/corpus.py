"""Corpora for training: examples of one, two or three texts, streamed from files in bounded memory."""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice

import numpy as np

from sentenc.errors import CorpusError
from sentenc.io.rows import Malformed, Row
from sentenc.training.data.deduplication import DedupSet
from sentenc.training.data.sources import COLUMNS, Reader, Source, open_source, settings_of

__all__ = ["Corpus", "Example", "Source", "SourceReport"]

Example = tuple[str, ...]
# Lines before the share of malformed ones says anything.
_ENOUGH_LINES = 1000
_SHOWN = 5
# Random numbers are drawn so many at once: one by one they cost more than the reading.
_DRAWN = 1024


@dataclass
class SourceReport:
    """What a source gave in an epoch: in its first pass, if it was repeated.

    Attributes:
        name: The source's files, as they were named.
        read: Examples read (of ordered texts: pairs of neighbors), before the filters.
        kept: Examples that passed the filters.
        duplicates: Examples that had been read before, in this source or another.
        too_short: Examples with a text of fewer than ``min_words``.
        too_long: Examples with a text of more than ``max_words``.
        lines: Lines (or rows) that were not blank.
        malformed: Lines that hold no example.
        first_malformed: The first few of them: "file:line: why".
        passes: How often the source was begun.
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
    """Sources that are mixed, filtered and shuffled while they are read.

    Each draw picks a source by weight and takes its next example. An epoch ends when every source has run
    out once. Files are read in an order of their own each epoch (in their order, where a source has a
    ``limit``), and examples pass through a buffer from which one is taken at random: a file sorted over
    more lines than the buffer holds is shuffled only locally. Memory is that of the buffer, and for
    ``deduplicate`` 12 to 24 bytes an example.

    Args:
        sources: Where the examples come from, all with as many texts an example.
        min_words: Fewest words of a text, between white space.
        max_words: Most words of a text.
        deduplicate: Leave out an example with the same texts as an earlier one, of whichever source.
        shuffle_buffer: Examples among which one is chosen at random; 1 leaves the order of the draws.
        max_malformed: The share of lines of a source that may be malformed. They are skipped.

    Attributes:
        sources: As given.
        columns: Texts of an example: 1, 2 or 3.

    Raises:
        ValueError: An argument is out of its range, sources differ in columns, or only some have a weight.
        CorpusError: Files are missing or cannot hold the form; see also :meth:`epoch`.
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
            raise ValueError(f"max_malformed is {max_malformed}, expected a share from 0 to 1")
        forms = {source.form: COLUMNS[source.form] for source in self.sources}
        if len(set(forms.values())) > 1:
            found = ", ".join(f"{form} has {n}" for form, n in forms.items())
            raise ValueError(f"sources differ in texts an example ({found}), expected as many in all")
        weighted = [source.weight is not None for source in self.sources]
        if any(weighted) and not all(weighted):
            raise ValueError("some sources have a weight and some have none, expected all or none")
        self.columns: int = next(iter(forms.values()))
        self._min_words, self._max_words = min_words, max_words
        self._deduplicate = deduplicate
        self._shuffle_buffer = shuffle_buffer
        self._max_malformed = max_malformed
        self._readers = [open_source(source) for source in self.sources]
        self._estimates: list[float] | None = None
        self._reports = [SourceReport(reader.name) for reader in self._readers]

    def epoch(self, seed: int, epoch: int) -> Iterator[Example]:
        """The examples of an epoch, in an order that seed and epoch determine.

        Args:
            seed: Not negative.
            epoch: Number of the epoch, from 0.

        Raises:
            ValueError: Seed or epoch is negative.
            CorpusError: While reading: a file is damaged, lacks the fields, or too many lines of a source
                are malformed; at the end: no example was left.
        """
        if seed < 0 or epoch < 0:
            raise ValueError(f"seed is {seed} and epoch {epoch}, expected neither to be negative")
        return self._epoch(np.random.default_rng([seed, epoch]))

    def report(self) -> tuple[SourceReport, ...]:
        """What each source gave in the epoch begun last; complete when that has ended."""
        return tuple(self._reports)

    def estimate(self) -> int:
        """About how many examples an epoch has, before filters: for a bar, not for arithmetic."""
        return max(1, round(sum(self._sizes())))

    def fingerprint(self) -> str:
        """A hash (hex) of what determines the examples: settings, and size and both ends of every file.

        Files go by name, without their folder. ``max_malformed`` is not in it: it changes no example.
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

    def _sizes(self) -> list[float]:
        if self._estimates is None:
            self._estimates = [
                min(reader.estimate(), source.limit or float("inf"))
                for source, reader in zip(self.sources, self._readers, strict=True)
            ]
        return self._estimates

    def _weights(self) -> list[float]:
        given = [source.weight for source in self.sources if source.weight is not None]
        # An empty file is drawn from too, to find that it has run out.
        return given or [max(size, 1.0) for size in self._sizes()]

    def _epoch(self, rng: np.random.Generator) -> Iterator[Example]:
        order_rng, draw_rng, shuffle_rng = rng.spawn(3)
        seen = DedupSet() if self._deduplicate else None
        streams = [
            _Stream(source, reader, self._min_words, self._max_words, self._max_malformed, seen, order_rng)
            for source, reader in zip(self.sources, self._readers, strict=True)
        ]
        self._reports = [stream.report for stream in streams]
        # One source needs no estimate of its size.
        weights = self._weights() if len(streams) > 1 else [1.0]
        yield from _shuffled(_mixed(streams, weights, draw_rng), self._shuffle_buffer, shuffle_rng)
        if not any(stream.report.kept for stream in streams):
            raise CorpusError(f"the corpus is empty: {'; '.join(map(_why_nothing, self._reports))}")


class _Stream:
    # The examples of one source in one epoch, and the count of what was left out.
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
        # "The first that pass" has a meaning only in the order of the files.
        self._order = range(n_parts) if source.limit else rng.permutation(n_parts).tolist()
        # For later passes, whether each example was kept in the first: in them everything has been seen.
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
            yield from _neighbors(rows) if self._source.form == "ordered" else filter(None, rows)

    def _well_formed(self, part: str, rows: Iterator[tuple[int, Row]], count: bool) -> Iterator[Example]:
        # What is malformed becomes a blank line: of ordered texts, those around it are no neighbors.
        for number, row in rows:
            if count and row:
                self.report.lines += 1
            if not isinstance(row, Malformed):
                yield row
                continue
            if count:
                self.report.malformed += 1
                if len(self.report.first_malformed) < _SHOWN:
                    self.report.first_malformed.append(f"{part}:{number}: {row.why}")
                self._check_malformed(at_end=False)
            yield ()

    def _check_malformed(self, at_end: bool) -> None:
        report = self.report
        if (
            at_end or report.lines >= _ENOUGH_LINES
        ) and report.malformed > self._max_malformed * report.lines:
            raise CorpusError(
                f"{report.name}: {report.malformed} of {report.lines} lines are malformed "
                f"({report.malformed / report.lines:.1%}), expected at most {self._max_malformed:.1%} "
                f"(max_malformed); the first are {'; '.join(report.first_malformed)}"
            )


def _neighbors(rows: Iterator[Example]) -> Iterator[Example]:
    previous = ""
    for row in rows:
        text = row[0] if row else ""
        if text and previous:
            yield previous, text
        previous = text


def _mixed(streams: list[_Stream], weights: list[float], rng: np.random.Generator) -> Iterator[Example]:
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
        yield from rng.random(_DRAWN).tolist()


def _integers(rng: np.random.Generator, end: int) -> Iterator[int]:
    while True:
        yield from rng.integers(end, size=_DRAWN).tolist()


def _why_nothing(report: SourceReport) -> str:
    return (
        f"{report.name} has {report.lines} lines ({report.malformed} malformed) with {report.read} examples, "
        f"{report.too_short} too short, {report.too_long} too long, {report.duplicates} duplicates"
    )
