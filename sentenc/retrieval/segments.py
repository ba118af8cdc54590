"""Segments of an index: consecutive rows with their codes, items, and look-up by id.

A segment never changes. It is in memory, or memory-mapped from a folder with the files ``vectors.npy``,
``items.jsonl`` and ``offsets.npy``. If its ids are not consecutive, the folder also contains ``hashes.npy``
and ``order.npy``. If texts are searched by words, it contains the files ``words-*.npy``, and if one of them has
several passages, ``first-rows.npy`` and ``spans.npy``. The vectors of a stored reranker are in ``rerank.npy`` and
``rerank-starts.npy``.
"""

import mmap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.io.atomic import sync_file, sync_folder
from sentenc.io.disk_full import naming_full_disk
from sentenc.retrieval.chunking import Span
from sentenc.retrieval.coarse import CODES, CoarseCodes
from sentenc.retrieval.columns import Column, ColumnCache
from sentenc.retrieval.items import Id, Item, Payload, hash_ids, pack_items, unpack_item
from sentenc.retrieval.lexical.postings import Postings, file_of, merged_postings
from sentenc.retrieval.manifest import write_array
from sentenc.retrieval.passages import FIRST_ROWS, Passages, merged_passages
from sentenc.retrieval.quantization import FloatArray, Quantizer
from sentenc.retrieval.rerank_vectors import STARTS, RerankVectors, joined
from sentenc.tokenization.analysis import Analyzer

VECTORS, ITEMS, OFFSETS = "vectors.npy", "items.jsonl", "offsets.npy"
HASHES, ORDER = "hashes.npy", "order.npy"
# Comparing fewer rows exactly is as fast as comparing their coarse codes.
_MIN_COARSE_ROWS = 4096
# Rows that are in memory as float32 while their codes are changed.
_ROWS_PER_BLOCK = 8192


