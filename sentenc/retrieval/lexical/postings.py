"""Postings of a segment: for each term, the rows whose texts contain it, and how often.

The arrays are memory-mapped from a segment's folder, or in memory. They never change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.retrieval.items import hash_ids
from sentenc.retrieval.manifest import write_array
from sentenc.tokenization.analysis import Analyzer

#: The length of a row without text.
NO_TEXT = -1

FIELDS = ("terms", "starts", "rows", "counts", "lengths")
_MAX_COUNT = int(np.iinfo(np.uint16).max)


@dataclass(frozen=True, eq=False)
class Postings:
    """The postings of t terms in n rows.

    A term is stored as a hash of 64 bits. Two terms with the same hash would count as one; among ten million
    terms, the probability that there are two is below one in 100,000.

    Attributes:
        terms: (t,) uint64, the hashes of the terms, rising.
        starts: (t + 1,) int64; term i has the postings from ``starts[i]`` to ``starts[i + 1]``.
        rows: (p,) int32, the rows of each term, rising.
        counts: (p,) uint16, the number of times that the term occurs in the row, at most 65,535.
        lengths: (n,) int32, the number of terms of each row, or ``NO_TEXT``.
    """

    terms: npt.NDArray[np.uint64]
    starts: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int32]
    counts: npt.NDArray[np.uint16]
    lengths: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def empty(cls, n: int) -> "Postings":
        """Returns the postings of n rows without text."""
        return cls.of([None] * n, Analyzer())

    @classmethod
    def of(cls, texts: Sequence[str | None], analyzer: Analyzer) -> "Postings":
        """Returns the postings of n texts."""
        numbers: dict[str, int] = {}
        occurrences: list[int] = []
        lengths = np.full(len(texts), NO_TEXT, np.int32)
        for row, text in enumerate(texts):
            if text is not None:
                terms = analyzer.terms(text)
                lengths[row] = len(terms)
                occurrences += [numbers.setdefault(term, len(numbers)) for term in terms]
        hashes, places = np.unique(hash_terms(list(numbers)), return_inverse=True)
        n = max(len(texts), 1)
        keys = places[np.array(occurrences, np.int64)] * n
        keys += np.repeat(np.arange(len(texts)), np.maximum(lengths, 0))
        keys, counts = np.unique(keys, return_counts=True)
        starts = np.searchsorted(keys, np.arange(len(hashes) + 1) * n)
        return cls(
            hashes,
            starts,
            (keys % n).astype(np.int32),
            np.minimum(counts, _MAX_COUNT).astype(np.uint16),
            lengths,
        )

    def find(self, term: np.uint64) -> slice:
        """Returns the positions of a term's postings; an empty slice if no row contains the term."""
        place = int(np.searchsorted(self.terms, term))
        if place == len(self.terms) or self.terms[place] != term:
            return slice(0, 0)
        return slice(int(self.starts[place]), int(self.starts[place + 1]))

    def only(self, rows: npt.NDArray[np.int64]) -> "Postings":
        """Returns the postings of some rows, in rising order; they are renumbered."""
        numbers = np.full(len(self), -1, np.int32)
        numbers[rows] = np.arange(len(rows), dtype=np.int32)
        new_rows = numbers[self.rows]
        is_kept = new_rows >= 0
        kept_before = np.concatenate([[0], np.cumsum(is_kept)])
        sizes = np.diff(kept_before[self.starts])
        starts = np.concatenate([[0], np.cumsum(sizes[sizes > 0])]).astype(np.int64)
        return Postings(
            self.terms[sizes > 0], starts, new_rows[is_kept], self.counts[is_kept], self.lengths[rows]
        )

    def write(self, folder: Path) -> None:
        """Writes the arrays into the folder of the segment durably."""
        for field in FIELDS:
            write_array(folder / file_of(field), getattr(self, field))

    @classmethod
    def read(cls, folder: Path) -> "Postings":
        """Reads the arrays from the folder of a segment, memory-mapped."""
        arrays: Mapping[str, Any] = {
            field: np.load(folder / file_of(field), mmap_mode="r") for field in FIELDS
        }
        return cls(**arrays)


def hash_terms(terms: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Returns a 64-bit hash of each term, (t,)."""
    return hash_ids(terms)


def merged_postings(parts: Sequence[Postings]) -> Postings:
    """Returns the postings of consecutive segments as those of one segment."""
    terms, places = np.unique(np.concatenate([part.terms for part in parts]), return_inverse=True)
    sizes = np.concatenate([np.diff(part.starts) for part in parts])
    starts = np.zeros(len(terms) + 1, np.int64)
    np.cumsum(np.bincount(places, sizes, len(terms)), out=starts[1:])
    rows = np.empty(int(starts[-1]), np.int32)
    counts = np.empty(int(starts[-1]), np.uint16)
    next_free = starts[:-1].copy()
    first_row = first_term = 0
    for part in parts:
        own = places[first_term : first_term + len(part.terms)]
        size = np.diff(part.starts)
        # The postings of a term in this part follow those in the parts before it.
        target = np.repeat(next_free[own] - part.starts[:-1], size) + np.arange(len(part.rows))
        rows[target] = part.rows + np.int32(first_row)
        counts[target] = part.counts
        next_free[own] += size
        first_row += len(part)
        first_term += len(part.terms)
    return Postings(terms, starts, rows, counts, np.concatenate([part.lengths for part in parts]))


def file_of(field: str) -> str:
    """Returns the name of the file of an array in the folder of a segment."""
    return f"words-{field}.npy"
