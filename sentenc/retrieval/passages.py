"""Passages of the items of a segment: which rows belong to an item, and their places in its text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sentenc.retrieval.chunking import Span
from sentenc.retrieval.manifest import write_array

FIRST_ROWS, SPANS = "first-rows.npy", "spans.npy"


@dataclass(frozen=True, eq=False)
class Passages:
    """The passages of n items in m consecutive rows. Every item has at least one.

    Attributes:
        first_rows: (n + 1,) int64; item i has the rows from ``first_rows[i]`` to ``first_rows[i + 1]``.
        spans: (m, 2) int64, the first character of each passage in the item's text, and the one after its last.
    """

    first_rows: npt.NDArray[np.int64]
    spans: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.spans)

    @classmethod
    def of(cls, spans: Sequence[Sequence[Span]]) -> "Passages":
        """Creates the passages of n items from the spans of each."""
        first_rows = np.zeros(len(spans) + 1, np.int64)
        np.cumsum([len(own) for own in spans], out=first_rows[1:])
        return cls(first_rows, np.array([span for own in spans for span in own], np.int64).reshape(-1, 2))

    @classmethod
    def of_texts(cls, texts: Sequence[str | None]) -> "Passages":
        """Creates the passages of items that are one row each."""
        return cls.of([[(0, len(text or ""))] for text in texts])

    def items_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Returns the item (m,) of each row."""
        return np.searchsorted(self.first_rows, rows, "right") - 1

    def is_whole(self, row: int) -> bool:
        """Returns whether a row is the only one of its item."""
        first, end = self.first_rows[int(self.items_of(np.array(row))) :][:2]
        return bool(end - first == 1)

    def only(self, rows: npt.NDArray[np.int64]) -> "Passages":
        """Returns the passages of some rows, which are rising and all rows of their items."""
        counts = np.diff(self.first_rows)[np.unique(self.items_of(rows))]
        return Passages(np.append(0, np.cumsum(counts)), self.spans[rows])

    def write(self, folder: Path) -> None:
        """Writes its files into the folder of a segment durably."""
        write_array(folder / FIRST_ROWS, self.first_rows)
        write_array(folder / SPANS, self.spans)

    @classmethod
    def read(cls, folder: Path) -> "Passages":
        """Reads the files in the folder of a segment, memory-mapped."""
        return cls(np.load(folder / FIRST_ROWS, mmap_mode="r"), np.load(folder / SPANS, mmap_mode="r"))


def merged_passages(parts: Sequence[Passages]) -> Passages:
    """Returns the passages of consecutive segments as those of one."""
    first_rows, total = [np.zeros(1, np.int64)], 0
    for part in parts:
        first_rows.append(part.first_rows[1:] + total)
        total += len(part)
    return Passages(np.concatenate(first_rows), np.concatenate([part.spans for part in parts]))