@dataclass(frozen=True, eq=False)
class Segment:
    """A segment of m rows with the passages of n items, or with one row for each item (m = n).

    Attributes:
        codes: (m, w) codes of the vectors.
        quantizer: The quantizer of the codes.
        data: JSON lines of the items, bytes or a memory map.
        offsets: (n + 1,) offsets of the lines in ``data``.
        first_id: Item i has the id ``first_id + i``; None if the ids were passed.
        hashes: (n,) hashes of the ids, rising; empty unless ``first_id`` is None.
        order: (n,) the item of each hash.
        name: Name of its folder; None if it is only in memory.
        coarse: Coarse codes for the first pass of an exact search; None if the segment is small or not saved.
        words: Postings of the m passages; None if there are no texts, or if they are not searched by words.
        passages: The passages; None if every item is one row.
        rerank: The vectors of a stored reranker for each row; None if there is none.
        cache: Columns of payload values that were read.
    """

    codes: npt.NDArray[Any]
    quantizer: Quantizer
    data: Any
    offsets: npt.NDArray[np.int64]
    first_id: int | None
    hashes: npt.NDArray[np.uint64]
    order: npt.NDArray[np.int64]
    name: str | None = None
    words: Postings | None = None
    coarse: CoarseCodes | None = None
    passages: Passages | None = None
    rerank: RerankVectors | None = None
    cache: ColumnCache = field(default_factory=ColumnCache)

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    def create(
        cls,
        vectors: FloatArray,
        quantizer: Quantizer,
        ids: Sequence[Id],
        texts: Sequence[str | None],
        payloads: Sequence[Payload],
        first_id: int | None,
        analyzer: Analyzer | None = None,
        spans: Sequence[Sequence[Span]] | None = None,
    ) -> "Segment":
        """Creates a segment in memory from the m vectors of n new items.

        Args:
            vectors: (m, d) vectors.
            quantizer: Encodes them.
            ids: n ids.
            texts: n texts or None.
            payloads: n payloads.
            first_id: The first id if they are consecutive int, or None.
            analyzer: Its terms of the texts become postings; None for none.
            spans: The spans of the passages of each item, m in all; None if every item is one row.
        """
        data, offsets = pack_items(ids, texts, payloads)
        hashes, order = _look_up_table(hash_ids(ids) if first_id is None else None)
        passages = None if spans is None or len(vectors) == len(ids) else Passages.of(spans)
        segment = cls(
            quantizer.transform(vectors), quantizer, data, offsets, first_id, hashes, order, passages=passages
        )  # fmt: skip
        return segment if analyzer is None else segment.with_words(analyzer)

    @property
    def n_items(self) -> int:
        """Number of items, n."""
        return len(self.offsets) - 1

    @property
    def first_rows(self) -> npt.NDArray[np.int64]:
        """The first row of each of the n items, (n,) int64."""
        return np.arange(len(self)) if self.passages is None else self.passages.first_rows[:-1]

    def item(self, row: int) -> Item:
        """Returns the item of a row."""
        return self._numbered(row if self.passages is None else int(self.passages.items_of(np.array(row))))

    def items(self) -> Iterator[Item]:
        """Yields all items."""
        for i in range(self.n_items):
            yield self._numbered(i)

    def span(self, row: int) -> Span | None:
        """Returns the place of a row in the text of its item; None if the item is one row."""
        if self.passages is None or self.passages.is_whole(row):
            return None
        start, end = self.passages.spans[row].tolist()
        return start, end

    def passage_texts(self) -> Iterator[str | None]:
        """Yields the text of every row: a passage, or the text of the item."""
        for i, item in enumerate(self.items()):
            text = item.text
            if self.passages is None or text is None:
                yield text
                continue
            first, end = self.passages.first_rows[i : i + 2]
            for a, b in self.passages.spans[first:end].tolist():
                yield text[a:b]

    def vectors(self, rows: Any) -> FloatArray:
        """Returns the decoded vectors (m, d) float32 of rows, a slice or indices."""
        return self.quantizer.inverse_transform(np.asarray(self.codes[rows]))

    def columns(self, paths: Sequence[str]) -> dict[str, Column]:
        """Returns the payload values of the items, by the paths of fields; the first use reads all payloads."""
        return self.cache.get(self.data, self.offsets, paths)

    def by_row(self, values: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Returns for each row (m,) the value (n,) of its item."""
        return values if self.passages is None else np.repeat(values, np.diff(self.passages.first_rows))

    def candidates(self, ids: Sequence[Id], hashes: npt.NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
        """Yields (position in ``ids``, its first row) for every id in this segment, whose hashes are given."""
        first_rows = self.first_rows
        if self.first_id is not None:
            for position, name in enumerate(ids):
                if not isinstance(name, str) and 0 <= name - self.first_id < len(first_rows):
                    yield position, int(first_rows[name - self.first_id])
            return
        first = np.searchsorted(self.hashes, hashes, "left")
        last = np.searchsorted(self.hashes, hashes, "right")
        for position in np.flatnonzero(last > first).tolist():
            for i in self.order[int(first[position]) : int(last[position])].tolist():
                # Different ids may have the same hash.
                if self._numbered(i).id == ids[position]:
                    yield position, int(first_rows[i])

    def in_codes_of(self, quantizer: Quantizer) -> "Segment":
        """Returns a segment of the same rows with the codes of another quantizer."""
        if quantizer.same_as(self.quantizer):
            return self
        blocks = (slice(i, i + _ROWS_PER_BLOCK) for i in range(0, len(self), _ROWS_PER_BLOCK))
        codes = np.concatenate([quantizer.transform(self.vectors(block)) for block in blocks])
        return replace(self, codes=codes, quantizer=quantizer, coarse=None)

    def with_vectors(self, vectors: FloatArray, quantizer: Quantizer) -> "Segment":
        """Returns the segment with other vectors (m, d), as codes of a float32 quantizer; it is not saved."""
        return replace(self, codes=vectors, quantizer=quantizer, coarse=None, name=None)

    def only(self, rows: npt.NDArray[np.int64]) -> "Segment":
        """Returns a segment in memory of some rows, in rising order and with all rows of their items.

        The codes do not change.
        """
        passages = None if self.passages is None else self.passages.only(rows)
        items = rows if self.passages is None else np.unique(self.passages.items_of(rows))
        starts, ends = self.offsets[items], self.offsets[items + 1]
        data = b"".join(bytes(self.data[a:b]) for a, b in zip(starts, ends, strict=True))
        offsets = np.concatenate([[0], np.cumsum(ends - starts)]).astype(np.int64)
        hashes, order = _look_up_table(_item_hashes(self)[items])
        return Segment(
            np.array(self.codes[rows]), self.quantizer, data, offsets, None, hashes, order,
            words=None if self.words is None else self.words.only(rows), passages=passages,
            rerank=None if self.rerank is None else self.rerank.only(rows),
        )  # fmt: skip

    def with_words(self, analyzer: Analyzer) -> "Segment":
        """Returns the segment with the postings of its texts; it is not saved."""
        texts = list(self.passage_texts())
        has_text = any(text is not None for text in texts)
        return replace(self, words=Postings.of(texts, analyzer) if has_text else None, name=None)

    def with_rerank(self, vectors: RerankVectors | None) -> "Segment":
        """Returns the segment with other vectors of a reranker; it is not saved."""
        return replace(self, rerank=vectors, name=None)

    def write(self, folder: Path) -> None:
        """Writes the folder of the segment durably; the caller syncs the parent folder."""
        folder.mkdir(parents=True)
        arrays = {VECTORS: self.codes, OFFSETS: self.offsets}
        if self.first_id is None:
            arrays |= {HASHES: self.hashes, ORDER: self.order}
        for name, array in arrays.items():
            write_array(folder / name, array)
        with naming_full_disk(folder / ITEMS):
            (folder / ITEMS).write_bytes(self.data)
        sync_file(folder / ITEMS)
        if self.words is not None:
            self.words.write(folder)
        if len(self) >= _MIN_COARSE_ROWS and self.codes.dtype.kind == "f":
            CoarseCodes.of(self.codes, self.quantizer).write(folder)
        if self.passages is not None:
            self.passages.write(folder)
        if self.rerank is not None:
            self.rerank.write(folder)
        sync_folder(folder)

    @classmethod
    def read(
        cls, folder: Path, quantizer: Quantizer, first_id: int | None, files: Collection[str]
    ) -> "Segment":
        """Reads the segment in a folder, memory-mapped; ``files`` are the names of its files."""
        codes = np.load(folder / VECTORS, mmap_mode="r")
        offsets = np.load(folder / OFFSETS, mmap_mode="r")
        hashes, order = _look_up_table(None)
        if first_id is None:
            hashes = np.load(folder / HASHES, mmap_mode="r")
            order = np.load(folder / ORDER, mmap_mode="r")
        with open(folder / ITEMS, "rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        words = Postings.read(folder) if file_of("terms") in files else None
        coarse = CoarseCodes.read(folder) if CODES in files else None
        passages = Passages.read(folder) if FIRST_ROWS in files else None
        rerank = RerankVectors.read(folder) if STARTS in files else None
        return cls(
            codes,
            quantizer,
            data,
            offsets,
            first_id,
            hashes,
            order,
            folder.name,
            words,
            coarse,
            passages,
            rerank,
        )

    def _numbered(self, i: int) -> Item:
        return unpack_item(self.data, self.offsets[i], self.offsets[i + 1])


def merged(segments: Sequence[Segment]) -> Segment:
    """Returns consecutive segments with the same quantizer as one segment in memory."""
    if len(segments) == 1:
        return segments[0]
    offsets, total = [np.zeros(1, np.int64)], 0
    for segment in segments:
        offsets.append(segment.offsets[1:] + total)
        total += int(segment.offsets[-1])
    first_id = segments[0].first_id
    for before, after in pairwise(segments):
        if before.first_id is None or after.first_id != before.first_id + before.n_items:
            first_id = None
    hashes, order = _look_up_table(
        None if first_id is not None else np.concatenate([_item_hashes(segment) for segment in segments])
    )
    codes = np.concatenate([segment.codes for segment in segments])
    data = b"".join(bytes(segment.data) for segment in segments)
    words = None
    if any(segment.words is not None for segment in segments):
        words = merged_postings([segment.words or Postings.empty(len(segment)) for segment in segments])
    rerank = [segment.rerank for segment in segments if segment.rerank is not None]
    return Segment(
        codes, segments[0].quantizer, data, np.concatenate(offsets), first_id, hashes, order, words=words,
        passages=_merged_passages(segments), rerank=joined(rerank) if rerank else None,
    )  # fmt: skip


def _merged_passages(segments: Sequence[Segment]) -> Passages | None:
    if all(segment.passages is None for segment in segments):
        return None
    return merged_passages(
        [
            Passages.of_texts([item.text for item in segment.items()])
            if segment.passages is None
            else segment.passages
            for segment in segments
        ]
    )


def _item_hashes(segment: Segment) -> npt.NDArray[np.uint64]:
    if segment.first_id is not None:
        return hash_ids(range(segment.first_id, segment.first_id + segment.n_items))
    hashes = np.empty(segment.n_items, np.uint64)
    hashes[segment.order] = segment.hashes
    return hashes


def _look_up_table(
    hashes: npt.NDArray[np.uint64] | None,
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    if hashes is None:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    order = np.argsort(hashes, kind="stable")
    return hashes[order], order
