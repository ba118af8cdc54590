"""Segments of an index: consecutive rows with their codes, items, and look-up by id.

A segment never changes. It is in memory, or memory-mapped from a folder with the files ``vectors.npy``,
``items.jsonl`` and ``offsets.npy``. If its ids are not consecutive, the folder also contains ``hashes.npy``
and ``order.npy``. If texts are searched by words, it contains the files ``words-*.npy``.
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
from sentenc.retrieval.coarse import CODES, CoarseCodes
from sentenc.retrieval.columns import Column, ColumnCache
from sentenc.retrieval.items import Id, Item, Payload, hash_ids, pack_items, unpack_item
from sentenc.retrieval.lexical.analysis import Analyzer
from sentenc.retrieval.lexical.postings import Postings, file_of, merged_postings
from sentenc.retrieval.manifest import write_array
from sentenc.retrieval.quantization import FloatArray, Quantizer

VECTORS, ITEMS, OFFSETS = "vectors.npy", "items.jsonl", "offsets.npy"
HASHES, ORDER = "hashes.npy", "order.npy"
# Comparing fewer rows exactly is as fast as comparing their coarse codes.
_MIN_COARSE_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Segment:
    """A segment of n rows.

    Attributes:
        codes: (n, w) codes of the vectors.
        quantizer: The quantizer of the codes.
        data: JSON lines of the items, bytes or a memory map.
        offsets: (n + 1,) offsets of the lines in ``data``.
        first_id: Row i has the id ``first_id + i``; None if the ids were passed.
        hashes: (n,) hashes of the ids, rising; empty unless ``first_id`` is None.
        order: (n,) the row of each hash.
        name: Name of its folder; None if it is only in memory.
        coarse: Coarse codes for the first pass of an exact search; None if the segment is small or not saved.
        words: Postings of the texts; None if there are no texts, or if they are not searched by words.
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
    ) -> "Segment":
        """Creates a segment in memory from n new rows, with postings if there are an analyzer and a text."""
        data, offsets = pack_items(ids, texts, payloads)
        hashes, order = _look_up_table(hash_ids(ids) if first_id is None else None)
        has_text = any(text is not None for text in texts)
        words = Postings.of(texts, analyzer) if analyzer is not None and has_text else None
        codes = quantizer.transform(vectors)
        return cls(codes, quantizer, data, offsets, first_id, hashes, order, words=words)

    def item(self, row: int) -> Item:
        """Returns the item of a row."""
        return unpack_item(self.data, self.offsets[row], self.offsets[row + 1])

    def vectors(self, rows: Any) -> FloatArray:
        """Returns the decoded vectors (m, d) float32 of rows, a slice or indices."""
        return self.quantizer.inverse_transform(np.asarray(self.codes[rows]))

    def columns(self, paths: Sequence[str]) -> dict[str, Column]:
        """Returns the payload values of fields, by their paths; the first use reads all payloads."""
        return self.cache.get(self.data, self.offsets, paths)

    def candidates(self, ids: Sequence[Id], hashes: npt.NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
        """Yields (position in ``ids``, row) for every id in this segment; ``hashes`` are those of the ids."""
        if self.first_id is not None:
            for position, name in enumerate(ids):
                if not isinstance(name, str) and 0 <= name - self.first_id < len(self):
                    yield position, name - self.first_id
            return
        first = np.searchsorted(self.hashes, hashes, "left")
        last = np.searchsorted(self.hashes, hashes, "right")
        for position in np.flatnonzero(last > first).tolist():
            for row in self.order[int(first[position]) : int(last[position])].tolist():
                # Different ids may have the same hash.
                if self.item(row).id == ids[position]:
                    yield position, row

    def in_codes_of(self, quantizer: Quantizer) -> "Segment":
        """Returns a segment of the same rows with the codes of another quantizer."""
        if quantizer.same_as(self.quantizer):
            return self
        codes = quantizer.transform(self.vectors(slice(None)))
        return replace(self, codes=codes, quantizer=quantizer, coarse=None)

    def only(self, rows: npt.NDArray[np.int64]) -> "Segment":
        """Returns a segment in memory of some rows, in rising order; codes do not change."""
        starts, ends = self.offsets[rows], self.offsets[rows + 1]
        data = b"".join(bytes(self.data[a:b]) for a, b in zip(starts, ends, strict=True))
        offsets = np.concatenate([[0], np.cumsum(ends - starts)]).astype(np.int64)
        hashes, order = _look_up_table(_row_hashes(self)[rows])
        words = None if self.words is None else self.words.only(rows)
        codes = np.array(self.codes[rows])
        return Segment(codes, self.quantizer, data, offsets, None, hashes, order, words=words)

    def with_words(self, analyzer: Analyzer) -> "Segment":
        """Returns the segment with the postings of its texts; it is not saved."""
        texts = [self.item(row).text for row in range(len(self))]
        has_text = any(text is not None for text in texts)
        return replace(self, words=Postings.of(texts, analyzer) if has_text else None, name=None)

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
        return cls(codes, quantizer, data, offsets, first_id, hashes, order, folder.name, words, coarse)


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
        if before.first_id is None or after.first_id != before.first_id + len(before):
            first_id = None
    hashes, order = _look_up_table(
        None if first_id is not None else np.concatenate([_row_hashes(segment) for segment in segments])
    )
    codes = np.concatenate([segment.codes for segment in segments])
    data = b"".join(bytes(segment.data) for segment in segments)
    words = None
    if any(segment.words is not None for segment in segments):
        words = merged_postings([segment.words or Postings.empty(len(segment)) for segment in segments])
    quantizer = segments[0].quantizer
    return Segment(codes, quantizer, data, np.concatenate(offsets), first_id, hashes, order, words=words)


def _row_hashes(segment: Segment) -> npt.NDArray[np.uint64]:
    if segment.first_id is not None:
        return hash_ids(range(segment.first_id, segment.first_id + len(segment)))
    hashes = np.empty(len(segment), np.uint64)
    hashes[segment.order] = segment.hashes
    return hashes


def _look_up_table(
    hashes: npt.NDArray[np.uint64] | None,
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    if hashes is None:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    order = np.argsort(hashes, kind="stable")
    return hashes[order], order
